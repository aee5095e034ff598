"""A whole pipeline file, in order: prompts, gates, calls, examples, filters, and the folder that holds the training set."""

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
from counterclaim import folder as store
from counterclaim.errors import InputError, ModelError
from counterclaim.lab.config import PipelinePlan, PromptChoice
from counterclaim.lab.models.judge import open_judge
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.lab.scorers import scoring
from counterclaim.lab.synthesis import card, examples, filters, gates
from counterclaim.lab.synthesis.filters import Dropped, Filtered
from counterclaim.lab.synthesis.gates import STUDENT
from counterclaim.lab.synthesis.products import Judged, examples_of, is_wanted, steps_of
from counterclaim.lab.synthesis.stages import Reply, Step, ask_all
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

STATE = examples.STATE
"""What the folder belongs to and how far it is; the first file that is written, and the last."""
CALLS, VERDICTS = "calls.journal", "oracle.journal"
DATASETS = "datasets"
TEST_SPLITS = ("test", "fresh")

_GOLD = "gold"


@dataclass(frozen=True, slots=True)
class _Work:
    """What a pipeline file comes to before anything is asked.

    Attributes:
        prompts: what is asked, with different ids.
        barred: prompts that may not be.
        forbidden: prompts that must not occur in the training set.
        steps: the calls that each prompt may need.
        oracle: the scorer that says what is right, with its axes; empty where there is none.
    """

    prompts: list[Prompt]
    barred: list[Dropped]
    forbidden: list[Prompt]
    steps: list[Step]
    oracle: list[scoring.ChosenScorer]


def teach(
    plan: PipelinePlan, folder: Path, watch: Watch, *, overwrite: bool = False, wait: bool = False
) -> dict[str, Json]:
    """Make the training set of a pipeline file in a folder; returns its summary.

    Every answer is kept as it comes: killed at any moment and run again, this goes on where it stopped and ends with the
    same bytes; run again when all is done, it opens no model. Calls that failed are made again by a rerun.

    Args:
        plan: the pipeline file.
        folder: where; it gets ``examples.jsonl``, ``dropped.jsonl``, ``card.json``, ``card.md`` and ``datasets/``.
        watch: told what is being done.
        overwrite: replace the training set of another pipeline.
        wait: where another process is at work in the folder, wait until it has ended.

    Raises:
        InputError: something in the file cannot be used, a gate or the filters leave nothing, the folder holds
            something else, or another process is at work in it.
        ModelError: a model cannot be used, or the package ``datasets`` is missing.
        BudgetSpent: the budget for tokens or money is used up; a rerun goes on from there.
    """
    watch("reading prompts", 0, 0)
    work = _prepared(plan)
    _check_datasets()
    calls_hash = plan.calls_hash(work.prompts)
    whole_hash = content_hash([__version__, plan.training_set_hash(work.prompts, work.forbidden)])
    with store.locked(folder, (lambda: watch("waiting for another process that makes it", 0, 0)) if wait else None):
        state = _state(folder, calls_hash, overwrite)
        if state is not None and (summary := _finished(state, folder, whole_hash)) is not None:
            return summary
        begun: dict[str, Json] = {"calls_hash": calls_hash, "training_set_hash": whole_hash, "finished": False}
        _write(folder, {STATE: store.dump(begun)})
        with store.Journal(folder / CALLS, calls_hash, keep_other=not overwrite) as journal:
            replies = ask_all(work.steps, work.prompts, journal, plan.runtime, watch)
        watch("asking the oracle", 0, 0)
        judged = _judged(plan, work, replies, folder)
        watch("filtering", 0, 0)
        filtered = _filtered(plan, work, replies, judged)
        _write(folder, {"dropped.jsonl": store.dump_lines(_dropped_row(item) for item in filtered.dropped)})
        filters.check_enough(filtered, plan.path)
        summary = _summary(plan, work, replies, filtered)
        watch("writing", 0, 0)
        _write_datasets(folder, filtered.kept)
        rows = ({"id": example.id, **to_json(example)} for example in filtered.kept)
        _write(folder, {examples.FILE: store.dump_lines(rows), **_cards(plan, work, filtered, summary)})
        _write(folder, {STATE: store.dump({**begun, "finished": True, "summary": summary})})
    return summary


