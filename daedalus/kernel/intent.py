"""What the operator wants, kept over restarts of the supervisor: who is to stay down, and the counters.

One small file, replaced atomically and forced to the disk. An SD card wears with every write, so counters
wait for up to a minute; a change of who is down does not wait. The disk may take seconds: `Keeper.write` is
for another thread than the loop's.

Beside it lies the lock of the data directory. The lock of the runtime directory keeps two supervisors out of
one set of sockets; this one keeps two with different sockets out of one set of files.
"""

import contextlib
import os
import threading
from pathlib import Path

import msgspec

from daedalus.kernel.errors import ConfigError
from daedalus.kernel.home import take_lock

__all__ = ["INTERVAL_S", "Intent", "Keeper", "intent_path", "load", "lock_data"]

INTERVAL_S = 60.0  # at most one write of counters in this time
_VERSION = 1


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered."""

    down: frozenset[str] = frozenset()  # actors that an operator stopped
    restarts: dict[str, int] = {}  # actor -> restarts since the counter was reset


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    v: int
    down: list[str]
    restarts: dict[str, int]


def intent_path(data: str) -> Path:
    """Return where the intent of a data directory is kept."""
    return Path(data) / "state" / "supervisor" / "intent.json"


def load(path: Path) -> tuple[Intent, str]:
    """Return what was remembered, and what was wrong with it.

    A missing file is an empty intent. A damaged one too: it is moved aside to `intent.json.damaged`, and the
    second value says so in words. It is empty when all was well. Never raises.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
        if found.v != _VERSION:
            raise msgspec.ValidationError(f"version {found.v}, must be {_VERSION}")
    except FileNotFoundError:
        return Intent(), ""
    except OSError as error:
        return Intent(), f"cannot read {path}: {error.strerror}"
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        aside = path.with_name(path.name + ".damaged")
        try:
            path.replace(aside)
        except OSError as second:
            return Intent(), f"cannot read {path}: {error}; it stays, {second.strerror}"
        return Intent(), f"cannot read {path}: {error}; moved to {aside}"
    return Intent(down=frozenset(found.down), restarts=found.restarts), ""


class Keeper:
    """Decides when the file is due, and writes it."""

    def __init__(self, path: Path, now: float, known: Intent | None = None) -> None:
        """Begin with what is on disk. The first minute begins now.

        Args:
            path: the file; its directory is made when it is written.
            now: monotonic seconds.
            known: what `load` returned; default: nothing.
        """
        self.path = path
        self.intent = known or Intent()
        self._written = self.intent
        self._at = now  # of the last write, or attempt
        self._failed = False
        self._writing = threading.Lock()

    def note(self, intent: Intent) -> None:
        """Take what is to be remembered from now on. Touches no disk."""
        self.intent = intent

    def due_in_s(self, now: float) -> float | None:
        """Return the seconds until the file is to be written, 0 for at once; None: it is up to date."""
        noted, written = self.intent, self._written
        if noted == written:
            return None
        if noted.down != written.down and not self._failed:
            return 0.0
        return max(0.0, self._at + INTERVAL_S - now)

    def due(self, now: float) -> bool:
        """Return whether the file is to be written now (monotonic seconds)."""
        return self.due_in_s(now) == 0.0

    def write(self, now: float) -> None:
        """Write what was noted last, if the file does not hold it yet. Blocks until the disk has it.

        May run in any thread; two at once follow one another. After a failure the next attempt is due in a
        minute, even for a change of who is down.

        Raises:
            OSError: the disk is full, read-only or broken; the old file stands.
        """
        with self._writing:
            noted = self.intent
            if noted == self._written:
                return
            self._at = now
            try:
                _replace(self.path, _encode(noted))
            except OSError:
                self._failed = True
                raise
            self._written, self._failed = noted, False


def _encode(intent: Intent) -> bytes:
    file = _File(v=_VERSION, down=sorted(intent.down), restarts=dict(sorted(intent.restarts.items())))
    return msgspec.json.encode(file) + b"\n"


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def lock_data(data: str) -> int:
    """Take the lock of a data directory for life and return the descriptor that holds it: see `take_lock`.

    Raises:
        LockedError: another supervisor uses these data; the message names its pid.
        ConfigError: the directory cannot be made, or cannot be locked.
    """
    path = intent_path(data).with_name("lock")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        return take_lock(path, f"cannot start with the data in {data}: a supervisor already uses them")
    except OSError as error:
        raise ConfigError(f"cannot lock the data directory {data}: {error.strerror} ({path})") from None
