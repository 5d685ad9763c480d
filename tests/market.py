"""A small market for tests of the live side: records, a collector, and an engine, all of them fake."""

from array import array
from typing import Any

import msgspec

from daedalus import wire
from daedalus.actors import endpoints
from daedalus.kernel.topic import Answers, Publisher
from daedalus.records import BookSnapshot, Flag, Gap, Ticker, Trade, encode, pack_side

T0_US = 1_700_000_000_000_000
Fact = BookSnapshot | Trade | Ticker


class Tape:
    """Numbers and times records as a collector does: numbers per channel and session, time over all."""

    def __init__(self, exchange: str = "binance", symbol: str = "BTC-USDT", session_id: str = "s1") -> None:
        self.exchange, self.symbol, self.session_id = exchange, symbol, session_id
        self.seq: dict[str, int] = {}
        self.us = T0_US

    def _common(self, channel: str, flags: int) -> dict[str, Any]:
        self.seq[channel] = self.seq.get(channel, 0) + 1
        self.us += 1000
        return {
            "exchange": self.exchange,
            "symbol": self.symbol,
            "collected_at": self.us // 1000,
            "ts_recv": self.us * 1000,
            "ts_event": self.us * 1000 - 5_000_000,
            "symbol_raw": self.symbol.replace("-", "/"),
            "seq": self.seq[channel],
            "session_id": self.session_id,
            "capture_mono_ns": self.us * 1000,
            "clock_ok": True,
            "exch_seq": None,
            "flags": flags,
        }

    def book(self, mid: float = 100.0, flags: int = 0) -> BookSnapshot:
        bids, asks = pack_side([(mid - 0.5, 1.0)]), pack_side([(mid + 0.5, 2.0)])
        return BookSnapshot(nonce=None, bids=bids, asks=asks, **self._common("orderbook", flags))

    def trade(self, price: float = 100.0, flags: int = 0) -> Trade:
        return Trade(
            trade_id=str(self.us), side="buy", price=price, amount=1.0, cost=price, info_json=None,
            side_raw=None, **self._common("trades", flags),
        )  # fmt: skip

    def ticker(self) -> Ticker:
        names = [*("bid", "ask", "bid_volume", "ask_volume", "last", "open", "high", "low", "close", "vwap")]
        names += ["base_volume", "quote_volume", "change", "percentage", "info_json"]
        return Ticker(**dict.fromkeys(names), **self._common("ticker", 0))

    def gap(self, channel: str = "trades") -> Gap:
        return Gap(
            exchange=self.exchange, symbol=self.symbol, collected_at=0, ts_recv=self.us * 1000,
            channel=channel, started_at=1000, ended_at=2000, session_id=self.session_id,
            first_seq=1, last_seq=3, reason="disconnect", lost_estimate=None, detail=None,
        )  # fmt: skip

    def of(self, letters: str) -> list[Fact]:
        """b book, t trade, k ticker."""
        make = {"b": self.book, "t": self.trade, "k": self.ticker}
        return [make[letter]() for letter in letters]


def between(records: list[Fact], session_id: str, ranges: dict[str, Any]) -> list[Fact]:
    """Return what a replay of `records` gives for `ranges`."""
    return [
        record
        for record in records
        if record.session_id == session_id
        and wire.channel(record) in ranges
        and ranges[wire.channel(record)][0] <= record.seq <= ranges[wire.channel(record)][1]
    ]


class Collector:
    """Publishes records and answers replays from what it has published; needs a running loop."""

    def __init__(self, runtime: str, exchange: str = "binance") -> None:
        self.spool: list[Fact] = []
        self.questions: list[Any] = []
        self.silent = self.refusing = False
        self.cut_at = 10_000
        self.heard: list[bytes] = []
        self._publisher = Publisher(bind_to=endpoints.pub(runtime, exchange), on_subscribe=self.heard.append)
        self._answers = Answers([endpoints.replay(runtime, exchange)], self._replay)

    def publish(self, *records: Any) -> None:
        for record in records:
            self.keep(record)
            self._publisher.publish([wire.record_topic(record), encode(record)])

    def keep(self, record: Any) -> None:
        """As `publish`, but nobody hears of it: lost on the way, or from before."""
        if not isinstance(record, Gap):
            self.spool.append(record)

    def noise(self, *parts: bytes) -> None:
        self._publisher.publish(parts)

    def _replay(self, request: bytes) -> bytes | None:
        number, symbol, ranges, session_id = msgspec.msgpack.decode(request)
        self.questions.append((symbol, ranges, session_id))
        if self.silent:
            return None
        if self.refusing:
            return msgspec.msgpack.encode([number, False, []])
        found = between(self.spool, session_id, ranges)
        ok = all(
            not wanted or found_first(found, channel) <= wanted[0] or wanted[1] >= 2**62
            for channel, wanted in ranges.items()
        )
        return msgspec.msgpack.encode([number, ok, [encode(record) for record in found[: self.cut_at]]])

    def close(self) -> None:
        self._publisher.close()
        self._answers.close()


def found_first(records: list[Fact], channel: str) -> int:
    return min((record.seq for record in records if wire.channel(record) == channel), default=2**62)


class FakeSchema(msgspec.Struct):
    id: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    windows: tuple[int | None, ...]


class FakeEngine:
    """Emits (mid, trades since the start, after a gap, nothing) at each book; remembers all it saw."""

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        names = ("mid_price", "trades", "after_gap", "nothing", *(params or {}).get("more", ()))
        units = ("quote", "count", "flag", "-")
        self.schema = FakeSchema("id-" + "-".join(names), names, units, (None, 60, None, None))
        self.seen: list[Fact] = []
        self._trades = 0
        self._width = len(names)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode([self.schema.id, self._trades])

    def restore(self, blob: bytes) -> None:
        whose, self._trades = msgspec.msgpack.decode(blob)
        if whose != self.schema.id:
            raise ValueError(f"cannot restore the engine: checkpoint of schema {whose}")

    def update(self, record: Fact) -> memoryview | None:
        self.seen.append(record)
        self._trades += isinstance(record, Trade)
        if not isinstance(record, BookSnapshot):
            return None
        (price,) = array("d", record.bids[:8])
        row = [price + 0.5, float(self._trades), float(bool(record.flags & Flag.AFTER_GAP))]
        return memoryview(array("d", row + [float("nan")] * (self._width - 3)))
