"""Processes as the kernel sees them: identity, groups, strays. Reads /proc, sends signals, decides nothing.

A pid alone names nobody for long. While a child is unreaped its pid, and the id of its group, are pinned;
everywhere else a process is named by (boot id, pid, start time).
"""

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import subprocess

__all__ = [
    "Identity",
    "boot_id",
    "children_of",
    "close_fd",
    "environ_has",
    "group_is_empty",
    "group_of",
    "identify",
    "is_alive",
    "kill_child",
    "kill_group_of",
    "processes",
    "read_proc",
    "release",
    "signal_group",
    "signal_pidfd",
    "start_time",
    "threads_of_group",
]

_PROC = Path("/proc")
_READ_BYTES = 8192
_ENV_END = 48  # place in `stat` behind the name: end of the environment in memory


class Identity(msgspec.Struct, frozen=True):
    """One process for all time: its start in clock ticks since the boot named by `boot`."""

    pid: int
    start: int
    boot: str


def boot_id() -> str:
    """Return the kernel's random name of this boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()


def read_proc(pid: int, name: str) -> str:
    """Return a file of /proc/PID, its first 8 KiB. Read for every actor every two seconds: no file object.

    Raises:
        FileNotFoundError, ProcessLookupError: there is no such process, or it goes just now.
    """
    fd = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _READ_BYTES).decode("ascii", "replace")
    finally:
        os.close(fd)


def _stat(pid: int) -> list[str] | None:
    try:
        text = read_proc(pid, "stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()  # the name may hold spaces and brackets; state is [0]


def start_time(pid: int) -> int | None:
    """Return the start of `pid` in clock ticks since boot, None when there is no such process."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def group_of(pid: int) -> int | None:
    """Return the process group of `pid`, None when there is no such process."""
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):  # a process of another session may be hidden
        return None


def identify(pid: int) -> Identity | None:
    """Return who `pid` is now, None when there is no such process."""
    start = start_time(pid)
    return None if start is None else Identity(pid, start, boot_id())


def is_alive(identity: Identity) -> bool:
    """Return whether exactly this process lives (a zombie does not)."""
    if identity.boot != boot_id():
        return False
    fields = _stat(identity.pid)
    return fields is not None and int(fields[19]) == identity.start and fields[0] not in "ZX"


def processes() -> list[int]:
    """Return all pids."""
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def children_of(pid: int) -> list[int]:
    """Return the live and dead children of `pid`, all threads of it."""
    found: list[int] = []
    try:
        for task in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, (task / "children").read_text("ascii").split())
    except FileNotFoundError:
        return found
    return found


def threads_of_group(pgid: int) -> list[int]:
    """Return every thread of every process of a group."""
    found: list[int] = []
    for pid in processes():
        if group_of(pid) == pgid:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += [int(task.name) for task in (_PROC / str(pid) / "task").iterdir()]
    return found


def environ_has(pid: int, *markers: str) -> bool | None:
    """Return whether `pid` was started with one of `markers` ("NAME=value") in its environment.

    None: it is on its way from one program to the next, and has no environment yet.
    """
    try:
        data = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    if not data and _between_programs(pid):
        return None
    given = data.split(b"\0")
    return any(marker.encode() in given for marker in markers)


def _between_programs(pid: int) -> bool:
    """Whether an exec of `pid` is half done: it lives, and has no environment yet."""
    fields = _stat(pid)
    return fields is not None and fields[0] not in "ZX" and fields[_ENV_END] == "0"


def signal_pidfd(pidfd: int, signum: int) -> bool:
    """Send a signal to exactly the process behind `pidfd`. False: it is gone."""
    try:
        signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        return False
    return True


def signal_group(pgid: int, signum: int) -> bool:
    """Send a signal to every process of the group. False: there is none.

    Only for groups whose leader is our unreaped child or was until just now: their id cannot be reused.
    """
    try:
        os.killpg(pgid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def group_is_empty(pgid: int) -> bool:
    """Return whether no process, not even a zombie, is left in the group."""
    return not signal_group(pgid, 0)


def kill_child(pid: int) -> None:
    """Kill a child of ours that nobody watches. Unreaped, its pid cannot be another's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_group_of(pid: int) -> None:
    """Kill what is left in the group of a dying child of ours: its zombie still pins the group's id."""
    signal_group(pid, signal.SIGKILL)


def close_fd(fd: int) -> None:
    """Close a descriptor that may be closed already."""
    with contextlib.suppress(OSError):
        os.close(fd)


def release(process: "subprocess.Popen[bytes]") -> int:
    """Take the pid out of a Popen, which forgets the process: there is one reaper, and it is not Popen."""
    process.returncode = 0
    return process.pid
