"""The feature actor: one symbol's records in, one row of features out, live.

It sees exactly the capture order over all channels of its symbol (`actors.stream`), so its rows are the rows
a batch computes from the same records. What it missed, because a queue was full, it asks the collector for,
and what the collector does not have, it looks for in bronze.

A restart goes on behind the last checkpoint (`actors.checkpoints`): with the session and the numbers of the
process before. Rows are determined by the records, so row n is the same row again; what the gateway had is
not sent twice, and the rows of the downtime are published, late. Without a checkpoint it begins a session of
its own, and warms its windows in silence: a row is published only if its record was captured after the
actor's start, less a small allowance.
"""

import asyncio
import contextlib
import secrets
import time
from pathlib import Path
from typing import Any, ClassVar, Protocol

import msgspec

from daedalus import wire
from daedalus.actors import endpoints
from daedalus.actors.announcement import announcement
from daedalus.actors.checkpoints import Checkpoint, Checkpoints
from daedalus.actors.lags import Lags
from daedalus.actors.saving import Saving
from daedalus.actors.stream import Ask, Feed, State, Stream
from daedalus.actors.stream import Fact as StreamFact
from daedalus.actors.tail import Bronze
from daedalus.dataset.layout import Layout
from daedalus.kernel.actor import Actor, Context, Drained
from daedalus.kernel.telemetry import get_logger
from daedalus.kernel.topic import Publisher, Questions, Subscriber
from daedalus.records import decode

__all__ = ["Feature", "Settings", "announcement"]

