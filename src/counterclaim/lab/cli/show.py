"""What a terminal is shown of models at work: progress, answers, scores, a judge, a study's outline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from counterclaim.cli.show import cells_of, plain, table_of, terminal

_LOG_EVERY = 60.0
"""Seconds between lines in a log."""


def _logging_watchers(console: Any, warn: Callable[[Any], None]) -> Any:
    """Progress for logs that nobody watches live: what is being done and how far it is, once a minute."""
    from counterclaim.lab.answers import Progress

    last = time.monotonic()

    def say(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_EVERY:
            last = time.monotonic()
            console.print(plain(line))

    def answers(tally: Any) -> None:
        warn(tally)
        say(f"answering, {tally.arm}: {_progress_of(tally)}")

    return Progress(
        stage=lambda what, done: say(what),
        part=lambda what, done, total: say(f"{what}: {done:,} of {total:,}"),
        answers=answers,
        scores=lambda tally: say(f"scoring with {tally.scorer}: {tally.done:,} of {tally.total:,} readings"),
    )


@contextmanager
def watching(*, quiet: bool) -> Iterator[Any]:
    """How far a study of one's own on standard error: stage, answers with speed and time left, share cut, scores.

    In pipes and logs a line is printed once a minute, and the warnings.
    """
    from counterclaim.lab.answers import Progress

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
        yield Progress()
        return
    if not console.is_terminal:
        yield _logging_watchers(console, warn)
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    name, status = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[status]}", markup=False)
    with Bars(name, BarColumn(bar_width=20), status, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=None, status="")

        def show(what: str, done: int | None, total: int | None, more: str = "") -> None:
            progress.update(task, description=plain(what).plain, completed=done or 0, total=total, status=more)

        def answers(tally: Any) -> None:
            warn(tally)
            show(f"answering, {tally.arm}", tally.done, tally.total, _progress_of(tally))

        def scores(tally: Any) -> None:
            left = _time_left(tally.done, tally.total, tally.seconds, tally.kept)
            more = f"{tally.done:,} of {tally.total:,} readings{left}, {tally.unscored:,} unscored"
            show(f"scoring with {tally.scorer}", tally.done, tally.total, more)

        yield Progress(
            stage=lambda what, done: show(what, None, None, "" if done is None else f"{done:,} rows"),
            part=lambda what, done, total: show(what, done, total, f"{done:,} of {total:,}"),
            answers=answers,
            scores=scores,
        )


@contextmanager
def part_watch(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """``watching`` as a function of what is being done, how much of it is done, and of how much (0: unknown)."""
    with watching(quiet=quiet) as watchers:
        yield lambda doing, done, total: watchers.part(doing, done, total) if total else watchers.stage(doing, None)


def _progress_of(tally: Any) -> str:
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
    """Means by axis; arm and tag only where there are several, scorers below."""
    console = terminal()
    rows = summary["scores"]
    keys = [key for key in ("arm", "tag") if len({row[key] for row in rows}) > 1]
    table = table_of(
        "axis", *({"arm": "arm", "tag": "prompts"}[key] for key in keys), "mean", "95 % interval", "n", "unscored"
    )
    for row in rows:
        estimate, interval, n, _ = cells_of(row["mean"])
        where = (plain(row[key] or "all") for key in keys)
        table.add_row(plain(row["axis"]), *where, estimate, interval, n, str(row["unscored"]))
    console.print(table)
    for name in dict.fromkeys(row["scorer"] for row in rows):
        axes = dict.fromkeys(row["axis"].partition("=")[0] for row in rows if row["scorer"] == name)
        console.print(plain(f"{name}: {', '.join(axes)}"))
    for note in summary["notes"]:
        console.print(plain(note))


def show_report(report: Any) -> None:
    """What a judge showed on its cards."""
    console = terminal()
    table = table_of("scorer", "cards", "right", "n", "95 % interval")
    for tally in report.tallies:
        interval = f"[{tally.share.low:.2f}, {tally.share.high:.2f}]"
        table.add_row(plain(tally.scorer), tally.kind, str(tally.right), str(tally.n), interval)
    console.print(table)
    for sentence in report.sentences:
        console.print(plain(sentence))


def show_outline(outline: dict[str, Any]) -> None:
    """What a study would do, as ``run --dry-run`` prints it."""
    console = terminal()
    claim = outline["claim"]
    console.print(plain(
        f"{outline['study']}: is it true that {claim['metric']} {_VERBS[claim['direction']]} by at least {claim['margin']:g}?"
    ))  # fmt: skip
    table = table_of("arm", "model", "what is done")
    treated: dict[str, Any] = next((arm for arm in outline["arms"] if arm["arm"] == "treated"), {})
    for arm in outline["arms"]:
        alike = arm is not treated and arm.get("change") is not None and arm["change"] == treated.get("change")
        done = f"as treated, at dose {arm['dose'] * arm['model'].get('dose', 1):g}" if alike else _done_to(arm)
        table.add_row(plain(arm["arm"]), plain(arm["model"]["name"]), plain(done))
    console.print(table)
    turns = ", ".join(outline["follow_ups"])
    console.print(plain(
        f"{outline['prompts']:,} prompts, {outline['answers']:,} answers"
        f"{f' and as many more for each scripted turn ({turns})' if turns else ''}; scored by {', '.join(name.partition('@')[0] for name in outline['scorers'])}."
    ))  # fmt: skip
    if "pipeline" in treated:
        pipeline = treated["pipeline"]
        teachers = ", ".join(f"{stage['stage']} ({stage['model'].rpartition('#')[2]})" for stage in pipeline["stages"])
        console.print(plain(f"The pipeline asks {teachers}; {pipeline['calls_at_most']:,} calls at most."))
    for note in [*outline["notes"], *treated.get("pipeline", {}).get("notes", ())]:
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
    from counterclaim.report.changes import describe_change

    lines = []
    if "change" in arm:
        lines.append(describe_change(arm["change"]))
        lines += [f"dose {arm['dose']:g}"] if arm["dose"] != 1 else []
        lines += [f"{arm['examples']:,} examples"] if "examples" in arm else []
        lines += [f"{arm['training_prompts']:,} training prompts"] if "training_prompts" in arm else []
        lines += [f"{arm['own_answers']:,} answers of its own to learn from"] if "own_answers" in arm else []
    lines += [f"adapter {arm['model']['adapter']}"] if "adapter" in arm["model"] else []
    lines += [f"dose {arm['model']['dose']:g}"] if "dose" in arm["model"] else []
    lines += [f"system prompt {arm['decode']['system_prompt']!r}"] if arm["decode"].get("system_prompt") else []
    return "; ".join(lines) or "as it is"
