"""The command line: thin verbs. The only module that prints or exits.

Exit codes of commands that end in a verdict: 0 SUPPORTED, 1 REFUTED, 2 bad input or usage, 3 INCONCLUSIVE, 4 INVALID.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from counterclaim import __version__
from counterclaim.errors import CounterclaimError, InputError

T = TypeVar("T", bound=str)

EXIT = {"SUPPORTED": 0, "REFUTED": 1, "INCONCLUSIVE": 3, "INVALID": 4}
BAD_INPUT = 2
DEBUG = "COUNTERCLAIM_DEBUG"
COLOUR = {"SUPPORTED": "green", "REFUTED": "red", "INCONCLUSIVE": "yellow", "INVALID": "magenta"}
MARK = {"PASS": "✓", "FAIL": "✗", "WARN": "!", "INCONCLUSIVE": "?", "NOT_RUN": "·", "ERROR": "✗"}

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
    from counterclaim import study

    wanted = study.Wanted(
        file=claim,
        metric=metric,
        direction=_choice("--direction", direction, ("increase", "decrease")),
        margin=_positive("--margin", margin),
        guards=tuple(_guard(item) for item in guard or ()),
        alpha=_share("--alpha", alpha),
        level=_share("--level", level),
        required=tuple(require or ()),
        same_construct=_groups(same_construct),
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
    with _progress(quiet=as_json) as progress:
        if counts is not None:
            if any(files.values()) or arm or example or train_data or judge_cards:
                raise InputError("--counts was given together with result files", remedy="give one or the other")
            if guard or map or rows or format:
                raise InputError(
                    "--guard, --map, --rows and --format need per-item results, and only --counts was given",
                    remedy="leave them out, or give --control FILE --treated FILE",
                )
            records = study.count_study(_counts(counts, paired, cut or []), wanted)
        else:
            if example:
                if any(files.values()):
                    raise InputError("--example was given together with result files", remedy="give one or the other")
                files, wanted = study.example(wanted)
            for item in arm or ():
                name, path = _assignment("--arm", item)
                files.setdefault(name, []).append(Path(path))
            for name in ("control", "treated"):
                if not files[name]:
                    raise InputError(
                        f"no results of the {name} arm were given", remedy=f"name them with --{name} FILE (or --counts)"
                    )
            options = study.Options(
                format, _mapping(map), rows, _choice("--pair-by", pair_by, ("prompt", "id")) or "prompt"
            )
            records = study.import_study(
                files, wanted, options, train_data=train_data, cards=judge_cards, progress=progress
            )
        judged = study.judge(records, progress)
        if out is not None:
            progress(f"writing {out}", None)
            study.write(out, records, judged, overwrite=overwrite)
    _show(judged.verdict, out, as_json)


@app.command(epilog="Example: `counterclaim check run/`")
def check(run: Annotated[Path, typer.Argument(help="A run folder.")], as_json: Json = False) -> None:
    """Redo checks, verdict and pages of a run folder; the same records give the same bytes."""
    from counterclaim import study

    with _progress(quiet=as_json) as progress:
        judged = study.check(run, progress)
    _show(judged.verdict, run, as_json)


@app.command(epilog="Example: `counterclaim report run/`")
def report(run: Annotated[Path, typer.Argument(help="A run folder.")], as_json: Json = False) -> None:
    """Redraw the pages of a run folder from its verdict, without running a check."""
    from counterclaim import study

    judged = study.report(run)
    _show(judged.verdict, run, as_json)


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
        _choice("--direction", direction, ("increase", "decrease"))
        or ("increase" if better(metric) == "higher" else "decrease"),
        _positive("--margin", margin) or 0.05,
        tuple(
            Guard(name, 0.02 if allowed is None else allowed, better(name))
            for name, allowed in map(_guard, guard or ())
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
    from counterclaim import study

    options = study.Options(format, _mapping(map), rows, _choice("--pair-by", pair_by, ("prompt", "id")) or "prompt")
    result = study.profile(file, options, _groups(same_construct))
    if as_json:
        _print_json(result)
        return
    _show_profile(file, result)


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

    with _progress(quiet=as_json) as progress:
        table = calibration.tally(
            draws, world or None, n=n, effect=effect, severity=severity, jobs=jobs,
            progress=lambda done, total: progress(f"drawing worlds ({total} in all)", done),
        )  # fmt: skip
    if as_json:
        _print_json(table)
        return
    _show_worlds(table, calibration.promises(table))


@app.command(epilog="Example: `counterclaim bench --json`")
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repetitions.")] = False, as_json: Json = False
) -> None:
    """Time our hot paths and their peers side by side in one run."""
    from counterclaim.bench import run_bench

    with _progress(quiet=as_json) as progress:
        result = run_bench(quick, lambda name: progress(f"timing {name}", None))
    if as_json:
        _print_json(result)
        return
    table = _table("what", "ours", "peer", "peer's time", "ratio", "agreement")
    for row in result["rows"]:
        table.add_row(
            row["name"], f"{row['ours']:.4g} s", row["peer"], f"{row['peer_s']:.4g} s", f"{row['ratio']:.1f}×",
            "" if row["agreement"] is None else f"{row['agreement']:.2g}",
        )  # fmt: skip
    _console().print(table)
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
    with _progress(quiet=False) as progress:
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
    kind = _choice("WHAT", what, ("formats", "metrics", "checks", "worlds"))
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
    table = _table("name", "what it is")
    for name, text in rows:
        table.add_row(_plain(name), _plain(text))
    _console().print(table)


# showing --------------------------------------------------------------------------------------------------------


def _console(stderr: bool = False) -> Any:
    from rich.console import Console

    class Patient(Console):
        def on_broken_pipe(self) -> None:
            """A reader that went away (``| head``) must not turn the exit code into another verdict."""
            self.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return Patient(stderr=stderr, highlight=False)


def _table(*columns: str) -> Any:
    """A table without lines whose last column wraps."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    return table


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(_plain(text).plain)


