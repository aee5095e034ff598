"""Single steps of a study over a run folder, each a verb of its own: answer, import answers, score, measure a judge."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median

from counterclaim import registry
from counterclaim.audit.evidence import Arm, Evidence
from counterclaim.audit.intake import DEFAULT_MARGIN, Options
from counterclaim.audit.metrics import resolve
from counterclaim.errors import InputError
from counterclaim.folder import Records, clear_run, finish_run, locked, read_run, read_study
from counterclaim.importers import load
from counterclaim.lab.answers import (
    AnsweringArm,
    AnswerRequest,
    Progress,
    RunUnderWay,
    answer,
    begin_run,
    score,
    train_tiny,
)
from counterclaim.lab.config import PromptChoice
from counterclaim.lab.models.judge import open_judge
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.lab.run import measured_by, notes_of
from counterclaim.lab.scorers.scoring import ChosenScorer, ScoringRequest, check_gold, choose, judging, still_true
from counterclaim.lab.scorers.validation import Report, validate
from counterclaim.records import (
    CONTROL,
    TREATED,
    AnswerKey,
    ArmId,
    Claim,
    Estimate,
    FinishReason,
    Json,
    Prompt,
    Response,
    Score,
    claim_from_json,
    content_hash,
    to_json,
)
from counterclaim.registry import Runtime

FEW = 5
"""Prompts that a tag needs for a row of its own in the table of scores."""


def generate_run(
    folder: Path,
    request: AnswerRequest,
    runtime: Runtime,
    progress: Progress,
    *,
    overwrite: bool = False,
) -> dict[str, Json]:
    """One arm's answers in a run folder of their own, without a claim; a summary of them.

    Raises:
        InputError, ModelError, BudgetSpent: as ``answer``.
    """
    with locked(folder):
        run = begin_run(folder, request, overwrite=overwrite)
        train_tiny(request.arms, progress)
        arms = [AnsweringArm(arm.id, arm.model, arm.decode) for arm in request.arms]
        answer(run, arms, request, runtime, progress)
        made = Records({**run.study, "finished": True}, run.prompts, list(run.responses))
        if run.earlier is not None:
            _take_over(run.earlier, made)
        finish_run(folder, made, {})
    answered = sorted({response.arm for response in run.responses}, key=str)
    return {
        "arms": [_summary(str(arm), [r for r in run.responses if r.arm == arm]) for arm in answered],
        "notes": notes_of(made),
    }


def _take_over(earlier: Records, made: Records) -> None:
    """Keep of an earlier run what still holds: golds given since, answers cut to budgets, scores, a judge's cards."""
    for key, prompt in made.prompts.items():
        if not prompt.gold:
            made.prompts[key] = earlier.prompts[key]
    then, now = ({r.key: (r.text, r.error) for r in records.responses} for records in (earlier, made))
    for response in earlier.responses:
        whole = replace(response.arm, budget=None), response.prompt_id, response.sample
        if response.arm.budget is not None and then.get(whole) == now.get(whole):
            made.responses.append(response)
    made.scores = list(still_true(earlier, made.responses, made.prompts))
    made.extras = earlier.extras


def _summary(arm: str, answers: Sequence[Response]) -> dict[str, Json]:
    tokens = [answer.n_tokens for answer in answers if answer.n_tokens is not None]
    return {
        "arm": arm, "n": len(answers), "cut": sum(answer.finish_reason is FinishReason.LENGTH for answer in answers),
        "failed": sum(answer.error is not None for answer in answers), "tokens": median(tokens) if tokens else None,
        "model": answers[0].model.repo, "revision": answers[0].model.revision,
    }  # fmt: skip


def scripted_turns(names: Sequence[str]) -> dict[str, str]:
    """The scripted next turn of each scorer.

    Raises:
        InputError: a scorer does not exist, or has no next turn.
    """
    out = {}
    for name in names:
        text = registry.scorer_named(name).follow_up
        if text is None:
            having = [each for each, made in registry.scorers().items() if made.follow_up is not None]
            raise InputError(f"{name} has no scripted next turn", remedy=f"choose among {', '.join(having)}")
        out[name] = text
    return out


