"""The process that waits inside bubblewrap and forks an examiner for every job.

It never reads a job itself, so nothing of one job is in the memory of the next: the examiner that it forks builds the
walls, forks the candidate behind them, and only then takes the job from the socket. Both are forked before there is a
job, while the last one is reported, so that a job need not wait for them.

Most of what a job costs are the pages that its two processes copy when they touch them (about 3 microseconds each).
So the worker loads and tries what every job uses, and loads nothing that acts after a fork.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
from typing import Any

from counterclaim.lab.sandbox.inside import walls
from counterclaim.lab.sandbox.inside.candidate import SOLUTION, Candidate
from counterclaim.lab.sandbox.inside.examiner import Examiner
from counterclaim.lab.sandbox.inside.wire import FRAME

_USUAL = (
    "abc array ast base64 bisect calendar cmath collections collections.abc contextlib copy csv dataclasses datetime "
    "decimal difflib enum fractions functools hashlib heapq inspect io itertools json keyword math numbers operator os re "
    "string struct sys textwrap time types typing unicodedata"
).split()
"""Modules that programs import most: loaded once, before the first fork. ``random`` and ``threading``, and what imports
them (``queue``, ``secrets``, ``statistics``), are left out: their hooks after a fork cost each job more than the import
costs the few that need it."""

_REHEARSED = {"wall_s": 5, "cpu_s": 5, "answer_mb": 1, "output_kb": 64}  # limits of the rehearsal
_REHEARSAL = (
    """
import collections

class Tally:
    def __init__(self, values):
        self.counts = collections.Counter(values)

def tally(values):
    values.append(0.5)
    print(values)
    return Tally(values).counts, (True, None), {"a", b"c"}
""",
    "import math\n",
    """
def check(candidate):
    counts, pair, things = candidate([1, 2, 2])
    assert counts == {1: 1, 2: 2, 0.5: 1} and pair == (True, None) and math.isclose(len(things), 2)
    try:
        candidate(None)
    except AttributeError:
        assert pair == things, "the last words of a rehearsal"
