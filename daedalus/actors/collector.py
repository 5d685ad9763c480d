"""The collector: one exchange, from its sockets to spools, links and the live topics.

    adapter ─▶ intake (capture time, number, encode) ─▶ spool and link ─▶ PUB
                  └─ no room, no disk: shed, count, gap row when it ends

What a message means is decided in `exchanges`, what becomes of it in `intake` and the pure rules below that.
This file is the life of the process: what is opened, watched and closed, and when it makes way for another.
"""

import asyncio
import os
import signal
import time
from functools import partial

from daedalus.actors import endpoints
from daedalus.actors.channel import SHARES, Outlet
from daedalus.actors.diskmarks import DiskMarks
from daedalus.actors.intake import ALL_FRAMES, Intake
from daedalus.actors.recycling import SAMPLE_S, Limits, Recycling, anonymous_bytes
from daedalus.actors.sources import (
    CollectorSettings,
    check,
    claim_names,
    last_heard,
    make_adapter,
    names_of,
    sanitised,
    whole_books,
)
from daedalus.actors.spools import adopt, identity, others
from daedalus.actors.standing import standing
from daedalus.actors.streamstate import StreamState
from daedalus.actors.tradefile import TradeFile
from daedalus.exchanges.adapter import Stream
from daedalus.kernel.actor import Actor, Context, Drained
from daedalus.kernel.clock import SystemClock
from daedalus.kernel.errors import EXIT_RECYCLE
from daedalus.kernel.telemetry import get_logger
from daedalus.kernel.timesync import is_synchronized
from daedalus.kernel.topic import Answers, Publisher
from daedalus.records import FRAMES, Gap, Trade, decode

__all__ = ["Collector"]

WELCOME_WAIT_S = 2.0  # a writer that is there answers within milliseconds
TICK_S = 1.0
LOOK_EVERY = 5  # ticks between two looks at the synchronisation of the clock, and at the disk
STREAMS_BYTES = 48_000  # of figures of single streams: the supervisor hears 64 KiB at a time
FIGURE_BYTES = 16  # a number and what stands around it
SAVE_EVERY = 60  # ticks between two savings of the memory of trades
SAMPLE_EVERY = round(SAMPLE_S / TICK_S)  # ticks between two looks at the memory of this process
DRAIN_MARGIN_S = 0.2
_SEED_ROWS = 20_000  # trades of earlier processes that are looked through
_SEED_BATCH = 256


