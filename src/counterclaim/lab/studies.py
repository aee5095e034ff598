"""Study files that come with the package: their names, and files to start from."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from counterclaim.errors import InputError
from counterclaim.folder import check_free, write_new

EXAMPLES = Path(__file__).parent / "example"


def shipped_studies() -> dict[str, tuple[Path, str]]:
    """Study files that come with the package: name to file and what it is about, which is its first line."""
    out = {}
    for file in sorted((EXAMPLES / "studies").glob("*.toml")):
        first = file.read_text(encoding="utf-8").partition("\n")[0]
        out[file.stem] = (file, first.removeprefix("#").strip())
    return out


def find_study(name: Path, others: Sequence[str] = ()) -> Path:
    """A study file: the file itself, or one that comes with the package and has that name.

    Args:
        name: file or name.
        others: names that might be meant beside those of studies.

    Raises:
        InputError: there is no such file.
    """
    known = shipped_studies()
    if name.is_file():
        return name
    if str(name) in known:
        return known[str(name)][0]
    if name.is_dir():
        raise InputError("is a folder, not a study file", path=name, remedy="name the file in it")
    meant = get_close_matches(name.stem, [*known, *others], 1)
    raise InputError(
        f"there is no such study file{f'; did you mean {meant[0]}?' if meant else ''}",
        path=name,
        remedy="counterclaim list studies names those that ship, counterclaim run --new study.toml writes one",
    )


def write_example_study(path: Path, like: str | None = None, *, overwrite: bool = False) -> list[Path]:
    """Write a commented study file to start from, and the pipeline file that it names, beside it.

    Args:
        path: where.
        like: a study that comes with the package; the smallest one when None.
        overwrite: replace what is there.

    Raises:
        InputError: there is no such study, a file exists and ``overwrite`` is not set, or cannot be written.
    """
    known = shipped_studies()
    if like is not None and like not in known:
        raise InputError(f"no study called {like} comes with the package", remedy=f"choose among {', '.join(known)}")
    source = EXAMPLES / "study.toml" if like is None else known[like][0]
    text = source.read_text(encoding="utf-8")
    wanted = {path: text}
    for arm in (tomllib.loads(text).get(name, {}) for name in ("treatment", "control")):
        data = arm.get("tune", {}).get("data")
        if isinstance(data, str) and data.endswith(".toml"):
            pipeline = source.parent / data
            wanted[path.parent / pipeline.name] = pipeline.read_text(encoding="utf-8")
            wanted[path] = text.replace(f'"{data}"', f'"{pipeline.name}"')
    for file in wanted:
        check_free(file, overwrite=overwrite)
    for file, content in wanted.items():
        write_new(file, content, overwrite=overwrite)
    return list(wanted)
