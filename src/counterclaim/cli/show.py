"""What a terminal is shown: a verdict, a profile, the table of worlds. Text of others is stripped of markup."""

from __future__ import annotations

import json
import os
import sys
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
    from counterclaim.folder import rounded

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
        table.add_row(name, *cells_of(effect[name]))
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
            plain(f"guard {guard['metric']}: {cells_of(d)[0]} {cells_of(d)[1]}, allowed loss {guard['allowed']:g}")
        )
    console.print()
    show_checks(console, verdict["checks"], shown=verdict["because"])
    if verdict["next"]:
        console.print("[bold]What to do next[/]")
        for step in verdict["next"]:
            console.print(plain(f"  • {step}"))
    if out is not None:
        console.print(plain(f"\nPage: {out / 'report.html'}"))
    else:
        console.print("Add --out run/ to keep the records and get the page.")
    raise typer.Exit(EXIT[word])


def cells_of(estimate: dict[str, Any]) -> tuple[str, str, str, str]:
    if estimate["estimate"] is None:
        return "undefined", "", str(estimate["n"]), estimate.get("reason", "")
    interval = "none" if estimate["low"] is None else f"[{estimate['low']:+.3f}, {estimate['high']:+.3f}]"
    return f"{estimate['estimate']:+.3f}", interval, str(estimate["n"]), estimate["method"]


def show_checks(
    console: Any, checks: list[dict[str, Any]], shown: str = "", needs: str = "the page says what each would need"
) -> None:
    """What failed or holds the claim up, row by row; the rest by name."""
    rows = [
        c
        for c in checks
        if c["outcome"] in ("FAIL", "ERROR", "WARN") or (c["outcome"] == "INCONCLUSIVE" and c["required"])
    ]
    table = table_of("", "check", "what it found")
    colours = {"FAIL": "red", "ERROR": "red", "WARN": "yellow", "INCONCLUSIVE": "yellow"}
    for c in rows:
        mark = f"[{colours[c['outcome']]}]{MARK[c['outcome']]} {c['outcome']}[/]"
        table.add_row(mark, c["check"], plain("as stated above" if c["because"] in shown else c["because"]))
    if rows:
        console.print(table)
    for outcome, words in (("PASS", "passed"), ("INCONCLUSIVE", "open"), ("NOT_RUN", "not run")):
        names = [c["check"] for c in checks if c["outcome"] == outcome and c not in rows]
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
        rates.add_row(name, *cells_of(result[name]))
    console.print(rates)
    console.print()
    show_checks(console, result["checks"], needs="--json says what each would need")
