"""Kept replies: nothing collapses, nothing is lost, and a damaged file says so."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterclaim.errors import InputError
from counterclaim.folder import Replies, reply_key


@pytest.fixture
def kept(tmp_path: Path) -> Any:
    replies = Replies(tmp_path / "deep" / "replies.sqlite")
    yield replies
    replies.close()


def test_a_reply_comes_back_as_it_was(kept: Replies) -> None:
    reply = {"text": "naïve \ud800 \x00 answer", "n": [1, 2.5, None]}
    assert kept.get("a") is None
    kept.put("a", reply)
    assert kept.get("a") == reply
    kept.put("a", {"text": "another"})
    assert kept.get("a") == {"text": "another"}


def test_the_users_own_cache_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERCLAIM_CACHE", str(tmp_path / "mine"))
    replies = Replies()
    replies.close()
    assert (tmp_path / "mine" / "replies.sqlite").is_file()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
questions = st.dictionaries(st.text(max_size=4), json_values, max_size=4)


@given(questions, questions)
def test_two_questions_share_a_key_exactly_when_they_are_equal_as_json(a: dict[str, Any], b: dict[str, Any]) -> None:
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (reply_key(a) == reply_key(b)) == same
    assert reply_key(dict(reversed(a.items()))) == reply_key(a)


def test_threads_share_one_file(kept: Replies) -> None:
    def work(i: int) -> object:
        kept.put(f"k{i}", i)
        return kept.get(f"k{i}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(200))) == list(range(200))


WRITER = """
    import sys
    from pathlib import Path
    from counterclaim.folder import Replies
    replies = Replies(Path(sys.argv[1]))
    for i in range(int(sys.argv[3])):
        replies.put(f"{sys.argv[2]}-{i}", {"text": "x" * 200, "i": i})
        print(i, flush=True)
"""


def writer(path: Path, name: str, n: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path), name, str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_share_one_file_from_its_first_moment(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    running = [writer(path, str(name), 60) for name in range(4)]
    for process in running:
        process.communicate(timeout=60)
        assert process.returncode == 0
    replies = Replies(path)
    assert all(replies.get(f"{name}-{i}") == {"text": "x" * 200, "i": i} for name in range(4) for i in range(60))
    replies.close()


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_what_was_put_is_there_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    process = writer(path, "w", 100_000)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    replies = Replies(path)
    assert len(said) == 50
    assert all(replies.get(f"w-{i}") is not None for i in range(50))
    replies.put("more", 1)
    replies.close()


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "replies.sqlite"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"replies\.sqlite: .*delete it"):
        Replies(path)


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "photos.sqlite"
    theirs = sqlite3.connect(path)
    theirs.execute("CREATE TABLE photos (name TEXT)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="something else"):
        Replies(path)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be read or written"):
        Replies(tmp_path / "file" / "replies.sqlite")
    with pytest.raises(InputError, match="cannot be read or written"):
        Replies(tmp_path)


def test_a_damaged_file_never_returns_another_reply(tmp_path: Path) -> None:
    whole = tmp_path / "whole.sqlite"
    replies = Replies(whole)
    for i in range(40):
        replies.put(f"k{i}", {"text": f"answer {i} " * 30})
    replies.close()
    content = whole.read_bytes()
    chance = random.Random(3)
    noticed = 0
    for trial in range(60):
        damaged = bytearray(content if trial % 3 else content[: chance.randrange(100, len(content))])
        for _ in range(40):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path = tmp_path / f"{trial}.sqlite"
        path.write_bytes(damaged)
        try:
            replies = Replies(path)
        except InputError:
            noticed += 1
            continue
        for i in range(40):
            try:
                assert replies.get(f"k{i}") in (None, {"text": f"answer {i} " * 30})
            except InputError:
                noticed += 1
        replies.close()
    assert noticed > 60
