"""OKX's websocket v5 messages as types, and the checksum of its books.

A message names its channel and instrument in `arg`; its rows are decoded for themselves, so that a damaged
one harms only the stream it belongs to. Numbers are texts.

Source: www.okx.com/docs-v5, order book channel, trades channel, all trades channel, tickers channel.
"""

import re
from collections.abc import Callable
from math import isfinite
from struct import Struct as Packed
from typing import Annotated
from zlib import crc32

import msgspec

from daedalus.features.book import ASK, BID, Book

__all__ = [
    "NO_DATA",
    "BookRow",
    "Frame",
    "Level",
    "Texts",
    "TickerRow",
    "TradeRow",
    "decode_books",
    "decode_frame",
    "decode_tickers",
    "decode_trades",
    "named",
    "ns_of",
    "number",
    "oldest_first",
]

Size = Annotated[float, msgspec.Meta(ge=0, le=1e300)]
Millis = Annotated[int, msgspec.Meta(ge=0, le=9_200_000_000_000)]
Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_TOP = 25  # levels of the checksum
_pair = Packed("<2d")


NO_DATA = msgspec.Raw()


class Arg(msgspec.Struct):
    """Which stream a message is of."""

    channel: str = ""
    instId: str = ""  # noqa: N815  (the exchange's spelling)


class Frame(msgspec.Struct):
    """Any message but the pong."""

    event: str = ""
    arg: Arg | None = None
    action: str = ""
    data: msgspec.Raw = NO_DATA
    code: str = ""
    msg: str = ""


class Level(msgspec.Struct, array_like=True, gc=False):
    """A price level; size 0 removes it. Both as they were written; contracts where it is a contract."""

    price: str
    size: str


class BookRow(msgspec.Struct):
    """The book, or its change. `checksum` 0 is none: the exchange no longer computes it."""

    bids: list[Level]
    asks: list[Level]
    ts: Millis
    seqId: Number  # noqa: N815
    prevSeqId: Number = -1  # noqa: N815
    checksum: Number | None = None


class TradeRow(msgspec.Struct, gc=False):
    """A trade, or in the channel `trades` all of one order at one price: then the id is of the last."""

    instId: str  # noqa: N815
    tradeId: str  # noqa: N815
    px: Size
    sz: Size
    side: str
    ts: Millis
    count: str = "1"

    @property
    def trades(self) -> int:
        """How many trades it is."""
        return max(int(self.count), 1) if self.count.isdecimal() and len(self.count) < 10 else 1


class TickerRow(msgspec.Struct):
    """A ticker; an empty text is a value that is missing."""

    instId: str  # noqa: N815
    ts: Millis
    last: str = ""
    askPx: str = ""  # noqa: N815
    askSz: str = ""  # noqa: N815
    bidPx: str = ""  # noqa: N815
    bidSz: str = ""  # noqa: N815
    open24h: str = ""
    high24h: str = ""
    low24h: str = ""
    volCcy24h: str = ""  # noqa: N815
    vol24h: str = ""


_frame: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)
_books: msgspec.json.Decoder[list[BookRow]] = msgspec.json.Decoder(list[BookRow], strict=False)
_trades: msgspec.json.Decoder[list[TradeRow]] = msgspec.json.Decoder(list[TradeRow], strict=False)
_tickers: msgspec.json.Decoder[list[TickerRow]] = msgspec.json.Decoder(list[TickerRow], strict=False)
decode_frame = _frame.decode
decode_books = _books.decode
decode_trades = _trades.decode
decode_tickers = _tickers.decode

_named = re.compile(r"channel:\s*([\w-]+),\s*instId:\s*([\w-]+)")


def named(words: str) -> tuple[str, str] | None:
    """Return (channel, instrument) of an error's words, if they name them.

    >>> named("Wrong URL or channel:books,instId:BTC-USX doesn't exist.")
    ('books', 'BTC-USX')
    """
    found = _named.search(words)
    return None if found is None else (found[1], found[2])


def ns_of(millis: int) -> int:
    """Return ns UTC of a time in ms."""
    return millis * 1_000_000


def number(text: str) -> float | None:
    """Return the number of a text; None if it is empty.

    Raises:
        ValueError: it is no number, or not a finite one.
    """
    if not text:
        return None
    value = float(text)
    if not isfinite(value) or "_" in text:
        raise ValueError(f"{text[:40]!r} is not a finite number")
    return value


def oldest_first(rows: list[TradeRow]) -> list[TradeRow]:
    """Return trades by their ids, which rise with time."""
    if len(rows) < 2 or not all(row.tradeId.isdecimal() and len(row.tradeId) < 20 for row in rows):
        return rows
    return sorted(rows, key=lambda row: int(row.tradeId))


class Texts:
    """Reads the levels of one book, and keeps their texts while the exchange sends checksums."""

    __slots__ = ("_base", "_sides", "checked")

    def __init__(self, base: Callable[[float, float], float] | None) -> None:
        """Begin with an empty book.

        Args:
            base: (price, contracts) -> amount in base currency; None: sizes are amounts.
        """
        self._base = base
        self._sides: tuple[dict[float, str], dict[float, str]] = ({}, {})
        self.checked = False  # keep texts

    def read(self, side: int, levels: list[Level]) -> bytes:
        """Take the changed levels of a side and return them packed, in base currency.

        Raises:
            ValueError: a price or size is not a number.
        """
        texts, packed, base = self._sides[side], bytearray(), self._base
        for level in levels:
            price, size = float(level.price), float(level.size)
            if "_" in level.price or "_" in level.size:  # Python reads it as a number
                raise ValueError(f"{level.price[:40]!r} or {level.size[:40]!r} is not a number")
            if self.checked and size:
                texts[price] = f"{level.price}:{level.size}"
            elif self.checked:
                texts.pop(price, None)
            packed += _pair.pack(price, size if base is None else base(price, size))
        return bytes(packed)

    def remove(self, side: int, removed: bytes) -> None:
        """Forget levels that were cut off, packed."""
        for price, _ in _pair.iter_unpack(removed):
            self._sides[side].pop(price, None)

    def checksum(self, book: Book) -> int:
        """Return the signed CRC-32 of the top 25: bid, ask, bid, ask …, as far as there are.

        Raises:
            ValueError: the book has a level without a text: it was not read here.
        """
        parts: list[str] = []
        try:
            bids = [self._sides[BID][price] for price, _ in _pair.iter_unpack(book.top(BID, _TOP))]
            asks = [self._sides[ASK][price] for price, _ in _pair.iter_unpack(book.top(ASK, _TOP))]
        except KeyError as error:
            raise ValueError(f"the level at {error} has no text") from None
        for at in range(max(len(bids), len(asks))):
            parts += bids[at : at + 1] + asks[at : at + 1]
        value = crc32(":".join(parts).encode())
        return value - (1 << 32) if value >= 1 << 31 else value
