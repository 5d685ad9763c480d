"""What a writer has on disk: its lock, its journals, its cursors. Blocking calls, no event loop.

    {data}/raw/active/{channel}/journal_{n}.open | .closed
    {data}/state/cursors-{channel}.json     State: the cursors at the end of journal n
    {data}/state/writer-{channel}.lock      two writers on one directory are refused

Theory of operation. At any moment the newest durable thing with a table of cursors is complete: the next
journal is created, with its table, before the one before it is closed; the state file is written before the
last journal is closed for good. So sealing and deleting a closed journal never takes a cursor with it.
"""

import contextlib
import errno
import fcntl
import os
from pathlib import Path

import msgspec

from daedalus.dataset.cursors import State, save_state, state_path
from daedalus.dataset.durable import make_directory, remove
from daedalus.dataset.layout import Layout
from daedalus.kernel.journal import CLOSED, OPEN, Cursor, Entry, Journal, journals
from daedalus.kernel.recovery import close_leftover, read_tail

__all__ = ["Store"]


class Store:
    """The journals of one channel: `lock` and `open`, then `append` and `rotate`, `finish`, `release`."""

    def __init__(self, layout: Layout, channel: str) -> None:
        self.channel = channel
        self.directory = layout.active(channel)
        self.cursors: dict[str, Cursor] = {}  # as restored; later tables belong to the journals
        self.recovered = 0  # leftover journals of a dead writer
        self.state_damaged = False  # the state file could not be read and was put aside
        self._state_path = state_path(layout, channel)
        self._lock_path = layout.state() / f"writer-{channel}.lock"
        self._lock = -1
        self._journal: Journal | None = None
        self._unclosed: Journal | None = None  # rotated away, and the disk refused to close it

    def lock(self) -> bool:
        """Make the directories and take the lock; False if another writer has it.

        Raises:
            OSError: the data directory cannot be written.
        """
        make_directory(self.directory)
        make_directory(self._lock_path.parent)
        if self._lock < 0:
            try:
                self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            except OSError as error:
                if error.errno != errno.EROFS:
                    raise
                self._lock = os.open(self._lock_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def open(self) -> None:
        """Restore the cursors, begin a journal, close what a dead writer left behind.

        Raises:
            OSError: the disk is full or fails; it may be called again.
        """
        state = self._load()
        number, cursors = state.journal, state.cursors
        leftovers = []
        for number_found, path in journals(self.directory):
            tail = read_tail(path, cursors)
            if number_found >= state.journal:
                cursors = tail.cursors
            number = max(number, number_found)
            if path.suffix == OPEN:
                leftovers.append((path, tail))
        self._journal = Journal(self.directory, number + 1, cursors)
        self.cursors = dict(cursors)
        for path, tail in leftovers:
            if tail.empty:
                remove(path)
            else:
                close_leftover(path, tail.end)
                self.recovered += 1

    @property
    def journal(self) -> Journal:
        """Return the journal being written."""
        assert self._journal is not None  # open was called
        return self._journal

    @property
    def is_open(self) -> bool:
        """Return whether there is a journal to write to."""
        return self._journal is not None

    def append(self, entries: list[Entry]) -> None:
        """Make one commit group durable. Raises OSError: nothing is stored, it may be called again."""
        self.journal.append(entries)

    def rotate(self) -> Path:
        """Go on in a new journal and close the old one, which is returned (`.closed`).

        Raises:
            OSError: no new journal could be made and the old one goes on; or the old one could not be closed.
                Called again, it goes on where it failed.
        """
        if self._unclosed is None:
            old = self.journal
            self._save(old)
            self._journal = Journal(self.directory, old.number + 1, old.cursors)
            self._unclosed = old
        closed = self._unclosed.close()
        self._unclosed = None
        return closed

    def finish(self) -> None:
        """Close the last journal: a clean stop. An empty one is removed.

        Raises:
            OSError: it is as it was; this may be called again.
        """
        if self._unclosed is not None:
            self.rotate()
        journal = self.journal
        self._save(journal)
        if journal.records:
            journal.close()
        else:
            journal.abandon()
            remove(journal.path)
        self._journal = None

    def closed(self) -> list[Path]:
        """Return the journals that wait to be sealed, oldest first."""
        return [path for _, path in journals(self.directory) if path.suffix == CLOSED]

    def release(self) -> None:
        """Let go of everything; an unfinished journal is left to recovery, an empty directory removed."""
        for journal in (self._journal, self._unclosed):
            if journal is not None:
                journal.abandon()
        self._journal = self._unclosed = None
        if self._lock >= 0:
            with contextlib.suppress(OSError):  # something is left in it
                self.directory.rmdir()
            os.close(self._lock)
            self._lock = -1

    def _load(self) -> State:
        try:
            return msgspec.json.decode(self._state_path.read_bytes(), type=State)
        except FileNotFoundError:
            return State()
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Senders then say themselves how far they were acknowledged.
            self.state_damaged = True
            self._state_path.rename(self._state_path.with_suffix(".damaged"))
            return State()

    def _save(self, journal: Journal) -> None:
        save_state(self._state_path, State(journal.number, journal.cursors))
