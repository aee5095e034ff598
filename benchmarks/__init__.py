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


def _execution(quick: bool, progress: OnStep) -> Rows:
    from benchmarks.sandbox import execution_duels

    progress("programs in the sandbox")
    return execution_duels(quick)


def _endpoint(quick: bool, progress: OnStep) -> Rows:
    from benchmarks.endpoint import endpoint_duel

    progress("requests to a local endpoint")
    return [endpoint_duel(quick)]


def _pipeline(quick: bool, progress: OnStep) -> Rows:
    from benchmarks.teachers import pipeline_duel

    progress("a teacher pipeline on a local endpoint")
    return [pipeline_duel(quick)]


def _generation(quick: bool, progress: OnStep) -> Rows:
    from benchmarks.generation import generation_duels

    progress("generation on this machine's processor")
    return generation_duels(quick)


def _edits(quick: bool, progress: OnStep) -> Rows:
    from benchmarks.edits import edit_duels

    progress("a sweep of scales on this machine's processor")
    return edit_duels(quick)


def _training(quick: bool, progress: OnStep) -> Rows:
    from benchmarks.training import training_duels

    progress("steps of training on this machine's processor")
    return training_duels(quick)


def _capture(quick: bool, progress: OnStep) -> Rows:
    from benchmarks.activations import capture_duels

    progress("reading activations on this machine's processor")
    return capture_duels(quick)


def _nnsight(quick: bool, progress: OnStep) -> Rows:
    from benchmarks.activations import nnsight_duels

    progress("reading activations, against nnsight")
    return nnsight_duels(quick)


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


GROUPS: dict[str, Group] = {
    "audits": Group(audit_costs, lambda: None),
    "sandbox": Group(_execution, sandbox.available),
    "endpoint": Group(_endpoint, _lacks("openai", "tenacity", extra="endpoints")),
    "pipeline": Group(_pipeline, _lacks("openai", "tenacity", "py3langid", extra="endpoints,train")),
    "statistics": Group(statistics_duels, lambda: None),
    "probes": Group(probe_duels, lambda: None),
    "generation": Group(_generation, _lacks("torch", "transformers", extra="models")),
    "edits": Group(_edits, _lacks("torch", "transformers", extra="models")),
    "capture": Group(_capture, _lacks("torch", "transformers", extra="models")),
    "capture-nnsight": Group(
        _nnsight,
        lambda: _lacks("torch", "transformers", extra="models")() or _without("nnsight", "pip install nnsight"),
    ),
    "training": Group(_training, _lacks("torch", "transformers", "peft", "trl", "datasets", extra="train")),
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
