"""From a finished run folder to answers that their own model reads again, for ``capture`` and ``attribute``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from counterclaim.errors import InputError, ModelError
from counterclaim.folder import Records, read_run
from counterclaim.lab.answers import labelled
from counterclaim.lab.models import open_model
from counterclaim.lab.models.hf.fingerprint import adapter_hash, edit_hash
from counterclaim.records import CONTROL, ArmId, Json, ModelRef, to_json
from counterclaim.registry import Labelled, Model, ModelSpec, Runtime, operator_named

_SAME = ("repo", "revision", "dtype", "quantisation", "adapter_hash", "adapter_dose")


@dataclass(frozen=True, slots=True)
class RunSelection:
    """Which answers of a run are read, and by whom.

    Attributes:
        arm: of the run.
        replicate: of an arm that has several; None where it has one.
        model: reads the answers instead of the model that gave them.
    """

    arm: ArmId = CONTROL
    replicate: str | None = None
    model: str | None = None


def answers_of(run: Path, selection: RunSelection) -> list[Labelled]:
    """The answers of an arm that have a text, with their scores.

    Raises:
        InputError: there is no finished run, no such arm or replicate, or its answers or prompts have no texts.
    """
    records = _finished(run)
    return _chosen(records, run, selection)


@contextmanager
def opened(run: Path, selection: RunSelection, runtime: Runtime) -> Iterator[tuple[Model, list[Labelled]]]:
    """An arm's answers, and the model that gave them, opened with its adapter and what else was laid over it.

    Raises:
        InputError: as ``answers_of``; or no record says which model answered.
        ModelError: the model cannot be opened, or is not the one that answered.
    """
    records = _finished(run)
    answers = _chosen(records, run, selection)
    ref = answers[0].response.model
    with ExitStack() as held:
        if selection.model is not None:
            yield held.enter_context(closing(open_model(ModelSpec(selection.model), runtime))), answers
            return
        model: Model = held.enter_context(closing(open_model(_spec_of(records, run, selection.arm, ref), runtime)))
        _check_same(model, answers, selection.arm)
        if ref.operator is not None:
            if not operator_named(ref.operator).by_row:
                raise InputError(
                    f"{ref.operator} does not act within the forward pass, so nothing reads the answers of {selection.arm} as they "
                    "were given", path=run, remedy="read the arm control, or name a model that reads them with --model",
                )  # fmt: skip
            folder = _fit_of(run, "edit.json", ref.operator_hash, edit_hash, f"what {ref.operator} has fitted")
            laid = operator_named(ref.operator).on(
                model, folder, 1.0 if ref.operator_dose is None else ref.operator_dose
            )
            model = held.enter_context(laid)
        yield model, answers


def _finished(run: Path) -> Records:
    records = read_run(run)
    if records.study.get("finished") is False:
        raise InputError("the run is not finished", path=run, remedy="run the same command again until it is")
    return records


def _chosen(records: Records, run: Path, selection: RunSelection) -> list[Labelled]:
    arms = sorted({response.arm for response in records.responses}, key=str)
    if selection.arm not in arms:
        raise InputError(
            f"the run has no arm {str(selection.arm)!r}",
            path=run,
            remedy=f"name one with --arm: {', '.join(map(str, arms)) or 'it has none'}",
        )
    if selection.arm.turn is not None and replace(selection.arm, turn=None) in arms:
        raise InputError(
            f"{selection.arm} answers a scripted next turn, after a conversation that is not read here", path=run,
            remedy=f"name the arm itself: {replace(selection.arm, turn=None)}",
        )  # fmt: skip
    answers = labelled(records, selection.arm)
    replicates = sorted({answer.response.replicate for answer in answers})
    if selection.replicate is not None:
        if selection.replicate not in replicates:
            raise InputError(
                f"{selection.arm} has no replicate {selection.replicate!r}", path=run,
                remedy=f"name one of {', '.join(filter(None, replicates)) or 'none: it has only one'}",
            )  # fmt: skip
        answers = [answer for answer in answers if answer.response.replicate == selection.replicate]
    if len({answer.response.model for answer in answers}) > 1:
        raise InputError(
            f"several models answered as {selection.arm}", path=run,
            remedy=f"name one with --replicate: {', '.join(filter(None, replicates))}",
        )  # fmt: skip
    texts = [answer for answer in answers if answer.response.text is not None and answer.prompt.messages]
    if not texts:
        raise InputError(
            f"the answers of {selection.arm}, or their prompts, have no texts that a model could read", path=run,
            remedy="generate them with counterclaim, or import files that keep prompts and answers",
        )  # fmt: skip
    return texts


def _spec_of(records: Records, run: Path, arm: ArmId, ref: ModelRef) -> ModelSpec:
    """The model that gave an arm's answers, as the study names it, with the adapter by its hash."""
    arms = [entry for entry in records.study.get("arms", ()) if isinstance(entry, Mapping)]
    stated: Mapping[str, Json] = next(
        (entry["model"] for entry in arms if entry.get("arm") == str(arm) and "model" in entry), {}
    )
    if not stated:
        raise InputError(
            f"the run does not say how the model that answered as {arm} is opened{'' if ref.repo is None else f' ({ref.repo})'}",
            path=run, remedy="name it with --model",
        )  # fmt: skip
    known = {item.name for item in fields(ModelSpec)} - {"applied"}
    settings: dict[str, Any] = {
        key: Path(value) if key in ("adapter", "chat_template") else value
        for key, value in stated.items()
        if key in known
    }
    spec = ModelSpec(**settings)
    if ref.adapter_hash is None:
        return spec
    dose = 1.0 if ref.adapter_dose is None else ref.adapter_dose
    if spec.adapter is None or not spec.adapter.is_dir() or adapter_hash(spec.adapter) != ref.adapter_hash:
        folder = _fit_of(run, "adapter_config.json", ref.adapter_hash, adapter_hash, "the adapter")
        spec = replace(spec, adapter=folder)
    return replace(spec, dose=dose)


def _fit_of(run: Path, marker: str, wanted: str | None, hash_of: Callable[[Path], str], what: str) -> Path:
    """The folder below a run that holds what has this hash."""
    for file in sorted(run.rglob(marker)):
        if hash_of(file.parent) == wanted:
            return file.parent
    raise InputError(
        f"{what}, with which these answers were given, is not in the run folder", path=run,
        remedy="put it back, or name another arm with --arm",
    )  # fmt: skip


def _check_same(model: Model, answers: Sequence[Labelled], arm: ArmId) -> None:
    """Raise ModelError where the opened model is not the one that answered; libraries may be newer."""
    first = answers[0].response
    then = {**to_json(first.model), "chat_template": first.decode.chat_template}
    now = {**to_json(model.ref), "chat_template": model.chat_template}
    for what in (*_SAME, "chat_template"):
        if then.get(what) != now.get(what):
            raise ModelError(
                f"this is not the model that answered as {arm}: its {what.replace('_', ' ')} was "
                f"{then.get(what) or 'not stated'} and is {now.get(what) or 'not stated'}",
                remedy="open that one; or name a model with --model, which then reads what another one said",
            )