REPLAY_MORE_BYTES = 512 * 1024  # answers are cut at 1 MiB; one this large may have been
ASK_AGAIN_S = 0.02  # while nobody is connected
DRAIN_IDLE_S = 0.05  # the collectors have stopped before us: silence this long is the end
DRAIN_MARGIN_S = 0.4
GATEWAY_WAIT_S = 2.0  # for the gateway to hear us, before rows of the downtime are published
CATCH_UP_PER_S = 5000  # rows: more would fill the queues to a gateway that has others to serve
WARM_NS = 1_000_000_000_000  # of bronze for a process whose forerunner saw nothing: the longest window
_PUBLISH_ALLOWANCE_NS = 1_000_000_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What one feature actor is told."""

    exchange: str  # sanitised name of the [exchanges.X] table
    symbol: str  # sanitised, BTC-USDT
    symbol_raw: str = ""  # as in the configuration, BTC/USDT
    channels: tuple[str, ...] = ("orderbook", "trades", "ticker")  # collected for this symbol
    runtime: str = ""  # empty: the context's
    data: str = ""  # empty: the context's
    params: dict[str, Any] = {}  # of the feature engine
    replay_timeout_s: float = 2.0  # then the hole is a gap
    buffer_records: int = 20_000  # live records that wait for a replay; beyond: a gap
    hwm: int = 10_000  # messages between collector and actor, and between actor and gateway


_Settings = Settings  # inside the class the name means the class variable


class Engine(Protocol):
    """What is used of features.FeatureEngine."""

    schema: Any

    def update(self, record: Any) -> "memoryview[Any] | None": ...
    def snapshot(self) -> bytes: ...
    def restore(self, blob: bytes) -> None: ...


class Feature(Actor):
    """One process per (exchange, symbol)."""

    Settings: ClassVar[type[msgspec.Struct]] = Settings
    settings: _Settings

    def __init__(self, settings: _Settings, context: Context) -> None:
        super().__init__(settings, context)
        self._runtime = settings.runtime or context.runtime
        self._session_id = secrets.token_hex(8)
        self._since_ns = time.time_ns() - _PUBLISH_ALLOWANCE_NS
        self._topic = wire.topic("feature", settings.exchange, settings.symbol)
        data = settings.data or context.data
        self._bronze: Bronze | None = None
        self._saving: Saving | None = None
        if data:
            whose = settings.exchange, settings.symbol
            self._bronze = Bronze(data, self._runtime, *whose, settings.channels)
            directory = Path(Layout(data=data).state(), "features", *whose)
            self._files = Checkpoints(directory, *whose)
            self._saving = Saving(self._files, self._checkpoint, _interval_s(settings.params))
        self._stream = Stream(settings.channels, buffer_limit=settings.buffer_records, bronze=bool(data))
        self._engine = self._make_engine()
        self._schema_id, self._schema = announcement(self._engine.schema)
        self._seq = 0
        self._published = 0  # what the gateway had of this session when it was taken up
        self._held = False  # nothing is asked: the gateway is not there yet
        self._reader: asyncio.Task[None] | None = None  # bronze is being asked
        self._feeding = False  # a record is in the engine's hands: neither before nor behind it
        self._heard = asyncio.Event()
        self._last: list[bytes] | None = None
        self._question = 0  # the one that is open; an answer to another is too late
        self._deadline: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._lags = Lags()
        self._updates = self._warmed = self._bad = self._asked = self._announced = 0

    def _make_engine(self) -> Engine:
        from daedalus.features import FeatureEngine

        # Known beforehand, not learned from the first trade: the batch knows it from its tables.
        engine: Engine = FeatureEngine(
            self.settings.params or None, trades="trades" in self.settings.channels
        )
        return engine

    async def start(self) -> None:
        """Open the sockets; nobody has to be there yet, and all may come and go in any order."""
        exchange, hwm = self.settings.exchange, self.settings.hwm
        if self._saving is not None:
            self._resume()
            if not self._held:
                self._saving.soon()  # so that a restart goes on with this session, however early it comes
                await self._saving.wait()
            self._saving.begin()
        self._publisher = Publisher(
            connect_to=endpoints.gateway_in(self._runtime), hwm=hwm, on_subscribe=self._announce
        )
        self._questions = Questions(endpoints.replay(self._runtime, exchange), self._answered)
        kinds = [wire.KIND_OF_CHANNEL[channel] for channel in self.settings.channels]
        self._subscriber = Subscriber(
            self._received,
            topics=[wire.topic(kind, exchange, self.settings.symbol) for kind in kinds],
            connect_to=[endpoints.pub(self._runtime, exchange)],
            hwm=hwm,
        )
        if self._held:
            self.spawn(self._take_up())
        get_logger().info("feature_started", session_id=self._session_id, schema_id=self._schema_id)

    # -- checkpoints

    def _resume(self) -> None:
        """Go on behind the newest checkpoint that is good."""
        log = get_logger()

        def restore(blob: bytes) -> None:
            engine = self._make_engine()
            engine.restore(blob)
            self._engine = engine

        found = self._files.load(
            restore, lambda path, cause: log.warning("checkpoint_refused", path=str(path), cause=cause)
        )
        if found is None:
            return
        self._session_id, self._seq, self._since_ns = found.session_id, found.seq, found.since_ns
        begin = found.last_ts if found.last_session else found.since_ns - WARM_NS
        self._stream.resume(State(found.positions, found.owed, found.last_session, begin))
        self._held = True
        age_s = round((time.time_ns() - found.last_ts) / 1e9, 3) if found.last_ts else None
        log.info("feature_resumed", session_id=self._session_id, seq=self._seq, age_s=age_s)

    async def _take_up(self) -> None:
        """Begin to catch up, once the gateway listens; skip the rows that it had."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATEWAY_WAIT_S):
                await self._heard.wait()
                self._published = await self._last_published()
        self._held = False
        self._do([])

    async def _last_published(self) -> int:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        question = Questions(
            endpoints.gateway_req(self._runtime),
            lambda reply: None if answer.done() else answer.set_result(reply),
        )
        try:
            for _ in range(round(GATEWAY_WAIT_S / ASK_AGAIN_S)):
                if question.ask(msgspec.msgpack.encode([0, "last", self._topic.decode()])):
                    break
                await asyncio.sleep(ASK_AGAIN_S)
            _, ok, value = msgspec.msgpack.decode(await answer)
        finally:
            question.close()
        header = wire.decode_header(value[1]) if ok else None
        return header.seq if header is not None and header.session_id == self._session_id else 0

    def _checkpoint(self) -> tuple[Checkpoint, bytes] | None:
        if self._feeding:
            return None
        state = self._stream.state
        head = Checkpoint(
            exchange=self.settings.exchange,
            symbol=self.settings.symbol,
            session_id=self._session_id,
            seq=self._seq,
            since_ns=self._since_ns,
            positions=state.positions,
            owed=state.owed,
            last_session=state.session_id,
            last_ts=state.last_ts,
        )
        return head, self._engine.snapshot() if state.session_id else b""

    # -- records

    def _announce(self, _prefix: bytes) -> None:
        """The gateway is there (again): it needs the schema, and the last row for who joins late."""
        now = time.time_ns()
        header = wire.Header(wire.VERSION, "schema", 0, self._session_id, None, now, now, self._schema_id)
        topic = wire.topic("schema", self.settings.exchange, self.settings.symbol)
        self._publisher.publish([topic, wire.encode_header(header), self._schema])
        self._announced += 1
        self._heard.set()
        if self._last is not None:
            self._publisher.publish(self._last)

    def _received(self, parts: list[bytes]) -> None:
        try:
            record = decode(parts[1])
        except (msgspec.DecodeError, UnicodeDecodeError, IndexError):
            self._bad += 1  # its number is missing now: the stream will ask for it
            return
        if isinstance(record, StreamFact):
            self._do(self._stream.live(record))

    def _do(self, feeds: list[Feed]) -> None:
        """Feed the engine, then ask what the stream wants to know, if it is a new question."""
        update, before, since = self._engine.update, self._seq, self._since_ns
        self._feeding = True
        for record, replayed in feeds:
            row = update(record)
            if row is not None:
                self._emit(row, record, replayed)
        self._feeding = False
        if feeds and self._saving is not None and (self._updates == 0 or since != self._since_ns):
            self._saving.soon()  # neither the first record nor a moved line can be found out later
        self._updates += len(feeds)
        if self._stream.wanted is not None and not self._held:
            self._ask((self._seq - before) / CATCH_UP_PER_S)

    def _ask(self, pause_s: float) -> None:
        """Ask what is wanted, unless that is being done."""
        wanted, loop = self._stream.wanted, asyncio.get_running_loop()
        if self._reader is not None or self._deadline is not None or wanted is None:
            return
        self._asked += 1
        if not isinstance(wanted, Ask):
            assert self._bronze is not None
            self._reader = self.spawn(self._bronze.ask(wanted, self._stored))
            return
        self._question += 1
        self._deadline = loop.call_later(self.settings.replay_timeout_s + pause_s, self._unanswered)
        if pause_s > ASK_AGAIN_S:
            self._again = loop.call_later(pause_s, self._send, wanted)
        else:
            self._send(wanted)

    def _stored(self, records: list[Any] | None, more: bool) -> None:
        """Take a piece of what is stored."""
        if not more:
            self._reader = None
        self._do(self._stream.tail(records, more=more))

    def _emit(self, row: "memoryview[Any]", record: Any, replayed: bool) -> None:
        if record.ts_recv < self._since_ns:
            if replayed:
                self._warmed += 1
                return
            self._since_ns = record.ts_recv  # whoever comes after us must draw the line here as well
        self._seq += 1
        now = time.time_ns()
        header = wire.Header(
            wire.VERSION,
            "feature",
            self._seq,
            self._session_id,
            record.ts_event,
            record.ts_recv,
            now,
            self._schema_id,
        )
        self._last = [self._topic, wire.encode_header(header), bytes(row)]
        if self._seq > self._published:
            self._publisher.publish(self._last)
        if not replayed:
            self._lags.note(now - record.ts_recv)

    def _send(self, ask: Ask) -> None:
        request = [self._question, self.settings.symbol, ask.ranges, ask.session_id]
        if self._questions.ask(msgspec.msgpack.encode(request)):
            self._again = None
        else:
            self._again = asyncio.get_running_loop().call_later(ASK_AGAIN_S, self._send, ask)

    def _close_question(self) -> None:
        for timer in (self._deadline, self._again):
            if timer is not None:
                timer.cancel()
        self._deadline = self._again = None

    def _answered(self, reply: bytes) -> None:
        question, ok, blobs = msgspec.msgpack.decode(reply, type=tuple[int, bool, list[bytes]])
        if question != self._question or self._deadline is None:
            return
        self._close_question()
        records = [record for record in map(decode, blobs) if isinstance(record, StreamFact)]
        more = sum(map(len, blobs)) >= REPLAY_MORE_BYTES
        self._do(self._stream.answer(ok, records, more=more))

    def _unanswered(self) -> None:
        ask = self._stream.wanted
        self._close_question()
        get_logger().warning(
            "replay_timed_out",
            timeout_s=self.settings.replay_timeout_s,
            ranges=ask.ranges if isinstance(ask, Ask) else None,
            waiting=self._stream.waiting,
        )
        self._do(self._stream.unanswered())

    async def drain(self) -> Drained:
        """Work on what has arrived; collectors have stopped before us."""
        loop = asyncio.get_running_loop()
        until = loop.time() + max(self.context.drain_s - DRAIN_MARGIN_S, DRAIN_IDLE_S)
        seen, before = -1, self._seq
        while seen != self._subscriber.received:
            seen = self._subscriber.received
            await asyncio.sleep(DRAIN_IDLE_S)
        while self._stream.wanted is not None and not self._held and loop.time() < until:
            if self._reader is None:
                self._close_question()
                self._do(self._stream.unanswered())
            else:
                await asyncio.wait([self._reader], timeout=until - loop.time())
        # what still waits then is no gap: the next process finds it in bronze
        return Drained(self._stream.waiting, self._seq - before)

    async def stop(self) -> None:
        """Close the sockets; rows just sent go out for 200 ms more. Save what there is."""
        self._close_question()
        for name in ("_subscriber", "_questions", "_publisher"):
            if hasattr(self, name):
                getattr(self, name).close()
        if self._saving is not None and hasattr(self, "_publisher"):
            await self._saving.finish()

    def mailbox(self) -> int:
        """Return how many records wait for a replay."""
        return self._stream.waiting

    def stats(self) -> dict[str, int | float | str | None]:
        """Return counters; lag is publication minus capture, over the last 4096 rows."""
        stream = self._stream
        return {
            "updates": self._updates,
            "emitted": self._seq,
            "warmed": self._warmed,
            "gaps": stream.gaps,
            "filled": stream.filled,
            "duplicates": stream.duplicates,
            "late": stream.late,
            "overflows": stream.overflows,
            "bad": self._bad,
            "stored_read": self._bronze.read if self._bronze else 0,
            "checkpoints": self._saving.saved if self._saving else 0,
            "checkpoints_failed": self._saving.failed if self._saving else 0,
            "questions": self._asked,
            "waiting": stream.waiting,
            "waiting_max": self.settings.buffer_records,
            "lag_p50_ms": self._lags.ms(50),
            "lag_p99_ms": self._lags.ms(99),
        }


def _interval_s(params: dict[str, Any]) -> float:
    from daedalus.features.params import Params

    return float(params.get("checkpoint_interval_s", Params().checkpoint_interval_s))


def prewarm() -> None:
    """Do once, before forking, what every actor of the default columns would do for itself."""
    from daedalus.features import FeatureEngine

    announcement(FeatureEngine().schema)
