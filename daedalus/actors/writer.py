"""The writer of one channel: what collectors send is on disk before it is acknowledged.

    collectors ─link─▶ commit group ─thread─▶ journal, fdatasync ─▶ acknowledged
                                                 │ rotation
                                                 ▼
                                       closed journal ─child─▶ Parquet in ready/

It never gives up on a group: while the disk is full or read-only it holds what it has, acknowledges nothing,
and tries again; the link holds up the senders, and the collectors decide what to shed.
"""

import asyncio
import errno
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from daedalus.actors import endpoints
from daedalus.actors.sealing import Sealing
from daedalus.actors.store import Store
from daedalus.dataset.layout import Layout
from daedalus.kernel.actor import Actor, Context, Drained
from daedalus.kernel.errors import FatalError
from daedalus.kernel.journal import Entry
from daedalus.kernel.link import LinkReceiver
from daedalus.kernel.telemetry import get_logger

__all__ = ["Writer", "WriterSettings", "Written", "rotation"]

_T = TypeVar("_T")

_HOLD = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM}  # may pass by itself
_RETRY_S = 1.0
_LOCK_WAIT_S = 3.0  # a writer of a dead supervisor leaves within this
_LOCK_RETRY_S = 0.05
_HOUR_S = 3600
_DURATIONS = 512  # commits over which p50 and p99 are taken


class WriterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What one writer is told; the keys of `[writer]`, and where it lives."""

    channel: str
    data: str  # absolute path of the data directory
    runtime: str  # absolute path of the runtime directory
    raw_format: str = "parquet"  # parquet | ndjson
    commit_ms: float = 100
    commit_records: int = 1000
    segment_max_mb: float = 50  # MiB of journal on disk
    max_segment_age_s: float = 900
    idle_seal_s: float = 60
    rollover_grace_s: float = 2  # after the UTC hour
    compression: str = "zstd"
    compression_level: int = 3
    row_group_rows: int = 8192


class Written(msgspec.Struct, frozen=True):
    """What rotation is decided by: the journal as it stands."""

    bytes: int
    first_wall_s: float  # wall clock at its first commit
    first_mono_s: float  # monotonic clock at its first commit
    last_mono_s: float  # … at its last


def rotation(settings: WriterSettings, written: Written, wall_s: float, mono_s: float) -> tuple[str, float]:
    """Decide when a journal with records in it has to be closed, and why.

    Returns:
        (reason, seconds from now; 0 or less: now) of what comes first.
    """
    hour_ends = (written.first_wall_s // _HOUR_S + 1) * _HOUR_S + settings.rollover_grace_s
    due = [
        ("hour", hour_ends - wall_s),
        ("age", written.first_mono_s + settings.max_segment_age_s - mono_s),
        ("idle", written.last_mono_s + settings.idle_seal_s - mono_s),
    ]
    if written.bytes >= settings.segment_max_mb * (1 << 20):
        due.append(("size", 0.0))
    return min(due, key=lambda item: item[1])


class Writer(Actor):
    """Journals one channel of all exchanges and has it sealed."""

    Settings = WriterSettings
    settings: WriterSettings

    def __init__(self, settings: WriterSettings, context: Context) -> None:
        super().__init__(settings, context)
        layout = Layout(data=settings.data)
        self._store = Store(layout, settings.channel)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._receiver: LinkReceiver | None = None
        self._sealing: Sealing | None = None
        self._written: Written | None = None  # None: no record in the journal yet
        self._rotate_at: asyncio.TimerHandle | None = None
        self._disk = asyncio.Lock()  # one at a time: commits and rotations
        self._stalled = ""
        self._durations_ms: deque[float] = deque(maxlen=_DURATIONS)
        self._bytes = 0
        self._log = get_logger()

    async def start(self) -> None:
        """Restore, begin a journal, bind. While the disk refuses, the socket stays unbound."""
        self._loop = asyncio.get_running_loop()
        given = self.settings
        self._sealing = Sealing(
            [
                *("--data", given.data, "--channel", given.channel, "--raw-format", given.raw_format),
                *("--compression", given.compression, "--compression-level", str(given.compression_level)),
                *("--row-group-rows", str(given.row_group_rows)),
            ],
            lambda: len(self._store.closed()),
        )
        await self._own()
        try:
            self._store.open()  # on the loop: nothing else is to be done yet, and a thread costs a wake-up
        except OSError as error:
            if error.errno not in _HOLD:
                raise self._unwritable(error) from error
            self._hold(error)
            self.spawn(self._begin_later())
            return
        await self._begin()

    async def _own(self) -> None:
        deadline = self._loop.time() + _LOCK_WAIT_S
        try:
            while not self._store.lock():
                if self._loop.time() > deadline:
                    raise FatalError(
                        f"cannot write {self._store.directory}: another writer has it "
                        f"(waited {_LOCK_WAIT_S:g} s for its lock)"
                    )
                await asyncio.sleep(_LOCK_RETRY_S)
        except OSError as error:
            if error.errno in _HOLD:
                raise
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> FatalError:
        return FatalError(
            f"cannot write the data directory {self.settings.data}: {error.strerror} ({error.filename})"
        )

    async def _begin(self) -> None:
        given = self.settings
        self._receiver = LinkReceiver(
            endpoints.link(given.runtime, given.channel),
            cursors=self._store.cursors,
            commit=self._commit,
            commit_ms=given.commit_ms,
            commit_records=given.commit_records,
        )
        await self._receiver.start()
        self.spawn(self._receiver.failed())
        assert self._sealing is not None
        self.spawn(self._sealing.run())
        if self._store.closed():
            self._sealing.want()
        self._log.info(
            "writer_started",
            channel=given.channel,
            journal=self._store.journal.number,
            senders=len(self._store.cursors),
            recovered=self._store.recovered,
            state_damaged=self._store.state_damaged,
        )

    async def _begin_later(self) -> None:
        await self._insist(self._store.open)
        await self._begin()

    # Commit

    async def _commit(self, entries: list[Entry]) -> None:
        async with self._disk:
            began = time.perf_counter()
            before = self._store.journal.bytes
            await self._insist(lambda: self._store.append(entries))
            self._durations_ms.append((time.perf_counter() - began) * 1000)
            size = self._store.journal.bytes
            self._bytes += size - before
            wall_s, mono_s = time.time(), time.monotonic()
            first = self._written
            if first is None:
                self._written = Written(size, wall_s, mono_s, mono_s)
            else:
                self._written = Written(size, first.first_wall_s, first.first_mono_s, mono_s)
        # The timer is set once per journal and looks again when it fires; only size cannot wait for it.
        if first is None or size >= self.settings.segment_max_mb * (1 << 20):
            self._look()

    async def _insist(self, work: Callable[[], _T]) -> _T:
        """Do blocking work in the journal's thread; while the disk refuses, hold and try again."""
        while True:
            try:
                result = await self._loop.run_in_executor(self._thread, work)
            except OSError as error:
                self._hold(error)
                await asyncio.sleep(_RETRY_S)
            else:
                if self._stalled:
                    self._stalled = ""
                    self._log.info("journal_resumed", channel=self.settings.channel)
                return result

    def _hold(self, error: OSError) -> None:
        cause = errno.errorcode.get(error.errno or 0, "EIO")
        if cause != self._stalled:
            self._stalled = cause
            self._log.error("journal_stalled", channel=self.settings.channel, error=str(error), cause=cause)

    # Rotation

    def _look(self) -> None:
        """Rotate if it is time, else look again when it will be."""
        if self._rotate_at is not None:
            self._rotate_at.cancel()
            self._rotate_at = None
        if self._written is None:
            return
        reason, left_s = rotation(self.settings, self._written, time.time(), time.monotonic())
        if left_s <= 0:
            self.spawn(self._rotate(reason))
        else:
            # At most a minute: the wall clock may be stepped.
            self._rotate_at = self._loop.call_later(min(left_s, 60.0), self._look)

    async def _rotate(self, reason: str) -> None:
        async with self._disk:
            if self._written is None or not self._store.is_open:
                return  # somebody was faster
            records = self._store.journal.records
            try:
                closed = await self._loop.run_in_executor(self._thread, self._store.rotate)
            except OSError as error:
                self._hold(error)
                self._rotate_at = self._loop.call_later(_RETRY_S, self._look)
                return
            self._written = None
        self._log.info("journal_closed", journal=closed.name, reason=reason, records=records)
        assert self._sealing is not None
        self._sealing.want()

    # End

    async def drain(self) -> Drained:
        """Commit and acknowledge all that has arrived, close the journal, have everything sealed."""
        if self._receiver is None or self._sealing is None:
            return Drained(0, 0)
        flushed = await self._receiver.drain()
        async with self._disk:
            if self._rotate_at is not None:
                self._rotate_at.cancel()
            await self._insist(self._store.finish)
            self._written = None
        await self._sealing.finish()
        return Drained(self._receiver.pending, flushed)

    async def stop(self) -> None:
        """Close the socket, end the sealer, let go of the directory."""
        if self._rotate_at is not None:
            self._rotate_at.cancel()
        if self._receiver is not None:
            await self._receiver.close()
        if self._sealing is not None:
            await self._sealing.kill()
        self._thread.shutdown(wait=True)
        self._store.release()

    def mailbox(self) -> int:
        """Return the records that are received but not stored."""
        return 0 if self._receiver is None else self._receiver.pending

    def stats(self) -> dict[str, int | float | str | None]:
        """Return counters since start; durations in ms."""
        durations = sorted(self._durations_ms)
        stats: dict[str, Any] = {} if self._receiver is None else self._receiver.stats()
        if self._sealing is not None:
            stats |= {
                "sealed": self._sealing.sealed,
                "sealed_rows": self._sealing.rows,
                "seal_failures": self._sealing.failures,
                "seal_cpu_s": round(self._sealing.cpu_s, 3),
            }
        return stats | {
            "commit_p50_ms": round(durations[len(durations) // 2], 3) if durations else None,
            "commit_p99_ms": round(durations[len(durations) * 99 // 100], 3) if durations else None,
            "journal_bytes": self._bytes,
            "stalled": self._stalled,
        }
