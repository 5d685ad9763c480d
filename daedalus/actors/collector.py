"""The collector: one exchange, from its sockets to spools, links and the live topics.

    adapter ─▶ capture time ─▶ number ─▶ encode once ─▶ spool and link ─▶ PUB
                                            └─ no room: shed, count, gap row when it ends

The rules are elsewhere and pure: what a message means in `exchanges`, numbers and holes in `session`, the
replay index in `replay`. This file performs.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from functools import partial

from daedalus.actors import endpoints
from daedalus.actors.channel import SHARES, Outlet, Seam
from daedalus.actors.clocksync import synchronised
from daedalus.actors.replay import ReplayIndex
from daedalus.actors.session import Session, StreamState
from daedalus.actors.sidewatch import SideWatch
from daedalus.actors.sources import CollectorSettings, check, make_adapter, sanitised
from daedalus.exchanges.adapter import Control, Fact, Fault, InstrumentFact, Now, Stream, stream_of
from daedalus.kernel.actor import Actor, Context, Drained
from daedalus.kernel.clock import CaptureClock, SystemClock
from daedalus.kernel.journal import Mark
from daedalus.kernel.telemetry import get_logger
from daedalus.kernel.topic import Answers, Publisher
from daedalus.records import Gap, Trade, decode, encode, sanitise
from daedalus.wire import KIND_OF_CHANNEL, topic

__all__ = ["Collector"]

WELCOME_WAIT_S = 2.0  # a writer that is there answers within milliseconds
CLOCK_STEP_NS = 250_000_000
TICK_S = 1.0
CLOCK_EVERY = 5  # ticks between two looks at the synchronisation
DRAIN_MARGIN_S = 0.2
_SEED_ROWS = 20_000  # trades of earlier processes whose ids are remembered


class Collector(Actor):
    """One exchange. It is the adapters' `Sink`."""

    Settings = CollectorSettings
    settings: CollectorSettings

    def __init__(self, settings: CollectorSettings, context: Context) -> None:
        """Check the settings and make the adapter; no sockets yet.

        Raises:
            FatalError: the configuration cannot be served.
        """
        super().__init__(settings, context)
        self._exchange = sanitised(settings.exchange)
        check(settings)
        self._clock = CaptureClock(SystemClock())
        streams = [
            Stream(symbol, channel) for channel, names in settings.channels.items() for symbol in names
        ]
        self._session = Session(self._exchange, streams, _session_id(), self.capture().ts_recv)
        self._session.clock_ok = synchronised()
        self._topics = {
            key: topic(KIND_OF_CHANNEL.get(key.channel, key.channel), self._exchange, key.symbol)
            for key in streams
        }
        self._gap_topics = {sanitise(key.symbol): topic("gap", self._exchange, key.symbol) for key in streams}
        self._outlets: dict[str, Outlet] = {}
        self._welcomed: dict[str, asyncio.Event] = {}
        self._publisher: Publisher | None = None
        self._replay: Answers | None = None
        self._sides = SideWatch()
        self._closing = False
        self._ticks = 0

    # -- life, in order

    async def start(self) -> None:
        """Open spools, links and topics, and begin to collect. The exchange need not answer for that."""
        settings, runtime = self.settings, self.settings.runtime
        self._adapter = make_adapter(settings, self)
        shares = sum(SHARES.get(channel, 1) for channel in settings.channels)
        for channel in settings.channels:
            self._welcomed[channel] = asyncio.Event()
            self._outlets[channel] = Outlet(
                channel,
                exchange=self._exchange,
                source=self._adapter.source,
                runtime=runtime,
                spool_bytes=int(settings.spool_mb * (1 << 20) * SHARES.get(channel, 1) / shares),
                batch=(settings.batch_records, settings.batch_ms),
                on_welcome=partial(self._on_welcome, channel),
            )
        self._index = ReplayIndex({channel: outlet.spool for channel, outlet in self._outlets.items()})
        self._publisher = Publisher(bind_to=endpoints.pub(runtime, self._exchange))
        self._replay = Answers([endpoints.replay(runtime, self._exchange)], self._index.answer)
        self._remember_trades()
        for outlet in self._outlets.values():
            await outlet.link.start()
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

    async def _collect(self) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in self._welcomed.values()]
        _, late = await asyncio.wait(waits, timeout=WELCOME_WAIT_S)
        for wait in late:
            wait.cancel()
        await self._adapter.run()

    async def drain(self) -> Drained:
        """Close the exchange's sockets, write the gaps that are open, wait for acknowledgements."""
        self._closing = True
        before = sum(outlet.spool.acked for outlet in self._outlets.values())
        await self._adapter.close()
        now = self.capture()
        for gap in self._session.ended(now):
            self._store_gap(gap)
        deadline = time.monotonic() + max(self.context.drain_s - DRAIN_MARGIN_S, 0.1)
        await self._drain_links(deadline)
        if self._settle():  # the links made room for gap rows that had none
            await self._drain_links(deadline)
        flushed = sum(outlet.spool.acked for outlet in self._outlets.values()) - before
        return Drained(self.mailbox(), flushed)

    async def _drain_links(self, deadline: float) -> None:
        drains = [asyncio.ensure_future(outlet.link.drain()) for outlet in self._outlets.values()]
        if drains:
            await asyncio.wait(drains, timeout=max(deadline - time.monotonic(), 0.0))
        for task in drains:
            task.cancel()
        await asyncio.gather(*drains, return_exceptions=True)

    async def stop(self) -> None:
        """Close what start opened."""
        if not self._closing and hasattr(self, "_adapter"):
            self._closing = True
            await self._adapter.close()
        for part in (self._replay, self._publisher, *self._outlets.values()):
            if part is not None:
                part.close()

    def mailbox(self) -> int:
        """Return how many records no writer has acknowledged."""
        return sum(outlet.link.unacknowledged for outlet in self._outlets.values())

    # -- the sink

    def capture(self) -> Now:
        """Return the capture time of the message in hand."""
        ts_recv, mono_ns = self._clock.now()
        return Now(ts_recv, mono_ns, time.time_ns() // 1_000_000)

    def take(self, now: Now, items: Sequence[Fact | Control]) -> None:
        """Store and publish what one raw message said."""
        session = self._session
        for item in items:
            if isinstance(item, Control):
                for key in item.streams:
                    # a book's gap ends at its first usable snapshot, every other at the acknowledgement
                    if item.kind == "subscribed" and key.channel != "orderbook":
                        self._found(key, now)
                continue
            state = session.streams.get(stream_of(item))
            if state is not None and not session.is_duplicate(item):
                self._take_fact(state, item, now)

    def _take_fact(self, state: StreamState, fact: Fact, now: Now) -> None:
        session, outlet = self._session, self._outlets[state.channel]
        if not outlet.has_room():
            session.shed_row(state)
            return
        if state.shed_since is not None:
            self._store_gap(session.room(state.key, now))
        if state.hole is not None or state.last_at is None:
            self._found(state.key, now)
        row = session.row(state, fact, now)
        data = encode(row)
        if not outlet.store(data, state.symbol, Mark(row.ts_recv, row.seq, row.session_id)):
            session.refused(state)
            return
        session.stored(state, row)
        self._sides.see(fact, row.ts_recv)
        place = (row.seq, row.ts_recv, outlet.spool.next_seq - 1)
        self._index.add(state.symbol, state.channel, place, row.session_id)
        assert self._publisher is not None
        self._publisher.publish((self._topics[state.key], data))

    def instruments(self, facts: Sequence[InstrumentFact]) -> None:
        """Take what the exchange says of its markets."""

    def frame(self, now: Now, connection: int, payload: bytes | memoryview, *, text: bool) -> None:
        """Take a raw message word for word."""

    def last_trade(self, symbol: str) -> str | None:
        """Return the id of the last trade stored of a symbol."""
        return self._session.last_trade(symbol)

    def lost(self, fault: Fault, since: int | None) -> None:
        """Open the gaps of a fault."""
        if not self._closing:
            self._session.lost(fault, since, self.capture())

    def _found(self, key: Stream, now: Now) -> None:
        self._store_gap(self._session.found(key, now))

    def _store_gap(self, gap: Gap | None, mark: Mark | None = None) -> None:
        if gap is None:
            return
        state = next(
            s for s in self._session.streams.values() if (s.symbol, s.channel) == (gap.symbol, gap.channel)
        )
        if mark is None:
            mark = Mark(gap.ended_at, state.stored_seq or 0, gap.session_id)
        data = self._outlets[gap.channel].store_gap(gap, mark)
        get_logger().info(
            "gap_recorded",
            symbol=gap.symbol,
            channel=gap.channel,
            reason=gap.reason,
            length_s=round((gap.ended_at - gap.started_at) / 1e9, 3),
            detail=gap.detail,
        )
        if data is not None:
            self._publish_gap(gap, data)

    def _settle(self) -> int:
        """Store and publish gap rows that are owed, as far as there is room; return how many."""
        count = 0
        for outlet in self._outlets.values():
            for gap, data in outlet.settle():
                self._publish_gap(gap, data)
                count += 1
        return count

    def _publish_gap(self, gap: Gap, data: bytes) -> None:
        if self._publisher is not None:
            self._publisher.publish((self._gap_topics[gap.symbol], data))

    # -- what came before, and what time does

    def _on_welcome(self, channel: str, marks: dict[str, Mark], seams: list[Seam]) -> None:
        for gap in self._session.restarted(channel, marks, self.capture(), seams):
            # the writer keeps the last mark: it must not fall behind the rows that are there already
            self._store_gap(gap, self._session.mark(gap))
        self._welcomed[channel].set()

    def _remember_trades(self) -> None:
        if "trades" not in self._outlets:
            return
        spool = self._outlets["trades"].spool
        at = max(spool.oldest(), spool.next_seq - _SEED_ROWS)
        while records := spool.read(at, 1024):
            rows = (decode(record) for record in records)
            self._session.remember_trades((r.symbol, r.trade_id) for r in rows if isinstance(r, Trade))
            at += len(records)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._ticks += 1
            if self._ticks % CLOCK_EVERY == 0:
                self._session.clock_ok = synchronised()
            drift_ns = self._clock.drift_ns()
            if abs(drift_ns) > CLOCK_STEP_NS:
                self._clock = CaptureClock(SystemClock())
                self._session.stepped(_session_id(), self.capture())
                get_logger().warning(
                    "clock_stepped", step_s=round(drift_ns / 1e9, 3), session_id=self._session.session_id
                )
            for symbol, agreement in self._sides.suspects():
                get_logger().warning("sides_doubted", symbol=symbol, agreement=round(agreement, 3))
            self._settle()

    def stats(self) -> dict[str, int | float | str | None]:
        """Return counters: of the collector, of each channel, of each stream."""
        now = self.capture().ts_recv
        session = self._session
        out: dict[str, int | float | str | None] = {
            "session_id": session.session_id,
            "duplicates": session.duplicates,
            "side_agreement": self._sides.lowest(),
            "published": self._publisher.sent if self._publisher is not None else 0,
            "replays_served": self._index.served,
            "replays_refused": self._index.refused,
            **self._adapter.stats(),
        }
        for channel, outlet in self._outlets.items():
            out[f"{channel}.unacknowledged"] = outlet.link.unacknowledged
            out[f"{channel}.stored"] = outlet.spool.acked
            out[f"{channel}.spool_fill"] = round(outlet.spool.fill, 4)
            out[f"{channel}.gaps_owed"] = len(outlet.owed)
            out[f"{channel}.gaps_dropped"] = outlet.owed_dropped
        for state in session.streams.values():
            name = f"{state.channel}.{state.symbol}"
            age = None if state.last_at is None else round((now - state.last_at) / 1e9, 3)
            out[f"{name}.received"] = state.received
            out[f"{name}.shed"] = state.shed
            out[f"{name}.reconnects"] = state.reconnects
            out[f"{name}.last_age_s"] = age
        return out


def _session_id() -> str:
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
