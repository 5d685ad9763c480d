"""The market nouns: what a collector makes of a raw message, frozen the moment it is made.

Every record begins with the same four fields (exchange, symbol, collected_at, ts_recv) and then has the
columns of its bronze table, in the table's order. On the inside times are int64 nanoseconds UTC and the
sides of a book are packed bytes; `columns` gives the row as the bronze schema and the public wire have it.

A missing value is None: never 0, never NaN.
"""

from collections.abc import Iterable, Sequence
from enum import IntFlag
from struct import pack, unpack

import msgspec

__all__ = [
    "CHANNELS",
    "FRAMES",
    "AnyRecord",
    "BookSnapshot",
    "Depth",
    "Event",
    "Flag",
    "Frame",
    "Gap",
    "Instrument",
    "Record",
    "Row",
    "Ticker",
    "Trade",
    "channel_of",
    "columns",
    "decode",
    "decode_many",
    "encode",
    "pack_side",
    "sanitise",
    "unpack_side",
]

CHANNELS = ("orderbook", "trades", "ticker", "depth", "bidask", "ohlcv")
"""The channels with a name of ours. Any other name N is ccxt's `watch_N`, stored as `Event`s."""

FRAMES = "frames"
"""The channel of raw frames: not subscribed but recorded, with raw_capture = "frames"."""

_FORBIDDEN = str.maketrans('/\\:*?"<>|', "-" * 9)
_SYMBOL_BYTES_MAX = 200


class Flag(IntFlag):
    """Bits of the `flags` column."""

    SNAPSHOT = 1  # the exchange's own snapshot, not an update
    AFTER_GAP = 2  # the first row after a gap: nothing before it may be carried over
    CROSSED = 4  # best bid above best ask
    LOCKED = 8  # best bid equal to best ask
    ONE_SIDED = 16  # bids or asks are empty
    RESYNC = 32  # the first book after a resynchronisation
    CONFLATED = 64  # several updates of the exchange folded into one record
    BACKFILLED = 128  # did not arrive live: never enters a kernel
    COMPLETE = 256  # the whole book, not its top


class Record(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What all records share. Abstract; the tag of the subclass is the first element on the wire."""

    exchange: str  # sanitised name of the [exchanges.X] table
    symbol: str  # sanitised, BTC-USDT
    collected_at: int  # ms, local wall clock when the record was made
    # ns UTC in whole microseconds: session start plus monotonic clock, strictly increasing per symbol
    ts_recv: int


class Trade(Record, frozen=True, array_like=True, kw_only=True, tag=1):
    """One trade. `side` is the taker's."""

    trade_id: str | None
    ts_event: int | None  # ns UTC, the exchange's time
    side: str | None  # "buy" | "sell", the taker's; None = unknown
    price: float  # quote currency
    amount: float  # base currency
    cost: float | None  # quote currency, price x amount
    info_json: str | None
    symbol_raw: str  # as in the configuration, BTC/USDT
    seq: int  # from 1, gapless per session, exchange, symbol and channel
    session_id: str
    capture_mono_ns: int  # ns, CLOCK_MONOTONIC at capture
    clock_ok: bool  # the wall clock was synchronised
    exch_seq: int | None  # the exchange's own sequence number
    flags: int  # Flag bits
    side_raw: str | None  # the exchange's own word or flag, "m=true"


class BookSnapshot(Record, frozen=True, array_like=True, kw_only=True, tag=2):
    """The top of a book after one update, best level first."""

    ts_event: int | None  # ns UTC, the exchange's time
    nonce: int | None  # the exchange's update id
    bids: bytes  # little-endian float64 pairs price, size; best first
    asks: bytes  # the same
    symbol_raw: str
    seq: int
    session_id: str
    capture_mono_ns: int
    clock_ok: bool
    exch_seq: int | None
    flags: int


class Ticker(Record, frozen=True, array_like=True, kw_only=True, tag=3):
    """The exchange's summary: prices in quote currency, volumes over its own window (mostly 24 h)."""

    bid: float | None
    ask: float | None
    bid_volume: float | None  # base
    ask_volume: float | None  # base
    last: float | None
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    vwap: float | None
    base_volume: float | None
    quote_volume: float | None
    change: float | None  # quote
    percentage: float | None  # percent
    ts_event: int | None  # ns UTC, the exchange's time
    info_json: str | None
    symbol_raw: str
    seq: int
    session_id: str
    capture_mono_ns: int
    clock_ok: bool
    exch_seq: int | None
    flags: int


class Gap(Record, frozen=True, array_like=True, kw_only=True, tag=4):
    """A stretch of one channel that was not observed. It rides the link of its own channel."""

    channel: str  # orderbook | trades | ticker | depth | bidask | ohlcv | ...
    started_at: int  # ns UTC: capture of the last good message before the hole
    ended_at: int  # ns UTC: the first good message after it
    session_id: str  # of the session that reports it
    first_seq: int | None  # of the row before; None = there is none
    last_seq: int | None  # of the row after
    reason: str  # disconnect stale overflow sequence checksum clock_step restart error
    lost_estimate: int | None  # records; None = unknown
    detail: str | None


class Depth(Record, frozen=True, array_like=True, kw_only=True, tag=5):
    """The exchange's own change of its full book, or the whole book.

    Gapless between snapshots, so that the full book can be rebuilt at any row: start at a "snapshot", then
    set each level of every "update" to its size, 0 = removed.
    """

    ts_event: int | None  # ns UTC, the exchange's time
    nonce: int | None  # the exchange's update id after this change
    kind: str  # "snapshot" = the whole book, best first | "update" = the changed levels
    first_exch_seq: int | None  # the first update id folded into this change
    bids: bytes  # little-endian float64 pairs price, size
    asks: bytes  # the same
    symbol_raw: str
    seq: int
    session_id: str
    capture_mono_ns: int
    clock_ok: bool
    exch_seq: int | None
    flags: int


class Event(Record, frozen=True, array_like=True, kw_only=True, tag=6):
    """A message of a channel that has no schema of its own: bidask, ohlcv, any other watch method."""

    channel: str  # its channel and directory
    ts_event: int | None  # ns UTC, the exchange's time
    method: str  # what delivered it: "watchBidsAsks"
    data_json: str  # ccxt's unified structure, as JSON
    symbol_raw: str
    seq: int
    session_id: str
    capture_mono_ns: int
    clock_ok: bool
    exch_seq: int | None
    flags: int


class Instrument(Record, frozen=True, array_like=True, kw_only=True, tag=7):
    """What an exchange says of a market, once a day: tick sizes and contract sizes change.

    It rides the link of any channel of its exchange and lies in a directory of its own.
    """

    exchange_symbol: str | None  # the exchange's own id, "BTCUSDT"
    kind: str | None  # "spot" | "swap" | "future" | "option"
    base: str | None
    quote: str | None
    settle: str | None
    tick_size: float | None  # smallest step of a price, quote currency
    lot_size: float | None  # smallest step of an amount, base currency or contracts
    min_amount: float | None
    min_cost: float | None
    contract_size: float | None  # base currency per contract; amounts are stored in base currency
    active: bool | None
    info_json: str | None
    symbol_raw: str
    session_id: str


class Frame(Record, frozen=True, array_like=True, kw_only=True, tag=8):
    """One websocket message as it arrived, word for word. Its symbol is `all`."""

    connection: int  # which socket of the process, from 1
    text: str | None  # of a text message
    binary: bytes | None  # of any other
    seq: int
    session_id: str
    capture_mono_ns: int
    clock_ok: bool


Row = Trade | BookSnapshot | Ticker | Depth | Event | Frame
"""What a stream numbers."""

AnyRecord = Trade | BookSnapshot | Ticker | Gap | Depth | Event | Instrument | Frame

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyRecord] = msgspec.msgpack.Decoder(AnyRecord)
_list_decoder: msgspec.msgpack.Decoder[list[AnyRecord]] = msgspec.msgpack.Decoder(list[AnyRecord])

