"""The writer of one channel: what collectors send is on disk before it is acknowledged.

    collectors ─link─▶ commit group ─thread─▶ journal, fdatasync ─▶ acknowledged
                                                 │ rotation
                                                 ▼
                                       closed journal ─child─▶ Parquet in ready/

It never gives up on a group: while the disk is full or read-only it holds what it has, acknowledges nothing,
and tries again; the link holds up the senders, and the collectors decide what to shed.
"""

import asyncio
import contextlib
import errno
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from daedalus.actors import endpoints
from daedalus.actors.condition import Condition
from daedalus.actors.diskmarks import DiskMarks
from daedalus.actors.rotation import WriterSettings, Written, rotation
from daedalus.actors.sealing import Sealing
from daedalus.actors.store import Store
from daedalus.dataset.durable import written_bytes
from daedalus.dataset.evict import Evicted, evict
from daedalus.dataset.layout import Layout
from daedalus.kernel.actor import Actor, Context, Drained
from daedalus.kernel.errors import FatalError
from daedalus.kernel.journal import Entry
from daedalus.kernel.link import LinkReceiver
from daedalus.kernel.notify import Notifier
from daedalus.kernel.telemetry import get_logger
from daedalus.kernel.timesync import is_synchronized

__all__ = ["Writer", "WriterSettings", "Written", "rotation"]

_T = TypeVar("_T")

