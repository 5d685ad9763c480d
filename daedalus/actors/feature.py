"""The feature actor: one symbol's records in, one row of features out, live.

It sees exactly the capture order over all channels of its symbol (`actors.stream`), so its rows are the rows
a batch computes from the same records. What it missed, at its own start or because a queue was full, it asks
the collector for; a restarted actor thus warms its windows from what the spool still holds, silently: a row
that comes out of a replayed record is published only if the record was captured after the actor's own start,
less a small allowance.
"""

import asyncio
import secrets
import time
from collections import deque
from typing import Any, ClassVar, Protocol

import msgspec

from daedalus import wire
from daedalus.actors import endpoints
from daedalus.actors.stream import Ask, Feed, Stream
from daedalus.actors.stream import Fact as StreamFact
from daedalus.kernel.actor import Actor, Context, Drained
from daedalus.kernel.telemetry import get_logger
from daedalus.kernel.topic import Publisher, Questions, Subscriber
from daedalus.records import decode

__all__ = ["Feature", "Settings", "announcement"]

REPLAY_MORE_BYTES = 512 * 1024  # answers are cut at 1 MiB; one this large may have been
ASK_AGAIN_S = 0.02  # while nobody is connected
DRAIN_IDLE_S = 0.05  # the collectors have stopped before us: silence this long is the end
LAGS = 4096
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
        self._stream = Stream(settings.channels, buffer_limit=settings.buffer_records)
        self._engine = self._make_engine()
        self._schema_id, self._schema = announcement(self._engine.schema)
        self._seq = 0
        self._last: list[bytes] | None = None
        self._question = 0  # the one that is open; an answer to another is too late
        self._deadline: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._lags_ns: deque[int] = deque(maxlen=LAGS)
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
        get_logger().info("feature_started", session_id=self._session_id, schema_id=self._schema_id)

    def _announce(self, _prefix: bytes) -> None:
        """The gateway is there (again): it needs the schema, and the last row for who joins late."""
        now = time.time_ns()
        header = wire.Header(wire.VERSION, "schema", 0, self._session_id, None, now, now, self._schema_id)
        topic = wire.topic("schema", self.settings.exchange, self.settings.symbol)
        self._publisher.publish([topic, wire.encode_header(header), self._schema])
        self._announced += 1
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
        update = self._engine.update
        for record, replayed in feeds:
            row = update(record)
            if row is not None:
                self._emit(row, record, replayed)
        self._updates += len(feeds)
        if self._stream.wanted is not None and self._deadline is None:
            self._question += 1
            self._asked += 1
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(self.settings.replay_timeout_s, self._unanswered)
            self._send(self._stream.wanted)

    def _emit(self, row: "memoryview[Any]", record: Any, replayed: bool) -> None:
        if replayed and record.ts_recv < self._since_ns:
            self._warmed += 1
            return
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
        self._publisher.publish(self._last)
        self._lags_ns.append(now - record.ts_recv)

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
            ranges=ask.ranges if ask else None,
            waiting=self._stream.waiting,
        )
        self._do(self._stream.give_up())

    async def drain(self) -> Drained:
        """Work on what has arrived; collectors have stopped before us."""
        seen, before = -1, self._seq
        while seen != self._subscriber.received:
            seen = self._subscriber.received
            await asyncio.sleep(DRAIN_IDLE_S)
        while self._stream.wanted is not None:
            self._close_question()
            self._do(self._stream.give_up())
        return Drained(self._stream.waiting, self._seq - before)

    async def stop(self) -> None:
        """Close the sockets; rows just sent go out for 200 ms more."""
        self._close_question()
        for name in ("_subscriber", "_questions", "_publisher"):
            if hasattr(self, name):
                getattr(self, name).close()

    def mailbox(self) -> int:
        """Return how many records wait for a replay."""
        return self._stream.waiting

    def stats(self) -> dict[str, int | float | str | None]:
        """Return counters; lag is publication minus capture, over the last 4096 rows."""
        lags, stream = sorted(self._lags_ns), self._stream
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
            "questions": self._asked,
            "waiting": stream.waiting,
            "waiting_max": self.settings.buffer_records,
            "lag_p50_ms": lags[len(lags) // 2] / 1e6 if lags else None,
            "lag_p99_ms": lags[len(lags) * 99 // 100] / 1e6 if lags else None,
        }


def prewarm() -> None:
    """Do once, before forking, what every actor of the default columns would do for itself."""
    from daedalus.features import FeatureEngine

    announcement(FeatureEngine().schema)


_announced: dict[str, bytes] = {}  # schema id -> JSON: made once, before the fork, shared by all actors


def announcement(schema: Any) -> tuple[str, bytes]:
    """Return the schema's id and the JSON that is announced: id, names, units, windows, and all the rest."""
    if schema.id in _announced:
        return schema.id, _announced[schema.id]
    made = _announcement(schema)
    _announced[schema.id] = made[1]
    return made


def _announcement(schema: Any) -> tuple[str, bytes]:
    value = msgspec.to_builtins(schema)
    columns = value.get("columns", [])
    value.setdefault("names", [column["name"] for column in columns])
    value.setdefault("units", [column.get("unit", "") for column in columns])
    value.setdefault("windows", [column.get("window") for column in columns])
    return str(value["id"]), msgspec.json.encode(value)
