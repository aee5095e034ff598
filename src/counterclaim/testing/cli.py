"""Verbs that measure this package itself: worlds, bench, kit, and the lists of what there is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from counterclaim.cli.application import Json, app
from counterclaim.cli.flags import counted
from counterclaim.cli.show import plain, print_json, progress_of, table_of, terminal
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
        if trained:
            from counterclaim.testing import trained_worlds

            table = trained_worlds.tally(
                draws, world or None, out=out, jobs=jobs,
                progress=lambda doing, done, total: progress(f"{doing}, {done} of {total}", None),
            )  # fmt: skip
        else:
            from counterclaim.testing import calibration

            table = calibration.tally(
                draws, world or None, n=n, effect=effect, severity=severity, jobs=jobs,
                progress=lambda done, total: progress(f"drawing worlds ({total} in all)", done),
            )  # fmt: skip
    if as_json:
        print_json(table)
        return
    show_worlds(table)


@app.command(epilog="Examples: `counterclaim kit truncation`, `counterclaim kit lm-eval samples_gsm8k.jsonl`")
def kit(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Of a check, scorer, reward, operator, backend, prompt set or format; all but formats when left out."
        ),
    ] = None,
    file: Annotated[Path | None, typer.Argument(help="For a format: a small good file of it.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws of each planted world.")] = 20,
) -> None:
    """Run the conformance suite on anything that is registered, built-in or plugged in.

    A format is tried on a file of it. An operator or backend of a plug-in names what it is to be tried with (trial=...).
    """
    from counterclaim.testing import kit as suites

    with progress_of(quiet=False) as progress:
        problems = suites.run(
            name, fixture=file, draws=draws, progress=lambda what: progress(f"examining {what}", None)
        )
    for problem in problems:
        print(problem)
    print("No problem was found." if not problems else f"{len(problems)} problems.")
    raise typer.Exit(1 if problems else 0)


Port = Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; a free one for 0.")]
FaultOption = Annotated[list[str] | None, typer.Option("--fault", help="Misbehave: FAULT or FAULT=COUNT; repeat.")]
Latency = Annotated[float, typer.Option(min=0, help="Seconds by which every reply is held back.")]


@app.command(epilog="Example: `counterclaim serve tiny:qwen3 --port 8000`")
def serve(
    model: Annotated[str, typer.Argument(help="Any model: tiny:NAME, world:judge, a folder, a repository.")],
    port: Port = 8000,
    fault: FaultOption = None,
    latency: Latency = 0.0,
) -> None:
    """Serve a model on this machine as an OpenAI-compatible endpoint: a dry run before real tokens are paid for."""
    _serve({model: ""}, port, fault, latency, when_asked=False)


@app.command(
    "serve-tiny", epilog="Example: `counterclaim serve-tiny --port 8000 --latency 0.5 --fault too-many-requests=3`"
)
def serve_tiny(port: Port = 8000, fault: FaultOption = None, latency: Latency = 0.0) -> None:
    """Serve every tiny model and scripted teacher as one OpenAI-compatible endpoint: a dry run of your pipeline before you pay for tokens.

    A model is named behind the URL, as in http://127.0.0.1:8000/v1#character:eager. It is opened (and a tiny model trained,
    which takes about a minute once) when it is first asked.
    """
    from counterclaim.lab.models.tiny import NAMES, SCHEME
    from counterclaim.testing.models import CHARACTER_SCHEME
    from counterclaim.testing.models.teachers import CHARACTERS

    models = {SCHEME + name: about for name, about in NAMES.items()}
    models |= {CHARACTER_SCHEME + name: about for name, about in CHARACTERS.items()}
    _serve(models, port, fault, latency, when_asked=True)


def _serve(models: dict[str, str], port: int, fault: list[str] | None, latency: float, *, when_asked: bool) -> None:
    """Serve models, given with what each is, until Ctrl-C."""
    from counterclaim.testing.server import serve_models

    faults = [counted("--fault", item) for item in fault or ()]
    with serve_models(list(models), port, faults, latency, when_asked=when_asked) as server:
        if len(models) == 1:
            print(f"{server.model} answers at {server.url} (Ctrl-C stops it)", flush=True)
        else:
            table = table_of("model", "what it is")
            for name, about in models.items():
                table.add_row(plain(name), plain(about))
            terminal().print(table)
            print(f"They answer at {server.url}#MODEL (Ctrl-C stops them)", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return


NAIVE = {
    "mean_test_positive": "means",
    "single_seed_positive": "seed",
    "cv_only_positive": "CV",
    "best_threshold_positive": "cut",
}
"""Headings of the naive protocols."""

SHORT = {"SUPPORTED": "supp.", "REFUTED": "ref.", "INCONCLUSIVE": "inc.", "INVALID": "inv."}
"""Headings of the verdicts in a table with many columns."""


def show_worlds(table: dict[str, Any]) -> None:
    """The table of worlds in per cent, and whether it keeps what is promised."""
    from counterclaim.stats import wilson

    console = terminal()
    shown = table_of("world", "n", *SHORT.values(), *NAIVE.values(), "checks that fired")
    truth = ""
    for row in sorted(table["worlds"], key=lambda row: row["truth"]):
        if row["truth"] != truth:
            truth = row["truth"]
            shown.add_row(f"[bold]{truth}[/]")
        fired = [f"{name} {f['FAIL']:.0%}" for name, f in row["checks"].items() if f.get("FAIL", 0) >= 0.05]
        shares = [*(row["verdicts"][word] for word in SHORT), *(row["naive"][name] for name in NAIVE)]
        cells = ["" if share is None else f"{100 * share:.3g}" for share in shares]
        shown.add_row(row["world"], str(row["n"]), *cells, ", ".join(fired))
    console.print(shown)
    room = wilson(0, table["draws"]).high or 0.0
    print(
        f"\n{table['draws']} draws of each world, in per cent; a share of 0 leaves room for {100 * room:.3g} (Wilson, 95 %). Beside the\n"
        "verdicts four naive protocols that would have taken the claim in: two means compared, one training seed alone,\n"
        "a probe's cross-validation alone, the best of all thresholds.\n"
    )
    for promise in table["promises"]:
        low, high = promise["interval"]
        print(
            f"{promise['told']:11} {promise['name']}: {promise['measured']:.1%}, {low:.1%} to {high:.1%} "
            f"({promise['rule']} {promise['bound']:.0%})"
        )
    if any(promise["told"] == "kept so far" for promise in table["promises"]):
        print("Kept so far: in these draws, which are too few to be sure of it.")
