"""Mutate the bytes of a file of every format and see that nothing but InputError leaves the importers.

Run by hand for longer: ``python tests/fuzz_importers.py 2000 7`` (rounds per format, seed).
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from fixtures.make import MAKERS

from counterclaim.errors import InputError
from counterclaim.importers import Limits, load

_SNIPPETS = (b"NaN", b"null", b"-1", b"1e999", b'"', b"{", b"]", b"\xff", b"\x00", b"\\ud800", b"[[[[", b"true", b"\n", b",",
             b"9" * 5000, b'{"a":' * 3000)  # fmt: skip
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


def fuzz(folder: Path, rounds: int, seed: int) -> dict[str, tuple[int, int]]:
    """(loaded, refused) per format over ``rounds`` mutations each; any other exception propagates."""
    outcome = {}
    for name, make in MAKERS.items():
        rng = random.Random(f"{seed}/{name}")
        path = make(folder / name.replace("/", "-"))
        original = path.read_bytes()
        loaded = refused = 0
        for _ in range(rounds):
            path.write_bytes(mutated(original, rng))
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
