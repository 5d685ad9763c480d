"""Coinbase Advanced Trade's messages and REST answers as types: what is not of this shape is not theirs.

Numbers arrive as strings and are parsed by the decoder itself, correctly rounded; what is not finite, or
negative, or a time without a zone, is refused there.

Source: docs.cdp.coinbase.com, Advanced Trade WebSocket channels; REST: Get Public Market Trades, List Public
Products.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from daedalus.exchanges.words import Words, words_of

__all__ = [
    "BookMessage",
    "Heartbeat",
    "History",
    "Known",
    "Level",
    "Other",
    "Product",
    "Products",
    "Subscriptions",
    "TickerMessage",
    "TickerRow",
    "TradeRow",
    "TradesMessage",
    "decode_history",
    "decode_known",
    "decode_other",
    "decode_product",
    "decode_products",
    "history_words",
    "message_words",
    "ns_of",
    "oldest_first",
]

Size = Annotated[float, msgspec.Meta(ge=0, le=1e300)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Level(msgspec.Struct, gc=False):
    """A price level; new_quantity 0 removes it."""

    side: Literal["bid", "offer"]
    price_level: Size
    new_quantity: Size


class BookEvent(msgspec.Struct):
    """One product's part of a book message."""

    type: str
    product_id: str
    updates: list[Level]


class TradeRow(msgspec.Struct, gc=False):
    """A trade; `side` is the maker's."""

    trade_id: str
    product_id: str
    price: Size
    size: Size
    side: str
    time: Moment


class TradeEvent(msgspec.Struct):
    """The trades of one message, or the recent ones ("snapshot")."""

    type: str
    trades: list[TradeRow]


class TickerRow(msgspec.Struct):
    """A ticker; an empty string is a value that is missing."""

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


class TickerEvent(msgspec.Struct):
    """The tickers of one message."""

    type: str
    tickers: list[TickerRow]


class SubscriptionEvent(msgspec.Struct):
    """Exchange's channel -> products."""

    subscriptions: dict[str, list[str]] = {}


class Envelope(msgspec.Struct, tag_field="channel"):
    """What every message has."""

    timestamp: Moment
    sequence_num: Number


class BookMessage(Envelope, tag="l2_data"):
    """Of the channel level2."""

    events: list[BookEvent]


class TradesMessage(Envelope, tag="market_trades"):
    """Of the channel market_trades."""

    events: list[TradeEvent]


class TickerMessage(Envelope, tag="ticker"):
    """Of the channel ticker."""

    events: list[TickerEvent]


class Heartbeat(Envelope, tag="heartbeats"):
    """Once a second."""


class Subscriptions(Envelope, tag="subscriptions"):
    """All that this connection is subscribed to by now."""

    events: list[SubscriptionEvent] = []


class Other(msgspec.Struct):
    """What is left of a message that is none of the above: an error, or a channel of tomorrow."""

    type: str = ""
    message: str = ""
    channel: str = ""
    sequence_num: Number | None = None


class History(msgspec.Struct):
    """Answer of the public ticker request: recent trades, newest first."""

    trades: list[TradeRow]


class _TradeTexts(msgspec.Struct):
    """The trades of an event, word for word."""

    trades: list[msgspec.Raw] = []


class _TickerTexts(msgspec.Struct):
    """The tickers of an event, word for word."""

    tickers: list[msgspec.Raw] = []


class _TradesMessageTexts(msgspec.Struct):
    """The events of a message with trades."""

    events: list[_TradeTexts] = []


class _TickerMessageTexts(msgspec.Struct):
    """The events of a message with tickers."""

    events: list[_TickerTexts] = []


class Products(msgspec.Struct):
    """Answer of the public products request; each is decoded for itself."""

    products: list[msgspec.Raw]


class FutureDetails(msgspec.Struct):
    """What only contracts have."""

    contract_size: str = ""
    contract_expiry_type: str = ""


class Product(msgspec.Struct):
    """One product."""

    product_id: str
    product_type: str = ""
    base_increment: str = ""
    quote_increment: str = ""
    price_increment: str = ""
    base_min_size: str = ""
    quote_min_size: str = ""
    base_currency_id: str = ""
    quote_currency_id: str = ""
    is_disabled: bool = False
    trading_disabled: bool = False
    future_product_details: FutureDetails | None = None


Known = BookMessage | TradesMessage | TickerMessage | Heartbeat | Subscriptions

_known: msgspec.json.Decoder[Known] = msgspec.json.Decoder(Known, strict=False)
_other: msgspec.json.Decoder[Other] = msgspec.json.Decoder(Other)
_history: msgspec.json.Decoder[History] = msgspec.json.Decoder(History, strict=False)
_products: msgspec.json.Decoder[Products] = msgspec.json.Decoder(Products)
_product: msgspec.json.Decoder[Product] = msgspec.json.Decoder(Product)

_trade_texts: msgspec.json.Decoder[_TradesMessageTexts] = msgspec.json.Decoder(_TradesMessageTexts)
_ticker_texts: msgspec.json.Decoder[_TickerMessageTexts] = msgspec.json.Decoder(_TickerMessageTexts)
_history_texts: msgspec.json.Decoder[_TradeTexts] = msgspec.json.Decoder(_TradeTexts)

decode_known = _known.decode
decode_other = _other.decode
decode_history = _history.decode
decode_products = _products.decode
decode_product = _product.decode


def message_words(message: Known, raw: bytes | memoryview) -> Words:
    """Return the text of each trade and ticker of a message. Raises ValueError: one is not UTF-8."""
    if isinstance(message, TradesMessage):
        texts = [text for event in _trade_texts.decode(raw).events for text in event.trades]
        return words_of([row for event in message.events for row in event.trades], texts)
    if isinstance(message, TickerMessage):
        texts = [text for event in _ticker_texts.decode(raw).events for text in event.tickers]
        return words_of([row for event in message.events for row in event.tickers], texts)
    return {}


def history_words(trades: list[TradeRow], body: bytes) -> Words:
    """Return the text of each trade of an answer. Raises ValueError: one is not UTF-8."""
    return words_of(trades, _history_texts.decode(body).trades)


def ns_of(moment: datetime) -> int | None:
    """Return ns UTC of a moment; None where no exchange lives: before 1970 and after 2262.

    >>> ns_of(datetime(1970, 1, 1, 0, 0, 1, 250, tzinfo=UTC))
    1000250000
    """
    delta = moment - _EPOCH
    ns = ((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1000
    return ns if 0 <= ns < 2**63 else None


def oldest_first(trades: list[TradeRow]) -> list[TradeRow]:
    """Return trades by their ids, which rise with time; the feed does not promise an order in a message.

    Raises:
        ValueError: an id has thousands of digits.
    """
    if len(trades) < 2 or not all(trade.trade_id.isdecimal() for trade in trades):
        return trades
    return sorted(trades, key=lambda trade: int(trade.trade_id))