encode = _encoder.encode
"""Record -> MessagePack bytes, the form of spool, link and journal."""


def decode(data: bytes | memoryview) -> AnyRecord:
    """Return the record in `data`.

    Raises:
        msgspec.ValidationError: the bytes are MessagePack but no record (the message has the path).
        msgspec.DecodeError: the bytes are not MessagePack.
    """
    return _decoder.decode(data)


def decode_many(blob: bytes | memoryview) -> list[AnyRecord]:
    """Return the records of a blob: a MessagePack array of records. Raises as `decode`."""
    return _list_decoder.decode(blob)


def pack_side(levels: Iterable[Sequence[float]]) -> bytes:
    """Pack (price, size) levels, best first, into little-endian float64 pairs.

    >>> unpack_side(pack_side([(100.5, 2.0), (100.0, 1.0)]))
    [(100.5, 2.0), (100.0, 1.0)]
    """
    flat = [value for level in levels for value in (level[0], level[1])]
    return pack(f"<{len(flat)}d", *flat)


def unpack_side(side: bytes) -> list[tuple[float, float]]:
    """Return the (price, size) levels of a packed side."""
    flat = unpack(f"<{len(side) // 8}d", side)
    return list(zip(flat[::2], flat[1::2], strict=True))


def sanitise(name: str) -> str:
    """Return `name` as it stands in paths, topics and the `symbol` column.

    >>> sanitise("BTC/USDT:USDT")
    'BTC-USDT-USDT'

    Raises:
        ValueError: the name is empty, begins with a dot, has control characters, or is over 200 bytes.
    """
    safe = name.translate(_FORBIDDEN)
    if not safe or safe.startswith(".") or not safe.isprintable() or len(safe.encode()) > _SYMBOL_BYTES_MAX:
        raise ValueError(
            f"cannot use the name {name!r}: 1 to {_SYMBOL_BYTES_MAX} bytes, printable, no leading dot"
        )
    return safe


_CHANNEL: dict[type, str] = {
    Trade: "trades", BookSnapshot: "orderbook", Ticker: "ticker", Depth: "depth", Frame: FRAMES,
    Gap: "gaps", Instrument: "instruments",
}  # fmt: skip


def channel_of(record: AnyRecord) -> str:
    """Return the channel, and directory, that a record is stored in: a gap's is `gaps`.

    The channel that a gap speaks of, and whose link it rides, is its own `channel`.
    """
    return record.channel if type(record) is Event else _CHANNEL[type(record)]


_PREFIX = Record.__struct_fields__


def columns(record: AnyRecord) -> list[object]:
    """Return the values of the bronze columns that follow `hour`, in their order.

    `ts_event` becomes `timestamp` in ms, times of a gap become microseconds, sides become lists of
    [price, size].
    """
    row: list[object] = []
    for name in record.__struct_fields__[len(_PREFIX) :]:
        value = getattr(record, name)
        if name == "ts_event":
            value = None if value is None else value // 1_000_000
        elif name in ("bids", "asks"):
            value = [list(level) for level in unpack_side(value)]
        elif name in ("started_at", "ended_at"):
            value //= 1000
        row.append(value)
    return row