def preview(plan: PipelinePlan) -> dict[str, Json]:
    """What a pipeline file would do: prompts, roles and the most calls that it can come to. No model is opened.

    Raises:
        InputError: as ``teach``.
    """
    work = _prepared(plan)
    roles = gates.roles(plan)
    return {
        "prompts": len(work.prompts),
        "contaminated": len(work.barred),
        "forbidden": len(work.forbidden),
        "calls_at_most": len(work.prompts) * len(work.steps),
        "stages": [
            {
                "stage": step.name, "model": step.model.name, "licence": step.licence, "after": list(step.after),
                "calls_at_most": len(work.prompts),
            }
            for step in work.steps
        ],
        "products": list(plan.products),
        "variants": dict(plan.variants),
        "roles": {role: list(families) for role, families in roles.families.items()},
        "notes": [*roles.notes, *_hosts_note(work.steps)],
    }  # fmt: skip


def _hosts_note(steps: Sequence[Step]) -> list[str]:
    """That several hosts would be shown one key, where that is so: it may belong to one of them only."""
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
    store.write_new(path, text.replace("pipeline.toml", path.name), overwrite=overwrite)


# --- before anything is asked -------------------------------------------------------------------------------------


def _prepared(plan: PipelinePlan) -> _Work:
    """Everything that can be refused before a model is opened, refused."""
    gates.licences(plan)
    filters.spoilt("It is so.", None, "Is it so?", plan.filters.language)  # whether languages can be told at all
    prompts = {prompt.id: prompt for choice in plan.prompts for prompt in _chosen(choice, plan)}
    asked = [prompt for prompt in prompts.values() if is_wanted(prompt, plan)]
    if not asked:
        raise InputError(
            f"nothing that is wanted ({', '.join(plan.products)}) can be made of these prompts",
            path=plan.path,
            remedy='boundary cases need prompts with the tag "boundary" or gold.hedge; everything else needs other ones',
        )
    forbidden = _forbidden(plan)
    # the gate reads examples, and before anything is answered a prompt is one without an answer of its own
    questions = [Example(prompt.messages, "?", prompt_id=prompt.id) for prompt in asked]
    clean, barred = gates.contamination(questions, forbidden)
    ids = {example.prompt_id for example in clean}
    if not ids:
        raise InputError(
            f"every prompt is a test prompt, or nearly one (the first: {barred[0].because})",
            path=plan.path,
            remedy=filters.REMEDIES["contamination"],
        )
    work = _Work(
        [prompt for prompt in asked if prompt.id in ids],
        [replace(item, example=None) for item in barred],
        forbidden,
        steps_of(plan),
        [] if plan.oracle is None else scoring.choose([plan.oracle], plan.judge),
    )
    if work.oracle and scoring.ORACLE_AXIS not in work.oracle[0].axes.values():
        raise InputError(
            f"oracle: {plan.oracle} does not say whether an answer is right",
            path=plan.path,
            remedy="name exact, numeric, checklist or code",
        )
    scoring.check_gold(work.oracle, work.prompts)
    return work


def _chosen(choice: PromptChoice, plan: PipelinePlan) -> list[Prompt]:
    """The prompts of one source, none of them from another split than the one that was asked for."""
    found = choose_prompts(choice)
    if other := next((prompt for prompt in found if prompt.split != choice.split), None):
        raise InputError(
            f"{choice.source} holds prompts of the split {other.split}, which may not be learnt from",
            path=plan.path,
            remedy="name a source that has a train split",
        )
    if bare := next((prompt for prompt in found if not prompt.messages), None):
        raise InputError(
            f"prompt {bare.id} has no text that could be put to a model",
            path=plan.path,
            remedy="give it one, or leave it out",
        )
    return found


