"""Verbs that read a model's activations: capture, attribute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from counterclaim.cli.application import Json, app
from counterclaim.cli.flags import choice
from counterclaim.cli.show import plain, print_json, table_of, terminal
from counterclaim.errors import InputError
from counterclaim.lab.cli.show import watching

_SHOWN = 10
Arm = Annotated[str, typer.Option(help="Whose answers are read.")]
Replicate = Annotated[str | None, typer.Option(help="Which seed, where an arm has several adapters or fits.")]
Reader = Annotated[
    str | None,
    typer.Option("--model", help="Read the answers with this model instead of the one that gave them."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Rows per batch; chosen from the memory when left out.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is in --out.")]


@app.command(epilog="Example: `counterclaim capture run/ --layers last,8 --positions last,mean --out features/`")
def capture(
    run: Annotated[Path, typer.Argument(help="A finished run folder: its answers are read.")],
    out: Annotated[Path, typer.Option(help="Feature folder to write: features.json and features.safetensors.")],
    arm: Arm = "control",
    replicate: Replicate = None,
    model: Reader = None,
    layers: Annotated[
        str, typer.Option(help="Decoder layers (0,5: their outputs), last (after the final norm), all; by commas.")
    ] = "last",
    positions: Annotated[
        str,
        typer.Option(help="last token of the response, mean over its tokens, prompt-end; by commas, or none."),
    ] = "last",
    site: Annotated[
        str, typer.Option(help="residual stream, or the layer's o_proj input, v_proj or down_proj output.")
    ] = "residual",
    head_norms: Annotated[
        int, typer.Option(min=0, help="Norm of every attention head over this many last response tokens; 0 for none.")
    ] = 0,
    head_means: Annotated[
        int, typer.Option(min=0, help="Mean of every head's slice over this many last response tokens; 0 for none.")
    ] = 0,
    tokens: Annotated[
        int, typer.Option(min=0, help="Each of this many last response tokens, for attention probes; 0 for none.")
    ] = 0,
    on_cut: Annotated[
        str, typer.Option(help="Where the budget cut answers: refuse, or read where they were cut.")
    ] = "refuse",
    device: Device = "auto",
    batch_size: BatchSize = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Read a run's answers with the model that gave them: hidden states and heads as features for a probe.

    One forward pass per batch, without logits. Killed at any moment and run again, it goes on where it stopped.
    """
    from counterclaim.lab.reading import RunSelection, opened
    from counterclaim.records import ArmId
    from counterclaim.registry import Runtime

    at = tuple(_parts(positions)) if positions != "none" else ()
    for name in at:
        choice("--positions", name, ("last", "mean", "prompt-end"))
    choice("--site", site, ("residual", "o_proj", "v_proj", "down_proj"))
    on_a_cut: Literal["refuse", "read"] | None = choice("--on-cut", on_cut, ("refuse", "read"))
    with (
        watching(quiet=as_json) as watchers,
        opened(
            run, RunSelection(ArmId.parse(arm), replicate, model), Runtime(device=device, batch_size=batch_size)
        ) as (
            reader,
            answers,
        ),
    ):
        from counterclaim.lab.models.hf.activations import CaptureSpec
        from counterclaim.lab.operators import reading

        wanted: Any = CaptureSpec(
            reading.layers_named(reader, _parts(layers)), at, site, head_norms, head_means, tokens  # type: ignore[arg-type]
        )  # fmt: skip
        card = reading.capture(
            reader, answers, wanted, out, watchers.part, on_cut=on_a_cut or "refuse", overwrite=overwrite
        )
    if as_json:
        print_json({"folder": str(out), **card})
        return
    _show_card(card, out)


