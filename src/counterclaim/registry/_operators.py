"""What an operator is: something that changes how a model behaves, by a dose, and can be taken away again.

``fit`` makes the change once and leaves it in a folder; ``on`` lays it over an opened model for as long as its ``with``
block lasts. At dose 0 the model must answer as it does without, token for token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counterclaim.errors import InputError
from counterclaim.records import Example, Json, Prompt, Response
from counterclaim.registry._backends import Capability, Model, ModelSpec, Runtime
from counterclaim.registry._checks import check_name

Watch = Callable[[str, int, int], None]
"""Told what is being done, how many parts of it are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer of the model itself, with what scorers read off it.

    Attributes:
        prompt: what was asked.
        response: what the model answered.
        values: axis to value, for the axes that could be scored: ``correct`` 1.0, ``delivery`` ``hedge``.
    """

    prompt: Prompt
    response: Response
    values: Mapping[str, float | str]


@dataclass(frozen=True, slots=True)
class Fitting:
    """What an operator is fitted on.

    Attributes:
        model: the model that is changed.
        plan: the operator's own settings, as ``spec`` read them from the study file.
        seed: of everything random in it.
        examples: training examples, for operators that imitate.
        prompts: prompts with golds, for operators that learn from outcomes.
        answers: the model's own answers to training prompts, scored, for operators that read activations.
        placebo: whether what there is to be learnt is destroyed by shuffling, everything else being equal.
        thinking: the chat template's thinking switch with which answers will be asked for; None leaves it alone.
        runtime: how models are run.
        watch: told how far it is.
    """

    model: ModelSpec
    plan: Any
    seed: int
    examples: Sequence[Example] = ()
    prompts: Sequence[Prompt] = ()
    answers: Sequence[Labelled] = ()
    placebo: bool = False
    runtime: Runtime = field(default_factory=Runtime)
    watch: Watch = field(default=lambda doing, done, total: None)
    thinking: bool | None = None


Fit = Callable[[Fitting, Path], Mapping[str, Json]]
On = Callable[[Model, Path, float], AbstractContextManager[Model]]


@dataclass(frozen=True, slots=True)
class Operator:
    """A registered operator.

    Attributes:
        name: its table in a study file: ``[treatment.NAME]``.
        about: what it does to a model, in one sentence.
        needs: what the backend of the model must be able to do.
        fit: makes the change from a ``Fitting`` and leaves it in the folder, which holds what an earlier attempt that was
            killed has left; returns its card.
        on: lays what ``fit`` left in a folder over an opened model, scaled by a dose, until its ``with`` block ends; what it
            yields is asked instead of the model, and may be the model itself.
        by_row: whether rows of one batch may carry different fits and doses of it (``Ask.applied``).
    """

    name: str
    about: str
    needs: frozenset[Capability]
    fit: Fit
    on: On
    by_row: bool = False


_OPERATORS: dict[str, Operator] = {}


def operator(
    name: str, *, about: str, needs: tuple[Capability, ...], on: On, by_row: bool = False
) -> Callable[[Fit], Operator]:
    """Register a function that fits a change as an operator, with the one that lays it over a model.

    Raises:
        RegistryError: the name is malformed or taken.
    """

    def register(function: Fit) -> Operator:
        check_name("operator", name, _OPERATORS)
        made = Operator(name, about, frozenset(needs), function, on, by_row)
        _OPERATORS[name] = made
        return made

    return register


def operators() -> Mapping[str, Operator]:
    """All registered operators by name."""
    return dict(_OPERATORS)


def operator_named(name: str) -> Operator:
    """The operator of this name.

    Raises:
        InputError: there is none.
    """
    if name not in _OPERATORS:
        raise InputError(f"there is no operator {name!r}", remedy=f"choose among {', '.join(sorted(_OPERATORS))}")
    return _OPERATORS[name]
