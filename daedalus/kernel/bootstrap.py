"""What a new process does to itself before it becomes an actor.

Standard library only: this file is also run by path (`python -I -S bootstrap.py FD`) in front of every
foreign program, where each import is paid for at every start. Nothing here runs in the supervisor but
`become_subreaper` and `pin`.

The order of steps matters. The death signal is set after the process has its final parent and is followed
by a look at the parent's pid: a parent that died in between would never be noticed otherwise. It is bound
to the *thread* that made the child, so children are made by main threads only.
"""

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn, TypedDict

__all__ = [
    "Order",
    "become_program",
    "become_subreaper",
    "die_with_parent",
    "fold_cpus",
    "pin",
    "read_order",
    "set_ionice",
    "set_up",
]

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IO_CLASSES = {"realtime": 1, "best-effort": 2, "idle": 3}
_EXIT_NOT_FOUND = 127  # the shell's words for "no such program" and "cannot run it"
_EXIT_NOT_EXECUTABLE = 126


class Order(TypedDict):
    """Everything a child is told, as JSON."""

    name: str
    generation: int
    supervisor_pid: int
    runtime: str
    data: str
    target: str  # "module:Class", or empty for a foreign program
    settings: str  # base64 of the target's Settings
    heartbeat_interval_s: float
    drain_s: float
    command: list[str]
    env: dict[str, str]
    unset: list[str]  # what a zygote has in its environment and a foreign program is not to have
    cwd: str
    cpus: list[int]  # empty: all of `available`
    available: list[int]  # the cores there were before the supervisor pinned itself
    nice: int
    ionice: str  # "", "idle", "best-effort:7"
    oom_score_adj: int
    memory_rlimit: int | None  # RLIMIT_DATA, bytes


def _prctl(option: int, argument: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot call prctl({option}): {os.strerror(code)}")


def become_subreaper() -> None:
    """Make orphaned descendants children of this process, so that it can reap and sweep them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent_pid: int, signum: int = signal.SIGKILL) -> None:
    """Ask the kernel for `signum` when the parent dies; leave at once if it already has.

    For children of actors too (a sealer, a converter): call it first thing in the new process with the
    pid of the process that started it. The request does not pass to children of the caller.
    """
    _prctl(_PR_SET_PDEATHSIG, int(signum))
    if os.getppid() != parent_pid:
        os._exit(0)


def fold_cpus(cpus: list[int], available: list[int]) -> list[int]:
    """Fold wished-for cores onto the cores there are: a missing core c becomes available[c mod n].

    >>> fold_cpus([1, 3], [0, 1]), fold_cpus([5, 7], [5, 6]), fold_cpus([], [0]), fold_cpus([0], [])
    ([1], [5, 6], [], [])
    """
    if not available:
        return []
    return sorted({cpu if cpu in available else available[cpu % len(available)] for cpu in cpus})


def pin(cpus: Sequence[int]) -> list[int]:
    """Keep this process, and what it starts, to `cpus` (none: leave it) and return the cores it had before.

    Children inherit the narrow mask, so each order carries the wide one: cores are folded onto that.
    """
    available = sorted(os.sched_getaffinity(0))
    if cpus:
        with contextlib.suppress(OSError):  # placement is a wish
            os.sched_setaffinity(0, fold_cpus(list(cpus), available))
    return available


def set_ionice(text: str, thread: int = 0) -> None:
    """Set the I/O class of a thread (0: the caller): "idle", "best-effort:7", or "" for the kernel's own."""
    number = _IOPRIO_SET.get(os.uname().machine)
    name, _, level = text.partition(":")
    if number is None or (name and name not in _IO_CLASSES):
        return
    priority = _IO_CLASSES[name] << 13 | (int(level) if level else 0) if name else 0
    ctypes.CDLL(None).syscall(number, 1, thread, priority)  # best effort: refused without the right


def set_up(order: Order) -> None:
    """Apply placement, priorities, environment and signals. The process already is its own group."""
    os.umask(0o077)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGCHLD,
    ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.environ.update(order["env"])
    cores = fold_cpus(order["cpus"], order["available"]) or order["available"]
    if set(cores) != os.sched_getaffinity(0):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cores)
    if order["nice"]:
        with contextlib.suppress(OSError):  # a negative value needs a right we may not have
            os.setpriority(os.PRIO_PROCESS, 0, order["nice"])
    if order["ionice"]:
        set_ionice(order["ionice"])
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib costs 5 ms here
        file.write(str(order["oom_score_adj"]))
    if order["memory_rlimit"]:
        import resource  # only where it is asked for

        resource.setrlimit(resource.RLIMIT_DATA, (order["memory_rlimit"], order["memory_rlimit"]))
    if order["cwd"]:
        os.chdir(order["cwd"])
    with contextlib.suppress(OSError):
        _prctl(_PR_SET_NAME, order["name"].rpartition("/")[2].encode()[:15])


def read_order(fd: int) -> Order:
    """Read the order left in a memory file by the supervisor, and close it."""
    with open(fd, "rb") as file:
        file.seek(0)
        order: Order = json.load(file)
    return order


def _tell_failure(error: OSError) -> None:
    # The supervisor empties the notify socket before it acts on our exit, so the cause arrives in time.
    address = os.environ.get("NOTIFY_SOCKET", "")
    name = errno.errorcode.get(error.errno or 0, "EIO")
    text = f"ERRNO={error.errno}\nX_DAEDALUS_ERROR={name}: {error.filename or ''}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(text.encode(), address)


def become_program(order: Order) -> NoReturn:
    """Become the foreign program of an order. The death signal is set already: an exec keeps it.

    What the order does not name is taken from `environ` of this process.
    """
    command = order["command"]
    try:
        set_up(order)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and an exec hands that on
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(command[0], command, os.environ)  # noqa: S606 - running the user's program is the task
    except OSError as error:
        if error.filename is None:
            error.filename = command[0]
        _tell_failure(error)
        os.write(2, f"cannot run {command[0]}: {error.strerror}\n".encode())
        os._exit(_EXIT_NOT_FOUND if error.errno == errno.ENOENT else _EXIT_NOT_EXECUTABLE)


def main(argv: list[str]) -> NoReturn:
    """Become the foreign program of the order in memory file `argv[1]`."""
    order = read_order(int(argv[1]))
    die_with_parent(order["supervisor_pid"], signal.SIGKILL)
    become_program(order)


if __name__ == "__main__":
    main(sys.argv)
