"""The public message: one spelling for publishers, gateway and client, and it is the bronze row."""

import msgspec
import pytest

from daedalus import wire
from daedalus.dataset.columns import columns_of
from tests.dataset.makings import T0, book, depth, event, frame, gap, instrument, ticker, trade

RECORDS = {
    "book": book(1),
    "trade": trade(1),
    "ticker": ticker(1),
    "depth": depth(1, "snapshot", bids=[(1, 2)]),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_is_its_bronze_columns_after_hour(kind) -> None:
    stored = [name for name, _ in columns_of(wire.CHANNEL_OF_KIND[kind])]
    assert list(wire.record_columns(kind)) == stored[stored.index("hour") + 1 :]
    header, payload = wire.public(kind, RECORDS[kind], 7)
    row = dict(zip(wire.record_columns(kind), msgspec.msgpack.decode(payload), strict=True))
    assert (row["seq"], row["session_id"], row["symbol_raw"]) == (1, "s1", "BTC/USDT")
    found = wire.decode_header(header)
    assert (found.kind, found.seq, found.ts_recv_ns, found.ts_pub_ns) == (kind, 1, RECORDS[kind].ts_recv, 7)


def test_a_change_of_the_full_book_is_a_depth_message() -> None:
    record = depth(3, bids=[(99.5, 0.0)], asks=[(101.0, 2.0)])
    assert wire.record_topic(record) == b"depth/binance/BTC-USDT/"
    _, payload = wire.public("depth", record, 0)
    row = dict(zip(wire.record_columns("depth"), msgspec.msgpack.decode(payload), strict=True))
    assert (row["kind"], row["nonce"], row["first_exch_seq"]) == ("update", 30, 21)
    assert (row["bids"], row["asks"]) == ([[99.5, 0.0]], [[101.0, 2.0]])
    assert row["timestamp"] == record.ts_event // 1_000_000


def test_a_gap_speaks_of_its_channel_and_is_numbered_by_its_publisher() -> None:
    record = gap(T0, T0 + 5_000, channel="depth")
    assert wire.record_topic(record) == b"gap/binance/BTC-USDT/"
    header, payload = wire.public("gap", record, 0, 12)
    row = dict(zip(wire.record_columns("gap"), msgspec.msgpack.decode(payload), strict=True))
    assert (row["channel"], row["started_at"], row["ended_at"]) == ("depth", T0 // 1000, T0 // 1000 + 5)
    assert wire.decode_header(header).seq == 12
    assert (wire.channel(record), wire.channel(event(1, "ohlcv"))) == ("depth", "ohlcv")


@pytest.mark.parametrize("record", [event(1), instrument(), frame(1)])
def test_what_is_only_stored_has_no_topic(record) -> None:
    with pytest.raises(LookupError, match="is stored and not published"):
        wire.record_topic(record)


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(LookupError, match="cannot name the columns of 'bar': a record is one of book, trade"):
        wire.record_columns("bar")
