"""Write docs/cli.md from the commands, docs/checks.md from the checks, and the tables of docs/scorers.md and of the pages on files.

python scripts/generate_docs.py
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo

from counterclaim.cli.application import VERBS, app, import_verb
from counterclaim.lab.config.pipeline import PipelineFile
from counterclaim.lab.config.study import StudyFile
from counterclaim.lab.config.suite import SeriesFile
from counterclaim.lab.scorers import dispositions
from counterclaim.registry import Range, Scorer, checks, scorers

FOLDER = Path(__file__).resolve().parent.parent / "docs"
BEGIN = "<!-- Written by scripts/generate_docs.py down to the next comment; edit the source instead. -->\n"
END = "<!-- Written by hand from here on. -->\n"
MADE = "<!-- Written by scripts/generate_docs.py; edit the source instead. -->\n"
GROUPS = {
    "ruler": ("Ruler: is the measurement valid?", "A failure makes the verdict INVALID."),
    "effect": ("Effect: is there one?", "What stands against the claim makes it REFUTED or INCONCLUSIVE."),
    "cost": ("Cost: what did it break?", "A failure makes the verdict REFUTED."),
    "transfer": ("Transfer: does it hold elsewhere?", "A failure makes the verdict REFUTED."),
}


MEASURES = {
    "form": ("Form: what an answer sounds like", "Wording and layout. A model can change these and nothing else."),
    "function": (
        "Function: what an answer does",
        "Whether it is right, complete, fitting, or holds when it is doubted.",
    ),
}
MOST_AXES = 6
"""Of a scorer that reads more axes than this, the table says only their names."""

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
        if bool in (kind, *get_args(kind)):
            both = [name for spelling in names for name in spelling.split("/")]
            default = both[0] if len(both) > 1 and parameter.default is True else None
            takes = ""
        else:
            both, default = names, None if parameter.default is inspect.Parameter.empty else parameter.default
            takes = f" {info.metavar or _takes(kind)}"
        if parameter.default is inspect.Parameter.empty:
            help_text += " Required."
        elif default is not None:
            help_text += f" Default: `{default}`."
        yield f"`{'`, `'.join(both)}{takes}`", _cell(help_text)


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
    yield "Every command takes `--plugins FILE`, repeatable: a Python file with checks, scorers or other plug-ins of your own."
    for name in VERBS:
        import_verb(name)
    commands = {
        command.name or command.callback.__name__: command for command in app.registered_commands if command.callback
    }
    panel = ""
    for name, verb in VERBS.items():
        command = commands[name]
        assert command.callback is not None
        if verb.panel != panel:
            panel = verb.panel
            yield f"\n## {panel}"
        yield f"\n### counterclaim {name}\n"
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


def scorers_page() -> str:
    """docs/scorers.md: its words as they are, its tables made anew."""
    before, begin, rest = (FOLDER / "scorers.md").read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("docs/scorers.md lacks the two comments between which its tables stand")
    return before + begin + "\n" + "\n".join(_scorer_lines()) + "\n" + end + after


def _scorer_lines() -> Iterator[str]:
    yield "## The seven dispositions\n"
    yield "| disposition | form | function |"
    yield "| --- | --- | --- |"
    for disposition, by in dispositions().items():
        yield f"| {disposition} | {_names(by['form'])} | {_names(by['function'])} |"
    registered = sorted(scorers().values(), key=lambda made: made.name)
    for measures, (title, meaning) in MEASURES.items():
        yield f"\n## {title}\n\n{meaning}\n"
        yield "| scorer | what it reads | axes | needs | cards |"
        yield "| --- | --- | --- | --- | ---: |"
        for made in registered:
            if made.measures == measures:
                needs = ", ".join(sorted(made.needs)) or "nothing"
                about = made.about.rstrip(".")
                about = about[0].lower() + about[1:]
                yield f"| `{made.name}` | {_cell(about)} | {_axes(made)} | {needs} | {len(made.cards)} |"
    yield ""


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _axes(made: Scorer) -> str:
    """Each axis with its labels or the range of its numbers; the names alone where there are many."""
    if len(made.axes) > MOST_AXES:
        return ", ".join(f"`{axis}`" for axis in made.axes)
    return ", ".join(f"`{axis}`: {_values(allowed)}" for axis, allowed in made.axes.items())


def _values(allowed: tuple[str, ...] | Range) -> str:
    if not isinstance(allowed, Range):
        return " / ".join(allowed)
    if allowed.high is None:
        return "a number" if allowed.low is None else f"from {allowed.low:g}"
    return f"up to {allowed.high:g}" if allowed.low is None else f"{allowed.low:g} to {allowed.high:g}"


FILES: Mapping[str, type] = {"study.md": StudyFile, "teach.md": PipelineFile, "series.md": SeriesFile}
"""Pages on TOML files, and the dataclass of the whole file."""

_KEYS = re.compile(r"<!-- keys of (\S+) -->\n.*?<!-- end of keys -->\n", re.DOTALL)


def file_page(name: str) -> str:
    """A page on a TOML file: its words as they are, its tables of keys made anew.

    A table stands between ``<!-- keys of PREFIX -->`` and ``<!-- end of keys -->``; the prefix of the file's own keys is ``.``.
    Tables without a place of their own are listed with the table that they are in.
    """
    page, tables = (FOLDER / name).read_text(encoding="utf-8"), dict(_tables(FILES[name], ""))
    places = [found[1] for found in _KEYS.finditer(page)]
    if missing := set(places) - {".", *tables}:
        raise ValueError(f"docs/{name} has a place for keys of {sorted(missing)}, and there are no such tables")
    first = {tables.get(place, FILES[name]): place for place in reversed(places)}

    def keys(found: re.Match[str]) -> str:
        place = found[1]
        rows = _key_rows(tables.get(place, FILES[name]), "" if place == "." else f"{place}.", places, first)
        lines = "\n".join(["| key | default | what it says |", "| --- | --- | --- |", *rows])
        return f"<!-- keys of {place} -->\n{lines}\n<!-- end of keys -->\n"

    return _KEYS.sub(keys, page)


def _tables(kind: type, prefix: str) -> Iterator[tuple[str, type]]:
    """Every table within one, by its key."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        inner, mark = _table_in(hint)
        if inner is not None:
            yield f"{prefix}{name}{mark}", inner
            yield from _tables(inner, f"{prefix}{name}{mark}.")