def _forbidden(plan: PipelinePlan) -> list[Prompt]:
    """What must not be learnt: what the file names, and every test split of the sources of the prompts themselves."""
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
    """What an earlier run of this pipeline has left in the folder; None where there is nothing to go on from."""
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
            remedy="name another one (out in the pipeline file), or give this one up: delete it, or counterclaim teach --overwrite",
        )
    return state if same else None


def _finished(state: Mapping[str, Json], folder: Path, whole_hash: str) -> dict[str, Json] | None:
    """The summary of a training set that is whole, unchanged and lacks no call; None where there is work to do."""
    if not state["finished"] or state["training_set_hash"] != whole_hash or state["summary"]["failed"]:
        return None
    if not (folder / DATASETS).is_dir() or not (folder / examples.FILE).is_file():
        return None
    summary: dict[str, Json] = state["summary"]
    try:
        return summary if examples.hash_of(examples.load(folder)) == summary["hash"] else None
    except InputError:  # somebody has been at it: it is made again from what is kept
        return None


def _write(folder: Path, files: Mapping[str, str]) -> None:
    try:
        store.write_outputs(folder, files)
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror}); every answer up to here is kept",
            path=folder,
            remedy="make room, and run the same command again",
        ) from error


def _dropped_row(item: Dropped) -> Json:
    example = None if item.example is None else to_json(item.example)
    return {"prompt_id": item.prompt_id, "filter": item.filter, "because": item.because, "example": example}


def _write_datasets(folder: Path, kept: Sequence[Example]) -> None:
    """``datasets/sft`` (prompt, completion) and ``datasets/preference`` (prompt, chosen, rejected), each where it has rows."""
    import datasets

    turns = [{"role": datasets.Value("string"), "content": datasets.Value("string")}]
    about = {name: datasets.Value("string") for name in ("id", "prompt_id", "kind", "variant")}
    sides = {"sft": ("completion",), "preference": ("chosen", "rejected")}
    had_bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        with store.whole_folder(folder / DATASETS, replace=True) as made:
            for name, columns in sides.items():
                rows = [
                    {
                        "id": example.id, "prompt_id": example.prompt_id, "kind": example.kind, "variant": example.variant,
                        "prompt": to_json(example.prompt), columns[0]: _answer(example.chosen),
                        **({} if example.rejected is None else {"rejected": _answer(example.rejected)}),
                    }
                    for example in kept
                    if (example.rejected is None) == (name == "sft")
                ]  # fmt: skip
                features = datasets.Features({**about, "prompt": turns, **dict.fromkeys(columns, turns)})
                if rows:
                    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(made / name))
    finally:
        if had_bars:
            datasets.enable_progress_bars()


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


# --- from replies to a training set -------------------------------------------------------------------------------


def _judged(
    plan: PipelinePlan, work: _Work, replies: Mapping[str, Mapping[str, Reply]], folder: Path
) -> dict[str, Judged]:
    """What the oracle says of the teachers' and the student's answers, by prompt id."""
    if not work.oracle:
        return {}
    arms: dict[str, tuple[str, Decode]] = {
        _GOLD: (plan.final, plan.last.decode),
        STUDENT: (STUDENT, plan.student_decode),
    }
    responses = [
        Response(
            prompt.id, ArmId(arm), 0, reply.call.text, FinishReason.STOP, Provenance.RECORDED, decode, ModelRef(reply.call.model)
        )
        for arm, (name, decode) in arms.items()
        for prompt in work.prompts
        if (reply := replies[prompt.id].get(name)) is not None and reply.usable
    ]  # fmt: skip
    by_id = {prompt.id: prompt for prompt in work.prompts}
    identity = scoring.scoring_hash(responses, by_id, work.oracle)
    with _bench(plan, work) as bench, store.Journal(folder / VERDICTS, identity, keep_other=False) as journal:
        known = [score_from_json(row) for row in journal.rows]
        scores = scoring.score(responses, by_id, work.oracle, bench, journal, known=known)
    value = {
        (score.arm.name, score.prompt_id): score.value
        for score in scores
        if score.axis == scoring.ORACLE_AXIS and isinstance(score.value, float)
    }
    return {
        prompt.id: Judged(value.get((_GOLD, prompt.id)), value.get((STUDENT, prompt.id))) for prompt in work.prompts
    }


