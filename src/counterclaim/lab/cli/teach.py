"""Verbs that make training data: teach."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from counterclaim.cli.application import Json, app
from counterclaim.cli.show import plain, print_json, table_of, terminal
from counterclaim.errors import InputError
from counterclaim.lab.cli.show import part_watch


@app.command(
    epilog="Examples: `counterclaim teach pipeline.toml --dry-run`, `counterclaim teach pipeline.toml --out taught/`, "
    "`counterclaim teach --new pipeline.toml`"
)
def teach(
    file: Annotated[Path | None, typer.Argument(help="A pipeline file.")] = None,
    new: Annotated[Path | None, typer.Option(help="Write a commented pipeline file to start from.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the training set; taught/NAME, or what the file says, when left out.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the training set of another pipeline, or the file of --new.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check the file, licences, roles and prompts, and count calls; ask no model."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a training set from teachers in stages: examples with provenance, a data card, and datasets that TRL reads.

    Killed at any moment and run again, it goes on where it stopped; calls that failed are made again.
    """
    from counterclaim.lab.config import load_pipeline
    from counterclaim.lab.synthesis.teach import preview, write_example
    from counterclaim.lab.synthesis.teach import teach as make_training_set

    if new is not None:
        if file is not None:
            raise InputError("both a pipeline file and --new were given", remedy="give one or the other")
        write_example(new, overwrite=overwrite)
        if as_json:
            print_json({"written": str(new)})
        else:
            print(f"Written: {new}\nEdit it, then: counterclaim teach {new}")
        return
    if file is None:
        raise InputError("no pipeline file was given", remedy="write one with counterclaim teach --new pipeline.toml")
    plan = load_pipeline(file)
    if dry_run:
        planned = preview(plan)
        if as_json:
            print_json(planned)
        else:
            _show_planned(planned)
        return
    folder = out or plan.out
    with part_watch(quiet=as_json) as watch:
        summary = make_training_set(plan, folder, watch, overwrite=overwrite)
    if as_json:
        print_json({"folder": str(folder), **summary})
    else:
        _show_summary(summary, folder)


def _show_planned(planned: dict[str, Any]) -> None:
    """The calls of each stage, and who fills which role."""
    console = terminal()
    table = table_of("stage", "calls at most", "licence", "model")
    for row in planned["stages"]:
        table.add_row(
            plain(row["stage"]), f"{row['calls_at_most']:,}", plain(row["licence"] or ""), plain(row["model"])
        )
    console.print(table)
    left_out = f", {planned['contaminated']} left out as test prompts" if planned["contaminated"] else ""
    console.print(plain(
        f"\n{planned['prompts']:,} prompts{left_out}; {planned['calls_at_most']:,} calls at most. The training set will be "
        f"free of {planned['forbidden']:,} test prompts."
    ))  # fmt: skip
    for role, families in planned["roles"].items():
        console.print(plain(f"{role.replace('_', ' ')}: {', '.join(families)}"))
    for note in planned["notes"]:
        console.print(plain(f"note: {note}"))


def _show_summary(summary: dict[str, Any], folder: Path) -> None:
    """Examples by product, and calls by stage."""
    console = terminal()
    table = table_of("product", "variant", "made", "kept", "dropped by")
    for row in summary["products"]:
        table.add_row(
            row["kind"], row["variant"], f"{row['made']:,}", f"{row['kept']:,}", plain(_counts(row["dropped"]))
        )
    console.print(table)
    if summary["not_made"]:
        counts = _counts(summary["not_made"])
        console.print(plain(f"not made, as a reply or a prompt could not be used: {counts} (dropped.jsonl says why)"))
    console.print()
    stages = table_of("stage", "calls", "failed", "spoilt", "tokens in", "out", "cost", "model")
    for row in summary["stages"]:
        stages.add_row(
            plain(row["stage"]), *(f"{row[name]:,}" for name in ("calls", "failed", "spoilt", "prompt_tokens", "tokens")),
            f"{row['cost']:.4g}", plain(row["model"]),
        )  # fmt: skip
    console.print(stages)
    for note in summary["notes"]:
        console.print(plain(f"note: {note}"))
    if summary["failed"]:
        console.print(
            plain(f"{summary['failed']} calls failed; the same command makes them again and keeps the others.")
        )
    console.print(plain(
        f"\n{summary['examples']:,} examples: {summary['sft']:,} to imitate, {summary['preference']:,} preference pairs\n"
        f"Data card: {folder / 'card.md'}\nDatasets: {folder / 'datasets'}"
    ))  # fmt: skip


def _counts(by_filter: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in by_filter.items())
