"""The runtime directory: ours alone, locked by one supervisor, with a note of who runs in it."""

import contextlib
import fcntl
import os
import signal
import socket
import stat
import time
from pathlib import Path

import msgspec

from daedalus.kernel import process
from daedalus.kernel.errors import ConfigError, DaedalusError
from daedalus.kernel.process import Identity

__all__ = ["Home", "LockedError", "State", "take_lock"]

LEAVE_S = 1.5  # what survivors get to leave by themselves: they were told by the death of their parent
KILL_S = 10.0
_POLL_S = 0.02


class LockedError(DaedalusError):
    """Another supervisor runs in this directory."""


def take_lock(path: Path, busy: str) -> int:
    """Take the lock of a file for life, note our pid in it, and return the descriptor that holds it.

    The lock ends when the descriptor is closed in every process that has it, with the last of them at the
    latest. It is closed on exec unless it is made inheritable.

    Raises:
        LockedError: another has it; the message is `busy` and its pid.
        OSError: the file cannot be made, or cannot be locked.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        pid = os.pread(lock, 32, 0).decode(errors="replace").strip()
        os.close(lock)
        raise LockedError(f"{busy}, pid {pid or 'unknown'}") from None
    except OSError:
        os.close(lock)
        raise
    return lock


class State(msgspec.Struct, kw_only=True):
    """What the next supervisor must know if this one dies."""

    supervisor: Identity | None = None
    processes: dict[str, Identity] = {}  # actor -> its leader


class Home:
    """The directory of one running supervisor."""

    def __init__(self, runtime: str, *, shared: bool = False) -> None:
        """Create the directory or take the one that is there.

        Args:
            runtime: the directory.
            shared: a Unix group may pass through to the control socket: 0710, 0711 or 0750 will do.

        Raises:
            ConfigError: it cannot be made, or is not a directory of ours with a mode that keeps others out.
        """
        self.path = Path(runtime)
        self.locks: list[int] = []  # held for life: of this directory, and of the data
        self._written = b""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.path.lstat()
        except OSError as error:
            raise ConfigError(f"cannot make the runtime directory {runtime}: {error.strerror}") from None
        if not stat.S_ISDIR(found.st_mode):
            raise ConfigError(f"cannot use the runtime directory {runtime}: not a directory")
        if found.st_uid != os.geteuid():
            raise ConfigError(f"cannot use the runtime directory {runtime}: it belongs to uid {found.st_uid}")
        mode = stat.S_IMODE(found.st_mode)
        if mode & (0o026 if shared else 0o077):
            least = "0700, 0710, 0711 or 0750" if shared else "0700"
            raise ConfigError(f"cannot use the runtime directory {runtime}: mode {mode:04o}, must be {least}")

    def lock(self) -> None:
        """Take the lock for life.

        Raises:
            LockedError: another supervisor has it; the message names its pid.
        """
        busy = f"cannot start in {self.path}: a supervisor already runs there"
        self.locks.append(take_lock(self.path / "lock", busy))

    def load(self) -> State:
        """Return what the last supervisor left behind; nothing when it is missing or damaged."""
        try:
            return msgspec.json.decode((self.path / "state.json").read_bytes(), type=State)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return State()

    def save(self, state: State) -> None:
        """Replace the note atomically, when it has changed."""
        data = msgspec.json.encode(state)
        if data != self._written:
            temporary = self.path / "state.json.new"
            temporary.write_bytes(data)
            temporary.replace(self.path / "state.json")
            self._written = data

    def sweep_survivors(self) -> list[str]:
        """End what an earlier supervisor left alive and return their names.

        Only processes whose pid, start time and boot are the noted ones, and those that carry that
        supervisor's pid in the environment they were started with. Blocks for up to LEAVE_S + KILL_S.
        """
        state = self.load()
        if state.supervisor is None or process.is_alive(state.supervisor):
            return []
        marked = self._marked(state.supervisor.pid)
        survivors = state.processes | {f"pid {item.pid}": item for item in marked}
        found = [name for name, who in survivors.items() if process.is_alive(who)]
        _wait(list(survivors.values()), LEAVE_S)
        for who in survivors.values():
            if process.is_alive(who):
                _kill(who, group=who in state.processes.values())
        _wait(list(survivors.values()), KILL_S)
        return found

    def _marked(self, supervisor_pid: int) -> list[Identity]:
        marks = (f"DAEDALUS_SUPERVISOR_PID={supervisor_pid}", f"DAEDALUS_RUNTIME={self.path}")
        found = []
        for pid in process.processes():
            if pid != os.getpid() and all(process.environ_has(pid, mark) for mark in marks):
                who = process.identify(pid)
                if who is not None:
                    found.append(who)
        return found

    def close(self) -> None:
        """Leave in good order: nobody is left, so there is nothing to note and no socket is in use.

        The locks go last: until then no other supervisor binds anything here.
        """
        for name in ("state.json", "state.json.new", "control.sock", "notify.sock"):
            with contextlib.suppress(OSError):
                (self.path / name).unlink()
        with contextlib.suppress(OSError):  # somebody has cleared it away under us
            for path in self.path.iterdir():
                if _is_dead_socket(path):
                    path.unlink(missing_ok=True)
        for lock in self.locks:
            os.ftruncate(lock, 0)
            os.close(lock)
        self.locks.clear()


def _is_dead_socket(path: Path) -> bool:
    """Return whether this is a stream socket that nobody listens on: only the kernel's refusal says so."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(str(path))
    except ConnectionRefusedError:
        return True
    except OSError:  # gone, busy, of another kind, a name too long: not ours to judge
        return False
    return False


def _wait(who: list[Identity], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while any(map(process.is_alive, who)) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _kill(who: Identity, *, group: bool) -> None:
    """Kill exactly this process, and its group while it still pins the group's id."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(who.pid)
        try:
            if process.is_alive(who):
                if group and process.group_of(who.pid) == who.pid:
                    process.signal_group(who.pid, signal.SIGKILL)
                process.signal_pidfd(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
