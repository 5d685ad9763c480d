"""Recordings of Binance spot: the combined stream with one REST depth snapshot on a line of its own.

The snapshot stands a little after the first depth updates. The book opens as that snapshot: until the
playhead has passed it, a depth request is answered with it, which is a snapshot slightly ahead of the stream,
as real clients get it too; updates it already contains are sent, but change nothing.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from daedalus.kernel.errors import ConfigError
from daedalus.simulator.book import Level
from daedalus.simulator.market import Depth, Event, Opening, Quote, Reset, Taker, Trade, Trades
from daedalus.simulator.recording import Tape, decoded, step

__all__ = ["BinanceTape"]

_MS = 1_000_000


class _Frame(msgspec.Struct, gc=False):
    stream: str
    data: msgspec.Raw


class _Snapshot(msgspec.Struct):
    last_id: int = msgspec.field(name="lastUpdateId")
    bids: list[Level]
    asks: list[Level]


class _Depth(msgspec.Struct, gc=False):
    time_ms: int = msgspec.field(name="E")
    first_id: int = msgspec.field(name="U")
    last_id: int = msgspec.field(name="u")
    bids: list[Level] = msgspec.field(name="b")
    asks: list[Level] = msgspec.field(name="a")
    previous_id: int | None = msgspec.field(name="pu", default=None)


class _Trade(msgspec.Struct, gc=False):
    sent_ms: int = msgspec.field(name="E")
    time_ms: int = msgspec.field(name="T")
    trade_id: int = msgspec.field(name="t")
    price: str = msgspec.field(name="p")
    size: str = msgspec.field(name="q")
    buyer_is_maker: bool = msgspec.field(name="m")


class _Quote(msgspec.Struct, gc=False):
    update_id: int = msgspec.field(name="u")
    bid: str = msgspec.field(name="b")
    bid_size: str = msgspec.field(name="B")
    ask: str = msgspec.field(name="a")
    ask_size: str = msgspec.field(name="A")


_frame = msgspec.json.Decoder(_Frame).decode
_snapshot = msgspec.json.Decoder(_Snapshot).decode
_depth = msgspec.json.Decoder(_Depth).decode
_trade = msgspec.json.Decoder(_Trade).decode
_quote = msgspec.json.Decoder(_Quote).decode


class BinanceTape(Tape):
    """Source of one recorded Binance spot symbol."""

    exchange = "binance"

    def __init__(self, symbol: str, paths: Sequence[Path]) -> None:
        super().__init__(symbol, paths)
        self._id = symbol.replace("/", "").lower()
        self._last_update = 0
        self._first_trade: int | None = None
        self._trades = 0  # ids one lap uses up
        self._opening = self._scan()

    def opening(self) -> Opening:
        """Return the book of the recorded snapshot."""
        return self._opening

    def _scan(self) -> Opening:
        found: Opening | None = None
        depth = trade = b""
        path = self._paths[0]
        clock_ms = 0
        for path, (at, message) in self._lines():
            self.start_ns = self.start_ns or at
            self.end_ns = at
            head = message[:64]
            if b"@trade" in head:
                if not trade:
                    self._first_trade = decoded(_trade, decoded(_frame, message, path).data, path).trade_id
                trade = message
            elif b"@depth" in head:
                depth = message
                if clock_ms == 0:
                    clock_ms = self._check(message, path)
            elif head.startswith(b'{"lastUpdateId"') and found is None:
                snapshot = decoded(_snapshot, message, path)
                found = Opening(snapshot.last_id, snapshot.bids, snapshot.asks, 0)
                levels = [*snapshot.bids, *snapshot.asks]
                self.price_step, self.size_step = step(levels, 0), step(levels, 1)
        if found is None:
            raise ConfigError(
                f"cannot play {self._paths[0]}: no depth snapshot in it; give the file it continues as well"
            )
        if trade and self._first_trade is not None:
            last = decoded(_trade, decoded(_frame, trade, path).data, path).trade_id
            self._trades = last - self._first_trade + 1
        if depth:
            self._last_update = decoded(_depth, decoded(_frame, depth, path).data, path).last_id
        return Opening(found.last_id, found.bids, found.asks, clock_ms * _MS)

    def _check(self, message: bytes, path: Path) -> int:
        frame = decoded(_frame, message, path)
        name = frame.stream.partition("@")[0]
        if name != self._id:
            raise ConfigError(f"cannot play {path} as {self.symbol}: it holds {name}")
        update = decoded(_depth, frame.data, path)
        if update.previous_id is not None:
            raise ConfigError(f"cannot play {path}: it is of USD-M futures, only spot is simulated")
        return update.time_ms

    def _lap(self, lap: int) -> Iterator[Event]:
        opening, lap_ns = self._opening, lap * self.lap_ns
        ids = lap * (self._last_update + 1 - opening.last_id)
        known = opening.last_id if lap else 0  # what the reset at a lap's beginning has said already
        if lap:
            ts_ns = opening.ts_ns + lap_ns
            yield Reset(lap_ns, ts_ns, opening.last_id + ids, opening.bids, opening.asks)
        for path, (received, message) in self._lines():
            if message.startswith(b'{"lastUpdateId"'):
                continue
            frame = decoded(_frame, message, path)
            kind = frame.stream.partition("@")[2]
            event = self._event(kind, frame.data, received - self.start_ns, path)
            if event is not None and not (lap and _last_id(event) <= known):
                yield self._shifted(event, lap, ids) if lap else event

    def _event(self, kind: str, data: msgspec.Raw, at_ns: int, path: Path) -> Depth | Trades | Quote | None:
        raw = bytes(data)
        if kind == "bookTicker":
            quote = decoded(_quote, data, path)
            return Quote(
                at_ns, quote.update_id, (quote.bid, quote.bid_size), (quote.ask, quote.ask_size), raw
            )
        if kind == "trade":
            trade = decoded(_trade, data, path)
            taker: Taker = "sell" if trade.buyer_is_maker else "buy"
            made = Trade(trade.trade_id, trade.price, trade.size, taker, trade.time_ms * _MS)
            return Trades(at_ns, trade.sent_ms * _MS, [made], raw)
        if kind.startswith("depth"):
            depth = decoded(_depth, data, path)
            return Depth(
                at_ns, depth.time_ms * _MS, depth.first_id, depth.last_id, depth.bids, depth.asks, raw
            )
        return None

    def _shifted(self, event: Depth | Trades | Quote, lap: int, ids: int) -> Event:
        """Return the event of a later lap: other ids, other times, so no longer byte for byte."""
        lap_ns = lap * self.lap_ns
        at_ns, later = event.at_ns + lap_ns, lap_ns // _MS * _MS
        if isinstance(event, Quote):
            return Quote(at_ns, event.update_id + ids, event.bid, event.ask)
        if isinstance(event, Trades):
            trades = [
                Trade(
                    trade.trade_id + lap * self._trades,
                    trade.price,
                    trade.size,
                    trade.taker,
                    trade.ts_ns + later,
                )
                for trade in event.trades
            ]
            return Trades(at_ns, event.ts_ns + later, trades)
        first_id = max(event.first_id, self._opening.last_id + 1) + ids
        return Depth(at_ns, event.ts_ns + later, first_id, event.last_id + ids, event.bids, event.asks)


def _last_id(event: Depth | Trades | Quote) -> float:
    if isinstance(event, Trades):
        return float("inf")
    return event.update_id if isinstance(event, Quote) else event.last_id
