"""What a terminal is shown: a verdict, a profile, the table of worlds. Text of others is stripped of markup."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

EXIT = {"SUPPORTED": 0, "REFUTED": 1, "INCONCLUSIVE": 3, "INVALID": 4}
COLOUR = {"SUPPORTED": "green", "REFUTED": "red", "INCONCLUSIVE": "yellow", "INVALID": "magenta"}
MARK = {"PASS": "✓", "FAIL": "✗", "WARN": "!", "INCONCLUSIVE": "?", "NOT_RUN": "·", "ERROR": "✗"}


def terminal(stderr: bool = False) -> Any:
    from rich.console import Console

    class Patient(Console):
        def on_broken_pipe(self) -> None:
            """A reader that went away (``| head``) must not turn the exit code into another verdict."""
            self.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return Patient(stderr=stderr, highlight=False)


def table_of(*columns: str) -> Any:
    """A table without lines whose last column wraps."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    return table


def escape(text: str) -> str:
    from rich.markup import escape

    return escape(plain(text).plain)


def plain(text: str) -> Any:
    """Text that rich must not read as markup, with control characters of a terminal taken out."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() or c == "\n" else "�" for c in text))


def print_json(value: Any) -> None:
    from counterclaim.store import rounded

    print(json.dumps(rounded(value), indent=1, ensure_ascii=True, allow_nan=False))


@contextmanager
def progress_of(*, quiet: bool) -> Iterator[Callable[[str, int | None], None]]:
    """A spinner on standard error that says what is going on; silent in pipes, in CI logs and with --json."""
    console = terminal(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda stage, done: None
        return
    with console.status("starting") as status:
        yield lambda stage, done: status.update(plain(stage if done is None else f"{stage}: {done:,} rows"))


def show_verdict(verdict: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """One screen: verdict, number with interval, the checks that decided it, what to do next; then exit."""
    if as_json:
        print_json(verdict)
        raise typer.Exit(EXIT[verdict["verdict"]])
    console = terminal()
    word, effect = verdict["verdict"], verdict["effect"]
    console.print(f"[bold white on {COLOUR[word]}] {word} [/]  ({verdict['status']})")
    console.print(plain(verdict["because"]), soft_wrap=False)
    console.print()
    table = table_of(
        "", "estimate", "95 % interval".replace("95", f"{100 * effect['difference']['level']:g}"), "n", "method"
    )
    for name in ("control", "treated", "difference"):
        table.add_row(name, *_cells(effect[name]))
    console.print(f"[bold]{escape(effect['metric'])}[/], claimed to {effect['direction']}, margin {effect['margin']:g}")
    console.print(table)
    if effect.get("p_range") and effect["p_range"][0] != effect["p_range"][1]:
        low, high = effect["p_range"]
        print(f"p between {low:.2g} and {high:.2g}, depending on the pairing ({effect['p_method']})")
    elif effect["p"] is not None:
        print(f"p = {effect['p']:.2g} ({effect['p_method']}), {effect['n_paired']} prompts paired")
    for guard in verdict["guards"]:
        d = guard["difference"]
        console.print(
            plain(f"guard {guard['metric']}: {_cells(d)[0]} {_cells(d)[1]}, allowed loss {guard['allowed']:g}")
        )
    console.print()
    show_checks(console, verdict["checks"], said=verdict["because"])
    if verdict["next"]:
        console.print("[bold]What to do next[/]")
        for step in verdict["next"]:
            console.print(plain(f"  • {step}"))
    if out is not None:
        console.print(plain(f"\nPage: {out / 'report.html'}"))
    else:
        console.print("Add --out run/ to keep the records and get the page.")
    raise typer.Exit(EXIT[word])


def _cells(estimate: dict[str, Any]) -> tuple[str, str, str, str]:
    if estimate["estimate"] is None:
        return "undefined", "", str(estimate["n"]), estimate.get("reason", "")
    interval = "none" if estimate["low"] is None else f"[{estimate['low']:+.3f}, {estimate['high']:+.3f}]"
    return f"{estimate['estimate']:+.3f}", interval, str(estimate["n"]), estimate["method"]


def show_checks(
    console: Any, checks: list[dict[str, Any]], said: str = "", needs: str = "the page says what each would need"
) -> None:
    """What failed or holds the claim up, row by row; the rest by name."""
    told = [
        c
        for c in checks
        if c["outcome"] in ("FAIL", "ERROR", "WARN") or (c["outcome"] == "INCONCLUSIVE" and c["required"])
    ]
    table = table_of("", "check", "what it found")
    colours = {"FAIL": "red", "ERROR": "red", "WARN": "yellow", "INCONCLUSIVE": "yellow"}
    for c in told:
        mark = f"[{colours[c['outcome']]}]{MARK[c['outcome']]} {c['outcome']}[/]"
        table.add_row(mark, c["check"], plain("as said above" if c["because"] in said else c["because"]))
    if told:
        console.print(table)
    for outcome, words in (("PASS", "passed"), ("INCONCLUSIVE", "open"), ("NOT_RUN", "not run")):
        names = [c["check"] for c in checks if c["outcome"] == outcome and c not in told]
        tail = f" ({needs})" if outcome == "NOT_RUN" else ""
        if names:
            console.print(plain(f"{MARK[outcome]} {words}: {', '.join(names)}{tail}"))
    console.print()


def show_profile(file: Path, result: dict[str, Any]) -> None:
    console = terminal()
    counts = result["cells"]
    console.print(plain(f"{file}: {result['n']} responses, {result['n_unscored']} unscored"))
    table = table_of("", "assert", "hedge")
    table.add_row("right", str(counts["cr"]), str(counts["hr"]))
    table.add_row("wrong", str(counts["cw"]), str(counts["hw"]))
    console.print(table)
    console.print()
    rates = table_of("rate", "estimate", "95 % interval", "n", "method")
    for name in ("accuracy", "assertion_rate", "hallucination_rate", "over_hedging_rate", "assertion_asymmetry"):
        rates.add_row(name, *_cells(result[name]))
    console.print(rates)
    console.print()
    show_checks(console, result["checks"], needs="--json says what each would need")


NAIVE = {
    "mean_test_positive": "means",
    "single_seed_positive": "seed",
    "cv_only_positive": "CV",
    "best_threshold_positive": "cut",
}
"""Headings of the naive protocols."""

SAID = {"SUPPORTED": "supp.", "REFUTED": "ref.", "INCONCLUSIVE": "inc.", "INVALID": "inv."}
"""Headings of the verdicts in a table with many columns."""


def show_worlds(table: dict[str, Any]) -> None:
    """The table of worlds in per cent, and whether it keeps what is promised."""
    from counterclaim.stats import wilson

    console = terminal()
    shown = table_of("world", "n", *SAID.values(), *NAIVE.values(), "checks that fired")
    truth = ""
    for row in sorted(table["worlds"], key=lambda row: row["truth"]):
        if row["truth"] != truth:
            truth = row["truth"]
            shown.add_row(f"[bold]{truth}[/]")
        fired = [f"{name} {f['FAIL']:.0%}" for name, f in row["checks"].items() if f.get("FAIL", 0) >= 0.05]
        shares = [*(row["verdicts"][word] for word in SAID), *(row["naive"][name] for name in NAIVE)]
        told = ["" if share is None else f"{100 * share:.3g}" for share in shares]
        shown.add_row(row["world"], str(row["n"]), *told, ", ".join(fired))
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


# models ---------------------------------------------------------------------------------------------------------


_LOG_EVERY = 60.0
"""Seconds between lines in a log."""


def _logging_watchers(console: Any, warn: Callable[[Any], None]) -> Any:
    """Watchers for logs that nobody watches live: what is being done and how far it is, once a minute."""
    from counterclaim.experiment import Watchers

    last = time.monotonic()

    def say(told: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_EVERY:
            last = time.monotonic()
            console.print(plain(told))

    def answers(tally: Any) -> None:
        warn(tally)
        say(f"answering, {tally.arm}: {_answers_told(tally)}")

    return Watchers(
        stage=lambda what, done: say(what),
        part=lambda what, done, total: say(f"{what}: {done:,} of {total:,}"),
        answers=answers,
        scores=lambda tally: say(f"scoring with {tally.instrument}: {tally.done:,} of {tally.total:,} readings"),
    )


@contextmanager
def watching(*, quiet: bool) -> Iterator[Any]:
    """Progress of a study of one's own on standard error: stage, answers with speed and time left, share cut, scores.

    In pipes and logs a line is printed once a minute, and the warnings.
    """
    from counterclaim.experiment import Watchers

    console = terminal(stderr=True)
    warned: set[str] = set()

    def warn(tally: Any) -> None:
        if tally.many_cut and tally.arm not in warned and not quiet:
            warned.add(tally.arm)
            console.print(plain(
                f"warning: {tally.cut_share:.0%} of the first {tally.arm_done} answers of {tally.arm} were cut by the token "
                "budget; what is scored on cut answers says little. Stop with Ctrl-C and raise max_new_tokens, unless you "
                "mean it."
            ))  # fmt: skip

    if quiet:
        yield Watchers()
        return
    if not console.is_terminal:
        yield _logging_watchers(console, warn)
        return
    from rich.progress import BarColumn, Progress, TextColumn

    name, told = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[told]}", markup=False)
    with Progress(name, BarColumn(bar_width=20), told, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=None, told="")

        def show(what: str, done: int | None, total: int | None, more: str = "") -> None:
            progress.update(task, description=plain(what).plain, completed=done or 0, total=total, told=more)

        def answers(tally: Any) -> None:
            warn(tally)
            show(f"answering, {tally.arm}", tally.done, tally.total, _answers_told(tally))

        def scores(tally: Any) -> None:
            left = _time_left(tally.done, tally.total, tally.seconds, tally.kept)
            more = f"{tally.done:,} of {tally.total:,} readings{left}, {tally.unscored:,} unscored"
            show(f"scoring with {tally.instrument}", tally.done, tally.total, more)

        yield Watchers(
            stage=lambda what, done: show(what, None, None, "" if done is None else f"{done:,} rows"),
            part=lambda what, done, total: show(what, done, total, f"{done:,} of {total:,}"),
            answers=answers,
            scores=scores,
        )


def _answers_told(tally: Any) -> str:
    speed = f", {tally.tokens / tally.seconds:,.0f} tokens/s" if tally.tokens and tally.seconds else ""
    left = _time_left(tally.done, tally.total, tally.seconds, tally.kept)
    failed = f", {tally.errors:,} failed" if tally.errors else ""
    return f"{tally.done:,} of {tally.total:,}{speed}{left}, {tally.cut_share:.0%} cut{failed}"


def _time_left(done: int, total: int, seconds: float, kept: int) -> str:
    fresh = done - kept
    if fresh <= 0 or not seconds:
        return ""
    left = int(seconds * (total - done) / fresh)
    return f", {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"


def show_answers(summary: dict[str, Any], folder: Path) -> None:
    console = terminal()
    table = table_of("arm", "answers", "cut by the budget", "failed", "tokens each (median)")
    for row in summary["arms"]:
        table.add_row(
            plain(row["arm"]), str(row["n"]), f"{row['cut']} ({row['cut'] / max(row['n'], 1):.0%})", str(row["failed"]),
            "" if row["tokens"] is None else f"{row['tokens']:g}",
        )  # fmt: skip
    console.print(table)
    for name in dict.fromkeys(f"{row['model']} {row['revision'] or ''}".strip() for row in summary["arms"]):
        console.print(plain(f"answered by {name}"))
    for note in summary["notes"]:
        console.print(plain(note))
    console.print(
        plain(f"\nAnswers: {folder / 'responses.jsonl'}\nScore them with: counterclaim score {folder} --with NAME")
    )


def show_scores(summary: dict[str, Any]) -> None:
    """Means by axis; arm and tag only where there are several, instruments below."""
    console = terminal()
    rows = summary["scores"]
    told = [key for key in ("arm", "tag") if len({row[key] for row in rows}) > 1]
    table = table_of(
        "axis", *({"arm": "arm", "tag": "prompts"}[key] for key in told), "mean", "95 % interval", "n", "unscored"
    )
    for row in rows:
        estimate, interval, n, _ = _cells(row["mean"])
        where = (plain(row[key] or "all") for key in told)
        table.add_row(plain(row["axis"]), *where, estimate, interval, n, str(row["unscored"]))
    console.print(table)
    for name in dict.fromkeys(row["instrument"] for row in rows):
        axes = dict.fromkeys(row["axis"].partition("=")[0] for row in rows if row["instrument"] == name)
        console.print(plain(f"{name}: {', '.join(axes)}"))
    for note in summary["notes"]:
        console.print(plain(note))


def show_report(report: Any) -> None:
    """What a judge showed on its cards."""
    console = terminal()
    table = table_of("instrument", "cards", "right", "n", "95 % interval")
    for tally in report.tallies:
        interval = f"[{tally.share.low:.2f}, {tally.share.high:.2f}]"
        table.add_row(plain(tally.instrument), tally.kind, str(tally.right), str(tally.n), interval)
    console.print(table)
    for sentence in report.sentences:
        console.print(plain(sentence))


def show_outline(told: dict[str, Any]) -> None:
    """What a study would do, as ``run --dry-run`` prints it."""
    console = terminal()
    claim = told["claim"]
    console.print(plain(
        f"{told['study']}: is it true that {claim['metric']} {_VERBS[claim['direction']]} by at least {claim['margin']:g}?"
    ))  # fmt: skip
    table = table_of("arm", "model", "what is done")
    treated: dict[str, Any] = next((arm for arm in told["arms"] if arm["arm"] == "treated"), {})
    for arm in told["arms"]:
        alike = arm is not treated and arm.get("change") is not None and arm["change"] == treated.get("change")
        done = f"as treated, at dose {arm['dose'] * arm['model'].get('dose', 1):g}" if alike else _done_to(arm)
        table.add_row(plain(arm["arm"]), plain(arm["model"]["name"]), plain(done))
    console.print(table)
    turns = ", ".join(told["follow_ups"])
    console.print(plain(
        f"{told['prompts']:,} prompts, {told['answers']:,} answers"
        f"{f' and as many more for each scripted turn ({turns})' if turns else ''}; scored by {', '.join(name.partition('@')[0] for name in told['instruments'])}."
    ))  # fmt: skip
    if "pipeline" in treated:
        pipeline = treated["pipeline"]
        teachers = ", ".join(f"{stage['stage']} ({stage['model'].rpartition('#')[2]})" for stage in pipeline["stages"])
        console.print(plain(f"The pipeline asks {teachers}; {pipeline['calls_at_most']:,} calls at most."))
    for note in [*told["notes"], *treated.get("pipeline", {}).get("notes", ())]:
        console.print(plain(f"note: {note}"))
    console.print("Nothing was loaded and nothing was written.")


_COLOURS = {"pass": "green", "fail": "red", "warn": "yellow"}


def show_steps(probing: dict[str, Any]) -> None:
    """The five steps, every number beside its bar, and why the probe fails where it fails."""
    from rich.text import Text

    from counterclaim.report.probed import steps_of

    console, steps = terminal(), steps_of(probing)
    table = table_of("number", "interval", "bar", "", "step")  # the names last: they alone wrap
    for step in steps:
        table.add_row("", "", "", Text(step.glyph, style=_COLOURS[step.style]), Text(step.title, style="bold"))
        for name, *numbers, came in step.tests:
            table.add_row(*map(plain, numbers), plain(came[:1]), plain(f"  {name}"))
    console.print(table)
    console.print()
    for step in steps:
        console.print(plain(f"{step.title}: {step.because + ' ' if step.is_told else ''}{step.power}"))
    console.print()
    if probing["taxonomy"]:
        console.print("Why the probe does not pass on fresh prompts:")
    for mode in probing["taxonomy"]:
        console.print(plain(f"  • {mode['mode']}: {mode['because']}"))
    console.print()


_VERBS = {"increase": "increases", "decrease": "decreases"}


def _done_to(arm: dict[str, Any]) -> str:
    """An arm's treatment in a phrase."""
    from counterclaim.spec import change_told

    told = []
    if "change" in arm:
        told.append(change_told(arm["change"]))
        told += [f"dose {arm['dose']:g}"] if arm["dose"] != 1 else []
        told += [f"{arm['examples']:,} examples"] if "examples" in arm else []
        told += [f"{arm['training_prompts']:,} training prompts"] if "training_prompts" in arm else []
        told += [f"{arm['own_answers']:,} answers of its own to learn from"] if "own_answers" in arm else []
    told += [f"adapter {arm['model']['adapter']}"] if "adapter" in arm["model"] else []
    told += [f"dose {arm['model']['dose']:g}"] if "dose" in arm["model"] else []
    told += [f"system prompt {arm['decode']['system_prompt']!r}"] if arm["decode"].get("system_prompt") else []
    return "; ".join(told) or "as it is"
