"""The conformance suite for operators lets the built-in one through and catches a broken twin of another."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from counterclaim.errors import ModelError
from counterclaim.lab import operators
from counterclaim.lab.models import tiny
from counterclaim.records import Json
from counterclaim.registry import Fitting, Model, Operator
from counterclaim.testing import kit
from counterclaim.testing.kit import operator_conformance


@pytest.fixture(scope="module", autouse=True)
def _made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    torch.set_num_threads(1)  # nothing here is large enough for more to help
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny.save_untrained("qwen3-small", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "save_untrained", lambda name, to: shutil.copytree(folder, to))
        yield


def fit(fitting: Fitting, folder: Path) -> Mapping[str, Json]:
    (folder / "seed").write_text(str(fitting.seed))
    return {}


def _steered(
    strength: Callable[[float], float] = lambda dose: dose,
    *,
    restores: bool = True,
    told: bool = True,
    by_row: bool = False,
) -> Any:
    """What lays a random direction over the last hidden state, scaled by the dose."""

    @contextmanager
    def on(model: Model, folder: Path, dose: float) -> Iterator[Model]:
        opened: Any = model
        generator = torch.Generator().manual_seed(int((folder / "seed").read_text()))
        added = strength(dose) * 0.5 * torch.randn(opened.network.config.hidden_size, generator=generator)

        def add(module: Any, given: Any, out: torch.Tensor) -> torch.Tensor:
            return out + added * (len(out) if by_row else 1)

        hook = opened.network.model.norm.register_forward_hook(add)
        ref = opened._ref
        if told:
            opened._ref = replace(ref, adapter_hash="steered", adapter_dose=dose)
        try:
            yield model
        finally:
            if restores:
                hook.remove()
            opened._ref = ref

    return on


STEERING = Operator("steering", "adds a direction", frozenset({"generate"}), fit, _steered())


def _raising(fitting: Fitting, folder: Path) -> Mapping[str, Json]:
    raise ZeroDivisionError("division by zero")


def _drawing(fitting: Fitting, folder: Path) -> Mapping[str, Json]:
    (folder / "seed").write_text(str(len(folder.name) + ord(folder.name[0])))
    return {}


_HELD: list[Any] = []


@contextmanager
def _not_restoring_after_an_exception(model: Model, folder: Path, dose: float) -> Iterator[Model]:
    laid = _steered()(model, folder, dose)
    _HELD.append(laid)  # what is collected ends its block after all
    yield laid.__enter__()
    laid.__exit__(None, None, None)


TWINS: Mapping[str, tuple[Operator, set[str]]] = {
    "does nothing": (replace(STEERING, on=_steered(lambda dose: 0.0)), {"acts at full dose"}),
    "acts at dose 0": (replace(STEERING, on=_steered(lambda dose: 1.0)), {"is the base at dose 0"}),
    "stays": (replace(STEERING, on=_steered(restores=False)), {"gives the model back"}),
    "stays after an exception": (replace(STEERING, on=_not_restoring_after_an_exception), {"gives the model back"}),
    "is not told": (replace(STEERING, on=_steered(told=False)), {"shows in the fingerprint"}),
    "looks at the batch": (replace(STEERING, on=_steered(by_row=True)), {"does not depend on batches"}),
    "draws anew": (replace(STEERING, fit=_drawing), {"is repeatable"}),
    "raises": (replace(STEERING, fit=_raising), {"never breaks"}),
}


def test_an_operator_that_conforms_is_let_through() -> None:
    assert [str(problem) for problem in operator_conformance(STEERING, None)] == []


@pytest.mark.parametrize("fault", TWINS)
def test_a_broken_twin_is_caught_by_its_rule(fault: str) -> None:
    twin, rules = TWINS[fault]
    assert {problem.rule for problem in operator_conformance(twin, None)} == rules


def test_an_operator_whose_rows_are_not_its_separate_runs_is_caught() -> None:
    """Where it is laid over the whole model, half a dose is a quarter of one."""

    @contextmanager
    def squared(model: Model, folder: Path, dose: float) -> Iterator[Model]:
        with operators.builtin.steer.on(model, folder, dose**2) as changed:
            yield changed

    twin = replace(operators.builtin.steer, on=squared)
    (problem,) = operator_conformance(twin, kit._PLANS["steer"])
    assert problem.rule == "gives every row its own"
    assert "at dose 0.5" in problem.detail


@pytest.mark.parametrize("name", ["tune", "temper", "steer"])
def test_a_built_in_operator_conforms(name: str) -> None:
    tried: list[str] = []
    assert [str(problem) for problem in kit.run(name, progress=tried.append)] == []
    assert tried == [f"operator {name}"]


def test_an_operator_without_settings_is_said_not_to_be_tried() -> None:
    (problem,) = kit._with_settings(STEERING)
    assert problem.rule == "could not be tried"


def test_a_missing_library_is_an_error_where_the_operator_was_named_and_a_finding_where_not(monkeypatch: Any) -> None:
    def missing(name: str, folder: Path) -> None:
        raise ModelError("tiny models need torch")

    monkeypatch.setattr(tiny, "save_untrained", missing)
    with pytest.raises(ModelError, match="need torch"):
        kit.run("tune")
    only = {kind: {} for kind in kit.registered()} | {"operator": {"tune": kit.registered()["operator"]["tune"]}}
    monkeypatch.setattr(kit, "registered", lambda: only)
    assert [problem.rule for problem in kit.run()] == ["could not be tried"]
