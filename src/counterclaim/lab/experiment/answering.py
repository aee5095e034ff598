"""Answers in a run folder: generated, gone on with after a stop, cut to smaller budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from counterclaim import folder as store
from counterclaim.errors import InputError, RecordError
from counterclaim.folder import Journal, Records
from counterclaim.lab import generation
from counterclaim.lab.config import ArmPlan, arms_hash, change_json, model_json
from counterclaim.lab.experiment.fitting import Fitted, Lessons, fit_all
from counterclaim.lab.experiment.own_answers import Asking
from counterclaim.lab.experiment.watching import Progress
from counterclaim.lab.models import tiny
from counterclaim.records import Claim, FinishReason, Json, Prompt, Provenance, Response, response_from_json, to_json
from counterclaim.registry import Runtime


@dataclass(frozen=True, slots=True)
class Answering:
    """What determines a folder's answers.

    Attributes:
        arms: who answers.
        prompts: what is asked, in this order.
        samples: answers per prompt and seed.
        seeds: sampling seeds.
        follow_ups: scorer name to its scripted next turn.
        lessons: arm to what its operator learns from, for arms that one changes.
    """

    arms: tuple[ArmPlan, ...]
    prompts: Sequence[Prompt]
    samples: int = 1
    seeds: tuple[int, ...] = (0,)
    follow_ups: Mapping[str, str] = field(default_factory=dict)
    lessons: Mapping[str, Lessons] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """SHA-256 over all of it but the scripted next turns, which add answers and change none; reads the models' files."""
        return arms_hash(self.arms, self.samples, self.seeds, [prompt.id for prompt in self.prompts])


@dataclass(frozen=True, slots=True)
class Work:
    """A run folder under way.

    Attributes:
        folder: where.
        study: what study.json says so far.
        earlier: the records of an earlier run that was finished; None where there is none.
        responses: the answers.
        arms: who answered, every fit an arm of its own.
        fitted: what operators fitted, as the page shows it.
    """

    folder: Path
    study: dict[str, Json]
    earlier: Records | None
    responses: list[Response]
    arms: Sequence[ArmPlan] = ()
    fitted: Fitted = field(default_factory=Fitted)


def answer(
    folder: Path,
    asked: Answering,
    claim: Claim | None,
    runtime: Runtime,
    watchers: Progress,
    *,
    measured_by: Json = None,
    asking: Asking | None = None,
    overwrite: bool = False,
) -> Work:
    """Generate a study's answers into a run folder, or go on where an earlier run stopped; operators are fitted first.

    Args:
        folder: the run folder.
        asked: what determines the answers.
        claim: what is written down before the first answer; None where nothing is claimed.
        runtime: how models are run.
        watchers: told how far things are.
        measured_by: written down with the claim: what it will be measured by.
        asking: how the model's own answers are scored, for operators that learn from them.
        overwrite: replace another study in the folder.

    Raises:
        InputError: the folder holds something else, or cannot be written.
        ModelError: a model cannot be used.
        BudgetSpent: the budget for tokens or money is used up; what was answered is kept in the folder.
    """
    identity = asked.hash
    old = store.read_study(folder)
    if old is None or old.get("answers_hash") != identity:
        if old is not None and not overwrite and not _empty(folder, old):
            differ = _differences(old.get("arms", []), _arms_json(asked.arms)) or [
                "the prompts, the samples, the seeds, or what is in a file that an arm names"
            ]
            more = f" and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else ""
            raise InputError(
                f"the folder holds another study: what differs is {', '.join(differ[:_SHOWN])}{more}",
                path=folder,
                remedy="choose another --out, or replace it with --overwrite",
            )
        store.clear_run(folder)
        old = None
    earlier = store.read_run(folder) if old is not None and old["finished"] else None
    with Journal(folder / "answers.journal", {"answers": identity}) as journal:
        known = [*(earlier.responses if earlier else ()), *map(response_from_json, journal.rows)]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        study: dict[str, Json] = {
            "finished": False,
            "answers_hash": identity,
            "began": now if old is None else old["began"],
            "frozen": None if claim is None else {"claim_hash": claim.hash, "measured_by": measured_by, "at": now},
            "claim": None if claim is None else to_json(claim),
            "arms": _arms_json(asked.arms),
        }
        if old is not None and old["frozen"] is not None and known:
            study["frozen"] = old["frozen"]
        if earlier is None:
            store.begin_run(folder, study, asked.prompts)
        _train_tiny(asked.arms, watchers)
        finished = None
        if earlier is not None and _is_whole(earlier, asked):
            finished = Fitted(earlier.extras.get("training", []), earlier.extras.get("edits", []))
        arms, fitted = fit_all(
            asked.arms, asked.lessons, folder, asked.samples * len(asked.seeds), runtime, watchers, asking, finished
        )
        responses = generation.generate(
            arms, asked.prompts, journal, known=known, samples=asked.samples, seeds=asked.seeds,
            follow_ups=asked.follow_ups, runtime=runtime, watch=watchers.answers,
        )  # fmt: skip
    return Work(folder, study, earlier, responses, arms, fitted)


