"""Control groups (v2) for actors: one leaf each, so that nothing an actor starts can escape it.

    {ours}/               the directory that systemd delegated to us; holds no process of its own
    {ours}/supervisor/    the supervisor and its zygotes
    {ours}/actor-…/       one actor and all that it starts, whatever session or group that goes to

A leaf answers what a process group cannot: is anybody left, and who was killed for want of memory. Nothing
here is required. A machine without cgroups, without a controller or without the right to use them gets None
or False, and the supervisor goes by process groups and samples instead.

Nothing is taken that was not given: the directory must be named in $DAEDALUS_CGROUP, or be delegated by
systemd and hold no process but ours. A shell in a desktop terminal has $INVOCATION_ID and a directory of its
user's too, and must not be moved about.
"""

import contextlib
import os
import re
import signal
import zlib
from collections.abc import Mapping
from pathlib import Path

from daedalus.kernel.errors import ConfigError

__all__ = ["CONTROLLERS", "SUPERVISOR", "Cgroups", "Leaf", "leaf_name", "own_directory", "unescaped"]

CONTROLLERS = ("memory", "pids", "cpu")
SUPERVISOR = "supervisor"  # the leaf of ourselves
_PREFIX = "actor-"  # so no leaf is taken for a controller's file or for the supervisor's
_NAME_MAX = 200  # characters; the kernel takes 255
_ROUNDS = 20  # of the fallback kill: each finds what was forked during the one before


def own_directory(proc: Path = Path("/proc"), pid: str = "self", root: Path = Path("/")) -> Path | None:
    """Return the cgroup2 directory of a process, None when it has none that we can see.

    Works on unified and hybrid hierarchies, in containers and namespaces.

    Args:
        proc: where the process file system is mounted.
        pid: whose.
        root: what the mount points are below; for tests.
    """
    try:
        memberships = (proc / pid / "cgroup").read_text("utf-8", "replace")
        mounts = (proc / "self" / "mountinfo").read_text("utf-8", "replace")  # another's may not be read
    except OSError:
        return None
    path = next((line[3:] for line in memberships.splitlines() if line.startswith("0::/")), None)
    if path is None or path.startswith("/.."):  # outside of our namespace
        return None
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        if right.split(" ", 1)[0] != "cgroup2":
            continue
        mounted, point = (unescaped(field) for field in left.split(" ")[3:5])
        below = _below(path, mounted)
        if below is not None:
            return root / point.lstrip("/") / below
    return None


def unescaped(field: str) -> str:
    """Return a field of mountinfo without its octal escapes: spaces and the like."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _below(path: str, mounted: str) -> str | None:
    if mounted == "/":
        return path.strip("/")
    if path == mounted or path.startswith(mounted + "/"):
        return path[len(mounted) :].strip("/")
    return None


def leaf_name(actor: str) -> str:
    """Return the directory's name of an actor: letters, digits and `-_.@`, no two actors the same."""
    name = "".join(
        char
        if char.isascii() and (char.isalnum() or char in "-_.")
        else "@"
        if char == "/"
        else _escape(char)
        for char in actor
    )
    if len(name) > _NAME_MAX:
        name = f"{name[:_NAME_MAX]}%{zlib.crc32(actor.encode()):08x}"
    return _PREFIX + name


