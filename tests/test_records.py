"""Records: what is written is read, what is missing stays missing, names are safe."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus import records
from daedalus.records import BookSnapshot, Flag, Gap, Ticker, Trade

NUMBERS = st.floats(allow_nan=False)
LEVELS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=60)
INT64 = st.integers(-(2**63), 2**63 - 1)
BASE = {"exchange": "binance", "symbol": "BTC-USDT", "collected_at": 1, "ts_recv": 2_000}
TAIL = {
    "symbol_raw": "BTC/USDT",
    "seq": 1,
    "session_id": "s",
    "capture_mono_ns": 5,
    "clock_ok": True,
    "exch_seq": None,
    "flags": 0,
}


def trade(**values: object) -> Trade:
    fields = {"trade_id": "7", "ts_event": None, "side": "buy", "price": 1.5, "amount": 2.0, "cost": None}
    return Trade(**{**BASE, **fields, "info_json": None, "side_raw": None, **TAIL, **values})


def book(**values: object) -> BookSnapshot:
    fields = {"ts_event": 1_000_000, "nonce": None, "bids": b"", "asks": b""}
    return BookSnapshot(**{**BASE, **fields, **TAIL, **values})


def ticker(**values: object) -> Ticker:
    prices = dict.fromkeys(Ticker.__struct_fields__[4:18])
    return Ticker(**{**BASE, **prices, "ts_event": None, "info_json": None, **TAIL, **values})


def gap(**values: object) -> Gap:
    fields = {
        "channel": "trades",
        "started_at": 1_500,
        "ended_at": 9_999,
        "session_id": "s",
        "first_seq": None,
    }
    more = {"last_seq": 3, "reason": "restart", "lost_estimate": None, "detail": None}
    return Gap(**{**BASE, **fields, **more, **values})


@pytest.mark.parametrize("record", [trade(), book(), ticker(bid=1.0), gap()], ids=lambda r: type(r).__name__)
def test_records_survive_the_wire_with_their_kind(record: records.AnyRecord) -> None:
    assert records.decode(records.encode(record)) == record
    assert type(records.decode(records.encode(record))) is type(record)
    assert records.decode_many(msgspec.msgpack.encode([record, record])) == [record, record]


def test_a_record_is_an_array_whose_first_element_is_its_kind() -> None:
    assert [msgspec.msgpack.decode(records.encode(r))[0] for r in (trade(), book(), ticker(), gap())] == [
        1,
        2,
        3,
        4,
    ]


@given(price=NUMBERS, ts=INT64, side=st.sampled_from(["buy", "sell", None]))
def test_any_trade_survives_the_wire(price: float, ts: int, side: str | None) -> None:
    record = trade(price=price, ts_event=ts, side=side)
    assert records.decode(records.encode(record)) == record


@given(LEVELS)
def test_sides_survive_packing_bit_for_bit(levels: list[tuple[float, float]]) -> None:
    packed = records.pack_side(levels)
    assert len(packed) == 16 * len(levels)
    assert records.unpack_side(packed) == levels
    assert records.pack_side(records.unpack_side(packed)) == packed


def test_sides_take_lists_with_more_than_two_values_as_ccxt_gives_them() -> None:
    assert records.unpack_side(records.pack_side([[1.0, 2.0, 99], [0.5, 1.0, 98]])) == [
        (1.0, 2.0),
        (0.5, 1.0),
    ]


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x01", msgspec.msgpack.encode([9]), records.encode(trade())[:-1]]
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        records.decode(data)


def test_records_are_frozen() -> None:
    with pytest.raises(AttributeError):
        trade().price = 1.0  # type: ignore[misc]


def test_columns_are_those_after_hour_in_bronze_order() -> None:
    # interfaces: trade_id, timestamp, side, price, amount, cost, info_json, symbol_raw, seq, session_id, …
    assert records.columns(trade(ts_event=1_723_000_000_123_456_789)) == [
        *("7", 1_723_000_000_123, "buy", 1.5, 2.0, None, None, "BTC/USDT", 1, "s", 5, True, None, 0, None)
    ]


def test_columns_of_a_book_have_levels_as_lists_and_missing_as_none() -> None:
    row = records.columns(book(ts_event=None, bids=records.pack_side([(1.0, 2.0)])))
    assert row[:4] == [None, None, [[1.0, 2.0]], []]


def test_columns_of_a_gap_have_microseconds() -> None:
    assert records.columns(gap())[:3] == ["trades", 1, 9]


def test_columns_of_a_ticker_begin_with_the_bid_and_keep_none() -> None:
    row = records.columns(ticker(bid=math.inf))
    assert row[0] == math.inf
    assert set(row[1:16]) == {None}


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("BTC/USDT", "BTC-USDT"),
        ("BTC/USDT:USDT", "BTC-USDT-USDT"),
        ('a\\:*?"<>|b', "a--------b"),
        ("币/USDT", "币-USDT"),
    ],
)
def test_symbols_are_sanitised_as_the_layout_says(name: str, safe: str) -> None:
    assert records.sanitise(name) == safe
    assert records.sanitise(safe) == safe


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a\nb", "a\0b", "x" * 201, "币" * 67])
def test_names_that_cannot_be_a_directory_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot use the name"):
        records.sanitise(name)


def test_flags_are_the_bits_of_the_interface() -> None:
    names = [
        "SNAPSHOT",
        "AFTER_GAP",
        "CROSSED",
        "LOCKED",
        "ONE_SIDED",
        "RESYNC",
        "CONFLATED",
        "BACKFILLED",
        "COMPLETE",
    ]
    assert {flag.name: int(flag) for flag in Flag} == dict(
        zip(names, [1, 2, 4, 8, 16, 32, 64, 128, 256], strict=True)
    )