def _is_whole(earlier: Records, asked: Answering) -> bool:
    """Whether a finished run lacks no answer: none failed, and every scripted next turn was put to every arm."""
    answered = {response.arm for response in earlier.responses}
    turns = {replace(arm.id, turn=name) for arm in asked.arms for name in asked.follow_ups}
    return turns <= answered and all(response.error is None for response in earlier.responses)


def _arms_json(arms: Sequence[ArmPlan]) -> list[Json]:
    """The arms as study.json spells them."""
    return [
        {
            "arm": arm.name, "model": model_json(arm.model), "decode": to_json(arm.decode),
            **({} if arm.change is None else {"change": change_json(arm), "dose": arm.dose, "lessons": arm.lessons}),
        }
        for arm in arms
    ]  # fmt: skip


_SHOWN = 4  # differences that a message names


def _differences(then: Json, now: Json, where: str = "") -> list[str]:
    """The keys, with dots, in which two documents differ; entries of the arms go by their names."""
    if isinstance(then, dict) and isinstance(now, dict):
        keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
        return [
            told for key in keys for told in _differences(then.get(key), now.get(key), f"{where}.{key}".lstrip("."))
        ]
    if not where and isinstance(then, list) and isinstance(now, list):
        before: Json = {str(arm["arm"]): arm for arm in then if isinstance(arm, dict)}
        after: Json = {str(arm["arm"]): arm for arm in now if isinstance(arm, dict)}
        return _differences(before, after)
    return [where]


def _train_tiny(arms: Sequence[ArmPlan], watchers: Progress) -> None:
    """Train the tiny models that arms name and that are not there yet, so that somebody can watch it."""
    for model in dict.fromkeys(arm.model.name for arm in arms):
        if model.startswith(tiny.SCHEME):
            tiny.ensure(model.removeprefix(tiny.SCHEME), _told(model, watchers))


def _told(model: str, watchers: Progress) -> Callable[[str, int, int], None]:
    return lambda doing, done, total: watchers.part(f"{model}: {doing}", done, total)


def _empty(folder: Path, study: Mapping[str, Json]) -> bool:
    """Whether a folder was begun by us and holds no answer yet, as after a misspelt model."""
    journal = folder / "answers.journal"
    begun = study.get("finished") is False and not (folder / "responses.jsonl").exists()
    return begun and not (journal.is_file() and len(store.read_lines(journal)) > 1)


def cut_to_budgets(responses: Sequence[Response], budgets: Sequence[int]) -> list[Response]:
    """The answers, and what each would have been with every smaller budget, as arms ``ARM@BUDGET``.

    A scripted next turn is cut too where the answer that it follows is whole within the budget. Where that answer is
    cut, the smaller budget would have led to another conversation, and there is none. An answer that does not say where
    its tokens end is an error record at the budgets that would cut it.

    Raises:
        InputError: a budget is not smaller than the one of the answers, or no answer of an arm can be cut to it.
    """
    whole = [response for response in responses if response.arm.budget is None]
    first = {response.key: response for response in whole if response.arm.turn is None}
    out = list(whole)
    for budget in sorted(set(budgets)):
        if reached := [r for r in first.values() if r.decode.max_new_tokens and budget >= r.decode.max_new_tokens]:
            raise InputError(
                f"the budget {budget} is not smaller than the {reached[0].decode.max_new_tokens} tokens with which the "
                "answers were generated",
                remedy="leave it out, or generate again with a larger max_new_tokens",
            )
        cut = {key: _cut(response, budget) for key, response in first.items()}
        for arm in dict.fromkeys(response.arm for response in first.values()):
            made = [(first[key], answer) for key, answer in cut.items() if key[0] == arm]
            lost = any(short.error != answer.error for answer, short in made)
            if lost and not any(short.error is None and short.text != answer.text for answer, short in made):
                raise InputError(
                    f"the answers of {arm} cannot be cut to {budget} tokens: they do not say where their tokens end",
                    remedy="leave the budgets out, or generate again with a backend that says where tokens end (an "
                    "endpoint must be asked for it: --token-ends)",
                )
        out += cut.values()
        for response in whole:
            key = response.arm.base, response.prompt_id, response.sample
            if response.arm.turn is not None and key in first and cut[key].text == first[key].text:
                out.append(_cut(response, budget))
    return out


def _cut(response: Response, budget: int) -> Response:
    try:
        made = response.cut_to(budget)
    except RecordError as error:
        made = replace(
            response, arm=replace(response.arm, budget=budget), decode=replace(response.decode, max_new_tokens=budget), text=None, n_tokens=None,
            finish_reason=FinishReason.ERROR, finish_provenance=Provenance.RECORDED, error=f"at {budget} tokens: {error}",
        )  # fmt: skip
    return replace(made, token_chars=None)
