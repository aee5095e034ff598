"""A training set from a pipeline file: prompts, licences, calls, the oracle, examples, filters, and the folder that holds it all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from counterclaim import __version__
from counterclaim.errors import InputError, ModelError
from counterclaim.folder import Journal, dump, dump_lines, locked, whole_folder, write_new, write_outputs
from counterclaim.lab.config import PipelinePlan, PromptChoice
from counterclaim.lab.models.judge import open_judge
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.lab.scorers import scoring
from counterclaim.lab.synthesis.calls import CallStep, StageReply, ask_all
from counterclaim.lab.synthesis.card import data_card, role_families
from counterclaim.lab.synthesis.examples import FILE, STATE, examples_hash, load_examples
from counterclaim.lab.synthesis.filters import (
    EXAMPLE_REMEDIES,
    STUDENT,
    Contamination,
    DroppedExample,
    FilteredExamples,
    bar,
    check_enough,
    check_licences,
    filter_examples,
    question,
    unlicensed,
)
from counterclaim.lab.synthesis.products import OracleScores, examples_of, is_wanted, steps_of
from counterclaim.lab.synthesis.replies import teacher_fault
from counterclaim.records import (
    ArmId,
    Decode,
    Example,
    FinishReason,
    Json,
    ModelRef,
    Prompt,
    Provenance,
    Response,
    content_hash,
    score_from_json,
    to_json,
)
from counterclaim.registry import Watch

CALLS, VERDICTS = "calls.journal", "oracle.journal"
DATASETS = "datasets"
TEST_SPLITS = ("test", "fresh")

_GOLD = "gold"


@dataclass(frozen=True, slots=True)
class _Request:
    """A pipeline file, with everything that is known before a model is asked.

    Attributes:
        plan: the file.
        prompts: those to be answered, with different ids.
        barred: prompts that must not be.
        forbidden: prompts that must not occur in the training set.
        steps: the calls that each prompt may need.
        oracle: the scorer that says what is right, with its axes; empty where there is none.
    """

    plan: PipelinePlan
    prompts: list[Prompt]
    barred: list[DroppedExample]
    forbidden: list[Prompt]
    steps: list[CallStep]
    oracle: list[scoring.ChosenScorer]

    @property
    def by_id(self) -> dict[str, Prompt]:
        return {prompt.id: prompt for prompt in self.prompts}


Answers = Mapping[str, Mapping[str, StageReply]]
"""Replies by prompt id and step."""


def teach(
    plan: PipelinePlan, folder: Path, watch: Watch, *, overwrite: bool = False, wait: bool = False
) -> dict[str, Json]:
    """Make the training set of a pipeline file in a folder; returns its summary.

    Every answer is kept as it comes: killed at any moment and run again, this goes on where it stopped and ends with the
    same bytes; run again when it is finished, it opens no model. A rerun makes calls that failed again.

    Args:
        plan: the pipeline file.
        folder: where; it gets ``examples.jsonl``, ``dropped.jsonl``, ``card.json``, ``card.md`` and ``datasets/``.
        watch: gets what is being done.
        overwrite: replace the training set of another pipeline.
        wait: wait until another process that uses the folder has ended.

    Raises:
        InputError: something in the file cannot be used, the filters leave nothing, the folder holds
            something else, or another process is at work in it.
        ModelError: a model cannot be used, or the package ``datasets`` is missing.
        BudgetSpent: the budget for tokens or money is used up; a rerun goes on from there.
    """
    watch("reading prompts", 0, 0)
    request = _prepared(plan)
    _check_datasets()
    calls_hash = plan.calls_hash(request.prompts)
    set_hash = content_hash([__version__, plan.training_set_hash(request.prompts, request.forbidden)])
    with locked(folder, (lambda: watch("waiting for another process that makes it", 0, 0)) if wait else None):
        state = _state(folder, calls_hash, overwrite)
        if state is not None and (summary := _finished(state, folder, set_hash)) is not None:
            return summary
        begun: dict[str, Json] = {"calls_hash": calls_hash, "training_set_hash": set_hash, "finished": False}
        _write(folder, {STATE: dump(begun)})
        with Journal(folder / CALLS, calls_hash, keep_other=not overwrite) as journal:
            replies = ask_all(request.steps, request.prompts, journal, plan.runtime, watch)
        watch("asking the oracle", 0, 0)
        scores = _oracle_scores(request, replies, folder)
        watch("filtering", 0, 0)
        filtered = _filtered(request, replies, scores)
        _write(folder, {"dropped.jsonl": dump_lines(_dropped_row(item) for item in filtered.dropped)})
        check_enough(filtered, plan.path)
        summary = _summary(request, replies, filtered)
        watch("writing", 0, 0)
        _write_datasets(folder, filtered.kept)
        rows = ({"id": example.id, **to_json(example)} for example in filtered.kept)
        card, page = data_card(plan, filtered, summary, n_forbidden=len(request.forbidden))
        _write(folder, {FILE: dump_lines(rows), "card.json": dump(card), "card.md": page})
        _write(folder, {STATE: dump({**begun, "finished": True, "summary": summary})})
    return summary


def preview(plan: PipelinePlan) -> dict[str, Json]:
    """What a pipeline file would do: prompts, roles and the most calls that it can come to. No model is opened.

    Raises:
        InputError: as ``teach``.
    """
    request = _prepared(plan)
    roles = role_families(plan)
    return {
        "prompts": len(request.prompts),
        "contaminated": len(request.barred),
        "forbidden": len(request.forbidden),
        "calls_at_most": len(request.prompts) * len(request.steps),
        "stages": [
            {
                "stage": step.name, "model": step.model.name, "licence": step.licence, "after": list(step.after),
                "calls_at_most": len(request.prompts),
            }
            for step in request.steps
        ],
        "products": list(plan.products),
        "variants": dict(plan.variants),
        "roles": {role: list(families) for role, families in roles.families.items()},
        "notes": [*roles.notes, *_hosts_note(request.steps)],
    }  # fmt: skip


def _hosts_note(steps: Sequence[CallStep]) -> list[str]:
    """That several hosts would get one API key, which may belong to one of them only."""
    hosts = sorted({urlsplit(step.model.name).netloc for step in steps if "://" in step.model.name})
    if len(hosts) < 2:
        return []
    return [f"{', '.join(hosts[:-1])} and {hosts[-1]} are all sent the same API key; one gateway keeps keys apart."]


def write_example(path: Path, *, overwrite: bool = False) -> None:
    """Write the commented pipeline file that ships with the package, to start from.

    Raises:
        InputError: the file exists and ``overwrite`` is not set, or cannot be written.
    """
    text = (Path(__file__).parent.parent / "example" / "pipeline.toml").read_text(encoding="utf-8")
    write_new(path, text.replace("pipeline.toml", path.name), overwrite=overwrite)


# --- before a model is asked --------------------------------------------------------------------------------------


def _prepared(plan: PipelinePlan) -> _Request:
    """Refuse everything that can be refused before a model is opened."""
    check_licences(plan)
    teacher_fault("It is so.", None, "Is it so?", plan.filters.language)  # whether languages can be recognised at all
    found = {prompt.id: prompt for choice in plan.prompts for prompt in _chosen(choice, plan)}
    wanted = [prompt for prompt in found.values() if is_wanted(prompt, plan)]
    if not wanted:
        raise InputError(
            f"no product ({', '.join(plan.products)}) can be made of these prompts",
            path=plan.path,
            remedy='boundary cases need prompts with the tag "boundary" or gold.hedge; everything else needs other ones',
        )
    forbidden = _forbidden(plan)
    clean, barred = bar([question(prompt) for prompt in wanted], Contamination(forbidden))
    if not clean:
        raise InputError(
            f"every prompt is a test prompt, or nearly one (the first: {barred[0].because})",
            path=plan.path,
            remedy=EXAMPLE_REMEDIES["contamination"],
        )
    ids = {example.prompt_id for example in clean}
    prompts = [prompt for prompt in wanted if prompt.id in ids]
    oracle = [] if plan.oracle is None else scoring.choose([plan.oracle], plan.judge)
    if oracle and scoring.ORACLE_AXIS not in oracle[0].axes.values():
        raise InputError(
            f"oracle: {plan.oracle} does not say whether an answer is right",
            path=plan.path,
            remedy="name exact, numeric, checklist or code",
        )
    scoring.check_gold(oracle, prompts)
    return _Request(plan, prompts, [replace(item, example=None) for item in barred], forbidden, steps_of(plan), oracle)


def _chosen(choice: PromptChoice, plan: PipelinePlan) -> list[Prompt]:
    """The prompts of one source, none of them of another split."""
    found = choose_prompts(choice)
    if other := next((prompt for prompt in found if prompt.split != choice.split), None):
        raise InputError(
            f"{choice.source} holds prompts of the split {other.split}, which must not be trained on",
            path=plan.path,
            remedy="name a source that has a train split",
        )
    if bare := next((prompt for prompt in found if not prompt.messages), None):
        raise InputError(
            f"prompt {bare.id} has no text",
            path=plan.path,
            remedy="give it one, or leave it out",
        )
    return found


def _forbidden(plan: PipelinePlan) -> list[Prompt]:
    """Prompts that the file names, and every test split of the sources of the prompts themselves."""
    own = (PromptChoice(source, "all") for source in dict.fromkeys(choice.source for choice in plan.prompts))
    found = [prompt for choice in own for prompt in choose_prompts(choice) if prompt.split in TEST_SPLITS]
    found += [prompt for choice in plan.forbidden for prompt in choose_prompts(choice)]
    return list({prompt.id: prompt for prompt in found}.values())


def _check_datasets() -> None:
    """Notice before anything is paid for that the training set could not be written."""
    if find_spec("datasets") is None:
        raise ModelError(
            "a training set is written with the package datasets, which is not installed",
            remedy="pip install 'counterclaim[train]'",
        )


# --- the folder ---------------------------------------------------------------------------------------------------


def _state(folder: Path, calls_hash: str, overwrite: bool) -> dict[str, Json] | None:
    """The state in which an earlier run of this pipeline left the folder; None where there is none."""
    file = folder / STATE
    if not file.is_file():
        if any(not path.name.startswith(".") for path in folder.iterdir()):
            raise InputError(
                "the folder is not empty and holds no training set", path=folder, remedy="choose another --out"
            )
        return None
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        same = state["calls_hash"] == calls_hash
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"cannot be read ({error})", path=file, remedy="choose another --out") from error
    if not same and not overwrite:
        raise InputError(
            "the folder holds the training set of another pipeline (other models, prompts or settings)",
            path=folder,
            remedy="name another one (out in the pipeline file), or replace this one: counterclaim teach --overwrite",
        )
    return state if same else None


def _finished(state: Mapping[str, Json], folder: Path, set_hash: str) -> dict[str, Json] | None:
    """The summary of a training set that is finished, unchanged and lacks no call; None where there is work to do."""
    if not state["finished"] or state["training_set_hash"] != set_hash or state["summary"]["failed"]:
        return None
    if not (folder / DATASETS).is_dir() or not (folder / FILE).is_file():
        return None
    summary: dict[str, Json] = state["summary"]
    try:
        return summary if examples_hash(load_examples(folder)) == summary["hash"] else None
    except InputError:  # it was changed: it is made again from the journals
        return None


def _write(folder: Path, files: Mapping[str, str]) -> None:
    try:
        write_outputs(folder, files)
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror}); every answer up to here is kept",
            path=folder,
            remedy="make room, and run the same command again",
        ) from error


def _dropped_row(item: DroppedExample) -> Json:
    example = None if item.example is None else to_json(item.example)
    return {"prompt_id": item.prompt_id, "filter": item.filter, "because": item.because, "example": example}


def _write_datasets(folder: Path, kept: Sequence[Example]) -> None:
    """``datasets/sft`` (prompt, completion) and ``datasets/preference`` (prompt, chosen, rejected), each where it has rows."""
    import datasets

    turns = [{"role": datasets.Value("string"), "content": datasets.Value("string")}]
    about = {name: datasets.Value("string") for name in ("id", "prompt_id", "kind", "variant")}
    sides = {"sft": ("completion",), "preference": ("chosen", "rejected")}
    had_progress = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        with whole_folder(folder / DATASETS, replace=True) as made:
            for name, columns in sides.items():
                rows = [
                    {
                        "id": example.id, "prompt_id": example.prompt_id, "kind": example.kind, "variant": example.variant,
                        "prompt": to_json(example.prompt), columns[0]: _assistant_turns(example.chosen),
                        **({} if example.rejected is None else {"rejected": _assistant_turns(example.rejected)}),
                    }
                    for example in kept
                    if (example.rejected is None) == (name == "sft")
                ]  # fmt: skip
                features = datasets.Features({**about, "prompt": turns, **dict.fromkeys(columns, turns)})
                if rows:
                    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(made / name))
    finally:
        if had_progress:
            datasets.enable_progress_bars()


def _assistant_turns(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


# --- from replies to a training set -------------------------------------------------------------------------------


def _oracle_scores(request: _Request, replies: Answers, folder: Path) -> dict[str, OracleScores]:
    """What the oracle says of the teachers' and the student's answers, by prompt id."""
    if not request.oracle:
        return {}
    plan, by_id = request.plan, request.by_id
    arms: dict[str, tuple[str, Decode]] = {
        _GOLD: (plan.final, plan.last.decode),
        STUDENT: (STUDENT, plan.student_decode),
    }
    responses = [
        Response(
            prompt.id, ArmId(arm), 0, reply.call.text, FinishReason.STOP, Provenance.RECORDED, decode, ModelRef(reply.call.model)
        )
        for arm, (name, decode) in arms.items()
        for prompt in request.prompts
        if (reply := replies[prompt.id].get(name)) is not None and reply.fault is None
    ]  # fmt: skip
    identity = scoring.scoring_hash(responses, by_id, request.oracle)
    with _bench(request) as bench, Journal(folder / VERDICTS, identity, keep_other=False) as journal:
        known = [score_from_json(row) for row in journal.rows]
        scores = scoring.score(responses, by_id, request.oracle, bench, journal, known=known)
    value = {
        (score.arm.name, score.prompt_id): score.value
        for score in scores
        if score.axis == scoring.ORACLE_AXIS and isinstance(score.value, float)
    }
    return {
        prompt.id: OracleScores(value.get((_GOLD, prompt.id)), value.get((STUDENT, prompt.id)))
        for prompt in request.prompts
    }


@contextmanager
def _bench(request: _Request) -> Iterator[scoring.ScoringContext]:
    """What the oracle works with; its judge shares the budget of the teachers."""
    plan = request.plan
    if plan.judge is None or not any("judge" in item.scorer.needs for item in request.oracle):
        yield scoring.ScoringContext()
        return
    with closing(open_judge(plan.judge, plan.runtime)) as judge:
        yield scoring.ScoringContext(judge, plan.runtime.concurrency)


def _filtered(request: _Request, replies: Answers, scores: Mapping[str, OracleScores]) -> FilteredExamples:
    """All examples that the replies come to, through the filters, then the licences and the test prompts."""
    made: list[Example] = []
    dropped = list(request.barred)
    for prompt in request.prompts:
        for item in examples_of(prompt, replies[prompt.id], scores.get(prompt.id, OracleScores()), request.plan):
            if isinstance(item, Example):
                made.append(item)
            else:
                dropped.append(item)
    fit = filter_examples(made, request.plan.filters, request.by_id)
    licensed, without_licence = bar(fit.kept, unlicensed(request.plan))
    kept, contaminated = bar(licensed, Contamination(request.forbidden))
    return FilteredExamples(kept, [*dropped, *fit.dropped, *without_licence, *contaminated])


def _summary(request: _Request, replies: Answers, filtered: FilteredExamples) -> dict[str, Json]:
    """Counts of calls, examples and drops, by stage and by product."""
    calls = {
        step.name: [answers[step.name] for answers in replies.values() if step.name in answers]
        for step in request.steps
    }
    kept: Counter[tuple[str, str]] = Counter((example.kind, example.variant) for example in filtered.kept)
    lost: dict[tuple[str, str], Counter[str]] = {}
    for item in filtered.dropped:
        kind = ("", "") if item.example is None else (item.example.kind, item.example.variant)
        lost.setdefault(kind, Counter())[item.filter] += 1
    kinds = sorted({*kept, *(kind for kind in lost if kind[0])})
    return {
        "prompts": len(request.prompts),
        "examples": len(filtered.kept),
        "sft": sum(example.rejected is None for example in filtered.kept),
        "preference": sum(example.rejected is not None for example in filtered.kept),
        "failed": sum(reply.failed is not None for answers in calls.values() for reply in answers),
        "hash": examples_hash(filtered.kept),
        "products": [
            {
                "kind": kind, "variant": variant, "made": kept[kind, variant] + sum(gone.values()),
                "kept": kept[kind, variant], "dropped": dict(sorted(gone.items())),
            }
            for kind, variant in kinds
            for gone in [lost.get((kind, variant), Counter())]
        ],
        "not_made": dict(sorted(lost.get(("", ""), Counter()).items())),
        "stages": [_stage_row(step, calls[step.name]) for step in request.steps],
        "notes": list(role_families(request.plan).notes),
    }  # fmt: skip


def _stage_row(step: CallStep, replies: Sequence[StageReply]) -> dict[str, Json]:
    return {
        "stage": step.name,
        "model": step.model.name,
        "licence": step.licence,
        "calls": len(replies),
        "failed": sum(reply.failed is not None for reply in replies),
        "spoilt": sum(reply.unusable is not None for reply in replies),
        "prompt_tokens": sum(reply.call.prompt_tokens or 0 for reply in replies),
        "tokens": sum(reply.call.n_tokens or 0 for reply in replies),
        "cost": sum(reply.call.cost for reply in replies),
    }
