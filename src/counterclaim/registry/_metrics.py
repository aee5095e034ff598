"""What a metric is: the quantity that a claim is about, of one arm, made of the scores of its answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from counterclaim.errors import RegistryError
from counterclaim.records import Estimate

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Better = Literal["higher", "lower"]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity of one arm. A *mean* averages one number per answer; a *ratio* is a function of the four cells of a 2×2;
    an *auc* asks how well a score ranks right above wrong answers.

    Attributes:
        name: as it is written after ``--metric``.
        kind: ``mean``, ``ratio`` or ``auc``.
        axes: the score axes that it needs.
        better: whether higher or lower is better.
        fraction: whether its values lie in [0, 1] by definition.
        label: the label that counts: as 1 in a mean over a label axis, as the first column of a ratio's 2×2.
        per_answer: for a mean: the values of ``axes`` of one answer, in their order, to its number; None where it is the
            value of the only axis itself. An answer that lacks one of them is unscored.
        statistic: for a ratio: cell counts, float array (..., 4), to values (...,), NaN where undefined. Rows of the 2×2
            are right and wrong answers; columns are ``label`` of the second axis and the rest: (right and label, right and
            not, wrong and label, wrong and not).
        interval: for a ratio: cell counts (4 whole numbers) of independent answers and a level, to the estimate with its
            closed-form interval; None where prompts are resampled instead.
        about: what it is, in one sentence.
    """

    name: str
    kind: Literal["mean", "ratio", "auc"]
    axes: tuple[str, ...]
    better: Better = "higher"
    fraction: bool = True
    label: str | None = None
    per_answer: Callable[..., float] | None = None
    statistic: Callable[[Floats], Floats] | None = None
    interval: Callable[[tuple[int, int, int, int], float], Estimate] | None = None
    about: str = ""


_NAME = re.compile(r"[a-z][a-z0-9_@-]*")
_METRICS: dict[str, Metric] = {}


def metric(
    name: str,
    *,
    about: str,
    axes: tuple[str, ...],
    kind: Literal["mean", "ratio"] = "mean",
    better: Better = "higher",
    fraction: bool = True,
    label: str | None = None,
    interval: Callable[[tuple[int, int, int, int], float], Estimate] | None = None,
) -> Callable[[F], F]:
    """Register a function as a metric, ``per_answer`` of a mean or ``statistic`` of a ratio; arguments are those of ``Metric``.

    Raises:
        RegistryError: the name is malformed or taken, or a ratio lacks what makes its 2×2.
    """

    def register(function: F) -> F:
        if not _NAME.fullmatch(name):
            raise RegistryError(f"metric name {name!r} is not lower-case words joined by underscores or hyphens")
        if name in _METRICS:
            raise RegistryError(f"a metric named {name!r} is registered already")
        if not axes:
            raise RegistryError(f"the metric {name!r} names no axis of scores to be made of")
        if kind == "ratio" and (len(axes) != 2 or axes[0] != "correct" or label is None):
            raise RegistryError(
                f"the ratio {name!r} needs the axes correct and one of labels, and the label that counts"
            )
        parts: dict[str, Any] = {"per_answer" if kind == "mean" else "statistic": function, "interval": interval}
        _METRICS[name] = Metric(name, kind, axes, better, fraction, label, about=about, **parts)
        return function

    return register


def metrics() -> Mapping[str, Metric]:
    """All registered metrics by name."""
    return dict(_METRICS)
