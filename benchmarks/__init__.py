"""Side-by-side timings against the tools that people would use instead, in groups.

Ours and the peer's take turns in one run, so that a busy machine slows both, and the medians are compared. Each row
also says how far the two answers lie apart: a fast wrong number is not a benchmark.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Callable, Collection
from dataclasses import dataclass

from benchmarks.audits import audit_costs
from benchmarks.probes import probe_duels
from benchmarks.statistics import statistics_duels
from counterclaim.errors import InputError
from counterclaim.lab import sandbox
from counterclaim.records import Json

_PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "transformers", "peft", "trl", "openai")

OnStep = Callable[[str], None]
Rows = list[dict[str, Json]]


@dataclass(frozen=True, slots=True)
class Group:
    """Some rows that are measured together.

    Attributes:
        measure: measures them; takes whether one repetition is enough, and is called with what is timed now.
        missing: what it lacks here and how to get it; None where it can run.
    """

    measure: Callable[[bool, OnStep], Rows]
    missing: Callable[[], str | None]


def run_bench(quick: bool = False, progress: OnStep | None = None, only: Collection[str] = ()) -> dict[str, Json]:
    """Measure the groups of ``GROUPS``, all of them or some.

    Args:
        quick: one repetition, smaller sizes: for a smoke test, not for numbers to quote.
        progress: called with what is measured next.
        only: names of groups; all of them when empty.

    Returns:
        ``{"machine": {...}, "rows": [...], "audits": [...], "skipped": [{"name", "why"}]}``. A row is ``{"group",
        "name", "ours", "peer", "peer_s", "ratio", "agreement"}``. ``ours`` and ``peer_s`` are seconds. ``ratio`` is
        peer_s / ours: above 1, ours is faster (of a row whose name says "(price)" it is ours / peer_s: what more work
        costs). ``agreement`` says how far the two answers lie apart, and 0 is equal: of numbers (interval ends, p) it is
        the largest absolute difference, of texts and outcomes the share that differs, and it is None where both draw at
        random and equal answers are not to be expected. ``audits`` holds what whole audits cost (``audit_cost``), and
        ``skipped`` the groups that cannot run here.

    Raises:
        InputError: there is no group of such a name.
    """
    for name in only:
        if name not in GROUPS:
            raise InputError(f"no benchmark is called {name!r}", remedy=f"choose of {', '.join(GROUPS)}")
    report = progress or (lambda _: None)
    machine = _machine()
    measured: dict[str, Rows] = {}
    skipped: Rows = []
    for name, group in GROUPS.items():
        if only and name not in only:
            continue
        if (why := group.missing()) is not None:
            skipped.append({"name": name, "why": why})
            continue
        measured[name] = group.measure(quick, report)
    audits = measured.pop("audits", [])
    rows = [{"group": name, **row} for name, found in measured.items() for row in found]
    return {"machine": machine, "rows": rows, "audits": audits, "skipped": skipped}


def _lazily(home: str, doing: str) -> Callable[[bool, OnStep], Rows]:
    """A group whose module is imported when it is measured; ``home`` is ``module:function``."""

    def measure(quick: bool, progress: OnStep) -> Rows:
        progress(doing)
        module, _, function = home.partition(":")
        rows: Rows = getattr(importlib.import_module(f"benchmarks.{module}"), function)(quick)
        return rows

    return measure


def _lacks(*packages: str, extra: str) -> Callable[[], str | None]:
    """What a group that needs some packages lacks."""

    def missing() -> str | None:
        absent = [name for name in packages if importlib.util.find_spec(name) is None]
        if not absent:
            return None
        return f"{' and '.join(absent)} cannot be imported; pip install 'counterclaim[{extra}]'"

    return missing


def _without(package: str, how: str) -> str | None:
    """What a peer that is no dependency of ours lacks."""
    return None if importlib.util.find_spec(package) else f"{package} is not installed; {how} to have it in the table"


_MODELS = _lacks("torch", "transformers", extra="models")
GROUPS: dict[str, Group] = {
    "audits": Group(audit_costs, lambda: None),
    "sandbox": Group(_lazily("sandbox:execution_duels", "programs in the sandbox"), sandbox.available),
    "endpoint": Group(
        _lazily("endpoint:endpoint_duels", "requests to a local endpoint"),
        _lacks("openai", "tenacity", extra="endpoints"),
    ),
    "pipeline": Group(
        _lazily("teachers:pipeline_duels", "a teacher pipeline on a local endpoint"),
        _lacks("openai", "tenacity", "py3langid", extra="endpoints,train"),
    ),
    "statistics": Group(statistics_duels, lambda: None),
    "probes": Group(probe_duels, lambda: None),
    "generation": Group(_lazily("generation:generation_duels", "generation on this machine's processor"), _MODELS),
    "edits": Group(_lazily("edits:edit_duels", "a sweep of scales on this machine's processor"), _MODELS),
    "capture": Group(_lazily("activations:capture_duels", "reading activations on this machine's processor"), _MODELS),
    "capture-nnsight": Group(
        _lazily("activations:nnsight_duels", "reading activations, against nnsight"),
        lambda: _MODELS() or _without("nnsight", "pip install nnsight"),
    ),
    "training": Group(
        _lazily("training:training_duels", "steps of training on this machine's processor"),
        _lacks("torch", "transformers", "peft", "trl", "datasets", extra="train"),
    ),
}
"""In the order in which they run: those that start processes come before those that fill this one's memory."""


def _machine() -> dict[str, Json]:
    """The machine, how busy it is before anything is measured, and the versions of the peers."""
    versions: dict[str, Json] = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        **versions,
    }