@contextmanager
def _bench(plan: PipelinePlan, work: _Work) -> Iterator[scoring.ScoringContext]:
    """What the oracle works with; its judge shares the budget of the teachers."""
    if plan.judge is None or not any("judge" in item.scorer.needs for item in work.oracle):
        yield scoring.ScoringContext()
        return
    with closing(open_judge(plan.judge, plan.runtime)) as judge:
        yield scoring.ScoringContext(judge, plan.runtime.concurrency)


def _filtered(
    plan: PipelinePlan, work: _Work, replies: Mapping[str, Mapping[str, Reply]], judged: Mapping[str, Judged]
) -> Filtered:
    """Everything that the replies come to, through the filters and then through both gates."""
    made: list[Example] = []
    dropped = list(work.barred)
    for prompt in work.prompts:
        for item in examples_of(prompt, replies[prompt.id], judged.get(prompt.id, Judged()), plan):
            if isinstance(item, Example):
                made.append(item)
            else:
                dropped.append(item)
    filtered = filters.apply(made, plan.filters, {prompt.id: prompt for prompt in work.prompts})
    licensed, unlicensed = gates.licensed(filtered.kept, plan)
    kept, contaminated = gates.contamination(licensed, work.forbidden)
    return Filtered(kept, [*dropped, *filtered.dropped, *unlicensed, *contaminated])


def _summary(
    plan: PipelinePlan, work: _Work, replies: Mapping[str, Mapping[str, Reply]], filtered: Filtered
) -> dict[str, Json]:
    """What came of it, in numbers."""
    calls = {
        step.name: [answers[step.name] for answers in replies.values() if step.name in answers] for step in work.steps
    }
    kept: Counter[tuple[str, str]] = Counter((example.kind, example.variant) for example in filtered.kept)
    lost: dict[tuple[str, str], Counter[str]] = {}
    for item in filtered.dropped:
        kind = ("", "") if item.example is None else (item.example.kind, item.example.variant)
        lost.setdefault(kind, Counter())[item.filter] += 1
    kinds = sorted({*kept, *(kind for kind in lost if kind[0])})
    return {
        "prompts": len(work.prompts),
        "examples": len(filtered.kept),
        "sft": sum(example.rejected is None for example in filtered.kept),
        "preference": sum(example.rejected is not None for example in filtered.kept),
        "failed": sum(reply.failed is not None for answers in calls.values() for reply in answers),
        "hash": examples.hash_of(filtered.kept),
        "products": [
            {
                "kind": kind, "variant": variant, "made": kept[kind, variant] + sum(gone.values()),
                "kept": kept[kind, variant], "dropped": dict(sorted(gone.items())),
            }
            for kind, variant in kinds
            for gone in [lost.get((kind, variant), Counter())]
        ],
        "not_made": dict(sorted(lost.get(("", ""), Counter()).items())),
        "stages": [_stage_row(step, calls[step.name]) for step in work.steps],
        "notes": list(gates.roles(plan).notes),
    }  # fmt: skip


def _cards(plan: PipelinePlan, work: _Work, filtered: Filtered, summary: Mapping[str, Json]) -> dict[str, str]:
    made, page = card.data_card(plan, filtered, summary, n_forbidden=len(work.forbidden))
    return {"card.json": store.dump(made), "card.md": page}


def _stage_row(step: Step, replies: Sequence[Reply]) -> dict[str, Json]:
    return {
        "stage": step.name,
        "model": step.model.name,
        "licence": step.licence,
        "calls": len(replies),
        "failed": sum(reply.failed is not None for reply in replies),
        "spoilt": sum(reply.spoilt is not None for reply in replies),
        "prompt_tokens": sum(reply.call.prompt_tokens or 0 for reply in replies),
        "tokens": sum(reply.call.n_tokens or 0 for reply in replies),
        "cost": sum(reply.call.cost for reply in replies),
    }
