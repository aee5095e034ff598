"""``python -m benchmarks``: our hot paths and their peers, timed side by side in one run of a checkout."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmarks import GROUPS, run_bench
from counterclaim.cli.application import Json, main
from counterclaim.cli.flags import choice
from counterclaim.cli.show import plain, print_json, progress_of, table_of, terminal

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


@app.command(epilog="Example: `python -m benchmarks --only statistics --only sandbox`")
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
    groups = [str(choice("--only", name, tuple(GROUPS))) for name in only or ()]
    with progress_of(quiet=as_json) as progress:
        result = run_bench(quick, lambda name: progress(f"timing {name}", None), groups)
    if as_json:
        print_json(result)
        return
    table = table_of("ratio", "ours", "peer's", "apart", "what, and beside what")
    shown = ""
    for row in result["rows"]:
        if row["group"] != shown:
            shown = row["group"]
            table.add_row(f"[bold]{shown}[/]")
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


if __name__ == "__main__":
    main(app)
