"""A model's own answers to training prompts, scored: what operators that read activations learn from.

They lie in run folders of their own under ``own/`` of the study's, so that ``counterclaim capture`` and ``attribute`` can be
put to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from counterclaim import folder as store
from counterclaim.folder import Journal, Records
from counterclaim.lab import generation
from counterclaim.lab.config import ArmPlan, arms_hash, model_json
from counterclaim.lab.experiment.watching import Progress
from counterclaim.lab.scorers import scoring
from counterclaim.lab.scorers.scoring import Bench, Chosen
from counterclaim.records import CONTROL, AnswerKey, ArmId, Decode, Json, Prompt, response_from_json, score_from_json
from counterclaim.registry import Labelled, ModelSpec, Runtime


@dataclass(frozen=True, slots=True)
class Asking:
    """How a study's answers are scored, for those that it is not judged on.

    Attributes:
        scorers: of the study.
        judge: model that judges.
        unsafe_local: run code that a model wrote without the sandbox.
        bench: what scoring works with.
    """

    scorers: Sequence[str] = ()
    judge: str | None = None
    unsafe_local: bool = False
    bench: Bench = field(default_factory=Bench)

    def chosen(self, scorers: Sequence[str] = ()) -> list[Chosen]:
        """The scorers that an operator names, or else those of the study.

        Raises:
            InputError: a scorer does not exist, or needs a judge and there is none.
        """
        return scoring.choose(scorers or self.scorers, self.judge, unsafe_local=self.unsafe_local)


def own_answers(
    model: ModelSpec,
    decode: Decode,
    prompts: Sequence[Prompt],
    samples: int,
    chosen: Sequence[Chosen],
    folder: Path,
    runtime: Runtime,
    watchers: Progress,
    asking: Asking,
) -> list[Labelled]:
    """The answers of a model as it is, with what scorers read off them; those that are there already are taken.

    Args:
        model: who answers.
        decode: how it is sampled.
        prompts: what is asked.
        samples: answers per prompt.
        chosen: what scores them.
        folder: the run folder of the study.
        runtime: how models are run.
        watchers: told how far things are.
        asking: what scoring works with.

    Raises:
        InputError, ModelError, BudgetSpent: as in a study.
    """
    arm = ArmPlan(CONTROL.name, model, decode)
    identity = arms_hash((arm,), samples, (0,), [prompt.id for prompt in prompts])
    place = folder / "own" / identity.removeprefix("sha256:")[:12]
    by_id = {prompt.id: prompt for prompt in prompts}
    axes: Json = [[item.name, dict(item.axes)] for item in chosen]  # which a reading that is kept is filed under
    with store.locked(place):
        old = store.read_study(place)
        if old is not None and old.get("answers_hash") != identity:
            store.clear_run(place)
            old = None
        earlier = store.read_run(place) if old is not None and old["finished"] else None
        with Journal(place / "answers.journal", {"answers": identity}) as journal:
            study: dict[str, Json] = {
                "finished": False, "answers_hash": identity, "frozen": None, "claim": None,
                "began": datetime.now(UTC).isoformat(timespec="seconds") if old is None else old["began"],
                "arms": [{"arm": str(CONTROL), "model": model_json(model)}], "axes": axes,
            }  # fmt: skip
            if earlier is None:
                store.begin_run(place, study, prompts)
            known = [*(earlier.responses if earlier else ()), *map(response_from_json, journal.rows)]
            responses = generation.generate(
                [arm], prompts, journal, known=known, samples=samples, runtime=runtime, watch=watchers.answers
            )
        scored = {"scores": scoring.scoring_hash(responses, by_id, chosen)}
        before = scoring.still_true(earlier, responses, by_id) if old is not None and old.get("axes") == axes else ()
        with Journal(place / "scores.journal", scored, keep_other=False) as journal:
            scores = scoring.score(
                responses, by_id, chosen, asking.bench, journal, known=[*before, *map(score_from_json, journal.rows)],
                watch=watchers.scores,
            )  # fmt: skip
        store.finish_run(place, Records({**study, "finished": True}, dict(by_id), responses, scores), {})
    return labelled(Records(study, by_id, responses, scores))


def labelled(records: Records, arm: ArmId = CONTROL) -> list[Labelled]:
    """The answers of an arm that did not fail, with their scores by axis, in the order of the records."""
    values: dict[AnswerKey, dict[str, float | str]] = {}
    for made in records.scores:
        if made.value is not None:
            values.setdefault(made.key, {})[made.axis] = made.value
    return [
        Labelled(records.prompts[response.prompt_id], response, values.get(response.key, {}))
        for response in records.responses
        if response.arm == arm and response.error is None
    ]