class Collector(Actor):
    """One exchange."""

    Settings = CollectorSettings
    settings: CollectorSettings

    def __init__(self, settings: CollectorSettings, context: Context) -> None:
        """Check the settings; no sockets yet.

        Raises:
            FatalError: the configuration cannot be served.
        """
        super().__init__(settings, context)
        self._exchange = sanitised(settings.exchange)
        check(settings)
        streams = [
            Stream(symbol, channel) for channel, names in settings.channels.items() for symbol in names
        ]
        if settings.raw_capture == "frames":
            streams.append(ALL_FRAMES)
        self.intake = Intake(self._exchange, streams, SystemClock(), names_of(settings))
        self._session = self.intake.session
        self._session.clock_ok = is_synchronized()
        self._trades = TradeFile(settings.data, self._exchange, self._session.trades)
        self._marks = DiskMarks(settings.warn_pct, settings.evict_pct, settings.stop_pct)
        self._disk = "ok"
        limits = Limits(
            after_h=settings.recycle_after_h,
            mb_per_h=settings.recycle_mb_per_h,
            soft_bytes=settings.memory_soft,
        )
        self._recycling = Recycling(limits, self._exchange)
        self._began = time.monotonic()
        self._outlets: dict[str, Outlet] = {}
        self._welcomed: dict[str, asyncio.Event] = {}
        self._replay: Answers | None = None
        self._ticks = 0

    # -- life, in order

    async def start(self) -> None:
        """Open spools, links and topics, and begin to collect. The exchange need not answer for that.

        Raises:
            FatalError: a symbol's name on disk is taken by another.
        """
        settings, runtime = self.settings, self.settings.runtime
        claim_names(settings)
        self._trades.load()
        self._adapter = make_adapter(settings, self.intake)
        self.intake.snapshots = partial(whole_books, self._adapter)
        self._open_outlets()
        publisher = Publisher(bind_to=endpoints.pub(runtime, self._exchange))
        self.intake.open(self._outlets, publisher)
        self._replay = Answers([endpoints.replay(runtime, self._exchange)], self.intake.index.answer)
        self._remember_trades()
        self._look_at_disk()
        for outlet in self._outlets.values():
            await outlet.link.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._recycle, "asked to")
        get_logger().info(
            "collector_started",
            exchange=self._exchange,
            adapter=settings.adapter,
            session_id=self._session.session_id,
            streams=len(self._session.streams),
            clock_ok=self._session.clock_ok,
        )
        self.spawn(self._collect())
        self.spawn(self._tick())

    def _open_outlets(self) -> None:
        settings = self.settings
        data_id = identity(settings.data)
        channels = list(dict.fromkeys(key.channel for key in self._session.streams))
        shares = sum(SHARES.get(channel, 1) for channel in channels)
        for channel in channels:
            self._welcomed[channel] = asyncio.Event()
            adopt(settings.runtime, self._exchange, channel, settings.data, data_id)
            self._outlets[channel] = Outlet(
                channel,
                exchange=self._exchange,
                source=self._adapter.source,
                runtime=settings.runtime,
                spool_bytes=int(settings.spool_mb * (1 << 20) * SHARES.get(channel, 1) / shares),
                batch=(settings.batch_records, settings.batch_ms),
                on_welcome=partial(self._on_welcome, channel),
                data_id=data_id,
            )
            for path, records in others(settings.runtime, self._exchange, channel, data_id):
                get_logger().warning("spool_kept", path=str(path), records=records)

    async def _collect(self) -> None:
        # raw messages have a writer of their own that says nothing of the others
        waits = [
            asyncio.ensure_future(event.wait()) for name, event in self._welcomed.items() if name != FRAMES
        ]
        _, late = await asyncio.wait(waits, timeout=WELCOME_WAIT_S)
        for wait in late:
            wait.cancel()
        self._session.asked_at = self.intake.capture().ts_recv
        await self._adapter.run()

    def _on_welcome(self, channel: str, marks: dict, seams: list) -> None:  # type: ignore[type-arg]
        self.intake.welcomed(channel, marks, seams)
        self._welcomed[channel].set()

    async def drain(self) -> Drained:
        """Close the exchange's sockets, write the gaps that are open, wait for acknowledgements."""
        before = sum(outlet.spool.acked for outlet in self._outlets.values())
        await self._leave()
        deadline = time.monotonic() + max(self.context.drain_s - DRAIN_MARGIN_S, 0.1)
        await self._drain_links(deadline)
        if self.intake.settle():  # the links made room for gap rows that had none
            await self._drain_links(deadline)
        flushed = sum(outlet.spool.acked for outlet in self._outlets.values()) - before
        return Drained(self.mailbox(), flushed)

    async def _leave(self) -> None:
        """Stop the intake, once. What is sent from now on is not read, and the last gap rows say so."""
        if self.intake.closing or not hasattr(self, "_adapter"):
            return
        self.intake.closing = True
        self.intake.left.update(last_heard(self._adapter))
        try:
            await self._adapter.close()
        finally:  # also when there is no more time for an exchange that does not let go
            self.intake.end()
            self._note_lags()
            self._trades.save(self.intake.capture().ts_recv)

    async def _drain_links(self, deadline: float) -> None:
        drains = [asyncio.ensure_future(outlet.link.drain()) for outlet in self._outlets.values()]
        if drains:
            await asyncio.wait(drains, timeout=max(deadline - time.monotonic(), 0.0))
        for task in drains:
            task.cancel()
        await asyncio.gather(*drains, return_exceptions=True)

    async def stop(self) -> None:
        """Close what start opened."""
        if self.intake.publisher is not None:
            await self._leave()
        for part in (self._replay, self.intake.publisher, *self._outlets.values()):
            if part is not None:
                part.close()

    def mailbox(self) -> int:
        """Return how many records no writer has acknowledged."""
        return sum(outlet.link.unacknowledged for outlet in self._outlets.values())

    # -- what came before

    def _remember_trades(self) -> None:
        if "trades" not in self._outlets:
            return
        memory, spool = self._session.trades, self._outlets["trades"].spool
        seen: set[str] = set()
        at = max(spool.oldest(), spool.next_seq - _SEED_ROWS)
        while records := spool.read(at, _SEED_BATCH):
            rows = [decode(record) for record in records]
            memory.remember(row for row in rows if isinstance(row, Trade))
            for row in rows:
                seen.add(row.symbol)
                if isinstance(row, Gap):
                    memory.remember_until(row.symbol, row.ended_at)
            at += len(records)
        memory.doubt(self._session.started_at, seen)

    # -- what time does

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await self._look_around()

    async def _look_around(self) -> None:
        """Do what is due, once per TICK_S."""
        self._ticks += 1
        self.intake.check_clock()
        if self._ticks % LOOK_EVERY == 0:
            self._session.clock_ok = is_synchronized()
            self._look_at_disk()
        if self._ticks % SAMPLE_EVERY == 0:
            why = self._recycling.sample(time.monotonic() - self._began, anonymous_bytes())
            if why is not None:
                self._recycle(why)
        for symbol, agreement in self.intake.sides.suspects():
            get_logger().warning("sides_doubted", symbol=symbol, agreement=round(agreement, 3))
        self.intake.look()
        if self._ticks % SAVE_EVERY == 0:
            self._note_lags()
            await self._trades.save_later(self.intake.capture().ts_recv)

    def _note_lags(self) -> None:
        for state in self._session.streams.values():
            if state.channel == "trades":
                self._session.trades.of[state.key.symbol].note_lag(state.lags_ns)

    def _recycle(self, why: str) -> None:
        """Make way for a fresh process, which the supervisor starts at once and uncounted."""
        get_logger().warning("collector_recycled", exchange=self._exchange, why=why)
        self.leave(EXIT_RECYCLE)

    def _look_at_disk(self) -> None:
        """Take no more records below the stop mark; the gap rows say so once there is room again."""
        if not self.settings.data:
            return
        try:
            found = os.statvfs(self.settings.data)
        except OSError:
            return  # a disk that is not there is the writers' to tell
        before, self._disk = self._disk, self._marks.level(found.f_bavail, found.f_blocks)
        if (self._disk == "stop") == (before == "stop"):
            return
        held = self._disk == "stop"
        self._session.shed_because = self._of_disk() if held else None
        for outlet in self._outlets.values():
            outlet.held = held
        log, free_pct = get_logger(), round(self._marks.free_pct or 0.0, 2)
        if held:
            log.error("intake_held", free_pct=free_pct, stop_pct=self.settings.stop_pct)
        else:
            log.warning("intake_resumed", free_pct=free_pct)

    def _of_disk(self) -> str:
        if self._disk == "ok" or self._marks.free_pct is None:
            return ""
        nothing = ": nothing is stored" if self._disk == "stop" else ""
        return f"disk {self._marks.free_pct:.1f} % free{nothing}"

    # -- what is told

    def status(self) -> str:
        """Return what is out of the ordinary, in one line."""
        fills = {channel: outlet.spool.fill for channel, outlet in self._outlets.items()}
        session = self._session
        return standing(session.streams.values(), fills, disk=self._of_disk(), clock_ok=session.clock_ok)

    def stats(self) -> dict[str, int | float | str | None]:
        """Return counters: of the collector, of each channel, of each stream."""
        now, session, intake = self.intake.capture(), self._session, self.intake
        states, ids = session.streams.values(), session.trades.of.values()
        known = [one.missing for one in ids if one.missing is not None]
        out: dict[str, int | float | str | None] = {
            "session_id": session.session_id,
            "received": sum(state.received for state in states),
            "stored": sum(state.rows for state in states),
            "shed": sum(state.shed for state in states),
            "gaps": sum(state.gaps for state in states),
            "open_gaps": sum(state.hole is not None for state in states),
            "duplicates": sum(one.duplicates for one in ids),
            "duplicates_presumed": sum(one.presumed for one in ids),
            "trade_ids_missing": sum(known) if known else None,
            "trade_ids_refuted": sum(one.outliers for one in ids),
            "side_agreement": intake.sides.lowest(),
            "clock_ok": int(session.clock_ok),
            "disk_free_pct": None if self._marks.free_pct is None else round(self._marks.free_pct, 2),
            "memory_mb_per_h": self._recycling.mb_per_h,
            "published": intake.publisher.sent if intake.publisher is not None else 0,
            "replays_served": intake.index.served,
            "replays_refused": intake.index.refused,
            **self._adapter.stats(),
        }
        for channel, outlet in self._outlets.items():
            out[f"{channel}.unacknowledged"] = outlet.link.unacknowledged
            out[f"{channel}.acknowledged"] = outlet.spool.acked
            out[f"{channel}.spool_fill"] = round(outlet.spool.fill, 4)
            out[f"{channel}.gaps_owed"] = len(outlet.owed)
            out[f"{channel}.gaps_dropped"] = outlet.owed_dropped
        room = STREAMS_BYTES
        out["streams_untold"] = 0
        for state in sorted(states, key=_trouble, reverse=True):
            figures = state.stats(now.ts_recv, now.mono_ns)
            room -= sum(map(len, figures)) + FIGURE_BYTES * len(figures)
            if room < 0:
                out["streams_untold"] += 1  # type: ignore[operator]
            else:
                out |= figures
        return out


def _trouble(state: StreamState) -> tuple[bool, int, int]:
    return state.hole is not None, state.shed, state.gaps
