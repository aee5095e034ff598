"""The verb that lists what there is by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer

from counterclaim.cli.application import app
from counterclaim.cli.flags import choice
from counterclaim.cli.show import plain, table_of, terminal

KINDS = (
    "formats", "metrics", "checks", "worlds", "scorers", "dispositions", "prompts", "backends", "rewards", "operators", "studies",
    "recipes",
)  # fmt: skip


@app.command("list", epilog="Example: `counterclaim list checks`")
def list_(what: Annotated[str, typer.Argument(help=f"{', '.join(KINDS[:-1])} or {KINDS[-1]}.")]) -> None:
    """List what there is by name: built-in, and from plug-ins."""
    from counterclaim.registry import left_out, plugin_of

    kind = choice("WHAT", what, KINDS) or ""
    problems = left_out()
    table = table_of("name", "what it is")
    if kind in _REGISTERED:
        noun, describe = _REGISTERED[kind]
        for made in _registered(noun):
            plugin = plugin_of(noun, made.name)
            table.add_row(
                plain(f"{made.group}/{made.name}" if kind == "checks" else made.name),
                plain(describe(made) + (f" ({plugin})" if plugin else "")),
            )
    for name, text in _OTHERS[kind]() if kind in _OTHERS else _FAMILIES if kind == "metrics" else ():
        table.add_row(plain(name), plain(text))
    terminal().print(table)
    for problem in problems:
        print(f"Left out: {problem}")


def _registered(noun: str) -> Iterable[Any]:
    from counterclaim import registry

    return registry.checks() if noun == "check" else registry.registered()[noun].values()


def _needs(made: Any, before: str) -> str:
    return f"{before}needs {' and '.join(sorted(made.needs))}" if made.needs else ""


_REGISTERED: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "formats": ("importer", lambda made: made.about),
    "metrics": (
        "metric",
        lambda made: f"{made.about} ({made.kind} of {' and '.join(made.axes)}; {made.better} is better)",
    ),
    "checks": ("check", lambda made: made.question),
    "scorers": (
        "scorer",
        lambda made: f"{made.about} ({made.measures}; reads {', '.join(made.axes)}{_needs(made, '; ')})",
    ),
    "prompts": ("prompt set", lambda made: made.about),
    "backends": ("backend", lambda made: f"{made.about.rstrip('.')}. Can {', '.join(sorted(made.can))}."),
    "rewards": ("reward", lambda made: made.about + (f" ({_needs(made, '')})" if made.needs else "")),
    "operators": ("operator", lambda made: made.about),
}
"""What the registry holds: what it calls one of the kind, and what is said of each."""


_FAMILIES = (
    ("score.NAME", "mean of a numeric score column; the prefix may be left out"),
    ("label.NAME=VALUE", "share of responses with that label"),
    ("auc(NAME)", "how well the score NAME ranks right above wrong answers"),
)
"""Metrics that are named after a column."""


def _worlds() -> Iterable[tuple[str, str]]:
    from counterclaim.testing.trained_worlds import trained_worlds
    from counterclaim.testing.worlds import WORLDS

    yield from ((world.name, f"[{world.truth}] {world.story}") for world in WORLDS.values())
    yield from ((world.name, f"[{world.truth}, trained] {world.story}") for world in trained_worlds().values())


def _dispositions() -> Iterable[tuple[str, str]]:
    from counterclaim.lab.scorers import dispositions

    for name, by in dispositions().items():
        form, function = (", ".join(names) or "no scorer" for names in (by["form"], by["function"]))
        yield name, f"form: {form}; function: {function}"


def _studies() -> Iterable[tuple[str, str]]:
    from counterclaim.lab import suite as series
    from counterclaim.lab.studies import shipped_studies

    return ((name, about) for name, (_, about) in {**series.shipped(), **shipped_studies()}.items())


def _recipes() -> Iterable[tuple[str, str]]:
    from counterclaim.lab.config import RECIPES

    for name, recipe in RECIPES.items():
        rows = [
            f"{part} {key} {value}"
            for part, table in recipe.items()
            if isinstance(table, Mapping)
            for key, value in table.items()
        ]
        yield name, ", ".join(rows) or ", ".join(recipe)


_OTHERS: Mapping[str, Callable[[], Iterable[tuple[str, str]]]] = {
    "worlds": _worlds, "dispositions": _dispositions, "studies": _studies, "recipes": _recipes,
}  # fmt: skip
