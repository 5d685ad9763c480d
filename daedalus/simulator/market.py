"""What a simulated exchange knows of one symbol, and the events that move it.

A source (a recording, the order-flow model) yields events in time order; `Market.apply` moves the true book
and the trade history; the dialects put the event into words. Prices and sizes stay the decimal strings the
exchange used, so that what is sent is what was recorded.
"""

from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from typing import Literal, Protocol

import msgspec

from daedalus.simulator.book import Book, Level

__all__ = [
    "Day",
    "Depth",
    "Event",
    "Market",
    "Opening",
    "Quote",
    "Reset",
    "Source",
    "Taker",
    "Trade",
    "Trades",
]

RECENT_TRADES = 20_000  # answered by REST; the latest of them by a subscription's first message

_NONE: list[Level] = [("0", "0")]

Taker = Literal["buy", "sell"]


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One trade; `taker` is the side that took."""

    trade_id: int
    price: str
    size: str
    taker: Taker
    ts_ns: int


class Depth(msgspec.Struct, frozen=True, gc=False):
    """Levels that changed; size zero removes. `first_id`…`last_id` are the update ids it covers."""

    at_ns: int  # since the beginning of the playback
    ts_ns: int  # the exchange's time, UTC
    first_id: int
    last_id: int
    bids: list[Level]
    asks: list[Level]
    raw: bytes | None = None  # the message body as recorded, sent byte for byte


class Trades(msgspec.Struct, frozen=True, gc=False):
    """Trades of one moment, oldest first."""

    at_ns: int
    ts_ns: int
    trades: list[Trade]
    raw: bytes | None = None


class Quote(msgspec.Struct, frozen=True, gc=False):
    """The best bid and ask after update `update_id`."""

    at_ns: int
    update_id: int
    bid: Level
    ask: Level
    raw: bytes | None = None


class Reset(msgspec.Struct, frozen=True, gc=False):
    """The book becomes this one: where a looped recording begins anew. Sent as the difference."""

    at_ns: int
    ts_ns: int
    last_id: int
    bids: list[Level]
    asks: list[Level]


Event = Depth | Trades | Quote | Reset


class Opening(msgspec.Struct, frozen=True):
    """What is known before the first event."""

    last_id: int
    bids: list[Level]
    asks: list[Level]
    ts_ns: int
    trades: list[Trade] = []


class Source(Protocol):
    """Where the events of one symbol come from."""

    exchange: str  # binance | coinbase
    symbol: str  # BTC/USDT
    price_step: str  # "0.01"
    size_step: str
    recorded: bool  # times are the recording's, not now
    origin_ns: int  # exchange time of playback time 0; set at the start, moved when playback is delayed

    def opening(self) -> Opening: ...
    def events(self) -> Iterator[Event]: ...


class Day(msgspec.Struct):
    """Totals of the trades since the beginning: what tickers summarise. Meaningless while count is 0."""

    count: int = 0
    first_id: int = 0
    last_id: int = 0
    opened_ns: int = 0
    open: str = ""
    high: str = ""
    low: str = ""
    last: str = ""
    last_size: str = ""
    volume: float = 0.0  # base
    turnover: float = 0.0  # quote

    def add(self, trade: Trade) -> None:
        """Count one trade."""
        price, size = float(trade.price), float(trade.size)
        if self.count == 0:
            self.first_id, self.opened_ns = trade.trade_id, trade.ts_ns
            self.open = self.high = self.low = trade.price
        if price > float(self.high):
            self.high = trade.price
        if price < float(self.low):
            self.low = trade.price
        self.count += 1
        self.last_id, self.last, self.last_size = trade.trade_id, trade.price, trade.size
        self.volume += size
        self.turnover += price * size


class Market:
    """The true book and the trades of one symbol of one exchange."""

    def __init__(self, source: Source) -> None:
        self.exchange = source.exchange
        self.symbol = source.symbol
        self.base, self.quote = source.symbol.split("/")
        joint = "" if source.exchange == "binance" else "-"
        self.id = f"{self.base}{joint}{self.quote}"
        self.price_step = source.price_step
        self.size_step = source.size_step
        self.book = Book()
        self.day = Day()
        opening = source.opening()
        self.book.replace(opening.last_id, opening.bids, opening.asks)
        self.recent: deque[Trade] = deque(opening.trades, maxlen=RECENT_TRADES)
        self.ts_ns = opening.ts_ns  # exchange time at the playhead
        self.second = 0  # whole seconds of playback that were told
        self._crossing: tuple[int, int] | None = None  # ordered: ticks, updates
        self._crossed: tuple[str, int] | None = None  # in the book: price, updates left

    def apply(self, event: Event) -> Event:
        """Move book and history to after `event`; return the event as it is to be sent.

        A depth update the book already contains (recorded before its snapshot) changes nothing.
        """
        if isinstance(event, Quote):
            return event
        self.ts_ns = event.ts_ns
        if isinstance(event, Trades):
            for trade in event.trades:
                self.recent.append(trade)
                self.day.add(trade)
            return event
        if isinstance(event, Reset):
            bids, asks = self.book.difference(event.bids, event.asks)
            event = Depth(event.at_ns, event.ts_ns, event.last_id, event.last_id, bids, asks)
        if event.last_id > self.book.last_id:
            if self._crossing is not None or self._crossed is not None:
                event = self._twisted(event)
            self.book.apply(event.last_id, event.bids, event.asks)
        return event

    def cross(self, ticks: int, updates: int) -> None:
        """Let the next update carry a bid `ticks` above the best ask; take it back `updates` updates later.

        The market itself is wrong, as exchanges are now and then: the book that REST tells, the one that
        clients build and the one of the truth log are crossed alike. With 0 ticks it is locked.
        """
        self._crossing = ticks, updates

    def _twisted(self, event: Depth) -> Depth:
        bids = list(event.bids)
        if self._crossed is not None:
            price, left = self._crossed
            told = any(float(level[0]) == float(price) for level in bids)
            if left <= 1 and not told:
                bids.append((price, "0"))
            self._crossed = (price, left - 1) if left > 1 and not told else None
        elif self._crossing is not None:
            asks = {float(price): (price, size) for price, size in [*self.book.asks(1000), *event.asks]}
            best = min((price for price, (_, size) in asks.items() if float(size)), default=None)
            if best is not None:
                ticks, updates = self._crossing
                price = str(Decimal(asks[best][0]) + ticks * Decimal(self.price_step))
                bids.append((price, "1"))
                self._crossed = price, updates
                self._crossing = None
        return Depth(event.at_ns, event.ts_ns, event.first_id, event.last_id, bids, event.asks)

    def best(self) -> tuple[Level, Level]:
        """Return the best bid and ask; an empty side is ("0", "0"), the exchanges' word for none."""
        return (self.book.bids(1) or _NONE)[0], (self.book.asks(1) or _NONE)[0]
