"""How checks, metrics, importers, backends, scorers, operators and rewards make themselves known; built-ins go through the same decorators as plug-ins.

A plug-in package names its module under the entry-point group ``counterclaim.plugins``; importing it registers what
it holds.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from counterclaim.registry._backends import (
    Answer,
    Applied,
    Ask,
    Backend,
    Capability,
    Ledger,
    Model,
    ModelSpec,
    Runtime,
    backend,
    backend_of,
    backends,
)
from counterclaim.registry._checks import Check, Finding, check, checks
from counterclaim.registry._importers import Importer, importer, importers
from counterclaim.registry._metrics import Better, Metric, metric, metrics
from counterclaim.registry._operators import Fitting, Labelled, Operator, Watch, operator, operator_named, operators
from counterclaim.registry._rewards import Reward, reward, reward_named, rewards
from counterclaim.registry._scorers import (
    GOLD_KEYS,
    Card,
    Item,
    Judge,
    Need,
    Range,
    Reading,
    Scorer,
    Tools,
    register,
    scorer,
    scorer_named,
    scorers,
)

__all__ = [
    "GOLD_KEYS",
    "Answer",
    "Applied",
    "Ask",
    "Backend",
    "Better",
    "Capability",
    "Card",
    "Check",
    "Finding",
    "Fitting",
    "Importer",
    "Item",
    "Judge",
    "Labelled",
    "Ledger",
    "Metric",
    "Model",
    "ModelSpec",
    "Need",
    "Operator",
    "Range",
    "Reading",
    "Reward",
    "Runtime",
    "Scorer",
    "Tools",
    "Watch",
    "backend",
    "backend_of",
    "backends",
    "check",
    "checks",
    "importer",
    "importers",
    "load_plugins",
    "metric",
    "metrics",
    "operator",
    "operator_named",
    "operators",
    "register",
    "reward",
    "reward_named",
    "rewards",
    "scorer",
    "scorer_named",
    "scorers",
]  # fmt: skip


@cache
def load_plugins() -> None:
    """Import, once, every module that an installed package names under ``counterclaim.plugins``."""
    for entry in entry_points(group="counterclaim.plugins"):
        entry.load()