@app.command(
    epilog="Examples: `counterclaim attribute run/ --cohort cw --against cr --out heads/`, "
    "`counterclaim attribute --published attribution.json`"
)
def attribute(
    run: Annotated[Path | None, typer.Argument(help="A finished and scored run folder.")] = None,
    cohort: Annotated[
        str, typer.Option(help="Answers whose heads are looked for: cw, cr, hw, hr, or AXIS=VALUE.")
    ] = "cw",
    against: Annotated[str, typer.Option(help="Answers that they are compared with.")] = "cr",
    out: Annotated[
        Path | None,
        typer.Option(help="FILE.json, or a folder for attribution.json and the heat maps attribution.html."),
    ] = None,
    last_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens at the end of each response over which a head is read.")
    ] = 32,
    permutations: Annotated[int, typer.Option(min=1, help="Shuffles of the cohorts for each null.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Of shuffles and folds.")] = 0,
    published: Annotated[
        Path | None,
        typer.Option(help="Instead of a run: a JSON file of heads with cohen_d, against the null of the largest."),
    ] = None,
    arm: Arm = "control",
    replicate: Replicate = None,
    model: Reader = None,
    device: Device = "auto",
    batch_size: BatchSize = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Which attention heads tell two cohorts of answers apart, and whether the best does so better than chance's best.

    Every head of every layer with an o_proj, in one pass: how loud it is, and what it points at, estimated out of fold.
    """
    if (run is None) == (published is None):
        raise InputError("name a run folder, or a file with --published", remedy="give exactly one of the two")
    if published is not None:
        from counterclaim.lab.replicate.published import published as judged

        report = judged(published, cohort, against)
        if as_json:
            print_json(report)
        else:
            terminal().print(plain(f"In {published}, {report['because']}."))
        return
    assert run is not None
    _check_free(out, overwrite)
    report = _attributed(
        run, (arm, replicate, model), (device, batch_size), as_json, cohort=cohort, against=against, last_tokens=last_tokens,
        permutations=permutations, seed=seed,
    )  # fmt: skip
    written = _write_attribution(report, run, out, overwrite)
    if as_json:
        print_json({**report, "written": [str(path) for path in written]})
        return
    _show_attribution(report)
    for path in written:
        terminal().print(plain(f"Written: {path}"))


def _attributed(
    run: Path, which: tuple[str, str | None, str | None], how: tuple[str, int | None], quiet: bool, **wanted: Any
) -> dict[str, Any]:
    from counterclaim.lab.reading import RunSelection, opened
    from counterclaim.records import ArmId
    from counterclaim.registry import Runtime

    with (
        watching(quiet=quiet) as watchers,
        opened(run, RunSelection(ArmId.parse(which[0]), *which[1:]), Runtime(device=how[0], batch_size=how[1])) as (
            reader,
            answers,
        ),
    ):
        from counterclaim.lab.operators.attribution import attribute

        return attribute(reader, answers, **wanted, watch=watchers.part).to_json()


def _check_free(out: Path | None, overwrite: bool) -> None:
    """Raise InputError before anything is read where a result could not be written."""
    from counterclaim.folder import check_free

    for path in [] if out is None else _files(out):
        check_free(path, overwrite=overwrite)


def _files(out: Path) -> list[Path]:
    return [out] if out.suffix == ".json" else [out / "attribution.json", out / "attribution.html"]


def _write_attribution(report: dict[str, Any], run: Path, out: Path | None, overwrite: bool) -> list[Path]:
    from counterclaim.folder import dump, write_new
    from counterclaim.lab.operators.attribution import render_attribution

    files = [] if out is None else _files(out)
    for path in files:
        text = render_attribution(report, run.resolve().name) if path.suffix == ".html" else dump(report)
        write_new(path, text, overwrite=overwrite)
    return files


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _show_card(card: dict[str, Any], out: Path) -> None:
    console = terminal()
    table = table_of("block", "shape")
    for name, shape in card["blocks"].items():
        table.add_row(plain(name), " × ".join(f"{size:,}" for size in shape))
    console.print(table)
    cut = sum(flag is True for flag in card["cut"])
    unknown = sum(flag is None for flag in card["cut"])
    console.print(
        plain(f"{len(card['ids']):,} answers of {card['model']['repo']}, {cut:,} of them cut by the token budget")
    )
    if unknown:
        console.print(plain(f"the finish reasons of {unknown:,} of them are unknown"))
    if card["unread"]:
        console.print(plain(f"{len(card['unread']):,} answers could not be read; features.json says why"))
    console.print(plain(f"\nFeatures: {out}"))


def _show_attribution(report: dict[str, Any]) -> None:
    console = terminal()
    table = table_of("head", "norm d", "p", "direction d", "p", "in sample", "cosine")
    ranked = sorted(report["heads"], key=lambda row: -max(abs(row["d"]), row["directional_d"]))
    for row in ranked[:_SHOWN]:
        table.add_row(
            f"layer {row['layer']} head {row['head']}", f"{row['d']:+.2f}", f"{row['p']:.3f}", f"{row['directional_d']:+.2f}",
            f"{row['directional_p']:.3f}", f"{row['in_sample_d']:+.2f}", f"{row['cosine']:.2f}",
        )  # fmt: skip
    console.print(table)
    for side in ("cohort", "against"):
        cut = report[side]["cut"]
        console.print(
            plain(f"{report[side]['name']}: {report[side]['n']} answers{f', {cut} of them cut' if cut else ''}")
        )
    if report["layers_without_o_proj"]:
        console.print(plain(f"layers without o_proj, and so without heads: {report['layers_without_o_proj']}"))
    console.print(plain(
        f"{report['because']}\nAn in-sample d separates pure noise, too: shuffled cohorts reach "
        f"{report['in_sample']['null']['median']:.2f} in the median."
    ))  # fmt: skip
