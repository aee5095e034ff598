"""Verbs that measure this package itself: worlds, bench, kit, and the lists of what there is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from counterclaim.cli.application import Json, app
from counterclaim.cli.flags import choice
from counterclaim.cli.show import plain, print_json, progress_of, show_worlds, table_of, terminal
from counterclaim.errors import InputError


@app.command(epilog="Example: `counterclaim worlds --draws 200`, `counterclaim worlds --trained --draws 20`")
def worlds(
    draws: Annotated[int, typer.Option(min=1, help="Draws of every world.")] = 20,
    world: Annotated[list[str] | None, typer.Option(help="Only this world; repeat.")] = None,
    trained: Annotated[
        bool,
        typer.Option("--trained", help="Worlds of tiny real models, a study each, in place of made-up answers; slow."),
    ] = False,
    n: Annotated[int | None, typer.Option(help="Prompts in each world, instead of its own default.")] = None,
    effect: Annotated[float | None, typer.Option(help="Size of the true effect, instead of the world's own.")] = None,
    severity: Annotated[
        float | None, typer.Option(help="Severity of the artefact, instead of the world's own.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    out: Annotated[
        Path,
        typer.Option(help="With --trained: folder that keeps the draws that are done; a rerun goes on from there."),
    ] = Path("runs/worlds"),
    as_json: Json = False,
) -> None:
    """How often is this tool wrong? Draw planted worlds whose truth is known and count the verdicts."""
    if trained and (n, effect, severity) != (None, None, None):
        raise InputError(
            "n, effect and severity are those of statistical worlds; what a trained world is stands in its study file",
            remedy="leave them out, or leave out --trained",
        )
    with progress_of(quiet=as_json) as progress:
        table = (
            _trained(draws, world, out, jobs, progress)
            if trained
            else _statistical(draws, world, n, effect, severity, jobs, progress)
        )
    if as_json:
        print_json(table)
        return
    show_worlds(table)


def _statistical(
    draws: int,
    world: list[str] | None,
    n: int | None,
    effect: float | None,
    severity: float | None,
    jobs: int,
    progress: Callable[[str, int | None], None],
) -> dict[str, Any]:
    from counterclaim.calibration import tally

    return tally(
        draws, world or None, n=n, effect=effect, severity=severity, jobs=jobs,
        progress=lambda done, total: progress(f"drawing worlds ({total} in all)", done),
    )  # fmt: skip


def _trained(
    draws: int, world: list[str] | None, out: Path, jobs: int, progress: Callable[[str, int | None], None]
) -> dict[str, Any]:
    from counterclaim.trained_worlds import tally

    return tally(
        draws, world or None, out=out, jobs=jobs,
        progress=lambda doing, done, total: progress(f"{doing}, {done} of {total}", None),
    )  # fmt: skip


@app.command(epilog="Example: `counterclaim bench --only statistics --only sandbox`")
def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this group: audits, sandbox, endpoint, pipeline, statistics, probes, generation, edits, capture, "
            "capture-nnsight or training; repeat."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repetitions, smaller sizes.")] = False,
    as_json: Json = False,
) -> None:
    """Time our hot paths and their peers side by side in one run.

    A ratio above 1 says that ours is faster. Apart says how far the two answers lie from each other: the largest
    difference of two numbers, or the share of texts or outcomes that differ; 0 is equal.
    """
    from counterclaim.bench import GROUPS, run_bench

    groups = [str(choice("--only", name, tuple(GROUPS))) for name in only or ()]
    with progress_of(quiet=as_json) as progress:
        result = run_bench(quick, lambda name: progress(f"timing {name}", None), groups)
    if as_json:
        print_json(result)
        return
    table = table_of("ratio", "ours", "peer's", "apart", "what, and beside what")
    told = ""
    for row in result["rows"]:
        if row["group"] != told:
            told = row["group"]
            table.add_row(f"[bold]{told}[/]")
        table.add_row(
            f"{row['ratio']:,.{2 if row['ratio'] < 100 else 0}f}×", f"{row['ours']:.4g} s", f"{row['peer_s']:.4g} s",
            "" if row["agreement"] is None else f"{row['agreement']:.2g}", plain(f"{row['name']} | {row['peer']}"),
        )  # fmt: skip
    if result["rows"]:
        terminal().print(table)
    for audit in result["audits"]:
        print(f"{audit['name']}: {audit['seconds']:.1f} s, at most {audit['peak_mb']:.0f} MB")
    for group in result["skipped"]:
        print(f"skipped {group['name']}: {group['why']}")
    print("Machine: " + ", ".join(f"{key} {value}" for key, value in result["machine"].items()))


@app.command(epilog="Examples: `counterclaim kit truncation`, `counterclaim kit lm-eval samples_gsm8k.jsonl`")
def kit(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A check, an instrument, a reward, an operator or a format; all but formats when left out."
        ),
    ] = None,
    file: Annotated[Path | None, typer.Argument(help="For a format: a small good file of it.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws of each planted world.")] = 20,
) -> None:
    """Run the conformance suite on a check, an instrument, a reward or an operator, built-in or plugged in, or on an importer.

    An importer is tried on a file of its format.
    """
    from counterclaim import kit as suites
    from counterclaim.registry import load_plugins

    load_plugins()
    with progress_of(quiet=False) as progress:
        problems = suites.run(
            name, fixture=file, draws=draws, progress=lambda what: progress(f"examining {what}", None)
        )
    for problem in problems:
        print(problem)
    print("No problem was found." if not problems else f"{len(problems)} problems.")
    raise typer.Exit(1 if problems else 0)


KINDS = (
    "formats",
    "metrics",
    "checks",
    "worlds",
    "instruments",
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
    """List what there is by name: formats, metrics, checks, worlds, instruments, dispositions, prompts, backends, rewards, operators, studies, recipes."""
    from counterclaim.registry import load_plugins

    kind = choice("WHAT", what, KINDS) or ""
    load_plugins()
    table = table_of("name", "what it is")
    for name, text in _LISTS[kind]():
        table.add_row(plain(name), plain(text))
    terminal().print(table)


def _formats() -> Iterable[tuple[str, str]]:
    from counterclaim.importers import FORMATS

    return FORMATS.items()


def _metrics() -> Iterable[tuple[str, str]]:
    from counterclaim.metrics import METRICS

    for metric in METRICS.values():
        yield metric.name, f"{metric.kind} of {' and '.join(metric.axes)}; {metric.better} is better"
    yield "score.NAME", "mean of a numeric score column; the prefix may be left out"
    yield "label.NAME=VALUE", "share of responses with that label"
    yield "auc(NAME)", "how well the score NAME ranks right above wrong answers"


def _checks() -> Iterable[tuple[str, str]]:
    import counterclaim.checks  # noqa: F401  importing it registers the built-ins
    from counterclaim.registry import checks

    return ((f"{check.group}/{check.name}", check.question) for check in checks())


def _worlds() -> Iterable[tuple[str, str]]:
    from counterclaim.trained_worlds import trained_worlds
    from counterclaim.worlds import WORLDS

    yield from ((world.name, f"[{world.truth}] {world.story}") for world in WORLDS.values())
    yield from ((world.name, f"[{world.truth}, trained] {world.story}") for world in trained_worlds().values())


def _instruments() -> Iterable[tuple[str, str]]:
    from counterclaim import instruments
    from counterclaim.registry import instruments as registered

    instruments.load()
    for made in registered().values():
        needs = f"; needs {' and '.join(sorted(made.needs))}" if made.needs else ""
        yield made.name, f"{made.about} ({made.measures}; reads {', '.join(made.axes)}{needs})"


def _dispositions() -> Iterable[tuple[str, str]]:
    from counterclaim.instruments import dispositions

    for name, by in dispositions().items():
        form, function = (", ".join(names) or "no instrument" for names in (by["form"], by["function"]))
        yield name, f"form: {form}; function: {function}"


def _prompts() -> Iterable[tuple[str, str]]:
    from counterclaim.promptsets import SETS

    yield from SETS.items()
    yield "tiny", "The made-up domain that the tiny models were taught (counterclaim tiny)."
    yield (
        "tiny-strangers",
        "Questions of that domain about places of which nobody was taught anything: a hedge is right.",
    )
    yield "world:NAME", "The questions of a planted world (counterclaim list worlds)."


def _backends() -> Iterable[tuple[str, str]]:
    import counterclaim.experiment  # noqa: F401  importing it registers the built-ins
    from counterclaim.registry import backends

    return (
        (made.name, f"{made.about.rstrip('.')}. Can {', '.join(sorted(made.can))}.") for made in backends().values()
    )


def _rewards() -> Iterable[tuple[str, str]]:
    import counterclaim.operators.rewards  # noqa: F401  importing it registers the built-ins
    from counterclaim.registry import rewards

    for made in rewards().values():
        needs = f" (needs {' and '.join(sorted(made.needs))})" if made.needs else ""
        yield made.name, f"{made.about}{needs}"


def _operators() -> Iterable[tuple[str, str]]:
    import counterclaim.operators  # noqa: F401  importing it registers the built-ins
    from counterclaim.registry import operators

    return ((made.name, made.about) for made in operators().values())


def _studies() -> Iterable[tuple[str, str]]:
    from counterclaim import series, study

    return ((name, about) for name, (_, about) in {**series.shipped(), **study.shipped()}.items())


def _recipes() -> Iterable[tuple[str, str]]:
    from counterclaim.spec import RECIPES

    for name, recipe in RECIPES.items():
        told = [
            f"{part} {key} {value}"
            for part, table in recipe.items()
            if isinstance(table, Mapping)
            for key, value in table.items()
        ]
        yield name, ", ".join(told) or ", ".join(recipe)


_LISTS: dict[str, Callable[[], Iterable[tuple[str, str]]]] = {
    "formats": _formats, "metrics": _metrics, "checks": _checks, "worlds": _worlds, "instruments": _instruments,
    "dispositions": _dispositions, "prompts": _prompts, "backends": _backends, "rewards": _rewards, "studies": _studies,
    "recipes": _recipes, "operators": _operators,
}  # fmt: skip
