"""Scores of a run folder's answers: judge and scorers put to work, what was scored before kept where it is still true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from counterclaim.folder import Journal, Records
from counterclaim.lab.experiment.answering import Work, cut_to_budgets
from counterclaim.lab.experiment.watching import Progress
from counterclaim.lab.models.judge import open_judge
from counterclaim.lab.scorers import scoring
from counterclaim.lab.scorers.scoring import Bench, Chosen
from counterclaim.lab.scorers.validation import validate
from counterclaim.records import Json, Prompt, score_from_json
from counterclaim.registry import Runtime


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a folder's answers are scored.

    Attributes:
        scorers: as ``--with`` takes them.
        judge: model that judges.
        validate_judge: whether the judge's known-answer cards are run.
        budgets: smaller budgets at which the answers are scored too.
        unsafe_local: run code that a model wrote without the sandbox.
    """

    scorers: Sequence[str]
    judge: str | None = None
    validate_judge: bool = True
    budgets: Sequence[int] = ()
    unsafe_local: bool = False


@contextmanager
def judging(
    wanted: Scoring, chosen: Sequence[Chosen], runtime: Runtime, watchers: Progress
) -> Iterator[tuple[Bench, dict[str, Json]]]:
    """What scoring works with, and what the judge did with its known-answer cards (``extras`` of the run folder).

    The judge is opened, and its cards are run, before anything else is paid for.
    """
    asking = [item.scorer for item in chosen if "judge" in item.scorer.needs]
    if wanted.judge is None or not asking:
        yield Bench(unsafe_local=wanted.unsafe_local), {}
        return
    with closing(open_judge(wanted.judge, runtime)) as judge:
        cards: dict[str, Json] = {}
        bench = Bench(judge, runtime.concurrency, wanted.unsafe_local)
        if wanted.validate_judge:
            report = validate(
                judge, asking, workers=runtime.concurrency,
                progress=lambda done, total: watchers.part("the judge's known-answer cards", done, total),
            )  # fmt: skip
            cards["cards"] = report.cards()
            faulty = [told for name, told in zip(report.names, report.sentences, strict=True) if report.faults(name)]
            bench.notes.extend(f"Do not trust these scores: {told}" for told in faulty)
        yield bench, cards


def score(
    work: Work,
    prompts: Mapping[str, Prompt],
    chosen: Sequence[Chosen],
    budgets: Sequence[int],
    bench: Bench,
    watchers: Progress,
) -> Records:
    """The answers of a run folder, cut to the budgets too, with their scores.

    Raises:
        InputError: a scorer fails its own cards, lacks the gold that it needs, or a budget cannot be cut to.
        SandboxError: programs would have to be run, and there is no sandbox.
    """
    responses = cut_to_budgets(work.responses, budgets)
    identity = {"scores": scoring.scoring_hash(responses, prompts, chosen)}
    with Journal(work.folder / "scores.journal", identity, keep_other=False) as journal:
        known = [*scoring.still_true(work.earlier, responses, prompts), *map(score_from_json, journal.rows)]
        scores = scoring.score(responses, prompts, chosen, bench, journal, known=known, watch=watchers.scores)
    return Records(work.study, dict(prompts), responses, scores)
