"""Series of studies: the verb demo, and what ``run`` does with a series file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from counterclaim.cli.application import Json, Overwrite, app
from counterclaim.cli.show import COLOUR, plain, print_json, terminal

if TYPE_CHECKING:
    from counterclaim.lab.suite import Watch

THREE_ARCS = Path("three-arcs")

Jobs = Annotated[
    int | None, typer.Option(min=1, help="Of a series: studies at once; as its file has it when left out.")
]


@app.command(epilog="Example: `counterclaim demo`")
def demo(
    out: Annotated[Path | None, typer.Option(help="Folder for the runs and the page.")] = None,
    overwrite: Overwrite = False,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """The whole story in minutes, offline: eleven claims about tiny models, what a naive comparison says, and what stands.

    Trains, edits and probes real models of three families on this machine, puts every claim to the test, and writes one page.
    The same as `counterclaim run three-arcs`. Killed and run again, it goes on where it stopped.
    """
    run_series_file(THREE_ARCS, out, jobs=jobs, as_json=as_json, overwrite=overwrite)


def run_series_file(
    file: Path, out: Path | None, *, jobs: int | None, as_json: bool, dry_run: bool = False, overwrite: bool = False
) -> None:
    """Run a series file, print its table, and exit: 0 where every verdict is one that the file expects, 1 where not, 2 where
    a study could not be run."""
    from counterclaim.lab import suite as series
    from counterclaim.lab.config import load_series
    from counterclaim.lab.run import outline

    plan = load_series(series.find(file))
    if dry_run:
        _show_outline(plan, {chapter.name: outline(chapter.plan) for chapter in plan.chapters}, as_json)
        return
    folder = out or plan.out
    began = time.monotonic()
    with _watching([chapter.name for chapter in plan.chapters], quiet=as_json) as watch:
        summary = series.run_series(plan, folder, watch, jobs=jobs, overwrite=overwrite)
    if as_json:
        print_json(summary)
    else:
        _show_series(summary, folder, time.monotonic() - began)
    if any(chapter["error"] for chapter in summary["chapters"]):
        raise typer.Exit(2)
    if not all(chapter["as_expected"] for chapter in summary["chapters"]):
        raise typer.Exit(1)


@contextmanager
def _watching(studies: Sequence[str], *, quiet: bool) -> Iterator[Watch]:
    """On standard error a bar for the whole series and for each study that is under way; in pipes and logs a line for each
    that has ended."""
    from counterclaim.lab.suite import DONE, FAILED

    console = terminal(stderr=True)
    began = time.monotonic()
    if quiet:
        yield lambda name, what, done, total: None
        return
    if not console.is_terminal:

        def say(name: str, what: str, done: int | None, total: int | None) -> None:
            if what in (DONE, FAILED):
                console.print(plain(f"{_clock(time.monotonic() - began)}  {name}: {what}"))

        yield say
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[summary]}", markup=False),
    )
    with Bars(*columns, console=console, transient=True) as progress:
        under_way: dict[str, Any] = {}
        whole = progress.add_task("all studies", total=len(studies), summary="0:00")
        ended: set[str] = set()

        def show(name: str, what: str, done: int | None, total: int | None) -> None:
            clock = _clock(time.monotonic() - began)
            if name not in under_way:
                under_way[name] = progress.add_task(plain(name).plain, total=None, summary="")
            if what in (DONE, FAILED):
                ended.update({name} & set(studies))
                progress.update(under_way[name], visible=False)
                console.print(plain(f"{clock}  {name}: {what}"))
            else:
                progress.update(under_way[name], completed=done or 0, total=total, summary=plain(what).plain)
            progress.update(whole, completed=len(ended), summary=f"{clock}, {len(ended)} of {len(studies)}")

        yield show


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _show_series(result: dict[str, Any], folder: Path, seconds: float) -> None:
    from rich.table import Table
    from rich.text import Text

    from counterclaim.lab.suite.page import summary

    console = terminal()
    rows = summary(result["chapters"])
    columns = ["claim", "naive", "verdict", *(["what the paper found"] if any(row["paper"] for row in rows) else [])]
    ratios = {"claim": 5, "naive": 4, "verdict": 4, "what the paper found": 5}
    console.print(plain(result["title"]), style="bold")
    for at, (arc, of_arc) in enumerate(groupby(rows, key=lambda row: row["arc"])):
        table = Table(box=None, pad_edge=False, padding=(1, 2, 0, 0), show_header=at == 0, expand=True)  # all as wide
        for name in columns:
            table.add_column(name, ratio=ratios[name], min_width=12 if name == "verdict" else None, overflow="fold")
        for row in of_arc:
            verdict = Text().append(row["verdict"], COLOUR.get(row["verdict"], "red"))
            if row["in_short"]:
                verdict.append_text(plain(f"\n{row['in_short']}"))
            cells = (plain(row["claim"]), plain(row["naive"]), verdict, plain(row["paper"]))
            table.add_row(*cells[: len(columns)])
        console.print()
        console.print(plain(arc), style="bold")
        console.print(table)
    console.print()
    for chapter in result["chapters"]:
        if chapter["error"]:
            console.print(plain(f"{chapter['name']} could not be run: {chapter['error']}"))
        elif not chapter["as_expected"]:
            fair = " or ".join(chapter["expected"])
            console.print(plain(f"{chapter['name']} came out {chapter['verdict']}, and the file expects {fair}"))
    many = "1 study" if len(result["chapters"]) == 1 else f"{len(result['chapters'])} studies"
    console.print(plain(f"{many} in {_clock(seconds)}. Page: {folder / 'report.html'}"))


def _show_outline(plan: Any, summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(summary)
        return
    console = terminal()
    console.print(plain(plan.title), style="bold")
    for chapter in plan.chapters:
        outline = summary[chapter.name]
        console.print(plain(
            f"  {chapter.name}: {chapter.claim} {outline['prompts']:,} prompts, {len(outline['arms'])} arms, "
            f"{outline['answers']:,} answers."
        ))  # fmt: skip
