"""The outer walls: how a worker is started inside bubblewrap, and what is missing where it cannot be."""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from counterclaim.errors import SandboxError
from counterclaim.lab.sandbox.programs import Limits
from counterclaim.lab.sandbox.seccomp import job_filter, worker_filter

_NOBODY = 65534
_USER = 1000  # what a worker of an ordinary user sees as its own id; root must not be mapped
_CODE = "/code"
_INSIDE = "counterclaim/lab/sandbox/inside"
_SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_FOLDERS = (
    "/dev", "/etc", "/python", "/python/bin", "/tmp", "/usr", "/usr/bin", _CODE,
    *(f"{_CODE}/{parent}" for parent in ("counterclaim", "counterclaim/lab", "counterclaim/lab/sandbox")),
)  # fmt: skip
"""Made by name: bubblewrap makes the parents of what it binds for root alone."""
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp", "TMPDIR": "/tmp", "PYTHONHASHSEED": "0"}
_INSTALL = (
    "install bubblewrap: `apt install bubblewrap` (Debian, Ubuntu), `dnf install bubblewrap` (Fedora), "
    "`pacman -S bubblewrap` (Arch), `apk add bubblewrap` (Alpine)"
)
_ALLOW = (
    "allow user namespaces: kernel.unprivileged_userns_clone=1 on older Debian, an AppArmor profile for bwrap (or "
    "kernel.apparmor_restrict_unprivileged_userns=0) on Ubuntu, a container that may create user namespaces"
)


def missing() -> str | None:
    """What bubblewrap lacks to be tried at all, as a sentence with its remedy; None where nothing is."""
    if sys.platform != "linux":
        return (
            f"programs are sandboxed by bubblewrap, which needs Linux, and this is {sys.platform}; use a Linux machine"
        )
    if shutil.which("bwrap") is None:
        return f"bubblewrap (bwrap) is not installed; {_INSTALL}"
    return None


def explain(stderr: str) -> str:
    """A worker's last words, as a sentence with a remedy."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    words = lines[-1].strip() if lines else "it said nothing"
    return f"bubblewrap cannot build a sandbox here ({words}); {_ALLOW}"


def start_walled(stdin: socket.socket, limits: Limits) -> subprocess.Popen[bytes]:
    """Start a worker inside bubblewrap that takes its jobs from ``stdin``; its standard error is a pipe.

    Started by root, the worker is ``nobody`` outside too: root is exempt from the limit on processes.

    Raises:
        SandboxError: bubblewrap is missing or does not start.
    """
    if lacking := missing():
        raise SandboxError(lacking.partition("; ")[0], remedy=lacking.partition("; ")[2])
    as_root = os.getuid() == 0
    with tempfile.TemporaryFile() as rules:
        rules.write(worker_filter())
        rules.seek(0)
        command, passed = _bubblewrap(rules.fileno() if worker_filter() else None), [rules.fileno()]
        python = _python("walled", str(_NOBODY) if as_root else "-", limits)
        if not as_root:
            return _started([*command, *python], stdin, passed)
        informed, inform = os.pipe()
        unblock, go = os.pipe()
        try:
            blocked = ["--userns-block-fd", str(unblock), "--info-fd", str(inform)]
            needs = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]  # used once, to stop being root
            started = _started([*command, *blocked, *needs, *python], stdin, [*passed, unblock, inform])
            os.close(inform)
            inform = -1
            _map_ids(_child_in(informed))
            os.write(go, b"g")
            return started
        finally:
            for descriptor in (informed, inform, unblock, go):
                if descriptor >= 0:
                    os.close(descriptor)


def start_bare(stdin: socket.socket, limits: Limits, folder: Path) -> subprocess.Popen[bytes]:
    """Start a worker without a sandbox, in ``folder``: its jobs are held by resource limits alone."""
    root = Path(__file__).parents[3]
    return subprocess.Popen(
        [sys.executable, *_run(str(root), "bare", "-", limits)], stdin=stdin.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        cwd=folder, env={**_ENVIRONMENT, "HOME": str(folder), "TMPDIR": str(folder)}, start_new_session=True,
    )  # fmt: skip


def plain_command(source: Path) -> list[str]:
    """The command that runs one Python file in a bubblewrap of its own, with a Python of its own."""
    command = _bubblewrap(None, ["--ro-bind", str(source), "/program.py"])
    return [*command, "--", *_interpreter(), "-I", "-S", "-B", "/program.py"]


def _started(command: list[str], stdin: socket.socket, passed: Sequence[int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=stdin.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=passed,
        env={},
        cwd="/",
    )


def _bubblewrap(rules: int | None, binds: Sequence[str] = ()) -> list[str]:
    """bwrap with its walls, up to the program."""
    ids = [] if os.getuid() == 0 else ["--uid", str(_USER), "--gid", str(_USER)]
    environment = [word for name, value in _ENVIRONMENT.items() for word in ("--setenv", name, value)]
    if _shared_library() is not None:
        environment += ["--setenv", "LD_LIBRARY_PATH", "/python/lib"]
    return [
        shutil.which("bwrap") or "bwrap",
        "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
        "--die-with-parent", "--new-session", "--clearenv", *environment, "--hostname", "sandbox", *ids,
        "--cap-drop", "ALL", *(word for folder in _FOLDERS for word in ("--dir", folder)), *_binds(), "--proc", "/proc",
        *(word for name in _DEVICES for word in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")),
        "--ro-bind", str(Path(__file__).parent / "inside"), f"{_CODE}/{_INSIDE}", *binds,
        "--remount-ro", "/", "--chdir", "/tmp", *(["--seccomp", str(rules)] if rules is not None else []),
    ]  # fmt: skip


def _binds() -> list[str]:
    """The interpreter, its library and the system's libraries, read-only; packages of the interpreter are covered."""
    words = ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for folder in _SYSTEM:
        link = Path(folder)
        if link.is_symlink():
            words += ["--symlink", str(link.readlink()), folder]
        elif link.is_dir():
            words += ["--ro-bind", folder, folder]
    home = Path(sys.base_prefix).resolve()
    if home != Path("/usr"):
        for name in ("lib", "lib64"):
            if (home / name).is_dir():
                words += ["--ro-bind", str(home / name), f"/python/{name}"]
    inside = _home()
    for packages in ("site-packages", "dist-packages"):
        library = Path(sysconfig.get_path("stdlib", vars={"installed_base": str(home)})) / packages
        if library.is_dir():
            covered = f"{inside}/{library.relative_to(home)}"
            words += ["--tmpfs", covered, "--remount-ro", covered]
    return [*words, "--ro-bind", str(Path(sys.executable).resolve()), _interpreter()[0]]