_HOLD = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM}  # may pass by itself
_RETRY_S = 1.0
_LOCK_WAIT_S = 3.0  # a writer of a dead supervisor leaves within this
_LOCK_RETRY_S = 0.05
_SPACE_S = 5.0  # between two looks at the free space
_CLOCK_S = 1.0  # … at the clock: nothing says when it becomes synchronised
_DURATIONS = 512  # commits over which p50 and p99 are taken


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
        self._notifier = Notifier()
        self._condition = Condition(settings.channel, self._notifier.status)
        self._marks = DiskMarks(settings.warn_pct, settings.evict_pct, settings.stop_pct)
        self._evicted = Evicted(0, 0)
        self._sure = asyncio.Event()  # of the clock, or tired of waiting: what is closed may be sealed
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
        self.spawn(self._watch_space())
        try:
            await self._own()
            self._store.open()  # on the loop: nothing else is to be done yet, and a thread costs a wake-up
        except OSError as error:
            if error.errno not in _HOLD:
                raise self._unwritable(error) from error
            self._condition.refused("open", error)
            self.spawn(self._begin_later())
            return
        await self._begin()

    async def _own(self) -> None:
        deadline = self._loop.time() + _LOCK_WAIT_S
        while not self._store.lock():
            if self._loop.time() > deadline:
                raise FatalError(
                    f"cannot write {self._store.directory}: another writer has it "
                    f"(waited {_LOCK_WAIT_S:g} s for its lock)"
                )
            await asyncio.sleep(_LOCK_RETRY_S)

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
        self.spawn(self._seal())
        self._log.info(
            "writer_started",
            channel=given.channel,
            journal=self._store.journal.number,
            senders=len(self._store.cursors),
            recovered=self._store.recovered,
            state_damaged=self._store.state_damaged,
        )

    async def _begin_later(self) -> None:
        while True:
            await asyncio.sleep(_RETRY_S)
            try:
                await self._own()
                self._store.open()
            except OSError as error:
                if error.errno not in _HOLD:
                    raise self._unwritable(error) from error
                self._condition.refused("open", error)
            else:
                break
        self._condition.done("open")
        await self._begin()

    async def _seal(self) -> None:
        """Run the sealer, once the clock can be believed or was waited for long enough.

        Records are journaled meanwhile. A machine without a battery clock boots in the past: its hours are
        no hours, and the first minutes would lie in partitions of another year.
        """
        given = self.settings
        if not is_synchronized() and _uptime_s() < given.clock_wait_s:
            self._log.warning("clock_awaited", channel=given.channel, clock_wait_s=given.clock_wait_s)
            while not is_synchronized() and (left_s := given.clock_wait_s - _uptime_s()) > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._sure.wait(), min(_CLOCK_S, left_s))
                    break
            self._log.info("clock_wait_ended", channel=given.channel, synchronized=is_synchronized())
        self._sure.set()
        self._look()
        assert self._sealing is not None
        if self._store.closed():
            self._sealing.want()
        await self._sealing.run()

    # Commit

    async def _commit(self, entries: list[Entry]) -> None:
        async with self._disk:
            began = time.perf_counter()
            before = self._store.journal.bytes
            await self._insist("append", lambda: self._store.append(entries))
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

    async def _insist(self, what: str, work: Callable[[], _T]) -> _T:
        """Do blocking work in the journal's thread; while the disk refuses, hold and try again."""
        while True:
            try:
                result = await self._loop.run_in_executor(self._thread, work)
            except OSError as error:
                self._condition.refused(what, error)
                await asyncio.sleep(_RETRY_S)
            else:
                self._went_through(what)
                return result

    def _went_through(self, what: str) -> None:
        if self._condition.done(what) and self._sealing is not None:
            self._sealing.retry()

    # Space

    async def _watch_space(self) -> None:
        """Look at the free space from time to time; make room when it is short."""
        layout = Layout(data=self.settings.data)
        while True:
            with contextlib.suppress(OSError):  # not made yet, or gone: appending says so
                level = self._space()
                if level in {"evict", "stop"}:
                    await self._make_room(layout)
                    level = self._space()
                self._condition.space(level, self._marks.free_pct)
            await asyncio.sleep(_SPACE_S)

    def _space(self) -> str:
        found = os.statvfs(self.settings.data)
        return self._marks.level(found.f_bavail, found.f_blocks)

    async def _make_room(self, layout: Layout) -> None:
        # Not in the journal's thread: commits do not wait for it.
        gone = await asyncio.to_thread(evict, layout, lambda: self._space() not in {"evict", "stop"})
        if gone.files:
            before = self._evicted
            self._evicted = Evicted(before.files + gone.files, before.bytes + gone.bytes)
            self._log.warning("bronze_evicted", channel=self.settings.channel, **gone._asdict())

    # Rotation

    def _look(self) -> None:
        """Rotate if it is time, else look again when it will be."""
        if self._rotate_at is not None:
            self._rotate_at.cancel()
            self._rotate_at = None
        if self._written is None:
            return
        reason, left_s = rotation(
            self.settings, self._written, time.time(), time.monotonic(), hourly=self._sure.is_set()
        )
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
                self._condition.refused("rotate", error)
                self._rotate_at = self._loop.call_later(_RETRY_S, self._look)
                return
            self._went_through("rotate")
            self._written = None
        self._log.info("journal_closed", journal=closed.name, reason=reason, records=records)
        assert self._sealing is not None
        self._sealing.want()

    # End

    async def drain(self) -> Drained:
        """Commit and acknowledge all that has arrived, close the journal, have everything sealed."""
        if self._receiver is None or self._sealing is None:
            return Drained(0, 0)
        self._sure.set()
        flushed = await self._receiver.drain()
        async with self._disk:
            if self._rotate_at is not None:
                self._rotate_at.cancel()
            await self._insist("close", self._store.finish)
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
        self._notifier.close()

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
                "segment_bytes": self._sealing.bytes_out,
            } | self._wear(self._sealing)
        return stats | {
            "commit_p50_ms": round(durations[len(durations) // 2], 3) if durations else None,
            "commit_p99_ms": round(durations[len(durations) * 99 // 100], 3) if durations else None,
            "journal_bytes": self._bytes,
            "stalled": self._condition.cause,
            "stalled_s": round(self._condition.stalled_s, 1),
            "disk_free_pct": None if self._marks.free_pct is None else round(self._marks.free_pct, 2),
            "evicted": self._evicted.files,
            "evicted_bytes": self._evicted.bytes,
        }

    def _wear(self, sealing: Sealing) -> dict[str, int | float | None]:
        """What the disk had to write, and how many times the segments' own bytes that is."""
        own = written_bytes()
        total = None if own is None else own + sealing.bytes_written
        out = sealing.bytes_out
        return {
            "bytes_written": total,
            "write_amplification": None if total is None or not out else round(total / out, 2),
        }


def _uptime_s() -> float:
    """Return the time since the machine booted, s, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