def import_answers(file: Path, folder: Path, options: Options, *, overwrite: bool = False) -> None:
    """A run folder from answers that another harness wrote, to be scored like one's own; importing the same file twice changes nothing.

    Why answers ended stays as the file says it; where it does not, ``audit`` infers it.

    Raises:
        InputError: the file cannot be read, or the folder holds something else.
    """
    imported = load(
        file, arm=CONTROL, format=options.format, mapping=options.mapping, rows=options.rows, pair_by=options.pair_by
    )
    identity = content_hash(["taken in", imported.source.sha256, dict(options.mapping), options.rows, options.pair_by])
    with locked(folder):
        old = read_study(folder)
        if old is not None and old.get("answers_hash") == identity:
            return
        if old is not None and not overwrite:
            raise InputError(
                "the folder holds something else",
                path=folder,
                remedy="choose another --out, or replace it with --overwrite",
            )
        clear_run(folder)
        study: dict[str, Json] = {
            "finished": True, "answers_hash": identity, "began": imported.source.created, "frozen": None, "claim": None,
            "arms": [], "taken_from": to_json(imported.source),
        }  # fmt: skip
        records = Records(study, imported.prompts, imported.responses, imported.scores)
        finish_run(folder, records, {})


def score_run(
    folder: Path, request: ScoringRequest, runtime: Runtime, progress: Progress, *, golds: str | None = None
) -> dict[str, Json]:
    """Score the answers of a finished run folder, beside what it holds already; a summary of the scores.

    Args:
        folder: the run folder.
        request: scorers, judge and budgets.
        runtime: how the judge is run.
        progress: is called with how far things are.
        golds: file or set whose golds replace those of the run folder's prompts.

    Raises:
        InputError: it is no finished run folder, or a scorer cannot score it.
    """
    study = read_study(folder)
    if study is None or not study.get("finished", True):
        raise InputError(
            "this is no finished run folder",
            path=folder,
            remedy="generate the answers first; a rerun goes on from there",
        )
    with locked(folder):
        return _score_locked(folder, request, runtime, progress, golds)


def _score_locked(
    folder: Path, request: ScoringRequest, runtime: Runtime, progress: Progress, golds: str | None
) -> dict[str, Json]:
    """``score_run`` in a folder that no other process can change meanwhile."""
    earlier = read_run(folder)
    study = earlier.study
    chosen = request.choose()
    prompts = _with_golds(earlier.prompts, golds)
    check_gold(chosen, list(prompts.values()))
    run = RunUnderWay(folder, study, prompts, earlier, [r for r in earlier.responses if r.arm.budget is None])
    with judging(request, chosen, runtime, progress.part) as (context, cards):
        records = score(run, chosen, request.budgets, context, progress)
    scored = {response.key for response in records.responses}
    records.responses += [response for response in earlier.responses if response.key not in scored]
    notes = [*context.notes, *notes_of(records)]
    beside = [made for made in earlier.scores if _stays_beside(made, chosen, scored)]
    true = set(still_true(earlier, records.responses, prompts))
    kept = [made for made in beside if made in true]
    if len(kept) < len(beside):
        notes.append(
            f"{len(beside) - len(kept)} scores of other scorers rested on golds that have changed since, and were "
            "dropped: score with those again"
        )
    records.scores = [*kept, *records.scores]
    records.extras = {**earlier.extras, **cards}
    if study.get("claim") is not None:
        claim = claim_from_json(study["claim"])
        axes = {made.axis for made in earlier.scores}
        if _measures_of(earlier, claim, axes) != _measures_of(records, claim, axes):
            records.study = {
                **study,
                "status": "exploratory",
                "status_because": "what measures the claim (scorers or golds) was changed when the answers were scored again",
            }
        notes.append(f"the verdict has to be made again from these scores: counterclaim check {folder}")
    finish_run(folder, records, {})
    return {"scores": score_table(records), "notes": notes}


def _measures_of(records: Records, claim: Claim, axes: Iterable[str]) -> dict[str, Json]:
    """``measured_by``, from the scores that there are on these axes."""
    scorers: dict[str, set[str]] = {axis: set() for axis in axes}
    for made in records.scores:
        if made.arm in (CONTROL, TREATED) and made.axis in scorers:
            scorers[made.axis].add(made.scorer)
    return measured_by(claim, scorers, records.prompts.values())


