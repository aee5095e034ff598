"""The verb that judges what was reported: a paper's numbers, claim by claim."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from counterclaim.cli.application import Json, app
from counterclaim.cli.show import plain, print_json, progress_of, terminal

_COLOURS = {"supported": "green", "refuted": "red", "inconclusive": "yellow", "not recomputable": "magenta"}


@app.command(
    epilog="Examples: `counterclaim replicate paper --out runs/replicate-paper`, `counterclaim replicate paper --artifacts released/`, "
    "`counterclaim replicate study.toml`"
)
def replicate(
    what: Annotated[
        str,
        typer.Argument(
            help="paper: arXiv 2604.11867; or a study file with [[reported]] tables, or the name of one that ships."
        ),
    ],
    artifacts: Annotated[
        Path | None,
        typer.Option(help="Folder with files that were released with the paper, to recompute its numbers from."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write: replication.json and the page.")] = None,
    as_json: Json = False,
) -> None:
    """Judge reported numbers, claim by claim, by what they can support: no model is needed.

    Every claim is supported, refuted, inconclusive or not recomputable, for every way in which its numbers can have come about.
    How they were made is not judged: a claim that its authors took back stands beside what they said of it. The same study
    files run the experiments: counterclaim run NAME.
    """
    from counterclaim.lab.replicate.artifacts import read_artifacts
    from counterclaim.lab.replicate.table import claim_table, write

    with progress_of(quiet=as_json) as progress:
        progress("reading", None)
        released = None if artifacts is None else read_artifacts(artifacts)
        table = claim_table(what, released, progress)
        page = None if out is None else write(out, table)
    if as_json:
        print_json(table.to_json())
    else:
        _show(table.to_json(), page)


def _show(table: dict[str, Any], page: Path | None) -> None:
    console = terminal()
    for arc, claims in groupby(table["claims"], key=lambda claim: claim["arc"]):
        console.print()
        console.print(plain(arc), style="bold")
        for name, of_study in groupby(claims, key=lambda claim: claim["study"]):
            if name != arc:
                console.print(plain(f"  {name}"), style="bold")
            for claim in of_study:
                _show_claim(console, claim)
    console.print()
    console.print(plain(", ".join(f"{count} {word}" for word, count in table["words"].items()) + "."))
    if table["taken_back"]:
        console.print(plain(
            "Supported by its numbers and taken back by its authors, because of how the numbers were made: "
            f"{'; '.join(table['taken_back'])}."
        ))  # fmt: skip
    for name, why in (table["artifacts"] or {}).get("unused", {}).items():
        console.print(plain(f"not used: {name}, which {why}"))
    console.print(plain(f"\nPage: {page}" if page is not None else "Add --out DIR to get the page."))


def _show_claim(console: Any, claim: dict[str, Any]) -> None:
    """A few lines: the word and what was claimed, what was reported, what that supports, what stands beside it."""
    from rich.padding import Padding
    from rich.text import Text

    head = Text.assemble(
        (f"{claim['word']:<16}", _COLOURS[claim["word"]]), "  ", (plain(claim["id"]).plain, "bold"), "  "
    )
    console.print(Padding(head + plain(claim["claim"]), (0, 0, 0, 4)))
    lines = [f"reported: {claim['reported']}", f"supports: {claim['because']}"]
    lines += [f"settles:  {claim['settles']}"] if claim["settles"] else []
    lines += [f"since:    {claim['beside']}"] if claim["beside"] else []
    for found in claim["artifacts"]:
        numbers = f"{found['what']}: paper {found['paper']}, artefact {found['artifact']}: {found['word']} "
        text = f"{numbers}(n = {found['n']}, {found['file']})" if found["artifact"] else found["because"]
        lines.append(f"artefact: {text}")
    for line in lines:
        console.print(Padding(plain(line), (0, 0, 0, 8)))
