"""Where a model runs, in which precision, and how much memory is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from counterclaim.errors import ModelError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


_SMALL = 20_000_000  # parameters


@contextmanager
def threads_for(network: Any, device: torch.device) -> Iterator[None]:
    """As many threads as a model deserves: one for a small one on the processor, else as many as there were.

    The threads of one operation wait for each other busily. Where other work holds the processors, a small model of many
    short operations is several times slower with two of them than with one.
    """
    threads = torch.get_num_threads()
    small = device.type == "cpu" and sum(value.numel() for value in network.parameters()) < _SMALL
    if small:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if small:
            torch.set_num_threads(threads)


def device_named(name: str) -> torch.device:
    """The device of this name; ``auto`` takes a GPU where there is one.

    Raises:
        ModelError: there is no such device here.
    """
    here = _devices()
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if kind in here))
    if name not in here:
        raise ModelError(
            f"there is no device {name!r} on this machine", remedy=f"use one of those it has: {', '.join(here)}"
        )
    return torch.device(name)


def _devices() -> list[str]:
    here = ["cpu"]
    if n := torch.cuda.device_count() if torch.cuda.is_available() else 0:
        here += ["cuda", *(f"cuda:{i}" for i in range(n))]
    if torch.backends.mps.is_available():
        here.append("mps")
    return here


def dtype_named(name: str, device: torch.device) -> torch.dtype:
    """The precision of this name; ``auto`` is bfloat16 on a GPU that computes in it, and float32 elsewhere.

    Raises:
        ModelError: there is no such precision.
    """
    if name == "auto":
        able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if able else torch.float32
    if name not in _DTYPES:
        raise ModelError(f"there is no dtype {name!r}", remedy=f"use auto, {', '.join(_DTYPES)}")
    return _DTYPES[name]


def memory_of(device: torch.device) -> int:
    """Bytes of memory that the device has in all."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on whichever device; the CPU and MPS say it only in words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = str(error).lower()
    phrases = ("out of memory", "can't allocate memory", "not enough memory", "invalid buffer size")
    return isinstance(error, RuntimeError) and any(phrase in words for phrase in phrases)


def give_back(device: torch.device) -> None:
    """Let others have the memory that torch keeps for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
