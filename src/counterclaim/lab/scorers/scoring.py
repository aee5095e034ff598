"""Scores of every answer by every scorer, resumable like generation.

A scorer scores only after it has read its own known-answer cards rightly. What a judge is shown never says which arm
answered, so scoring is blind by construction.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from counterclaim.errors import InputError, RegistryError
from counterclaim.folder import Journal, Records
from counterclaim.lab import scorers as builtin
from counterclaim.lab.models.judge import open_judge
from counterclaim.lab.scorers.validation import validate
from counterclaim.records import AnswerKey, ArmId, Json, Prompt, Response, Score, content_hash, to_json
from counterclaim.registry import GOLD_KEYS, Item, Judge, Reading, Runtime, Scorer, Tools, scorer_named

ORACLE_AXIS = "correct"
NO_SANDBOX = {"sandbox": "none"}
"""What the full name of a scorer says that ran programs without the sandbox."""


@dataclass(frozen=True, slots=True)
class ChosenScorer:
    """A scorer that was asked for.

    Attributes:
        scorer: the scorer.
        axes: axis that it reads to the axis under which that is filed; axes that are not wanted are left out.
        name: its full name, ``name@version#...``.
    """

    scorer: Scorer
    axes: Mapping[str, str]
    name: str


def choose(wanted: Sequence[str], judge: str | None, *, unsafe_local: bool = False) -> list[ChosenScorer]:
    """The scorers that are asked for, by name.

    Args:
        wanted: each ``NAME``, ``FILE.toml`` (a judge rubric of the user's own), or ``NAME:AXIS,AXIS=OTHER`` to keep only some of
            its axes, or to file one under another name.
        judge: the model that judges, as it goes into the full name.
        unsafe_local: programs are run without the sandbox, which goes into the full name too.

    Raises:
        InputError: a scorer or an axis does not exist, two scorers would file under one axis, or one needs a
            judge and none was named.
    """
    out = [_chosen(item, judge, unsafe_local) for item in wanted]
    oracle = next((made for made in out if ORACLE_AXIS in made.axes.values()), None)
    if oracle is not None:
        out = [_with_oracle_named(made, oracle, judge) for made in out]
    filed: dict[str, str] = {}
    for made in out:
        for axis in made.axes.values():
            if axis in filed:
                name = made.scorer.name
                raise InputError(
                    f"{filed[axis]} and {name} both read {axis}, and one axis has one scorer",
                    remedy=f"leave one out, or file one under another name: {name}:{axis}={_other(axis, name)}",
                )
            filed[axis] = made.scorer.name
    if any("oracle" in made.scorer.needs for made in out) and ORACLE_AXIS not in filed:
        needy = next(made.scorer.name for made in out if "oracle" in made.scorer.needs)
        raise InputError(
            f"{needy} must know which answers are right, and nothing that was asked for reads {ORACLE_AXIS}",
            remedy="add exact, numeric, code or checklist",
        )
    return out


def _with_oracle_named(made: ChosenScorer, oracle: ChosenScorer, judge: str | None) -> ChosenScorer:
    """The same scorer; where it asks an oracle, its full name says which."""
    if "oracle" not in made.scorer.needs:
        return made
    by = judge if "judge" in made.scorer.needs else None
    return replace(made, name=builtin.full_name(made.scorer, by, {"oracle": oracle.name}))


def _other(axis: str, name: str) -> str:
    prefix, dot, _ = axis.partition(".")
    return f"{prefix}{dot}{name}" if dot else f"label.{name}"


def _chosen(item: str, judge: str | None, unsafe_local: bool) -> ChosenScorer:
    if item.endswith(".toml"):
        made, listed = builtin.load_rubric(Path(item)), ""
    else:
        name, _, listed = item.partition(":")
        made = scorer_named(name.strip())
    if "judge" in made.needs and judge is None:
        raise InputError(
            f"{made.name} asks a judge, and none was named", remedy="name one with --judge MODEL (or [score] judge)"
        )
    if "judge" in made.needs and judge is not None and judge.startswith(("http://", "https://")) and "#" not in judge:
        raise InputError(
            f"the judge {judge} does not say which model judges, which is part of every score's name",
            remedy=f"name it {judge}#MODEL",
        )
    axes = {axis: axis for axis in made.axes}
    if listed:
        axes = {}
        for part in listed.split(","):
            axis, _, filed = part.strip().partition("=")
            if axis not in made.axes:
                raise InputError(f"{made.name} does not read {axis!r}", remedy=f"choose among {', '.join(made.axes)}")
            axes[axis] = filed or axis
    by = judge if "judge" in made.needs else None
    return ChosenScorer(
        made, axes, builtin.full_name(made, by, NO_SANDBOX if unsafe_local and "sandbox" in made.needs else None)
    )


@dataclass(slots=True)
class ScoreProgress:
    """How far scoring is; one object, kept up to date.

    Attributes:
        scorer: the scorer at work.
        done: answers read so far, over all scorers, kept ones included.
        kept: answers that an earlier run had read.
        total: answers to read.
        unscored: readings so far that gave no value.
        seconds: time since the start of this run.
    """

    scorer: str = ""
    done: int = 0
    kept: int = 0
    total: int = 0
    unscored: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ScoringContext:
    """What scoring works with.

    Attributes:
        judge: for scorers that ask one.
        workers: answers read at once by scorers that wait for a judge or a program.
        unsafe_local: run programs without the sandbox, with resource limits only.
        notes: filled while scoring with what a reader must know of it, such as that there was no sandbox.
    """

    judge: Judge | None = None
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    unsafe_local: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """How answers are scored.

    Attributes:
        scorers: as ``--with`` takes them.
        judge: model that judges.
        validate_judge: whether the judge's known-answer cards are run.
        budgets: smaller budgets at which the answers are scored too.
        unsafe_local: run code that a model wrote without the sandbox.
    """

    scorers: Sequence[str] = ()
    judge: str | None = None
    validate_judge: bool = True
    budgets: Sequence[int] = ()
    unsafe_local: bool = False

    def choose(self, scorers: Sequence[str] = ()) -> list[ChosenScorer]:
        """The scorers that are named here, or else those of the request.

        Raises:
            InputError: a scorer does not exist, or needs a judge and there is none.
        """
        return choose(scorers or self.scorers, self.judge, unsafe_local=self.unsafe_local)


@contextmanager
def judging(
    request: ScoringRequest, chosen: Sequence[ChosenScorer], runtime: Runtime, watch: Callable[[str, int, int], None]
) -> Iterator[tuple[ScoringContext, dict[str, Json]]]:
    """What scoring works with, and what the judge did with its known-answer cards (``extras`` of the run folder).

    The judge is opened, and its cards are run, before anything else is paid for.
    """
    judged = [item.scorer for item in chosen if "judge" in item.scorer.needs]
    if request.judge is None or not judged:
        yield ScoringContext(unsafe_local=request.unsafe_local), {}
        return
    with closing(open_judge(request.judge, runtime)) as judge:
        cards: dict[str, Json] = {}
        context = ScoringContext(judge, runtime.concurrency, request.unsafe_local)
        if request.validate_judge:
            report = validate(
                judge, judged, workers=runtime.concurrency,
                progress=lambda done, total: watch("the judge's known-answer cards", done, total),
            )  # fmt: skip
            cards["cards"] = report.cards()
            faulty = [said for name, said in zip(report.names, report.sentences, strict=True) if report.faults(name)]
            context.notes.extend(f"Do not trust these scores: {said}" for said in faulty)
        yield context, cards


def score(
    responses: Sequence[Response],
    prompts: Mapping[str, Prompt],
    chosen: Sequence[ChosenScorer],
    context: ScoringContext,
    journal: Journal,
    *,
    known: Iterable[Score] = (),
    watch: Callable[[ScoreProgress], None] | None = None,
) -> list[Score]:
    """Every answer read by every scorer, in the order of scorers and answers.

    Answers to a scripted next turn are read together with the answer that they follow, and never by themselves.

    Args:
        responses: answers of all arms, scripted next turns included.
        prompts: by id, with their gold.
        chosen: what reads them.
        context: judge, sandbox, and how much is done at once.
        journal: where every reading goes as soon as it is there.
        known: readings of earlier runs; those that are wanted are taken over.
        watch: called as readings come in.

    Raises:
        InputError: a scorer fails its own cards, a prompt lacks the gold that it needs, or the disk is full.
        SandboxError: programs would have to be run, and there is no sandbox.
    """
    follow_ups = {response.key: response for response in responses if response.arm.turn is not None}
    read = [response for response in responses if response.key not in follow_ups]
    kept: dict[tuple[str, ArmId, str, int], list[Score]] = {}
    for made in known:
        kept.setdefault((made.scorer, *made.key), []).append(made)
    tally = ScoreProgress(total=len(chosen) * len(read))
    started = time.monotonic()
    out: list[Score] = []
    check_gold(chosen, [prompts[response.prompt_id] for response in read])
    missing_of = {
        item.name: [response for response in read if (item.name, *response.key) not in kept] for item in chosen
    }
    tally.kept = tally.done = tally.total - sum(map(len, missing_of.values()))
    with _tools(chosen, [item for item in chosen if missing_of[item.name]], context) as tools:
        for item in chosen:
            tally.scorer = item.scorer.name
            missing = missing_of[item.name]
            if missing:
                builtin.check_to_cards(item.scorer, tools)
            step = 8 * context.workers
            for group in (missing[i : i + step] for i in range(0, len(missing), step)):
                rows = _read_group(item, group, follow_ups, prompts, tools, context.workers)
                journal.append(to_json(made) for scores in rows for made in scores)
                for response, scores in zip(group, rows, strict=True):
                    kept[item.name, *response.key] = scores
                    tally.unscored += sum(made.unscored is not None for made in scores)
                tally.done += len(group)
                tally.seconds = time.monotonic() - started
                if watch is not None:
                    watch(tally)
            out += [made for response in read for made in kept[item.name, *response.key]]
    return out


def _read_group(
    item: ChosenScorer,
    group: Sequence[Response],
    follow_ups: Mapping[AnswerKey, Response],
    prompts: Mapping[str, Prompt],
    tools: Tools,
    workers: int,
) -> list[list[Score]]:
    scorer = item.scorer

    def scores_of(response: Response) -> list[Score]:
        turn = follow_ups.get((replace(response.arm, turn=scorer.name), response.prompt_id, response.sample))
        found = scorer.read(Item(prompts[response.prompt_id], response, turn), tools)
        return [made for reading in found if (made := _score(item, response, reading)) is not None]

    if workers > 1 and scorer.needs & {"judge", "sandbox"}:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(scores_of, group))
    return [scores_of(response) for response in group]


def _score(item: ChosenScorer, response: Response, reading: Reading) -> Score | None:
    if reading.axis not in item.scorer.axes:
        raise RegistryError(f"scorer {item.scorer.name!r} read {reading.axis!r}, an axis that it does not declare")
    filed = item.axes.get(reading.axis)
    if filed is None:
        return None
    value = float(reading.value) if isinstance(reading.value, int) else reading.value
    return Score(
        response.prompt_id, response.arm, response.sample, item.name, filed, value, reading.unscored, reading.evidence
    )


@contextmanager
def _tools(chosen: Sequence[ChosenScorer], at_work: Sequence[ChosenScorer], context: ScoringContext) -> Iterator[Tools]:
    """Judge, sandbox and oracle, as far as the scorers at work need them."""
    tools = Tools(judge=context.judge)
    oracle = next((made for made in chosen if ORACLE_AXIS in made.axes.values()), None)
    needs = {need for made in at_work for need in made.scorer.needs}
    if oracle is not None and "oracle" in needs:
        needs |= oracle.scorer.needs
    if "sandbox" not in needs:
        yield _with_oracle(tools, oracle)
        return
    from counterclaim.lab.sandbox import Pool

    with Pool(workers=min(context.workers, os.cpu_count() or 1), unsafe_local=context.unsafe_local) as pool:
        if not context.unsafe_local:  # that is in the name of every score
            context.notes.extend(pool.notes)
        yield _with_oracle(replace(tools, sandbox=pool), oracle)


def _with_oracle(tools: Tools, oracle: ChosenScorer | None) -> Tools:
    if oracle is None:
        return tools
    own = next(axis for axis, filed in oracle.axes.items() if filed == ORACLE_AXIS)
    return replace(tools, oracle=builtin.oracle_by(oracle.scorer, tools, own))


def check_gold(chosen: Sequence[ChosenScorer], prompts: Sequence[Prompt]) -> None:
    """Raise InputError where no prompt at all carries the gold that a scorer needs."""
    for item in chosen:
        for need in GOLD_KEYS:
            if need not in item.scorer.needs:
                continue
            if not any(key in prompt.gold for prompt in prompts for key in GOLD_KEYS[need]):
                raise InputError(
                    f"{item.scorer.name} needs the {need} of each prompt, and no prompt has one",
                    remedy=f"add gold.{need} to the prompts, or score with another scorer",
                )


def still_true(
    earlier: Records | None, responses: Sequence[Response], prompts: Mapping[str, Prompt]
) -> Iterator[Score]:
    """Scores of a finished run whose answer, scripted next turn and gold are what they were."""
    if earlier is None:
        return
    then, now = ({r.key: (r.text, r.error, r.finish_reason) for r in rows} for rows in (earlier.responses, responses))
    for made in earlier.scores:
        turn = replace(made.arm, turn=made.scorer.partition("@")[0]), made.prompt_id, made.sample
        same = all(then.get(key) == now.get(key) for key in (made.key, turn))
        old = earlier.prompts.get(made.prompt_id)
        if same and made.key in now and old is not None and old.gold == prompts[made.prompt_id].gold:
            yield made


def scoring_hash(responses: Sequence[Response], prompts: Mapping[str, Prompt], chosen: Sequence[ChosenScorer]) -> str:
    """SHA-256 over everything that determines the scores: answers, golds and scorers."""
    answers: list[Json] = [[str(r.arm), r.prompt_id, r.sample, r.text, r.error] for r in responses]
    golds = [[key, to_json(prompt.gold)] for key, prompt in sorted(prompts.items())]
    return content_hash([answers, golds, [[made.name, dict(made.axes)] for made in chosen]])