def _plain(text: str) -> Any:
    """Text that rich must not read as markup, with control characters of a terminal taken out."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() or c == "\n" else "�" for c in text))


def _print_json(value: Any) -> None:
    from counterclaim.store import rounded

    print(json.dumps(rounded(value), indent=1, ensure_ascii=True, allow_nan=False))


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, int | None], None]]:
    """A spinner on standard error that says what is going on; silent in pipes, in CI logs and with --json."""
    console = _console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda stage, done: None
        return
    with console.status("starting") as status:
        yield lambda stage, done: status.update(_plain(stage if done is None else f"{stage}: {done:,} rows"))


def _show(verdict: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """One screen: verdict, number with interval, the checks that decided it, what to do next; then exit."""
    if as_json:
        _print_json(verdict)
        raise typer.Exit(EXIT[verdict["verdict"]])
    console = _console()
    word, effect = verdict["verdict"], verdict["effect"]
    console.print(f"[bold white on {COLOUR[word]}] {word} [/]  ({verdict['status']})")
    console.print(_plain(verdict["because"]), soft_wrap=False)
    console.print()
    table = _table(
        "", "estimate", "95 % interval".replace("95", f"{100 * effect['difference']['level']:g}"), "n", "method"
    )
    for name in ("control", "treated", "difference"):
        table.add_row(name, *_cells(effect[name]))
    console.print(
        f"[bold]{_escape(effect['metric'])}[/], claimed to {effect['direction']}, margin {effect['margin']:g}"
    )
    console.print(table)
    if effect.get("p_range") and effect["p_range"][0] != effect["p_range"][1]:
        low, high = effect["p_range"]
        print(f"p between {low:.2g} and {high:.2g}, depending on the pairing ({effect['p_method']})")
    elif effect["p"] is not None:
        print(f"p = {effect['p']:.2g} ({effect['p_method']}), {effect['n_paired']} prompts paired")
    for guard in verdict["guards"]:
        d = guard["difference"]
        console.print(
            _plain(f"guard {guard['metric']}: {_cells(d)[0]} {_cells(d)[1]}, allowed loss {guard['allowed']:g}")
        )
    console.print()
    _show_checks(console, verdict["checks"], said=verdict["because"])
    if verdict["next"]:
        console.print("[bold]What to do next[/]")
        for step in verdict["next"]:
            console.print(_plain(f"  • {step}"))
    if out is not None:
        console.print(_plain(f"\nPage: {out / 'report.html'}"))
    else:
        console.print("Add --out run/ to keep the records and get the page.")
    raise typer.Exit(EXIT[word])


def _cells(estimate: dict[str, Any]) -> tuple[str, str, str, str]:
    if estimate["estimate"] is None:
        return "undefined", "", str(estimate["n"]), estimate.get("reason", "")
    interval = "none" if estimate["low"] is None else f"[{estimate['low']:+.3f}, {estimate['high']:+.3f}]"
    return f"{estimate['estimate']:+.3f}", interval, str(estimate["n"]), estimate["method"]


def _show_checks(console: Any, checks: list[dict[str, Any]], said: str = "") -> None:
    """What failed or holds the claim up, row by row; the rest by name."""
    told = [
        c
        for c in checks
        if c["outcome"] in ("FAIL", "ERROR", "WARN") or (c["outcome"] == "INCONCLUSIVE" and c["required"])
    ]
    table = _table("", "check", "what it found")
    colours = {"FAIL": "red", "ERROR": "red", "WARN": "yellow", "INCONCLUSIVE": "yellow"}
    for c in told:
        mark = f"[{colours[c['outcome']]}]{MARK[c['outcome']]} {c['outcome']}[/]"
        table.add_row(mark, c["check"], _plain("as said above" if c["because"] in said else c["because"]))
    if told:
        console.print(table)
    for outcome, words in (("PASS", "passed"), ("INCONCLUSIVE", "open"), ("NOT_RUN", "not run")):
        names = [c["check"] for c in checks if c["outcome"] == outcome and c not in told]
        tail = " (the page says what each would need)" if outcome == "NOT_RUN" else ""
        if names:
            console.print(_plain(f"{MARK[outcome]} {words}: {', '.join(names)}{tail}"))
    console.print()


def _show_profile(file: Path, result: dict[str, Any]) -> None:
    console = _console()
    cells = result["cells"]
    console.print(_plain(f"{file}: {result['n']} responses, {result['n_unscored']} unscored"))
    table = _table("", "assert", "hedge")
    table.add_row("right", str(cells["cr"]), str(cells["hr"]))
    table.add_row("wrong", str(cells["cw"]), str(cells["hw"]))
    console.print(table)
    console.print()
    rates = _table("rate", "estimate", "95 % interval", "n", "method")
    for name in ("accuracy", "assertion_rate", "hallucination_rate", "over_hedging_rate", "assertion_asymmetry"):
        rates.add_row(name, *_cells(result[name]))
    console.print(rates)
    console.print()
    _show_checks(console, result["checks"])


def _show_worlds(table: dict[str, Any], promises: Any) -> None:
    console = _console()
    words = ("SUPPORTED", "REFUTED", "INCONCLUSIVE", "INVALID")
    shown = _table("world", "n", *(word[:7].lower() for word in words), "naive +", "checks that fired")
    truth = ""
    for row in sorted(table["worlds"], key=lambda row: row["truth"]):
        if row["truth"] != truth:
            truth = row["truth"]
            shown.add_row(f"[bold]{truth}[/]")
        fired = [f"{name} {f['FAIL']:.0%}" for name, f in row["checks"].items() if f.get("FAIL", 0) >= 0.05]
        shares = [f"{row['verdicts'].get(word, 0):.1%}" for word in words]
        naive = f"{row['naive']['mean_test_positive']:.1%}"
        shown.add_row(row["world"], str(row["n"]), *shares, naive, ", ".join(fired))
    console.print(shown)
    print(
        f"\n{table['draws']} draws of each world. “naive +”: two means compared, p < 0.05 in the claimed direction.\n"
    )
    for promise in promises:
        kept = "kept  " if promise.holds else "BROKEN"
        print(f"{kept} {promise.name}: {promise.measured:.1%} (promised {promise.bound:.0%})")


# reading flags --------------------------------------------------------------------------------------------------


def _mapping(items: list[str] | None) -> dict[str, str]:
    from counterclaim.importers import parse_mapping

    return parse_mapping(items or [])


def _groups(items: list[str] | None) -> tuple[tuple[str, ...], ...]:
    groups = tuple(tuple(part.strip() for part in item.split(",") if part.strip()) for item in items or ())
    for group in groups:
        if len(group) < 2:
            raise InputError("--same-construct names one label only", remedy="name two or more: --same-construct A,B")
    return groups


def _assignment(flag: str, item: str) -> tuple[str, str]:
    name, mark, value = item.partition("=")
    if not mark or not name.strip() or not value.strip():
        raise InputError(f"{flag} {item!r} is not NAME=VALUE", remedy=f"write it like {flag} name=value")
    return name.strip(), value.strip()


def _guard(item: str) -> tuple[str, float | None]:
    if "=" not in item:
        return item, None
    name, value = _assignment("--guard", item)
    try:
        allowed = float(value)
    except ValueError:
        allowed = -1.0
    if not 0 <= allowed < float("inf"):
        raise InputError(
            f"--guard {item!r}: the allowed loss is not a number ≥ 0", remedy="write --guard accuracy=0.02"
        )
    return name, allowed


def _choice(flag: str, value: str | None, allowed: tuple[T, ...]) -> T | None:
    for option in allowed:
        if value == option:
            return option
    if value is None:
        return None
    raise InputError(f"{flag} {value!r} is not one of {', '.join(allowed)}", remedy="choose one of them")


def _positive(flag: str, value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):
        raise InputError(f"{flag} {value:g} is not a positive number", remedy="fractions, not percent: 0.05")
    return value


def _share(flag: str, value: float | None) -> float | None:
    if value is not None and not 0 < value < 1:
        raise InputError(f"{flag} {value:g} does not lie between 0 and 1", remedy="for example 0.01 or 0.95")
    return value


def _counts(pair: tuple[str, str], paired: str | None, cut: list[str]) -> Any:
    from counterclaim.effect import ArmCounts, Counts

    found = dict(_k_of_n("--counts", item) for item in pair)
    if set(found) != {"control", "treated"}:
        raise InputError("--counts does not name control and treated", remedy="--counts control=40/120 treated=55/120")
    cuts = dict(_k_of_n("--cut", item) for item in cut)
    for name, (_, n) in cuts.items():
        if name not in found or n != found[name][1]:
            raise InputError(f"--cut {name} does not fit --counts", remedy="use the same arm names and the same n")
    arms = {name: ArmCounts(k, n, cuts[name][0] if name in cuts else None) for name, (k, n) in found.items()}
    control, treated = arms["control"], arms["treated"]
    if paired is None:
        return Counts(control, treated)
    name, value = _assignment("--paired", paired)
    low = max(0, control.k + treated.k - control.n)
    high = min(control.k, treated.k)
    if name != "both" or not value.isdigit() or control.n != treated.n or not low <= int(value) <= high:
        raise InputError(
            f"--paired {paired!r} does not fit the counts",
            remedy=f"both arms need the same n, and both=K with K from {low} to {high}",
        )
    return Counts(control, treated, int(value))


def _k_of_n(flag: str, item: str) -> tuple[str, tuple[int, int]]:
    name, value = _assignment(flag, item)
    k, mark, n = value.partition("/")
    if not mark or not k.isdigit() or not n.isdigit() or not 0 <= int(k) <= int(n) or int(n) == 0:
        raise InputError(f"{flag} {item!r} is not ARM=K/N with K ≤ N", remedy=f"write it like {flag} control=40/120")
    return name, (int(k), int(n))


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