def _table_in(hint: Any) -> tuple[type | None, str]:
    """The table that a key holds, and ``[]`` where it holds several; None where it holds a value."""
    if hasattr(hint, "__pydantic_config__"):
        return hint, ""
    for inner in get_args(hint):
        found, _ = _table_in(inner)
        if found is not None:
            return found, "[]" if get_origin(hint) is tuple or _table_in(inner)[1] else ""
    return None, ""


def _key_rows(kind: type, prefix: str, places: list[str], first: dict[type, str]) -> Iterator[str]:
    """A row for each key of a table, and for each of the tables within it that stand nowhere else on the page."""
    hints, meanings = get_type_hints(kind, include_extras=True), _meanings(kind)
    for item in dataclasses.fields(kind):
        inner, mark = _table_in(hints[item.name])
        key = f"{prefix}{item.name}{mark}"
        if key in places:
            continue
        if inner is not None and inner not in first:
            first[inner] = key
            yield from _key_rows(inner, f"{key}.", places, first)
            continue
        more = "" if inner is None else f" Keys as under `{first[inner]}`."
        yield f"| `{key}` | {_default(item, inner is not None)} | {_cell(meanings[item.name] + more)} |"


def _meanings(kind: type) -> dict[str, str]:
    """What each attribute is, as the docstrings of a class and of those that it extends say it; as sentences."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        text = inspect.cleandoc(each.__doc__ or "").partition("Attributes:\n")[2]
        for name, words in re.findall(r"^    (\w+): (.*(?:\n     .*)*)", text, re.MULTILINE):
            sentence = words[0].upper() + words[1:]
            found[name] = sentence if sentence.endswith(".") else f"{sentence}."
    return found


def _default(item: dataclasses.Field[Any], is_table: bool) -> str:
    if item.default is item.default_factory is dataclasses.MISSING:
        return "required"
    value = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
    if value is None or is_table:
        return "—"
    return f"`{json.dumps(list(value) if isinstance(value, frozenset) else value)}`"


def make() -> dict[str, str]:
    """File name to content."""
    pages = {"cli.md": cli_page(), "checks.md": checks_page(), "scorers.md": scorers_page()}
    return pages | {name: file_page(name) for name in FILES}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in make().items():
        (FOLDER / name).write_text(text, encoding="utf-8", newline="\n")
