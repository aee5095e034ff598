"""Several processes that train one adapter together, started by ``accelerate launch`` or ``torchrun``.

The first does everything; the others wait until there is something to train, train along, and part. Then the first is a
process like any other. What the disk says is read by the first alone and sent to the others, since it changes under them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from counterclaim.errors import ModelError
from counterclaim.records import Json

_PATIENCE = timedelta(hours=12)
"""How long a process waits for the others: teachers may be asked, or a tiny model be trained, before the first is there.
A process that dies is noticed by the launcher, and by those connected to it, long before."""

_LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")


def count() -> int:
    """How many processes train together; 1 where no launcher started this one."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def is_first() -> bool:
    """Whether this process is the first, which does everything; the others only train along."""
    return os.environ.get("RANK", "0") == "0"


def device_of(wanted: str) -> str:
    """Where weights are loaded to by this process, of the device that the study asks for.

    Alone, that device. Of several processes, a GPU of its own; or the CPU where there is none, or where FSDP or
    DeepSpeed take the weights from there and share them out.
    """
    if count() == 1:
        return wanted
    return "cpu" if _on_cpu(wanted) or shares_weights() else f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def shares_weights() -> bool:
    """Whether each process holds a part of the weights only (FSDP, DeepSpeed)."""
    chosen = (os.environ.get(name, "false").lower() for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"))
    return count() > 1 and "true" in chosen


def computes_on_gpu(wanted: str) -> bool:
    """Whether several processes compute on GPUs, wherever their weights were loaded to."""
    return count() > 1 and not _on_cpu(wanted)


def _on_cpu(wanted: str) -> bool:
    import torch

    forced = os.environ.get("ACCELERATE_USE_CPU", "false").lower() == "true"
    return forced or wanted == "cpu" or not torch.cuda.is_available()


def meet(wanted: str) -> None:
    """Wait for the other processes, if there are any; ``wanted`` is the device that the study asks for."""
    if count() > 1:
        from accelerate import PartialState

        PartialState(
            cpu=_on_cpu(wanted), timeout=_PATIENCE
        )  # transformers finds the group that this makes, and keeps it


def wait() -> None:
    """Wait until every process is here."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def agree(make: Callable[[], Json]) -> Any:
    """What the first process makes, in all of them."""
    if count() == 1:
        return make()
    import torch
    from accelerate import PartialState
    from torch import distributed

    device = PartialState().device
    text_bytes = json.dumps(make()).encode() if is_first() else b""
    size = torch.tensor([len(text_bytes)], device=device)
    distributed.broadcast(size, src=0)
    text = torch.zeros(int(size), dtype=torch.uint8, device=device)
    if is_first():
        text.copy_(torch.frombuffer(bytearray(text_bytes), dtype=torch.uint8))
    distributed.broadcast(text, src=0)
    return json.loads(bytes(text.tolist()))


def part() -> None:
    """Let go of the others; from here on this process is alone, for every library that asks."""
    if count() == 1:
        return
    from accelerate.state import AcceleratorState
    from torch import distributed

    wait()
    distributed.destroy_process_group()
    AcceleratorState._reset_state(reset_partial_state=True)
    if is_first():
        for name in _LAUNCHED:
            os.environ.pop(name, None)


@contextmanager
def losses_reported() -> Iterator[None]:
    """Say in one sentence when another process is gone.

    Raises:
        ModelError: instead of what torch raises then.
    """
    try:
        yield
    except RuntimeError as error:
        if count() == 1 or not _is_loss(error):
            raise
        raise ModelError(
            f"process {os.environ['RANK']} of {count()} lost another one while training",
            remedy="read above what stopped that one, and run the same command again; it goes on from the last checkpoint",
        ) from error


def _is_loss(error: RuntimeError) -> bool:
    from torch import distributed

    return isinstance(error, distributed.DistError) or "gloo" in str(error).lower()
