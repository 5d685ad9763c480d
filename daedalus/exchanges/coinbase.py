"""Coinbase Advanced Trade, public websocket: what its messages mean.

Every message of a connection, heartbeats and acknowledgements included, carries `sequence_num`, one more
than the one before. A hole means that something was lost, and nobody can say in which channel: the whole
connection is taken down, and nothing is emitted before the next snapshot. `market_trades` prints the side
of the maker, and begins with a snapshot of recent trades: they did not arrive live and are flagged so.

Source: docs.cdp.coinbase.com, Advanced Trade WebSocket channels.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from daedalus.exchanges.adapter import (
    BookFact,
    Control,
    Fact,
    Fault,
    Item,
    Stream,
    TickerFact,
    TradeFact,
    book_flags,
)
from daedalus.exchanges.sides import Semantics, semantics, taker
from daedalus.features.book import Book
from daedalus.records import Flag

__all__ = ["DEFAULT_WS_URL", "CoinbaseAdapter", "product_id"]

DEFAULT_WS_URL = "wss://advanced-trade-ws.coinbase.com"
_CHANNELS = {"orderbook": "level2", "trades": "market_trades", "ticker": "ticker"}
_OURS = {"level2": "orderbook", "l2_data": "orderbook", "market_trades": "trades", "ticker": "ticker"}
_BID, _ASK = 0, 1
_SIDES = {"bid": _BID, "offer": _ASK}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CROSSED_MAX = 200  # updates in a row: a book that stays crossed is damaged


class _Level(msgspec.Struct, gc=False):
    side: Literal["bid", "offer"]
    price_level: float
    new_quantity: float


class _BookEvent(msgspec.Struct):
    type: str
    product_id: str
    updates: list[_Level]


class _Trade(msgspec.Struct, gc=False):
    trade_id: str
    product_id: str
    price: float
    size: float
    side: str
    time: datetime


class _TradeEvent(msgspec.Struct):
    type: str
    trades: list[_Trade]


class _Ticker(msgspec.Struct):
    product_id: str
    price: str = ""
    volume_24_h: str = ""
    low_24_h: str = ""
    high_24_h: str = ""
    price_percent_chg_24_h: str = ""
    best_bid: str = ""
    best_bid_quantity: str = ""
    best_ask: str = ""
    best_ask_quantity: str = ""


class _TickerEvent(msgspec.Struct):
    type: str
    tickers: list[_Ticker]


class _SubscriptionEvent(msgspec.Struct):
    subscriptions: dict[str, list[str]] = {}


class _Envelope(msgspec.Struct, tag_field="channel"):
    timestamp: datetime
    sequence_num: int


class _BookMessage(_Envelope, tag="l2_data"):
    events: list[_BookEvent]


class _TradesMessage(_Envelope, tag="market_trades"):
    events: list[_TradeEvent]


class _TickerMessage(_Envelope, tag="ticker"):
    events: list[_TickerEvent]


class _Heartbeat(_Envelope, tag="heartbeats"):
    pass


class _Subscriptions(_Envelope, tag="subscriptions"):
    events: list[_SubscriptionEvent] = []


class _Other(msgspec.Struct):
    """What is left of a message that is none of the above: an error, or a channel of tomorrow."""

    type: str = ""
    message: str = ""
    channel: str = ""
    sequence_num: int | None = None


_Known = _BookMessage | _TradesMessage | _TickerMessage | _Heartbeat | _Subscriptions
# strict=False: numbers arrive as strings and are parsed by the decoder itself, correctly rounded
_decoder: msgspec.json.Decoder[_Known] = msgspec.json.Decoder(_Known, strict=False)
_other_decoder: msgspec.json.Decoder[_Other] = msgspec.json.Decoder(_Other)


def product_id(symbol: str) -> str:
    """Return Coinbase's name of a symbol.

    >>> product_id("BTC/USD")
    'BTC-USD'
    """
    return symbol.replace("/", "-")


def _ns(moment: datetime) -> int:
    delta = moment - _EPOCH
    return ((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1000


def _number(text: str) -> float | None:
    return float(text) if text else None


class _BookState:
    """One product's book on one connection."""

    __slots__ = ("book", "crossed", "resyncs", "valid")

    def __init__(self) -> None:
        self.book = Book()
        self.valid = False
        self.crossed = 0
        self.resyncs = 0


