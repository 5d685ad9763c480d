"""One websocket from its opening to its end, and the adapter that it feeds.

The adapter decides; a line does what it says: sends at the exchange's pace, asks by REST and brings the
answer, hands facts to its outlet in the order they were said, and ends itself when the adapter says so, when
it falls silent, or when an answer to a ping does not come. Whoever holds the line opens the next.

    opening ──▶ live ──▶ ended, with `fault`          outlet: the collector
    opening ──▶ candidate ──▶ live ──▶ ended          outlet first: the sieve of an overlap

Nothing of a line outlives it: its timers stop and its requests are given up.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal

from daedalus.exchanges.adapter import (
    Adapter,
    Ask,
    Control,
    Fact,
    Fault,
    InstrumentFact,
    Item,
    Now,
    Send,
    Sink,
    Stream,
    TradeFact,
)
from daedalus.exchanges.bucket import Bucket
from daedalus.exchanges.errands import Errands
from daedalus.exchanges.fragments import Fragments, TooLargeError
from daedalus.exchanges.freshness import Freshness, Silence, Watches
from daedalus.exchanges.outbox import Outbox
from daedalus.exchanges.overlap import Outlet
from daedalus.exchanges.rest import retry_after_s
from daedalus.exchanges.shared import Shared, shown
from daedalus.exchanges.transport import BrokenProtocolError, RefusedError, Transport, connect
from daedalus.exchanges.vigil import Vigil
from daedalus.kernel.errors import FatalError
from daedalus.kernel.telemetry import get_logger

__all__ = ["Line"]

Errand = Literal["socket", "sync", "backfill", "instruments"]

_ASKS_MAX = 2000  # requests that wait: two for each of a thousand symbols
_FORBIDDEN = (403, 418, 429)
_FORBIDDEN_S = 10.0  # without Retry-After


class Line:
    """One connection of one adapter object. It is run once."""

    def __init__(
        self,
        number: int,
        adapter: Adapter,
        sink: Sink,
        shared: Shared,
        pace: Freshness,
        on_open: Callable[["Line"], None],
    ) -> None:
        """Prepare; nothing is opened before `run`.

        Args:
            number: of the connection, for raw frames.
            adapter: the pure half; nobody else may feed it.
            sink: the collector.
            shared: what the connections of an exchange have in common.
            pace: of the connection, kept over its lines.
            on_open: is called once the socket is open and the subscriptions are on their way.
        """
        options = shared.options
        self.adapter = adapter
        self.watches = Watches(adapter.streams, options.stale_min_s, options.stale_max_s)
        self.fault: Fault | None = None
        self.messages = 0
        self.fruitful = False  # a fact arrived on the socket
        self.refused_s = 0.0  # the exchange asks us to stay away for so long
        self.since: int | None = None  # capture of the last good message, ns
        self.options = options
        self.capture = sink.capture
        self._number = number
        self._sink = sink
        self._shared = shared
        self._on_open = on_open
        self.pace = pace
        self._outlet: Outlet = sink
        self._progress: Callable[[], None] | None = None
        self._feed = adapter.feed
        self._take = sink.take
        self._frames = options.raw_capture == "frames"
        self._by_type = self.watches.by_type
        self._transport: Transport | None = None
        self._closing = False
        self._failure: BaseException | None = None
        self._told: set[Stream] = set()  # streams whose loss was told before the end
        self._fragments = Fragments()
        self._outbox = Outbox(Bucket.own(shared.sends))
        self._tasks: set[asyncio.Task[None]] = set()
        self.waiting: dict[Stream, int] = {}  # streams whose requests are open
        self._vigil = Vigil(self, pace, self.watches, self.waiting)
        self.errands = Errands(adapter, sink, self.ask)

    @property
    def open(self) -> bool:
        """Whether messages can arrive."""
        return self._transport is not None and self.fault is None

    # -- life

    async def run(self) -> None:
        """Open the socket and stay with it until it ends. `fault` then says why, unless `close` was called.

        Raises:
            FatalError: the exchange refuses what the configuration asks for.
            Exception: whatever the sink or the adapter raised: a fault of ours, never the network's.
        """
        transport: Transport | None = None
        try:
            await self._shared.connects.take()
            transport = await connect(self.adapter.address(self.options.url), self, self.options.handshake_s)
            if self._closing:
                transport.close()
            self._ended("disconnect", await transport.wait_closed())
        except RefusedError as error:
            self._refused(error)
        except BrokenProtocolError as error:
            self._ended("error", f"protocol: {error}")
        finally:
            self._transport = None
            if transport is not None:
                transport.abort()
            self._stop()
        if self._failure is not None:
            raise self._failure

    def retire(self) -> None:
        """Hear nothing more, say goodbye, and have lost nothing: `run` returns."""
        self._closing = True
        self._stop()
        if self._transport is not None:
            self._transport.close()

    def drop(self, fault: Fault) -> None:
        """Give the connection up: `fault` is what the gap rows will say."""
        if self.fault is None and not self._closing:
            self.fault = fault
            self._shared.faults += 1
            if self._transport is not None:
                self._transport.abort()

    def become_candidate(self, outlet: Outlet, progress: Callable[[], None], before: "Line") -> None:
        """Begin with another outlet, and tell `progress` of every message. Before `run`."""
        self._outlet = outlet
        self._take = outlet.take
        self._progress = progress
        self._by_type = {}  # every message takes the slow way, which tells
        self.watches.learn(before.watches)

    def go_live(self) -> None:
        """Be the connection from now on."""
        self._outlet = self._sink
        self._take = self._sink.take
        self._progress = None
        self._by_type = self.watches.by_type

    def _refused(self, error: RefusedError) -> None:
        if error.status in _FORBIDDEN:
            self.refused_s = retry_after_s(error.retry_after, _FORBIDDEN_S)
            self._shared.connects.pause(self._shared.connects.now(), self.refused_s)
        self._ended("disconnect", f"cannot open the websocket: {error}")

    def _ended(self, reason: Literal["disconnect", "error"], detail: str) -> None:
        if self._closing:
            return
        if self.fault is None:
            self.fault = Fault(self.adapter.streams, reason, detail)
            self._shared.faults += 1
        left = tuple(stream for stream in self.fault.streams if stream not in self._told)
        if left:
            self._outlet.lost(Fault(left, self.fault.reason, self.fault.detail), self.since)

    def _stop(self) -> None:
        self._vigil.stop()
        self._shared.sends_waited += self._outbox.stop()
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error  # comes out of `run`
            if self._transport is not None:
                self._transport.abort()

    # -- what arrives

    def opened(self, transport: Transport) -> None:
        """Subscribe on the fresh socket."""
        self._transport = transport
        self._shared.connects_made += 1
        self._outbox.begin(transport)
        if self._progress is None and self.options.backfill:
            self.errands.owe_backfill()
        for item in self.adapter.subscribe():
            self._perform(item, "sync")
        self._vigil.begin(transport)
        get_logger().info(
            "connection_opened",
            url=shown(self.options.url),
            streams=len(self.adapter.streams),
            overlap=self._progress is not None,
        )
        self._on_open(self)

    def alive(self) -> None:
        """Note a ping or a pong."""
        self._vigil.alive()

    def received(self, payload: bytes | memoryview, *, final: bool, text: bool = True) -> None:
        """Feed one frame; a message in several frames is put together first."""
        if self.fault is not None or self._closing:
            return
        if not final or self._fragments:
            try:
                whole = self._fragments.add(payload, final=final, text=text)
            except TooLargeError as error:
                self.drop(Fault(self.adapter.streams, "error", str(error)))
                return
            if whole is None:
                return
            payload, text = whole, self._fragments.text
        now = self.capture()
        if self._frames:
            self._sink.frame(now, self._number, payload, text=text)
        items = self._feed(payload)
        if not (self._plain(now, items) or self._sorted(now, items, "socket")):
            return  # the connection has ended
        self.messages += 1
        self.since = now.ts_recv
        self.pace.seen(now.mono_ns)

    def _plain(self, now: Now, items: Sequence[Item]) -> bool:
        """Hand on facts and nothing else, the common case; False: there is something else among them."""
        mono = now.mono_ns
        by_type = self._by_type
        for item in items:
            watches = by_type.get(type(item))
            if watches is None:
                return False
            watches[item.symbol].heard(item, mono)  # type: ignore[union-attr]
        if items:
            self.fruitful = True
            if self.errands.backfills:
                self._settle(items)
            self._take(now, items)  # type: ignore[arg-type]
            return True
        return self._progress is None  # a message that says nothing may be the last that was waited for

    def _sorted(self, now: Now, items: Sequence[Item], errand: Errand, pages: int = 0) -> bool:
        """Do what each item asks for, in order; return whether the connection lives on."""
        facts: list[Fact | Control] = []
        markets: list[InstrumentFact] = []
        for item in items:
            if isinstance(item, Fault):
                if facts:
                    self._take(now, facts)
                    facts = []
                if not self._fault(item, errand):
                    return False
            elif isinstance(item, Send | Ask):
                self._perform(item, errand, pages)
            elif isinstance(item, InstrumentFact):
                markets.append(item)
            else:
                facts.append(item)
                self._note(now, item, errand)
        if facts:
            self._take(now, facts)
        if markets:
            self._outlet.instruments(markets)
            self.errands.instruments_owed = False
        if self._progress is not None:
            self._progress()
        return self.fault is None

    def _note(self, now: Now, item: Fact | Control, errand: Errand) -> None:
        if isinstance(item, Control):
            if item.kind == "heartbeat" and errand == "socket":
                self.watches.alive(item.streams, now.mono_ns)
            for stream in item.streams:
                if item.kind == "subscribed" and stream.channel == "trades":
                    self.errands.begin_backfill(stream.symbol)
        elif errand == "socket":
            self.fruitful = True
            if self.errands.backfills:
                self._settle((item,))
            self.watches.heard(item, now.mono_ns)
        elif errand == "sync":
            self.watches.heard(item, now.mono_ns)  # a successor may not tell an older book
        elif errand == "backfill":
            self._shared.backfilled += 1

    def _fault(self, fault: Fault, errand: Errand) -> bool:
        """Act on a fault; return whether the connection lives on."""
        if errand in ("backfill", "instruments") or (fault.local and not fault.streams):
            self.errands.failed(errand, fault.detail, shown(self.options.url))
            return True
        if fault.fatal:
            raise FatalError(f"cannot subscribe at {shown(self.options.url)}: {fault.detail}")
        if not fault.local:
            self.drop(fault)
            return False
        self._shared.resyncs += 1
        self.watches.reopened(fault.streams, self.capture().mono_ns)
        # since when is not known of a stream that lost something while its connection was heard: the outlet
        # knows what came of it last
        self._outlet.lost(fault, None)
        return True

    def _settle(self, items: Sequence[Item]) -> None:
        """Begin what is owed to a stream that is heard without an acknowledgement before."""
        for item in items:
            if isinstance(item, TradeFact):
                self.errands.begin_backfill(item.symbol)

    # -- what is sent and asked

    def _perform(self, item: Send | Ask, errand: Errand, pages: int = 0) -> None:
        if isinstance(item, Ask):
            self.ask(item, "sync" if errand == "socket" else errand, pages)
        elif self._transport is not None and not self._outbox.send(item.data):
            detail = f"cannot send: {len(self._outbox)} messages wait for the exchange's limit"
            self.drop(Fault(self.adapter.streams, "error", detail))

    def ask(self, ask: Ask, errand: Errand, pages: int = 0) -> None:
        """Make a request; its answer goes to the adapter unless the line has ended by then."""
        if self._closing or self.fault is not None:
            return
        if len(self._tasks) >= _ASKS_MAX:
            self.drop(Fault(self.adapter.streams, "error", f"cannot ask: {_ASKS_MAX} requests are open"))
            return
        if errand == "backfill":
            if pages <= 0:
                return
            pages -= 1
        if errand == "sync":
            for stream in ask.streams:
                self.waiting[stream] = self.waiting.get(stream, 0) + 1
        self._spawn(self._asked(ask, errand, pages))

    async def _asked(self, ask: Ask, errand: Errand, pages: int) -> None:
        answer = await self._shared.rest.get(ask)
        if self.fault is not None or self._closing:
            return
        now = self.capture()
        if errand == "sync":
            self._waited(ask.streams)
            self.watches.reopened(ask.streams, now.mono_ns)
        self._sorted(now, self.adapter.answer(ask.key, answer.status, answer.body), errand, pages)

    def _waited(self, streams: Sequence[Stream]) -> None:
        for stream in streams:
            self.waiting[stream] -= 1
            if not self.waiting[stream]:
                del self.waiting[stream]

    def gone_silent(self, silent: Sequence[Silence]) -> None:
        """Give up a connection for the streams that are silent on it: what they lost began earlier."""
        worst = max(silent, key=lambda one: one.silent_s / one.limit_s)
        symbol, channel = worst.stream
        detail = f"{symbol} {channel} silent for {worst.silent_s:.1f} s, limit {worst.limit_s:.1f} s"
        if len(silent) > 1:
            detail += f"; {len(silent)} streams in all"
        streams = tuple(one.stream for one in silent)
        self._outlet.lost(Fault(streams, "stale", detail), None)
        self._told.update(streams)
        self.drop(Fault(self.adapter.streams, "stale", detail))