def _escape(char: str) -> str:
    return "".join(f"%{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


class Cgroups:
    """The directory that is ours."""

    def __init__(self, path: Path) -> None:
        """Use `path`; nothing is done yet. Tests and `find` make it."""
        self.path = path
        self.controllers: frozenset[str] = frozenset()  # that leaves have, known after `prepare`

    @classmethod
    def find(cls, environ: Mapping[str, str], proc: Path = Path("/proc")) -> "Cgroups | None":
        """Return the directory given to us, None when there is none.

        Args:
            environ: DAEDALUS_CGROUP names it; INVOCATION_ID says that systemd started us.
            proc: where the process file system is mounted.

        Raises:
            ConfigError: $DAEDALUS_CGROUP names something that cannot be used.
        """
        if named := environ.get("DAEDALUS_CGROUP"):
            fault = _fault(Path(named))
            if fault:
                raise ConfigError(f"cannot use $DAEDALUS_CGROUP={named}: {fault}")
            return cls(Path(named))
        path = own_directory(proc)
        if path is None or "INVOCATION_ID" not in environ:
            return None
        if path.name == SUPERVISOR and _is_delegated(path.parent):
            path = path.parent  # DelegateSubgroup=supervisor, or we were here before an exec in place
        elif not _is_delegated(path) or set(_pids(path) or ()) - {os.getpid()}:
            return None
        return None if _fault(path) else cls(path)

    @property
    def has_memory(self) -> bool:
        """Return whether leaves can be limited in memory. Known after `prepare`."""
        return "memory" in self.controllers

    def prepare(self) -> bool:
        """Move ourselves to the leaf of the supervisor and turn on the controllers that there are.

        Returns:
            False when we cannot be moved: then the whole of it is not for us.
        """
        home = self.path / SUPERVISOR
        try:
            home.mkdir(exist_ok=True)
            (home / "cgroup.procs").write_text(f"{os.getpid()}\n")
            available = (self.path / "cgroup.controllers").read_text().split()
        except OSError:
            return False
        for name in CONTROLLERS:
            if name in available:  # one by one: what cannot be had does not cost the others
                _write(self.path / "cgroup.subtree_control", f"+{name}")
        enabled = _read(self.path / "cgroup.subtree_control") or ""
        self.controllers = frozenset(enabled.split()) & frozenset(CONTROLLERS)
        return True

    def leaf(self, name: str) -> "Leaf":
        """Return the leaf of an actor. It is made when it is first entered or limited."""
        return Leaf(self.path / leaf_name(name))

    def leaves(self) -> list["Leaf"]:
        """Return the leaves of actors that exist, whoever made them."""
        try:
            return [Leaf(path) for path in sorted(self.path.iterdir()) if path.name.startswith(_PREFIX)]
        except OSError:
            return []

    def sweep(self) -> list[str]:
        """Kill what an earlier supervisor left behind; return the directories that somebody was in.

        For a fresh start, before any actor is started. The directories go when they are empty: those of
        actors that we run are used again, and `sweep` may be called once more for the rest.
        """
        found = []
        for leaf in self.leaves():
            if leaf.populated():
                found.append(leaf.path.name)
                leaf.kill()
            leaf.remove()
        return found


class Leaf:
    """The cgroup of one actor."""

    def __init__(self, path: Path) -> None:
        """Name the directory; nothing is made yet."""
        self.path = path

    def open_procs_fd(self) -> int | None:
        """Open cgroup.procs for writing, making the leaf: a process that writes "0" to it moves in.

        Returns:
            A descriptor that is closed on exec, for the caller to close; None when it cannot be had.
        """
        if not self._make():
            return None
        try:
            return os.open(self.path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return None

    def add(self, pid: int) -> bool:
        """Move a process, not its children, into the leaf. False: it is gone, or may not be moved."""
        return self._make() and _write(self.path / "cgroup.procs", str(pid))

    def set_limits(self, hard: int | None) -> bool:
        """Set the memory at which the kernel kills all processes of the leaf at once; None: no limit.

        memory.high is left alone: it would throttle the actor in place of asking it to leave.

        Args:
            hard: bytes.

        Returns:
            False when there is no memory controller here: the limit must be kept by sampling.
        """
        if not self._make():
            return False
        _write(self.path / "memory.oom.group", "1")
        return _write(self.path / "memory.max", "max" if hard is None else str(hard))

    def populated(self) -> bool:
        """Return whether a live process is in the leaf or below. Zombies do not count."""
        return _number(self.path / "cgroup.events", "populated") == 1

    def kill(self) -> bool:
        """Send SIGKILL to every process of the leaf and below. They are gone when `populated` says so.

        Returns:
            False when somebody is left who has not been sent it, or there is no such leaf: try again.
        """
        if _write(self.path / "cgroup.kill", "1"):
            return True
        return _kill_each(self.path)  # before Linux 5.14

    def anon(self) -> int | None:
        """Return anonymous and shared memory in bytes, page cache left out; None without the controller."""
        anon = _number(self.path / "memory.stat", "anon")
        shmem = _number(self.path / "memory.stat", "shmem")
        return None if anon is None or shmem is None else anon + shmem

    def oom_kills(self) -> int | None:
        """Return how many processes were killed for want of memory so far; None without the controller."""
        return _number(self.path / "memory.events", "oom_kill")

    def remove(self) -> bool:
        """Remove the leaf and what was made below it. False: somebody is still there."""
        try:
            for path in sorted(self.path.rglob("*/"), reverse=True):
                path.rmdir()
            self.path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def _make(self) -> bool:
        try:
            self.path.mkdir(exist_ok=True)
        except OSError:
            return False
        return True


def _fault(path: Path) -> str:
    """Return why a directory cannot be used, empty when it can."""
    if not (path / "cgroup.procs").exists():
        return "not a cgroup2 directory"
    for needed in (path, path / "cgroup.procs", path / "cgroup.subtree_control"):
        if not os.access(needed, os.W_OK):
            return f"no right to write to {needed}"
    return ""


def _is_delegated(path: Path) -> bool:
    """Return whether systemd says so, or the directory was given to our user. To root all belongs anyway."""
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(path, name) == b"1":
                return True
    try:
        return os.geteuid() != 0 and path.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _kill_each(path: Path) -> bool:
    """Kill by pid, through pidfds of which the leaf says that they are still its own."""
    try:
        directories = [path, *path.rglob("*/")]
    except OSError:
        return False
    done = [_kill_in(directory) for directory in directories]  # each of them, whatever the others say
    return all(done)


def _kill_in(path: Path) -> bool:
    sent: set[int] = set()
    for _ in range(_ROUNDS):
        listed = _pids(path)
        if listed is None:
            return False
        fresh = set(listed) - sent - {0}  # 0: a process of another pid namespace
        if not fresh:
            return 0 not in listed
        pidfds = _pidfds(fresh)
        still = _pids(path) or []
        for pid, pidfd in pidfds.items():
            if pid in still:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        sent |= fresh
    return False


def _pidfds(pids: set[int]) -> dict[int, int]:
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            found[pid] = os.pidfd_open(pid)
    return found


def _pids(path: Path) -> list[int] | None:
    text = _read(path / "cgroup.procs")
    return None if text is None else [int(pid) for pid in text.split()]


def _number(path: Path, key: str) -> int | None:
    """Return one figure of a flat keyed file, None when file or key is missing."""
    for line in (_read(path) or "").splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.isdecimal():
            return int(value)
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text("ascii")
    except OSError:
        return None


def _write(path: Path, text: str) -> bool:
    """Write to a file that the kernel made; it is never created. False: it is not there, or says no."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
