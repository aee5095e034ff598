"""The process that waits inside bubblewrap and forks an examiner for every job.

It never reads a job itself, so nothing of one job is in the memory of the next: the examiner that it forks takes the
program from the socket, forks the candidate behind walls of its own, and only then takes the tests.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
from typing import Any

from counterclaim.sandbox.inside import walls
from counterclaim.sandbox.inside.candidate import Candidate
from counterclaim.sandbox.inside.examiner import Examiner
from counterclaim.sandbox.inside.wire import FRAME

_USUAL = (
    "abc array ast base64 bisect calendar cmath collections collections.abc contextlib copy csv dataclasses datetime "
    "decimal difflib enum fractions functools hashlib heapq inspect io itertools json keyword math numbers operator os "
    "queue random re secrets statistics string struct sys textwrap time types typing unicodedata"
).split()
"""Modules that programs import most: loaded once, before the first fork."""

_LAST = 4  # descriptors 0 to 4 are a candidate's: standard streams, requests, replies
_HIGH, _HIGHEST = 32, 4096  # above every descriptor in use, and above every one that could be


def serve(walled: bool, user: int | None, seccomp: bytes) -> None:
    """Fork an examiner for every job that arrives on descriptor 0, until the other end closes it.

    Args:
        walled: build namespaces around every job; without them a job is held by resource limits alone.
        user: the identity to take on, where the worker was started by root.
        seccomp: the filter of the jobs; empty for none.
    """
    if user is not None:
        walls.become(user)
    for name in _USUAL:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, pages that forks share
    jobs = socket.socket(fileno=0)
    jobs.sendall(_frame({"ready": True}))
    while jobs.recv(1, socket.MSG_PEEK):
        done, report = os.pipe()
        examiner = os.fork()
        if examiner == 0:
            os.close(done)
            _one_job(jobs, walled, seccomp)
            os.write(report, b"d")
            signal.pause()  # the worker ends this process, which saves it the interpreter's own end
        os.close(report)
        finished = os.read(done, 1)
        os.close(done)
        os.kill(examiner, signal.SIGKILL)
        os.waitpid(examiner, 0)
        if not finished:
            return  # the examiner died with a job half read


def _one_job(jobs: socket.socket, walled: bool, seccomp: bytes) -> None:
    program = _received(jobs)
    limits = program["limits"]
    if walled:
        walls.enter(int(limits["tmp_mb"]), seccomp)
    walls.limit({**limits, "cpu_s": limits["wall_s"] + 1}, processes=None)
    _quiet(1, 2)
    requests, replies, out, err = os.pipe(), os.pipe(), os.pipe(), os.pipe()
    candidate = os.fork()
    if candidate == 0:
        _be_candidate((requests[0], replies[1]), (out[1], err[1]), limits, walled)
        return
    for descriptor in (requests[0], replies[1], out[1], err[1]):
        os.close(descriptor)
    examiner = Examiner(candidate, requests[1], replies[0], (out[0], err[0]), limits)
    tests = _received(jobs)
    jobs.sendall(_frame(examiner.examine(program["source"], tests["setup"], tests["tests"], tests["entry_point"])))


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
    """Serve as the command line says: ``walled`` or ``bare``, a user id or ``-``, the filter in hexadecimal or ``-``."""
    how, user, seccomp = arguments
    sys.path.pop(0)  # programs need not see this folder
    serve(how == "walled", None if user == "-" else int(user), b"" if seccomp == "-" else bytes.fromhex(seccomp))
