"""How close the teacher pipeline comes to the ideal: calls x latency / concurrency."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from benchmarks.timing import row
from counterclaim.folder import Journal
from counterclaim.lab.config import PipelinePlan, PromptChoice, StagePlan
from counterclaim.lab.models.tiny import prompts
from counterclaim.lab.synthesis.calls import ask_all
from counterclaim.lab.synthesis.products import steps_of
from counterclaim.records import Decode, FinishReason, Json
from counterclaim.registry import Answer, ModelSpec, Runtime
from counterclaim.testing.server import serve

LATENCY_S = 0.2
CONCURRENCY = 8
PROMPTS = 120
"""Calls for twelve seconds: opening a client (certificates are read) and the last round, which is not full, are no matter of
throughput."""
_FIRST = ("eager", "deliberate", "adversarial")
_TEXT = (
    "Water boils when the pressure of its vapour equals that of the air above it. High in the mountains the air is thinner,"
    " so its pressure is lower and the water boils before it is as hot as it would be at the sea. That is why beans take"
    " longer to cook there: what counts for them is how hot the water is, and not whether it bubbles. A lid that keeps the"
    " steam in raises the pressure again, and the beans are done sooner."
)


def pipeline_duels(quick: bool) -> list[dict[str, Json]]:
    """Time the calls of a pipeline of four stages, three of them in parallel, on a local server of fixed latency.

    What is timed is what a run does from the first call to the last: conversations, requests, the journal on the disk,
    and the look at every reply whether it can be used. No reply is kept from an earlier run. The server runs in a
    process of its own on the same machine.

    Args:
        quick: one repetition of a third of the prompts instead of three of all.

    Returns:
        A row ``{"name", "ours", "peer", "peer_s", "ratio", "agreement"}``: median seconds, the ideal's seconds, ideal / ours
        (1 is perfect), and the share of replies that are not what the server sent (0).
    """
    asked = prompts("train")[: PROMPTS // 3 if quick else PROMPTS]
    repeats = 1 if quick else 3
    seconds, wrong = [], 0
    with _serving() as model, tempfile.TemporaryDirectory() as folder:
        steps = steps_of(_plan(model))
        runtime = Runtime(concurrency=CONCURRENCY, use_cache=False)
        for number in range(1 + repeats):  # the first run of a process also loads the SDK and the languages
            with Journal(Path(folder) / f"{number}.journal", number) as journal:
                start = time.perf_counter()
                replies = ask_all(steps, asked, journal, runtime, lambda *_: None)
                seconds.append(time.perf_counter() - start)
            wrong += sum(
                step.name not in replies[prompt.id] or replies[prompt.id][step.name].call.text != _TEXT
                for prompt in asked
                for step in steps
            )
    calls = len(asked) * len(steps)
    ideal = calls * LATENCY_S / CONCURRENCY
    name = f"{len(asked)} prompts through {len(steps)} stages of {LATENCY_S:g} s, {CONCURRENCY} calls at a time"
    wrong_share = wrong / ((1 + repeats) * calls)
    return [row(name, median(seconds[1:]), "ideal, calls x latency / concurrency", ideal, wrong_share)]


@contextmanager
def _serving() -> Iterator[str]:
    """The name of a model that is served by another process."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    server = spawn.Process(target=_serve, args=(there,), daemon=True)
    server.start()
    there.close()
    try:
        yield here.recv()
    finally:
        here.close()
        server.join()


def _serve(asked: Connection) -> None:
    """Serve until the other end is closed."""
    with serve(_answer, latency_s=LATENCY_S) as server, suppress(EOFError):
        asked.send(f"{server.url}#{server.model}")
        asked.recv()


def _plan(model: str) -> PipelinePlan:
    spec, decode = ModelSpec(model), Decode(256, temperature=0.0)
    first = [StagePlan(name, spec, decode, "MIT") for name in _FIRST]
    last = StagePlan("synthesizer", spec, decode, "MIT", sees=_FIRST)
    return PipelinePlan(Path("pipeline.toml"), (PromptChoice("tiny", "train"),), (*first, last), last.name)


def _answer(body: Mapping[str, Json]) -> Answer:
    return Answer(_TEXT, FinishReason.STOP, 96, 24)
