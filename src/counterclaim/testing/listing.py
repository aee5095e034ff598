"""The verb that lists what there is by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

import typer

from counterclaim.cli.application import app
from counterclaim.cli.flags import choice
from counterclaim.cli.show import plain, table_of, terminal

KINDS = (
    "formats",
    "metrics",
    "checks",
    "worlds",
    "scorers",
    "dispositions",
    "prompts",
    "backends",
    "rewards",
    "operators",
    "studies",
    "recipes",
)


@app.command("list", epilog="Example: `counterclaim list checks`")
def list_(what: Annotated[str, typer.Argument(help=f"{', '.join(KINDS[:-1])} or {KINDS[-1]}.")]) -> None:
    """List what there is by name: formats, metrics, checks, worlds, scorers, dispositions, prompts, backends, rewards, operators, studies, recipes."""
    from counterclaim.registry import load_plugins

    kind = choice("WHAT", what, KINDS) or ""
    load_plugins()
    table = table_of("name", "what it is")
    for name, text in _LISTS[kind]():
        table.add_row(plain(name), plain(text))
    terminal().print(table)


def _formats() -> Iterable[tuple[str, str]]:
    from counterclaim.importers import formats

    return ((name, made.about) for name, made in formats().items())


def _metrics() -> Iterable[tuple[str, str]]:
    import counterclaim.audit.metrics  # noqa: F401  importing it registers the built-ins
    from counterclaim.registry import metrics

    for metric in metrics().values():
        yield metric.name, f"{metric.about} ({metric.kind} of {' and '.join(metric.axes)}; {metric.better} is better)"
    yield "score.NAME", "mean of a numeric score column; the prefix may be left out"
    yield "label.NAME=VALUE", "share of responses with that label"
    yield "auc(NAME)", "how well the score NAME ranks right above wrong answers"


def _checks() -> Iterable[tuple[str, str]]:
    import counterclaim.checks  # noqa: F401  importing it registers the built-ins
    from counterclaim.registry import checks

    return ((f"{check.group}/{check.name}", check.question) for check in checks())


def _worlds() -> Iterable[tuple[str, str]]:
    from counterclaim.testing.trained_worlds import trained_worlds
    from counterclaim.testing.worlds import WORLDS

    yield from ((world.name, f"[{world.truth}] {world.story}") for world in WORLDS.values())
    yield from ((world.name, f"[{world.truth}, trained] {world.story}") for world in trained_worlds().values())


def _scorers() -> Iterable[tuple[str, str]]:
    from counterclaim.lab import scorers as scorers
    from counterclaim.registry import scorers as registered

    scorers.load()
    for made in registered().values():
        needs = f"; needs {' and '.join(sorted(made.needs))}" if made.needs else ""
        yield made.name, f"{made.about} ({made.measures}; reads {', '.join(made.axes)}{needs})"


def _dispositions() -> Iterable[tuple[str, str]]:
    from counterclaim.lab.scorers import dispositions

    for name, by in dispositions().items():
        form, function = (", ".join(names) or "no scorer" for names in (by["form"], by["function"]))
        yield name, f"form: {form}; function: {function}"


def _prompts() -> Iterable[tuple[str, str]]:
    from counterclaim.lab.prompts import SETS

    yield from SETS.items()
    yield "tiny", "The made-up domain that the tiny models were taught (counterclaim tiny)."
    yield (
        "tiny-strangers",
        "Questions of that domain about places of which nobody was taught anything: a hedge is right.",
    )
    yield "world:NAME", "The questions of a planted world (counterclaim list worlds)."


def _backends() -> Iterable[tuple[str, str]]:
    import counterclaim.lab.experiment  # noqa: F401  importing it registers the built-ins
    from counterclaim.registry import backends

    return (
        (made.name, f"{made.about.rstrip('.')}. Can {', '.join(sorted(made.can))}.") for made in backends().values()
    )


def _rewards() -> Iterable[tuple[str, str]]:
    import counterclaim.lab.operators.rewards  # noqa: F401  importing it registers the built-ins
    from counterclaim.registry import rewards

    for made in rewards().values():
        needs = f" (needs {' and '.join(sorted(made.needs))})" if made.needs else ""
        yield made.name, f"{made.about}{needs}"


def _operators() -> Iterable[tuple[str, str]]:
    import counterclaim.lab.operators  # noqa: F401  importing it registers the built-ins
    from counterclaim.registry import operators

    return ((made.name, made.about) for made in operators().values())


def _studies() -> Iterable[tuple[str, str]]:
    from counterclaim.lab import suite as series
    from counterclaim.lab.run import shipped_studies

    return ((name, about) for name, (_, about) in {**series.shipped(), **shipped_studies()}.items())


def _recipes() -> Iterable[tuple[str, str]]:
    from counterclaim.lab.config import RECIPES

    for name, recipe in RECIPES.items():
        told = [
            f"{part} {key} {value}"
            for part, table in recipe.items()
            if isinstance(table, Mapping)
            for key, value in table.items()
        ]
        yield name, ", ".join(told) or ", ".join(recipe)


_LISTS: dict[str, Callable[[], Iterable[tuple[str, str]]]] = {
    "formats": _formats, "metrics": _metrics, "checks": _checks, "worlds": _worlds, "scorers": _scorers,
    "dispositions": _dispositions, "prompts": _prompts, "backends": _backends, "rewards": _rewards, "studies": _studies,
    "recipes": _recipes, "operators": _operators,
}  # fmt: skip