""",
    "tally",
)
"""Source, setup, tests and entry point."""

_LAST = 4  # descriptors 0 to 4 are a candidate's: standard streams, requests, replies
_HIGH, _HIGHEST = 32, 4096  # above every descriptor in use, and above every one that could be


def serve(walled: bool, user: int | None, seccomp: bytes, limits: dict[str, Any]) -> None:
    """Fork an examiner for every job that arrives on descriptor 0, until the other end closes it.

    Args:
        walled: build namespaces around every job; without them a job is held by resource limits alone.
        user: the identity to take on, where the worker was started by root.
        seccomp: the filter of the jobs; empty for none.
        limits: the fields of ``Limits``, for every job.
    """
    if user is not None:
        walls.become(user)
    for name in _USUAL:
        importlib.import_module(name)
    _rehearse()
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, pages that forks share
    jobs = socket.socket(fileno=0)
    jobs.sendall(_frame({"ready": True}))
    examiner, done, leash = _forked_examiner(jobs, walled, seccomp, limits)
    while os.read(done, 1):  # else the examiner died with a job half read, or there are no more jobs
        os.kill(examiner, signal.SIGKILL)  # saves it the interpreter's own end
        os.close(done)
        os.close(leash)
        last = examiner
        examiner, done, leash = _forked_examiner(jobs, walled, seccomp, limits)
        os.waitpid(last, 0)


def _forked_examiner(jobs: socket.socket, walled: bool, seccomp: bytes, limits: dict[str, Any]) -> tuple[int, int, int]:
    """An examiner that waits for one job: its process id, a descriptor that tells when it is done, and its leash."""
    done, report = os.pipe()
    end, leash = os.pipe()
    examiner = os.fork()
    if examiner == 0:
        os.close(done)
        os.close(leash)
        if _one_job(jobs, walled, seccomp, limits):
            os.write(report, b"d")
            os.read(end, 1)  # the worker ends this process; where a program has ended the worker, the leash does
        os._exit(0)
    os.close(report)
    os.close(end)
    return examiner, done, leash


def _rehearse() -> None:
    """Be the examiner, then the candidate, of a program of our own.

    What the interpreter sets up when code first runs (specialised instructions, caches, types) is then in the memory
    that forks share, instead of being made anew, in pages of its own, by every job.
    """
    for is_examiner in (True, False):
        requests, replies, out, err = os.pipe(), os.pipe(), os.pipe(), os.pipe()
        ends = {*requests, *replies, *out, *err}
        other = os.fork()
        if is_examiner == (other != 0):
            Examiner(other, requests[1], replies[0], (out[0], err[0]), _REHEARSED).examine(*_REHEARSAL)
        else:
            os.close(requests[1])
            ends.remove(requests[1])
            with contextlib.suppress(EOFError):  # the examiner is done
                Candidate(requests[0], replies[1]).serve()
        if other == 0:
            os._exit(0)
        if not is_examiner:
            os.waitpid(other, 0)  # the examiner does it for the candidate
        for descriptor in ends:
            os.close(descriptor)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    del sys.modules[SOLUTION]


def _one_job(jobs: socket.socket, walled: bool, seccomp: bytes, limits: dict[str, Any]) -> bool:
    """Build the walls, wait for a job and do it; False where no job came any more."""
    if walled:
        walls.enter(int(limits["tmp_mb"]), seccomp)
    walls.limit({**limits, "cpu_s": limits["wall_s"] + 1}, processes=None)
    _quiet(1, 2)
    requests, replies, out, err = os.pipe(), os.pipe(), os.pipe(), os.pipe()
    candidate = os.fork()
    if candidate == 0:
        _be_candidate((requests[0], replies[1]), (out[1], err[1]), limits, walled)
        os._exit(0)
    for descriptor in (requests[0], replies[1], out[1], err[1]):
        os.close(descriptor)
    if not jobs.recv(1, socket.MSG_PEEK):
        return False
    job = _received(jobs)
    examiner = Examiner(candidate, requests[1], replies[0], (out[0], err[0]), limits)
    jobs.sendall(_frame(examiner.examine(job["source"], job["setup"], job["tests"], job["entry_point"])))
    return True


def _be_candidate(wire: tuple[int, int], printed: tuple[int, int], limits: dict[str, Any], walled: bool) -> None:
    """Keep nothing but the wire and the streams, take on the limits, and serve until the examiner ends this process."""
    os.setsid()
    kept = [os.dup2(descriptor, _HIGH + place) for place, descriptor in enumerate((*printed, *wire))]
    _quiet(0)
    for place, descriptor in enumerate(kept, start=1):
        os.dup2(descriptor, place)
    os.closerange(_LAST + 1, _HIGHEST)
    if walled:
        os.chdir("/tmp")
    walls.limit(limits, processes=int(limits["processes"]) + 1)  # the examiner is one more
    with contextlib.suppress(EOFError):  # the examiner is gone
        Candidate(_LAST - 1, _LAST).serve()


def _quiet(*descriptors: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nothing, descriptor)
    if nothing not in descriptors:
        os.close(nothing)


def _received(jobs: socket.socket) -> Any:
    size = int.from_bytes(_exactly(jobs, FRAME), "big")
    return json.loads(_exactly(jobs, size))


def _exactly(jobs: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        piece = jobs.recv(size - len(got))
        if not piece:
            raise EOFError("the job breaks off")
        got += piece
    return bytes(got)


def _frame(message: dict[str, Any]) -> bytes:
    body = json.dumps(message).encode("ascii")
    return len(body).to_bytes(FRAME, "big") + body


def main(arguments: list[str]) -> None:
    """Serve as the command line says.

    Args:
        arguments: ``walled`` or ``bare``; a user id or ``-``; the filter in hexadecimal or ``-``; the limits as JSON.
    """
    how, user, seccomp, limits = arguments
    sys.path.pop(0)  # programs need not see this folder
    filter_bytes = b"" if seccomp == "-" else bytes.fromhex(seccomp)
    serve(how == "walled", None if user == "-" else int(user), filter_bytes, json.loads(limits))
