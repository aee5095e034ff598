"""The name under which scores of a file are compared: ``name@version#prompt-hash,parameters``."""

from __future__ import annotations

from collections.abc import Mapping

from counterclaim.importers.values import as_name, shallow
from counterclaim.records import Json, canonical_json, content_hash

_HOW_FAST = frozenset({"concurrency", "workers", "n_workers", "batch_size", "timeout", "retries", "max_retries"})
"""Parameters that change how fast a judge runs and not what it says."""


def scorer(name: str, version: str | None, *, prompt: Json = None, parameters: Json = None) -> str:
    """One spelling of a scorer; equal strings mean the same scorer.

    Args:
        prompt: the judge's prompt or template; only its hash is kept.
        parameters: a mapping (or any JSON value) of what else shapes a score.
    """
    details = []
    if prompt not in (None, ""):
        details.append(content_hash(shallow(prompt))[:12])
    if isinstance(parameters, Mapping):
        details += [f"{key}={_spelt(parameters[key])}" for key in sorted(parameters, key=str) if key not in _HOW_FAST]
    elif parameters not in (None, ""):
        details.append(_spelt(parameters))
    return f"{name}@{version or 'unversioned'}" + (f"#{','.join(details)}" if details else "")


def from_parameters(parameters: Mapping[str, Json]) -> str | None:
    """The scorer that a ``params`` object beside the rows describes; None where it names no judge."""
    rest = dict(parameters)
    name = _first(rest, "judge_model", "judge", "grader", "scorer")
    version = _first(rest, "rubric_version", "judge_version", "version")
    if name is None and version is None:
        return None
    prompt = rest.pop("judge_prompt", None)
    return scorer(name or "judge", version, prompt=prompt, parameters=rest)


def _first(values: dict[str, Json], *keys: str) -> str | None:
    for key in keys:
        if (name := as_name(values.get(key))) is not None:
            del values[key]
            return name
    return None


def _spelt(value: Json) -> str:
    plain = shallow(value)
    return plain if isinstance(plain, str) else canonical_json(plain)
