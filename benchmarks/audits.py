"""What whole audits cost: time and memory of the command line, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from counterclaim.folder import write_lines
from counterclaim.records import Json

SIZES = (1_000, 10_000, 100_000)
_WORDS = (
    "heat water butter flour oven sauce stock simmer boil whisk fold rest salt acid temperature protein starch gluten "
    "yeast ferment slowly quickly evenly gently texture flavour aroma crust crumb moisture steam pressure surface"
).split()


def audit_costs(quick: bool, progress: Callable[[str], None]) -> list[dict[str, Json]]:
    """``audit_cost`` at every size of ``SIZES``; at the smallest only where ``quick``."""
    return [audit_cost(n, progress) for n in (SIZES[:1] if quick else SIZES)]


def audit_cost(n: int, progress: Callable[[str], None]) -> dict[str, Json]:
    """What ``counterclaim audit`` of two made-up files of ``n`` answers costs, in a process of its own.

    Every check that needs only records, the run folder and the pages are included; answers are about 900 characters.

    Args:
        n: answers of each arm.
        progress: told what is timed before it is.

    Returns:
        ``{"name", "n", "seconds", "peak_mb"}``: wall clock and peak resident memory, start-up included.
    """
    name = f"audit of 2 x {n:,} answers, every check, run folder and page"
    progress(name)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{arm}.jsonl" for arm in ("control", "treated")]
        for seed, file in enumerate(files):
            write_lines(file, _answers(n, seed))
        command = [
            sys.executable, "-m", "counterclaim", "audit", "--control", str(files[0]), "--treated", str(files[1]),
            "--metric", "accuracy", "--guard", "coverage", "--out", str(Path(folder) / "run"), "--json",
        ]  # fmt: skip
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1, 3, 4):
        raise RuntimeError(f"the audit ended with exit code {process.returncode}")
    unit = 1024 if sys.platform != "darwin" else 1024 * 1024
    return {"name": name, "n": n, "seconds": seconds, "peak_mb": usage.ru_maxrss / unit}


def _answers(n: int, seed: int) -> Iterator[dict[str, Json]]:
    """Made-up answers of one arm: the same prompts for every seed."""
    words = np.array(_WORDS)
    prompts, rng = np.random.default_rng(0), np.random.default_rng(seed + 1)
    for i in range(n):
        topic = prompts.choice(words, 8)
        sentences = [" ".join(rng.choice(words, 12)).capitalize() + "." for _ in range(int(rng.integers(6, 14)))]
        yield {
            "prompt": f"How do {' and '.join(topic[:3])} change {' '.join(topic[3:])} in case {i}?",
            "response": f"About {' '.join(topic)}: " + " ".join(sentences),
            "finish_reason": "stop",
            "n_tokens": 14 * len(sentences),
            "correct": bool(rng.random() < 0.5 + 0.1 * seed),
            "delivery": "assert" if rng.random() < 0.8 else "hedge",
            "coverage": round(float(rng.random()), 3),
            "judge": "made-up",
            "judge_version": "1",
            "decode.max_new_tokens": 512,
            "decode.temperature": 0.0,
            "model": f"model-{seed}",
        }
