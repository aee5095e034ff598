"""Write docs/cli.md from the commands themselves and docs/checks.md from the registered checks.

python scripts/generate_docs.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.models import ArgumentInfo

import counterclaim.checks  # noqa: F401  importing it registers the built-in checks
from counterclaim.cli import app
from counterclaim.registry import checks

FOLDER = Path(__file__).resolve().parent.parent / "docs"
MADE = "<!-- Written by scripts/generate_docs.py; edit the source instead. -->\n"
GROUPS = {
    "ruler": ("Ruler: is the measurement straight?", "A failure makes the verdict INVALID."),
    "effect": ("Effect: did anything move?", "What stands against the claim makes it REFUTED or INCONCLUSIVE."),
    "cost": ("Cost: what did it break?", "A failure makes the verdict REFUTED."),
    "transfer": ("Transfer: does it hold elsewhere?", "A failure makes the verdict REFUTED."),
}


TAKES = {str: "TEXT", float: "NUMBER", int: "N", Path: "PATH"}


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def _parameters(command: Callable[..., None]) -> Iterator[tuple[str, str]]:
    """(how it is written, what it is for), one for each argument and option."""
    hints = get_type_hints(command, include_extras=True)
    for parameter in inspect.signature(command).parameters.values():
        kind, info = get_args(hints[parameter.name])
        help_text = info.help or ""
        if isinstance(info, ArgumentInfo):
            yield f"`{parameter.name.upper()}`", _cell(help_text)
            continue
        # inside Annotated, typer keeps the first spelling of an option where its default would otherwise stand
        spelled = [name for name in (info.default, *(info.param_decls or ())) if isinstance(name, str)]
        names = spelled or [f"--{parameter.name.replace('_', '-')}"]
        takes = "" if kind is bool else f" {info.metavar or _takes(kind)}"
        if parameter.default not in (None, False):
            help_text += f" Default: `{parameter.default}`."
        yield f"`{'`, `'.join(names)}{takes}`", _cell(help_text)


def _takes(kind: Any) -> str:
    """TEXT for str, list[str] and str | None alike."""
    found = [
        TAKES[inner]
        for inner in (kind, *get_args(kind), *(a for b in get_args(kind) for a in get_args(b)))
        if inner in TAKES
    ]
    return found[0]


def _usage(command: Callable[..., None]) -> str:
    hints = get_type_hints(command, include_extras=True)
    words = []
    for parameter in inspect.signature(command).parameters.values():
        if isinstance(get_args(hints[parameter.name])[1], ArgumentInfo):
            name = parameter.name.upper()
            words.append(name if parameter.default is inspect.Parameter.empty else f"[{name}]")
    return " ".join([*words, "[OPTIONS]"])


def cli_page() -> str:
    """docs/cli.md."""
    return MADE + "\n# The command line\n\n" + "\n".join(_cli_lines()) + "\n"


def _cli_lines() -> Iterator[str]:
    yield str(app.info.help)
    yield ""
    yield "Commands that end in a verdict exit with 0 SUPPORTED, 1 REFUTED, 2 bad input or usage, 3 INCONCLUSIVE, 4 INVALID."
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        yield f"\n## counterclaim {name}\n"
        yield f"`counterclaim {name} {_usage(command.callback)}`\n"
        yield inspect.cleandoc(command.callback.__doc__ or "")
        yield ""
        yield "| option | what it does |"
        yield "| --- | --- |"
        for written, purpose in _parameters(command.callback):
            yield f"| {written} | {purpose} |"
        if command.epilog:
            yield f"\n{command.epilog}"


def checks_page() -> str:
    """docs/checks.md."""
    return MADE + "\n# The checks\n\n" + "\n".join(_check_lines()) + "\n"


def _check_lines() -> Iterator[str]:
    yield "Each check names planted worlds in which it must not pass and worlds in which it must. `counterclaim kit NAME`"
    yield "holds it to them; `counterclaim worlds` counts how often it fires in each."
    yield ""
    yield "Outcomes: PASS, FAIL, WARN, INCONCLUSIVE (the evidence does not settle it), NOT_RUN (the evidence is not there; the"
    yield "page says what would be needed), ERROR (the check broke; never a PASS)."
    registered = list(checks())
    for group, (title, meaning) in GROUPS.items():
        yield f"\n## {title}\n\n{meaning}"
        for check in registered:
            if check.group != group:
                continue
            yield f"\n### {check.name}\n\n{check.question}\n"
            yield inspect.cleandoc(check.run.__doc__ or "")
            yield f"\nMust not pass in {_worlds(check.must_fail)}; must pass in {_worlds(check.must_pass)}."


def _worlds(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def make() -> dict[str, str]:
    """File name to content."""
    return {"cli.md": cli_page(), "checks.md": checks_page()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in make().items():
        (FOLDER / name).write_text(text, encoding="utf-8", newline="\n")
