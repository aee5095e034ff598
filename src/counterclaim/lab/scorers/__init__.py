"""What reads scores off answers: rules, oracles, judges, programs; each with its known-answer cards.

``registry.scorers()`` registers the built-in ones; importing this package does not, so that the command line starts without numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, TypedDict

from counterclaim.records import Json, canonical_json, content_hash
from counterclaim.registry import Scorer, scorers

if TYPE_CHECKING:
    from counterclaim.lab.scorers.answers import oracle_by
    from counterclaim.lab.scorers.rubrics import load_rubric
    from counterclaim.lab.scorers.validation import Report, check_to_cards, run_cards, validate

__all__ = [
    "DISPOSITIONS",
    "Measures",
    "Report",
    "check_to_cards",
    "dispositions",
    "full_name",
    "load_rubric",
    "oracle_by",
    "run_cards",
    "validate",
]  # fmt: skip

DISPOSITIONS = ("Eager", "Deliberate", "Adversarial", "Curious", "Self-Improving", "Humble", "Persistent")
"""The seven dispositions (design: measures)."""

_BUILT_IN = ("code", "oracles", "rubrics", "rules")
_HOME = {
    "load_rubric": "rubrics", "oracle_by": "answers", "Report": "validation", "check_to_cards": "validation",
    "run_cards": "validation", "validate": "validation",
}  # fmt: skip


class Measures(TypedDict):
    """Names of the scorers of one disposition."""

    form: list[str]
    function: list[str]


def register_built_in() -> None:
    """Import the modules of the built-in scorers, which registers them."""
    for module in _BUILT_IN:
        import_module(f"{__name__}.{module}")


def dispositions() -> dict[str, Measures]:
    """The seven dispositions and the registered scorers of form and of function of each; a list may be empty."""
    out: dict[str, Measures] = {name: {"form": [], "function": []} for name in DISPOSITIONS}
    for name, made in sorted(scorers().items()):
        if made.disposition is not None:
            out.setdefault(made.disposition, {"form": [], "function": []})[made.measures].append(name)
    return out


def full_name(scorer: Scorer, judge_name: str | None = None, params: Mapping[str, Json] | None = None) -> str:
    """``name@version#HASH,judge=NAME,...``, spelt as importers spell scorers; equal names mean equal scorers.

    Args:
        judge_name: the model that judges, where one does.
        params: what else shapes a score, such as ``{"view": 4000}`` where the judge saw only so many characters.
    """
    details = [content_hash(scorer.prompt)[:12]] if scorer.prompt else []
    shaping = {**({} if judge_name is None else {"judge": judge_name}), **(params or {})}
    details += [f"{k}={v if isinstance(v, str) else canonical_json(v)}" for k, v in sorted(shaping.items())]
    return f"{scorer.name}@{scorer.version}" + (f"#{','.join(details)}" if details else "")


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
