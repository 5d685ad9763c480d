"""Recordings of the older Coinbase Exchange feed, read into events that the Advanced Trade dialect can say.

`match` gives the maker's side, as market_trades does; `last_match` is the trade before the recording and
becomes the history a new subscriber is shown. Updates have no number of their own: they are counted.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from daedalus.kernel.errors import ConfigError
from daedalus.simulator.book import Level
from daedalus.simulator.market import Depth, Event, Opening, Reset, Taker, Trade, Trades
from daedalus.simulator.recording import Tape, decoded, step

__all__ = ["CoinbaseTape", "parse_time"]


class _Snapshot(msgspec.Struct):
    bids: list[Level]
    asks: list[Level]


class _Update(msgspec.Struct):
    changes: list[tuple[str, str, str]]  # side, price, size
    time: str


class _Match(msgspec.Struct):
    trade_id: int
    side: str  # the maker's
    size: str
    price: str
    time: str


_snapshot = msgspec.json.Decoder(_Snapshot).decode
_update = msgspec.json.Decoder(_Update).decode
_match = msgspec.json.Decoder(_Match).decode


def parse_time(text: str) -> int:
    """Return ns UTC of an ISO time with at most microseconds.

    >>> parse_time("1970-01-01T00:00:01.000250Z")
    1000250000
    """
    moment = datetime.fromisoformat(text)
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000_000 + moment.microsecond * 1000


class CoinbaseTape(Tape):
    """Source of one recorded Coinbase product."""

    exchange = "coinbase"

    def __init__(self, symbol: str, paths: Sequence[Path]) -> None:
        super().__init__(symbol, paths)
        self._mark = f'"product_id":"{symbol.replace("/", "-")}"'.encode()
        self._updates = 0  # of one lap
        self._trades = 0
        self._opening = self._scan()

    def opening(self) -> Opening:
        """Return the book of the recorded snapshot and the trade before it."""
        return self._opening

    def _scan(self) -> Opening:
        book: _Snapshot | None = None
        before: Trade | None = None
        first_trade: int | None = None
        ts_ns = 0
        for path, (at, message) in self._lines():
            self.start_ns = self.start_ns or at
            self.end_ns = at
            if self._mark not in message:
                continue
            if message.startswith(b'{"type":"snapshot"') and book is None:
                book = decoded(_snapshot, message, path)
            elif message.startswith(b'{"type":"last_match"') and before is None:
                before = _trade(decoded(_match, message, path))
            elif message.startswith(b'{"type":"match"'):
                trade_id = decoded(_match, message, path).trade_id
                first_trade = first_trade or trade_id
                self._trades = trade_id - first_trade + 1
            elif message.startswith(b'{"type":"l2update"'):
                self._updates += 1
                ts_ns = ts_ns or parse_time(decoded(_update, message, path).time)
        if book is None:
            raise ConfigError(f"cannot play {self._paths[0]} as {self.symbol}: no snapshot of it in the file")
        levels = [*book.bids, *book.asks]
        self.price_step, self.size_step = step(levels, 0), step(levels, 1)
        return Opening(1, book.bids, book.asks, ts_ns, [before] if before is not None else [])

    def _lap(self, lap: int) -> Iterator[Event]:
        opening, lap_ns = self._opening, lap * self.lap_ns
        number = opening.last_id + lap * (self._updates + 1)
        if lap:
            yield Reset(lap_ns, opening.ts_ns + lap_ns, number, opening.bids, opening.asks)
        for path, (received, message) in self._lines():
            if self._mark not in message:
                continue
            at_ns = received - self.start_ns + lap_ns
            if message.startswith(b'{"type":"l2update"'):
                number += 1
                update = decoded(_update, message, path)
                bids = [(price, size) for side, price, size in update.changes if side == "buy"]
                asks = [(price, size) for side, price, size in update.changes if side == "sell"]
                yield Depth(at_ns, parse_time(update.time) + lap_ns, number, number, bids, asks)
            elif message.startswith(b'{"type":"match"'):
                trade = _trade(decoded(_match, message, path), lap * self._trades, lap_ns)
                yield Trades(at_ns, trade.ts_ns, [trade])


def _trade(match: _Match, ids: int = 0, later_ns: int = 0) -> Trade:
    taker: Taker = "buy" if match.side == "sell" else "sell"
    return Trade(match.trade_id + ids, match.price, match.size, taker, parse_time(match.time) + later_ns)
