"""Verbs that edit a model: export-tempered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from counterclaim.cli.application import Json, app
from counterclaim.cli.show import plain, print_json, terminal
from counterclaim.errors import InputError
from counterclaim.lab.cli.making import Model


@app.command(
    "export-tempered",
    epilog="Example: `counterclaim export-tempered run/fits/treated-seed0 --model Qwen/Qwen3-0.6B --scale 0.5 --out tempered/`",
)
def export_tempered(
    edit: Annotated[Path, typer.Argument(help="The folder that temper or steer left: RUN/fits/ARM-seed0.")],
    model: Model,
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    dose: Annotated[float | None, typer.Option(help="By how much; 1 when left out.")] = None,
    scale: Annotated[
        float | None, typer.Option(help="For heads, instead of --dose: λ, by which they are multiplied (1 − dose).")
    ] = None,
    adapter: Annotated[Path | None, typer.Option(help="Folder of a PEFT adapter, which is merged first.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag of a repository.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an exported model that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a model folder with an edit folded into its weights, so that anything can serve it.

    Edits of the residual stream, and those that act on responses alone, cannot be folded, and are refused.
    """
    if dose is not None and scale is not None:
        raise InputError("both --dose and --scale were given", remedy="give one: λ is 1 minus the dose")
    try:
        from counterclaim.lab.operators.export import export
    except ImportError as error:
        raise InputError(
            f"models need torch and transformers ({error})", remedy="pip install 'counterclaim[models]'"
        ) from error
    from counterclaim.registry import ModelSpec

    if scale is not None:
        dose = 1 - scale
    card = export(
        edit,
        ModelSpec(model, revision, adapter=adapter),
        1.0 if dose is None else dose,
        out,
        overwrite=overwrite,
    )
    if as_json:
        print_json({**card, "folder": str(out)})
        return
    changed = ", ".join(card["changed"])
    terminal().print(plain(
        f"{card['edit']['operator']} at dose {card['dose']:g} is folded into {changed}.\n"
        f"Logits differ from those of the edit by at most {card['largest_logit_difference']:.2g}.\n"
        f"Use it as --model {out}"
    ))  # fmt: skip
