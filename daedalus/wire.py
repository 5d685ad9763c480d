"""The public three-part message: topic, header, payload. One spelling for publishers, gateway and client.

Pure, and light enough for the client: it imports msgspec and the records. The byte layouts are described in
docs/formats.md.
"""

import msgspec

from daedalus.records import (
    AnyRecord,
    BookSnapshot,
    Depth,
    Frame,
    Gap,
    Instrument,
    Ticker,
    Trade,
    channel_of,
    columns,
    sanitise,
)

__all__ = [
    "CHANNEL_OF_KIND",
    "KIND_OF_CHANNEL",
    "RECORD_KINDS",
    "VERSION",
    "Header",
    "channel",
    "decode_header",
    "encode_header",
    "public",
    "record_columns",
    "record_topic",
    "topic",
]

VERSION = 1
KIND_OF_CHANNEL = {"orderbook": "book", "trades": "trade", "ticker": "ticker", "depth": "depth"}
CHANNEL_OF_KIND = {kind: name for name, kind in KIND_OF_CHANNEL.items()}
RECORD_KINDS = ("book", "trade", "ticker", "depth", "gap")

_TYPE: dict[str, type[msgspec.Struct]] = {
    "book": BookSnapshot, "trade": Trade, "ticker": Ticker, "depth": Depth, "gap": Gap,
}  # fmt: skip


class Header(msgspec.Struct, frozen=True, array_like=True):
    """The second part. A later version may append elements; readers ignore what they do not know."""

    version: int
    kind: str  # feature bar book depth trade ticker gap schema
    seq: int  # the publisher's, from 1, gapless per topic and session
    session_id: str  # the publisher's
    ts_event_ns: int | None  # ns UTC, the exchange's time
    ts_recv_ns: int  # ns UTC, capture
    ts_pub_ns: int  # ns UTC, when it was published
    schema_id: str | None  # of feature and bar rows


_encoder = msgspec.msgpack.Encoder()
_header_decoder: msgspec.msgpack.Decoder[Header] = msgspec.msgpack.Decoder(Header)

encode_header = _encoder.encode
"""Header -> MessagePack array."""


def decode_header(data: bytes) -> Header:
    """Return the header in `data`. Raises msgspec.DecodeError (also for a wrong shape)."""
    return _header_decoder.decode(data)


def topic(kind: str, exchange: str, symbol: str) -> bytes:
    """Return the topic of a stream; symbol in either spelling. It ends with a slash: no symbol is a prefix.

    >>> topic("feature", "binance", "BTC/USDT")
    b'feature/binance/BTC-USDT/'
    """
    return f"{kind}/{sanitise(exchange)}/{sanitise(symbol)}/".encode()


def channel(record: AnyRecord) -> str:
    """Return the channel a record belongs to; a gap's is the one it speaks of."""
    return record.channel if isinstance(record, Gap) else channel_of(record)


def record_topic(record: AnyRecord) -> bytes:
    """Return the topic a collector publishes `record` under.

    Raises:
        LookupError: records of its kind are stored and not published.
    """
    kind = "gap" if isinstance(record, Gap) else KIND_OF_CHANNEL.get(channel_of(record))
    if kind is None:
        raise LookupError(
            f"cannot publish a record: the channel {channel_of(record)} is stored and not published"
        )
    return f"{kind}/{record.exchange}/{record.symbol}/".encode()


def record_columns(kind: str) -> tuple[str, ...]:
    """Return the names of a record's public payload, in order: the bronze columns after `hour`.

    Raises:
        LookupError: there is no such kind of record.
    """
    if kind not in _TYPE:
        raise LookupError(f"cannot name the columns of {kind!r}: a record is one of {', '.join(_TYPE)}")
    fields = _TYPE[kind].__struct_fields__[4:]  # exchange, symbol, collected_at, ts_recv come before
    return tuple("timestamp" if name == "ts_event" else name for name in fields)


def public(kind: str, record: AnyRecord, ts_pub_ns: int, seq: int | None = None) -> tuple[bytes, bytes]:
    """Return header and payload of a record in public form.

    Args:
        kind: the first word of its topic.
        record: as its collector published it.
        ts_pub_ns: now, ns UTC.
        seq: for a gap, which has no number of its own.
    """
    number, ts_event = seq or 0, None
    if not isinstance(record, Gap | Instrument | Frame):
        number, ts_event = record.seq if seq is None else seq, record.ts_event
    header = Header(VERSION, kind, number, record.session_id, ts_event, record.ts_recv, ts_pub_ns, None)
    return _encoder.encode(header), _encoder.encode(columns(record))
