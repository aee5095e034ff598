"""How close the endpoint client comes to the ideal: requests x latency / concurrency."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median

from benchmarks.timing import row
from counterclaim.lab.models.endpoint import EndpointModel
from counterclaim.records import Decode, FinishReason, Json, Message
from counterclaim.registry import Answer, Ask, ModelSpec, Runtime
from counterclaim.testing.server import serve

LATENCY_S = 0.2
CONCURRENCY = 16
REQUESTS = 320
"""Twenty full rounds; a last round that is not full would cost as much as a full one."""
_TEXT = "Water boils at a lower temperature where the air is thinner. " * 10


def endpoint_duels(quick: bool) -> list[dict[str, Json]]:
    """Time ``EndpointModel`` on a local server that takes a fixed time for every reply, without kept replies.

    The server runs in the same process, so its own work counts against us.

    Args:
        quick: one repetition of four rounds instead of three of twenty.

    Returns:
        A row ``{"name", "ours", "peer", "peer_s", "ratio", "agreement"}``: median seconds, the ideal's seconds, ideal / ours
        (1 is perfect), and the share of answers that are not what the server sent (0).
    """
    n = 4 * CONCURRENCY if quick else REQUESTS
    asks = [Ask(f"p{i}", (Message("user", f"{i}"),)) for i in range(n)]
    repeats = 1 if quick else 3
    seconds, wrong = [], 0
    with serve(_answer, latency_s=LATENCY_S) as server:
        runtime = Runtime(concurrency=CONCURRENCY, use_cache=False)
        model = EndpointModel(ModelSpec(f"{server.url}#{server.model}"), runtime)
        try:
            model.ask(asks[0], Decode(256))  # the first request of a process also loads the SDK
            for _ in range(repeats):
                start = time.perf_counter()
                got = [pair for batch in model.answer(asks, Decode(256)) for pair in batch]
                seconds.append(time.perf_counter() - start)
                wrong += n - sum(answer.text == f"{index} {_TEXT}" for index, answer in got)
        finally:
            model.close()
    ideal = n * LATENCY_S / CONCURRENCY
    name = f"{n} requests of {LATENCY_S:g} s, {CONCURRENCY} at a time"
    return [row(name, median(seconds), "ideal, n x latency / concurrency", ideal, wrong / (repeats * n))]


def _answer(body: Mapping[str, Json]) -> Answer:
    return Answer(f"{body['messages'][0]['content']} {_TEXT}", FinishReason.STOP, 128, 8)