def _home() -> str:
    """Where the interpreter's library lies inside: /usr stays /usr, any other place becomes /python."""
    return "/usr" if Path(sys.base_prefix).resolve() == Path("/usr") else "/python"


def _interpreter() -> list[str]:
    return [f"{_home()}/bin/{Path(sys.executable).resolve().name}"]


def _shared_library() -> str | None:
    return sysconfig.get_config_var("INSTSONAME") if sysconfig.get_config_var("Py_ENABLE_SHARED") else None


def _python(how: str, user: str, limits: Limits) -> list[str]:
    return ["--", *_interpreter(), *_run(_CODE, how, user, limits)]


def _run(root: str, how: str, user: str, limits: Limits) -> list[str]:
    code = f"import sys; sys.path.insert(0, {root!r}); from {_INSIDE.replace('/', '.')}.worker import main; main(sys.argv[1:])"
    words = json.dumps(asdict(limits))
    filter_words = job_filter().hex() if how == "walled" else ""
    return ["-s", "-P", "-S", "-B", "-u", "-X", "utf8", "-c", code, how, user, filter_words or "-", words]


def _child_in(informed: int) -> int:
    """The process inside, from what bubblewrap writes to its information descriptor.

    Raises:
        SandboxError: bubblewrap ended instead.
    """
    text = b""
    while piece := os.read(informed, 4096):
        text += piece
        if text.rstrip().endswith(b"}"):
            return int(json.loads(text)["child-pid"])
    raise SandboxError("bubblewrap ended before it had built a sandbox", remedy=_ALLOW)


def _map_ids(child: int) -> None:
    """Let the sandbox know root, who builds it, and nobody, whom its worker becomes."""
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{name}").write_text(f"0 0 1\n{_NOBODY} {_NOBODY} 1\n", encoding="ascii")


@functools.cache
def has_seccomp() -> bool:
    """Whether there is a filter for this machine."""
    return bool(job_filter())
