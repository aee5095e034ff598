"""Mutate the bytes of a file of every format and see that nothing but InputError leaves the importers.

Run by hand for longer: ``python tests/fuzz_importers.py 2000 7`` (rounds per format, seed).
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from counterclaim.errors import InputError
from counterclaim.importers import Limits, load
from fixtures.make import MAKERS, inspect_entries, zip_bytes

_SNIPPETS = (b"NaN", b"null", b"-1", b"1e999", b'"', b"{", b"]", b"\xff", b"\x00", b"\\ud800", b"[[[[", b"true", b"\n", b",",
             b"9" * 5000, b'{"a":' * 3000)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, float("nan"), float("inf"), 10**400, "", "text", "NaN", "\ud800", [], {}, [None], [[]],
    [{}], {"a": {}}, {"error": "why"}, {"error": 3}, [{"role": "user", "content": None}], "attachment://h1", ["a", 1, None],
)  # fmt: skip
_SMALL = Limits(max_total_bytes=1 << 24, max_entry_bytes=1 << 22, max_line_bytes=1 << 20, max_rows=10_000)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A copy with one to four edits: flipped bytes, cuts, doubled or swapped pieces, snippets that parsers dislike."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        action = rng.randrange(6)
        if action == 0 and out:
            out[min(at, len(out) - 1)] = rng.randrange(256)
        elif action == 1:
            del out[at : at + rng.randint(1, 40)]
        elif action == 2:
            out[at:at] = rng.choice(_SNIPPETS)
        elif action == 3:
            out[at:at] = out[max(0, at - rng.randint(1, 200)) : at]
        elif action == 4:
            del out[at:]
        else:
            out[at : at + rng.randint(1, 8)] = rng.choice(_SNIPPETS)
    return bytes(out)


def twisted(value: Any, rng: random.Random) -> Any:
    """A copy of a JSON value in which one to three nodes are replaced, dropped or renamed."""
    root = {"": json.loads(json.dumps(value))}
    for _ in range(rng.randint(1, 3)):
        holder: Any = root
        while True:
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            key = rng.choice(list(keys))
            inner = holder[key]
            if not isinstance(inner, dict | list) or not inner or rng.random() < 0.15:
                break
            holder = inner
        if isinstance(holder, dict) and holder is not root and rng.random() < 0.3:
            del holder[key]
            if not holder:
                holder["x"] = None
        else:
            holder[key] = json.loads(json.dumps(rng.choice(_VALUES)))
    return root[""]


def restructured(path: Path, data: bytes, rng: random.Random) -> bytes | None:
    """The file with valid JSON but other values in it; None for a format that is not JSON inside."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in data.splitlines()]
        at = rng.randrange(len(rows))
        rows[at] = twisted(rows[at], rng)
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".json":
        return json.dumps(twisted(json.loads(data), rng), indent=1).encode()
    if path.suffix == ".eval":
        entries = inspect_entries()
        name = rng.choice(list(entries))
        entries[name] = json.dumps(twisted(json.loads(entries[name]), rng)).encode()
        return zip_bytes(entries)
    return None


def fuzz(folder: Path, rounds: int, seed: int) -> dict[str, tuple[int, int]]:
    """(loaded, refused) per format over ``rounds`` mutations each; any other exception propagates."""
    outcome = {}
    for name, make in MAKERS.items():
        rng = random.Random(f"{seed}/{name}")
        path = make(folder / name.replace("/", "-"))
        original = path.read_bytes()
        loaded = refused = 0
        for _ in range(rounds):
            other = restructured(path, original, rng) if rng.random() < 0.6 else None
            path.write_bytes(mutated(original, rng) if other is None else other)
            # Half of the time the format is given, so that detection cannot steer the file to the plain table.
            format = name.split("/")[0] if rng.random() < 0.5 else None
            try:
                load(path, arm="control", format=format, limits=_SMALL, need_pairs=rng.random() < 0.7)
                loaded += 1
            except InputError:
                refused += 1
        outcome[name] = (loaded, refused)
    return outcome


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as here:
        for name, (loaded, refused) in fuzz(Path(here), int(sys.argv[1]), int(sys.argv[2])).items():
            print(f"{name:20} loaded {loaded:5}  refused {refused:5}")
