"""TOML tables as dataclasses: reading a file, validating it against them; every error names the key and the line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

from counterclaim.config.written import Written
from counterclaim.errors import InputError

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def table(kind: Any = None, *, kw_only: bool = True) -> Any:
    """A frozen dataclass that stands for a TOML table: unknown keys, NaN and infinities are refused by ``validated``.

    Bounds are written with ``Annotated`` and the constraints of ``annotated_types`` (``Gt``, ``Ge``, ``MinLen`` …), conversions
    with ``Before``, ``After`` and ``Beside``. Rules between keys stand in ``__post_init__``, which raises ``TableError``.
    """
    if kind is None:
        return partial(table, kw_only=kw_only)
    kind.__pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}
    return dataclass(frozen=True, kw_only=kw_only)(kind)


class TableError(InputError, ValueError):
    """A table contradicts itself, or names what there is not; ``validated`` adds the file and the line.

    Attributes:
        key: where, from the table that raises it.
    """

    def __init__(self, problem: str, *, key: tuple[int | str, ...] = (), remedy: str = "fix that key") -> None:
        super().__init__(problem, remedy=remedy)
        self.key = key

    def __reduce__(self) -> Any:
        """Sent from another process it is an ``InputError``: what it adds is for ``validated``."""
        return partial(InputError, remedy=self.remedy), (self.problem,)


@dataclass(frozen=True)
class Before:
    """An annotation: the value is put through a function before it is validated."""

    function: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core.core_schema import no_info_before_validator_function

        return no_info_before_validator_function(self.function, handler(source))


@dataclass(frozen=True)
class After:
    """An annotation: the value is put through a function once it is validated."""

    function: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core.core_schema import no_info_after_validator_function

        return no_info_after_validator_function(self.function, handler(source))


class Beside:
    """An annotation: a path, found from the folder of the file that names it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core.core_schema import with_info_after_validator_function

        return with_info_after_validator_function(_beside, handler(source))


def _beside(path: Path, info: Any) -> Path:
    return Path(info.context or "") / path.expanduser()


def read_toml(path: Path, what: str, where_from: str) -> tuple[dict[str, Any], str]:
    """A TOML file, whose floating-point numbers are ``Written``, and its text.

    Args:
        path: the file.
        what: what it is called in errors, for example "study file".
        where_from: the remedy where it is missing.

    Raises:
        InputError: it is missing, or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"there is no such {what}", path=path, remedy=where_from) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the {what} cannot be read ({error})", path=path, remedy="save it as UTF-8 text") from error
    try:
        return tomllib.loads(text, parse_float=Written), text
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not valid TOML: {error}", path=path, remedy="fix that line") from error


def validated(schema: type[T], data: dict[str, Any], text: str, path: Path, keys_are_in: str) -> T:
    """The tables of a file as ``schema``, a class made with ``table`` (or a pydantic model).

    Args:
        schema: what the file may say.
        data: what it says, as ``read_toml`` gives it.
        text: the file's text, in which the line of an error is found.
        path: the file.
        keys_are_in: the remedy for a key that does not exist: where all keys are listed.

    Raises:
        InputError: a key is unknown, missing or malformed (names key and line).
    """
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(schema)
    try:
        return adapter.validate_python(data, context=path.parent)
    except ValidationError as error:
        # a key that does not exist is most often the misspelt form of one that is missing
        first = min(error.errors(), key=lambda item: item["type"] not in _UNKNOWN)
        broken = first.get("ctx", {}).get("error")
        loc = (*first["loc"], *broken.key) if isinstance(broken, TableError) else tuple(first["loc"])
        key = ".".join(str(part) for part in loc)
        if first["type"] in _UNKNOWN:
            problem, remedy = "there is no such key", f"{_near(adapter.json_schema(), loc)}{keys_are_in}"
        elif first["type"] == "missing":
            problem, remedy = "is missing", "add that key"
        elif isinstance(broken, TableError):
            problem, remedy = broken.problem, broken.remedy or ""
        else:
            problem = f"{first['msg'][0].lower()}{first['msg'][1:]}".removeprefix("value error, ")
            remedy = "fix that key"
        where = f"{key}: {problem}" if key else problem
        raise InputError(where, path=path, line=line_of(loc, text), remedy=remedy) from error


_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def _near(schema: dict[str, Any], loc: tuple[int | str, ...]) -> str:
    """The key that an unknown one looks like, as the beginning of a remedy; "" where it looks like none."""
    tables = [schema, *schema.get("$defs", {}).values()]
    keys = {name for table in tables for name in table.get("properties", {})} - {loc[-1]}
    near = get_close_matches(str(loc[-1]), sorted(keys), 1, cutoff=0.65)
    return f"did you mean {near[0]}? Otherwise " if near else ""


_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?")
_PART = re.compile(r"\"[^\"]*\"|'[^']*'|[^.]+")
_KEY = re.compile(r"\s*([A-Za-z0-9_\-\"']+)\s*=")


def line_of(loc: tuple[int | str, ...], text: str) -> int | None:
    """The 1-based line of a key such as ("guards", 0, "allowed_loss"), or of the nearest table around it."""
    table: tuple[int | str, ...] = ()
    counts: dict[str, int] = {}
    best: tuple[int, int | None] = (0, None)
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#"):
            continue
        if header := _HEADER.match(line):
            name = header[2]
            table = tuple(part.strip().strip("\"'") for part in _PART.findall(name))
            if header[1] == "[[":
                table = (*table, counts.get(name, 0))
                counts[name] = counts.get(name, 0) + 1
            here: tuple[int | str, ...] = table
        elif key := _KEY.match(line):
            here = (*table, key[1].strip("\"'"))
        else:
            continue
        depth = next((i for i, (a, b) in enumerate(zip(here, loc, strict=False)) if a != b), min(len(here), len(loc)))
        if depth == len(here) and depth > best[0]:
            best = (depth, number)
    return best[1]
