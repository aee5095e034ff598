"""Walls around one job, built from inside by the process that will live within them (Linux; see namespaces(7)).

The job gets user, mount, process and IPC namespaces of its own inside those of bubblewrap: it sees no process but its
own, its /tmp is a new file system of limited size that goes with it, and /proc is covered. Then it gives up every
capability and takes on the seccomp filter.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Mapping
from typing import Any

_NEW_NS, _NEW_IPC, _NEW_USER, _NEW_PID = 0x00020000, 0x08000000, 0x10000000, 0x20000000
_NOSUID, _NODEV, _READ_ONLY, _NOEXEC = 2, 4, 1, 8
_SET_DUMPABLE, _SET_SECCOMP, _BOUND_DROP, _NO_NEW_PRIVS = 4, 22, 24, 38
_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522
_JOB_ID = 1000  # user and group id that a job sees as its own
_MIB = 1 << 20

# Made once, before any fork: a job that made them would pay for it.
_libc = ctypes.CDLL(None, use_errno=True)
_calls: list[Any] = [getattr(_libc, name, None) for name in ("capset", "mount", "prctl", "unshare")]
_capset, _mount_at, _prctl, _unshare = (
    _calls  # a system without them has no walls, and runs programs bare or not at all
)
_CAPABILITY_HEADER = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
_NO_CAPABILITIES = (ctypes.c_uint32 * 6)()


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def become(user: int) -> None:
    """Give up the identity of root for that of ``user``, for good."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    _must(_prctl(_SET_DUMPABLE, 1, 0, 0, 0), "prctl")  # else /proc/self belongs to root, and with it the id maps


def enter(tmp_mb: int, seccomp: bytes) -> None:
    """Build the walls around this process; the next one that it forks is the first of a process namespace.

    Raises:
        OSError: the system does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    _must(_unshare(_NEW_USER | _NEW_NS | _NEW_PID | _NEW_IPC), "unshare")
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{_JOB_ID} {user} 1")
    _write("/proc/self/gid_map", f"{_JOB_ID} {group} 1")
    _mount("/tmp", _NOSUID | _NODEV, f"size={tmp_mb}m,nr_inodes=4096,mode=1777")
    _mount("/proc", _NOSUID | _NODEV | _NOEXEC | _READ_ONLY, "size=4k,mode=555")
    _give_up_capabilities()
    if seccomp:
        program = _Program(len(seccomp) // 8, seccomp)
        _must(_prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0), "seccomp")


def limit(limits: Mapping[str, float], *, processes: int | None) -> None:
    """Lower the resource limits of this process and its children to those of the job.

    Args:
        limits: the fields of ``Limits``.
        processes: how many processes and threads may live in the job's user namespace; None sets no limit.
    """
    seconds = int(limits["cpu_s"]) + 1
    for name, value in (
        ("AS", int(limits["memory_mb"]) * _MIB),
        ("CPU", seconds),
        ("FSIZE", int(limits["file_mb"]) * _MIB),
        ("NPROC", processes),
        ("NOFILE", int(limits["open_files"])),
        ("CORE", 0),
        ("MEMLOCK", 0),
        ("MSGQUEUE", 0),
    ):
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is None or value is None:
            continue  # not a limit of this system, or none that is wanted
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):
            if name != "AS":  # macOS has the name but not the limit
                raise


def _write(path: str, text: str) -> None:
    """As ``Path.write_text``, which costs a job far more."""
    file = os.open(path, os.O_WRONLY)
    os.write(file, text.encode("ascii"))
    os.close(file)


def _mount(target: str, flags: int, options: str) -> None:
    _must(_mount_at(b"tmpfs", target.encode(), b"tmpfs", flags, options.encode()), f"mount {target}")


def _give_up_capabilities() -> None:
    capability = 0
    while _prctl(_BOUND_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    _must(_capset(_CAPABILITY_HEADER, _NO_CAPABILITIES), "capset")
    _must(_prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def _must(status: int, what: str) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