def _stays_beside(made: Score, chosen: Sequence[ChosenScorer], scored: Container[AnswerKey]) -> bool:
    """Whether a score of an earlier run stays: one axis has one scorer, and one scorer one version."""
    if made.key not in scored and made.scorer in {item.name for item in chosen}:
        return True  # of a budget that was not asked for this time
    axes = {axis for item in chosen for axis in item.axes.values()}
    names = {item.scorer.name for item in chosen}
    return made.axis not in axes and made.scorer.partition("@")[0] not in names


def _with_golds(prompts: Mapping[str, Prompt], source: str | None) -> dict[str, Prompt]:
    """The prompts with golds taken from a file or a set."""
    if source is None:
        return dict(prompts)
    given = {prompt.id: prompt for prompt in choose_prompts(PromptChoice(source, "all"))}
    if not set(given) & set(prompts):
        raise InputError(
            f"no prompt of {source} was answered in this run folder",
            remedy="name the prompts that were put to the model",
        )
    return {key: replace(prompt, gold=given[key].gold) if key in given else prompt for key, prompt in prompts.items()}


def score_table(records: Records) -> list[dict[str, Json]]:
    """The mean of every axis in every arm, and within every ``NAME:VALUE`` tag of the prompts, with its interval."""
    claim = Claim("accuracy", "increase", DEFAULT_MARGIN)
    tags: dict[str, set[str]] = {"": set(records.prompts)}
    for key, prompt in records.prompts.items():
        for tag in prompt.tags:
            if ":" in tag and not tag.startswith("source-id:"):
                tags.setdefault(tag, set()).add(key)
    rows = []
    for tag, keys in sorted(tags.items()):
        if tag and not FEW <= len(keys) < len(records.prompts):
            continue
        evidence = Evidence(
            claim, {key: records.prompts[key] for key in keys},
            [response for response in records.responses if response.prompt_id in keys],
            [made for made in records.scores if made.prompt_id in keys],
        )  # fmt: skip
        arms = sorted(evidence.arms.values(), key=lambda arm: _arm_order(arm.id))
        rows += [row for arm in arms for row in _axis_rows(evidence, arm, tag)]
    return rows


def _arm_order(arm: ArmId) -> tuple[str, int, str]:
    """Whole answers first, then the budgets by size."""
    return str(arm.base), arm.budget or 0, arm.turn or ""


def _axis_rows(evidence: Evidence, arm: Arm, tag: str) -> Iterator[dict[str, Json]]:
    for axis, column in sorted(arm.columns.items()):
        labels = [axis]
        if any(isinstance(value, str) for value in column.values):
            labels = [f"{axis}={value}" for value in sorted({v for v in column.values if isinstance(v, str)})]
        unscored = sum(value is None for value in column.values)
        for name in labels:
            if unscored == len(arm):
                mean = Estimate.undefined(
                    f"nothing was scored, first because {next(iter(column.reasons.values()), '')}"
                )
            else:
                mean = evidence.arm_estimate(resolve(name, {axis}), arm)
            yield {
                "arm": arm.name, "axis": name, "tag": tag, "mean": mean.to_json(), "unscored": unscored,
                "scorer": " and ".join(sorted(column.scorers)),
            }  # fmt: skip


def judge_report(judge: str, wanted: Sequence[str], runtime: Runtime, progress: Progress) -> Report:
    """What a judge shows on the known-answer cards of some scorers; of all that ask a judge when none is named.

    Raises:
        InputError: a scorer does not exist, or asks no judge.
        ModelError: the judge cannot be reached.
    """
    judged = [name for name, made in registry.scorers().items() if "judge" in made.needs]
    chosen = [choose([name], judge)[0].scorer for name in wanted or judged]
    if silent_ones := [made.name for made in chosen if "judge" not in made.needs]:
        raise InputError(f"{silent_ones[0]} asks no judge", remedy=f"choose among {', '.join(judged)}")
    with closing(open_judge(judge, runtime)) as opened:
        return validate(
            opened, chosen, workers=runtime.concurrency,
            progress=lambda done, total: progress.part("known-answer cards", done, total),
        )  # fmt: skip
