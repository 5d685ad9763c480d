"""Kraken's websocket v2 messages as types, and the checksum of its books.

Prices and quantities are JSON numbers "pushed onto the wire containing full precision": their text, trailing
zeros included, is what the checksum is made of, so a level keeps it until it is read.

Source: docs.kraken.com, Spot WebSocket v2: book, trade, ticker, book checksum.
"""

from datetime import UTC, datetime
from decimal import Decimal
from struct import Struct as Packed
from typing import Annotated
from zlib import crc32

import msgspec

from daedalus.exchanges.words import Words, words_of
from daedalus.features.book import ASK, BID, Book

__all__ = [
    "BookMessage",
    "BookRow",
    "Heartbeat",
    "Level",
    "Method",
    "Status",
    "Texts",
    "TickerMessage",
    "TickerRow",
    "TradeMessage",
    "TradeRow",
    "decode_known",
    "decode_method",
    "message_words",
    "ns_of",
]

Size = Annotated[float, msgspec.Meta(ge=0, le=1e300)]
Finite = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TOP = 10  # levels of the checksum
_EXPONENT_MAX = 40
_TEXT_MAX = 64  # bytes: theirs have about 20
_pair = Packed("<2d")


class Level(msgspec.Struct, gc=False):
    """A price level; qty 0 removes it. Both as they were written."""

    price: msgspec.Raw
    qty: msgspec.Raw


class BookRow(msgspec.Struct):
    """One symbol's book, or its change."""

    symbol: str
    bids: list[Level]
    asks: list[Level]
    checksum: Number
    timestamp: Moment | None = None


class TradeRow(msgspec.Struct, gc=False):
    """A trade; `side` is the taker's."""

    symbol: str
    side: str
    price: Size
    qty: Size
    trade_id: Number
    timestamp: Moment
    ord_type: str = ""


class TickerRow(msgspec.Struct):
    """A ticker."""

    symbol: str
    bid: Size | None = None
    bid_qty: Size | None = None
    ask: Size | None = None
    ask_qty: Size | None = None
    last: Size | None = None
    volume: Size | None = None
    vwap: Size | None = None
    low: Size | None = None
    high: Size | None = None
    change: Finite | None = None
    change_pct: Finite | None = None
    timestamp: Moment | None = None


class _Envelope(msgspec.Struct, tag_field="channel"):
    type: str = ""


class BookMessage(_Envelope, tag="book"):
    """Of the channel book."""

    data: list[BookRow] = []


class TradeMessage(_Envelope, tag="trade"):
    """Of the channel trade."""

    data: list[TradeRow] = []


class TickerMessage(_Envelope, tag="ticker"):
    """Of the channel ticker."""

    data: list[TickerRow] = []


class Heartbeat(_Envelope, tag="heartbeat"):
    """Once a second where nothing else is said."""


class Status(_Envelope, tag="status"):
    """Of the exchange's own state."""


class Result(msgspec.Struct):
    """What was subscribed."""

    channel: str = ""
    symbol: str = ""


class Method(msgspec.Struct):
    """The answer to a message of ours, or a message that is none of the above."""

    method: str = ""
    channel: str = ""
    success: bool | None = None
    error: str | None = None
    symbol: str | None = None
    req_id: int | None = None
    result: Result | None = None


class _Texts(msgspec.Struct):
    """The objects of a message, word for word."""

    data: list[msgspec.Raw] = []


Known = BookMessage | TradeMessage | TickerMessage | Heartbeat | Status
_known: msgspec.json.Decoder[Known] = msgspec.json.Decoder(Known)
_method: msgspec.json.Decoder[Method] = msgspec.json.Decoder(Method)
_texts: msgspec.json.Decoder[_Texts] = msgspec.json.Decoder(_Texts)
decode_known = _known.decode
decode_method = _method.decode


def message_words(message: Known, raw: bytes | memoryview) -> Words:
    """Return the text of each trade and ticker of a message. Raises ValueError: one is not UTF-8."""
    if isinstance(message, TradeMessage | TickerMessage):
        return words_of(message.data, _texts.decode(raw).data)
    return {}


def ns_of(moment: datetime | None) -> int | None:
    """Return ns UTC of a moment; None where no exchange lives: before 1970 and after 2262."""
    if moment is None:
        return None
    delta = moment - _EPOCH
    ns = ((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1000
    return ns if 0 <= ns < 2**63 else None


def _digits(text: bytes) -> bytes:
    """Return a number's text for the checksum: no dot, no leading zeros.

    >>> _digits(b"0.05000"), _digits(b"45285.2"), _digits(b"1.5e-4")
    (b'5000', b'452852', b'15')
    """
    digits = text
    if len(text) > _TEXT_MAX:
        digits = b""
    elif b"e" in text or b"E" in text:
        digits = _spelled_out(text)
    digits = digits.replace(b".", b"", 1)
    if not digits.isdigit():
        raise ValueError(f"{text[:40]!r} is not a price or quantity")
    return digits.lstrip(b"0")


def _spelled_out(text: bytes) -> bytes:
    """Return a number without its exponent; empty if it is none, or none of this world."""
    try:
        number = Decimal(text.decode())
    except ArithmeticError:  # decimal's own errors are no ValueErrors
        return b""
    return b"" if abs(number.adjusted()) > _EXPONENT_MAX else format(number, "f").encode()


class Texts:
    """The texts of one book's levels, by side and price: what its checksum is made of."""

    __slots__ = ("_sides",)

    def __init__(self) -> None:
        """Begin with an empty book."""
        self._sides: tuple[dict[float, bytes], dict[float, bytes]] = ({}, {})

    def clear(self) -> None:
        """Forget both sides."""
        for texts in self._sides:
            texts.clear()

    def read(self, side: int, levels: list[Level]) -> bytes:
        """Take the changed levels of a side and return them packed.

        Raises:
            ValueError: a price or quantity is not a number, is negative, or is not finite.
        """
        texts, packed = self._sides[side], bytearray()
        for level in levels:
            price_text, qty_text = bytes(level.price), bytes(level.qty)
            text = _digits(price_text) + _digits(qty_text)
            price, qty = float(price_text), float(qty_text)
            if qty:
                texts[price] = text
            else:
                texts.pop(price, None)
            packed += _pair.pack(price, qty)
        return bytes(packed)

    def remove(self, side: int, removed: bytes) -> None:
        """Forget levels that were cut off, packed."""
        texts = self._sides[side]
        for price, _ in _pair.iter_unpack(removed):
            texts.pop(price, None)

    def checksum(self, book: Book) -> int:
        """Return the CRC-32 of the top ten of each side of the book, asks first.

        Raises:
            ValueError: the book has a level without a text: it was not read here.
        """
        asks, bids = self._sides[ASK], self._sides[BID]
        try:
            parts = [asks[price] for price, _ in _pair.iter_unpack(book.top(ASK, _TOP))]
            parts += [bids[price] for price, _ in _pair.iter_unpack(book.top(BID, _TOP))]
        except KeyError as error:
            raise ValueError(f"the level at {error} has no text") from None
        return crc32(b"".join(parts))