class CoinbaseAdapter:
    """The pure half: see `adapter.Adapter`."""

    source = "native"
    default_ws_url = DEFAULT_WS_URL

    def __init__(
        self,
        channels: Mapping[str, Sequence[str]],
        *,
        levels: int = 50,
        side: str = "auto",
        raw_info: bool = False,
    ) -> None:
        """Prepare the streams of one connection.

        Args:
            channels: our channel -> symbols as configured.
            levels: levels per side of an emitted book.
            side: "auto", or whose side the exchange prints: "maker", "taker", "unknown".
            raw_info: keep the raw object of trades and tickers as `info_json`.

        Raises:
            ValueError: a channel is not one of orderbook, trades, ticker.
        """
        unknown = sorted(set(channels) - set(_CHANNELS))
        if unknown:
            raise ValueError(f"cannot subscribe to {', '.join(unknown)}: coinbase has {', '.join(_CHANNELS)}")
        self._streams = {
            (product_id(symbol), channel): Stream(symbol, channel)
            for channel, symbols in channels.items()
            for symbol in symbols
        }
        self._symbols = {product: stream.symbol for (product, _), stream in self._streams.items()}
        self._levels = levels
        self._meaning: Semantics = semantics("coinbase", side)
        self._raw_info = raw_info
        self._books = {p: _BookState() for p, channel in self._streams if channel == "orderbook"}
        self._expected: int | None = None
        self._broken = True
        self._handlers: dict[type, Callable[[Any], list[Item]]] = {
            _BookMessage: self._on_book,
            _TradesMessage: self._on_trades,
            _TickerMessage: self._on_ticker,
            _Heartbeat: self._on_heartbeat,
            _Subscriptions: self._on_subscriptions,
        }

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What this connection carries."""
        return tuple(self._streams.values())

    def subscribe(self) -> list[bytes]:
        """Forget the last connection and return the messages that open the next."""
        self._expected = None
        self._broken = False
        for state in self._books.values():
            state.book.clear()
            state.valid = False
            state.crossed = 0
        wanted: dict[str, list[str]] = {}
        for product, channel in self._streams:
            wanted.setdefault(_CHANNELS[channel], []).append(product)
        messages: list[dict[str, object]] = [{"type": "subscribe", "channel": "heartbeats"}]
        messages += [
            {"type": "subscribe", "channel": channel, "product_ids": products}
            for channel, products in wanted.items()
        ]
        return [msgspec.json.encode(message) for message in messages]

    def feed(self, raw: bytes | memoryview) -> list[Item]:
        """Return what one message says; [] once the connection is broken."""
        if self._broken:
            return []
        try:
            message = _decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return self._on_other(raw, error)
        hole = self._sequence(message.sequence_num)
        if hole is not None:
            return [hole]
        return self._handlers[type(message)](message)

    def _fault(self, reason: str, detail: str) -> Fault:
        self._broken = True
        return Fault(self.streams, reason, detail)  # type: ignore[arg-type]

    def _sequence(self, number: int) -> Fault | None:
        expected = self._expected
        if expected is not None and number != expected:
            return self._fault("sequence", f"sequence_num {number}, expected {expected}")
        self._expected = number + 1
        return None

    def _on_other(
        self, raw: bytes | memoryview, error: msgspec.DecodeError | UnicodeDecodeError
    ) -> list[Item]:
        try:
            other = _other_decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return [self._fault("error", f"undecodable message: {error}")]
        if other.type == "error":
            self._broken = True
            refused = self._expected is None or "not a valid product" in other.message
            fatal = refused and "product" in other.message.lower()
            return [Fault(self.streams, "error", f"the exchange says: {other.message}", fatal)]
        if other.channel in _OURS or other.sequence_num is None:
            return [self._fault("error", f"unexpected message: {error}")]
        # a channel nobody asked for: its number counts all the same
        hole = self._sequence(other.sequence_num)
        return [hole] if hole is not None else []

    def _on_heartbeat(self, _message: _Heartbeat) -> list[Item]:
        return [Control("heartbeat")]

    def _on_subscriptions(self, message: _Subscriptions) -> list[Item]:
        streams = [
            self._streams[product, _OURS[channel]]
            for event in message.events
            for channel, products in event.subscriptions.items()
            if channel in _OURS
            for product in products
            if (product, _OURS[channel]) in self._streams
        ]
        return [Control("subscribed", tuple(streams))]

    def _on_book(self, message: _BookMessage) -> list[Item]:
        items: list[Item] = []
        ts_event = _ns(message.timestamp)
        for event in message.events:
            state = self._books.get(event.product_id)
            if state is None:
                continue
            flags = 0
            if event.type == "snapshot":
                state.book.clear()
                flags = Flag.SNAPSHOT | (Flag.RESYNC if state.resyncs else 0)
                state.resyncs += 1
                state.valid = True
            elif not state.valid:
                continue
            apply = state.book.apply
            for level in event.updates:
                apply(_SIDES[level.side], level.price_level, level.new_quantity)
            fact = self._freeze(event.product_id, state, ts_event, message.sequence_num, int(flags))
            if state.crossed > _CROSSED_MAX:
                return [self._fault("error", f"{event.product_id} crossed for {state.crossed} updates")]
            items.append(fact)
        return items

    def _freeze(self, product: str, state: _BookState, ts_event: int, number: int, flags: int) -> BookFact:
        book, levels = state.book, self._levels
        bids, asks = book.top(_BID, levels), book.top(_ASK, levels)
        flags |= book_flags(bids, asks)
        state.crossed = state.crossed + 1 if flags & Flag.CROSSED else 0
        if book.depth(_BID) <= levels and book.depth(_ASK) <= levels:
            flags |= Flag.COMPLETE
        return BookFact(
            symbol=self._symbols[product],
            ts_event=ts_event,
            nonce=None,
            bids=bids,
            asks=asks,
            exch_seq=number,
            flags=int(flags),
        )

    def _on_trades(self, message: _TradesMessage) -> list[Item]:
        facts: list[Item] = []
        for event in message.events:
            flags = int(Flag.BACKFILLED) if event.type == "snapshot" else 0
            facts += [
                self._trade(trade, message.sequence_num, flags)
                for trade in _oldest_first(event.trades)
                if (trade.product_id, "trades") in self._streams
            ]
        return facts

    def _trade(self, trade: _Trade, number: int, flags: int) -> Fact:
        return TradeFact(
            symbol=self._symbols[trade.product_id],
            trade_id=trade.trade_id,
            ts_event=_ns(trade.time),
            side=taker(trade.side, self._meaning),
            side_raw=trade.side,
            price=trade.price,
            amount=trade.size,
            cost=trade.price * trade.size,
            exch_seq=number,
            flags=flags,
            info_json=msgspec.json.encode(trade).decode() if self._raw_info else None,
        )

    def _on_ticker(self, message: _TickerMessage) -> list[Item]:
        ts_event = _ns(message.timestamp)
        return [
            self._ticker(ticker, ts_event, message.sequence_num)
            for event in message.events
            for ticker in event.tickers
            if (ticker.product_id, "ticker") in self._streams
        ]

    def _ticker(self, ticker: _Ticker, ts_event: int, number: int) -> Fact:
        last = _number(ticker.price)
        return TickerFact(
            symbol=self._symbols[ticker.product_id],
            ts_event=ts_event,
            bid=_number(ticker.best_bid),
            ask=_number(ticker.best_ask),
            bid_volume=_number(ticker.best_bid_quantity),
            ask_volume=_number(ticker.best_ask_quantity),
            last=last,
            high=_number(ticker.high_24_h),
            low=_number(ticker.low_24_h),
            close=last,
            base_volume=_number(ticker.volume_24_h),
            percentage=_number(ticker.price_percent_chg_24_h),
            exch_seq=number,
            info_json=msgspec.json.encode(ticker).decode() if self._raw_info else None,
        )


def _oldest_first(trades: list[_Trade]) -> Iterable[_Trade]:
    # ids rise with time; the feed does not promise an order inside a message
    if len(trades) < 2 or not all(trade.trade_id.isdigit() for trade in trades):
        return trades
    return sorted(trades, key=lambda trade: int(trade.trade_id))
