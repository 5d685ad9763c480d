"""Records become exactly the columns of the interface, in files that everybody can open."""

import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daedalus.dataset.bronze import batch, schema
from daedalus.dataset.layout import HOUR_NS, Partition
from daedalus.records import Event, columns, pack_side
from tests.dataset.makings import T0, book, depth, event, frame, gap, instrument, sealed, ticker, trade

HOUR = Partition("ccxt", "orderbook", "binance", "BTC-USDT", T0 // HOUR_NS)
TAIL = "symbol_raw seq session_id capture_mono_ns clock_ok exch_seq flags"
HEAD = "collected_at capture_ts exchange symbol year month day hour"
EXPECTED = {
    "orderbook": f"{HEAD} timestamp nonce bids asks {TAIL}",
    "trades": f"{HEAD} trade_id timestamp side price amount cost info_json {TAIL} side_raw",
    "ticker": (
        f"{HEAD} bid ask bid_volume ask_volume last open high low close vwap base_volume quote_volume "
        f"change percentage timestamp info_json {TAIL}"
    ),
    "gaps": (
        "exchange symbol channel year month day hour started_at ended_at session_id first_seq last_seq "
        "reason lost_estimate detail"
    ),
    "depth": f"{HEAD} timestamp nonce kind first_exch_seq bids asks {TAIL}",
    "bidask": f"{HEAD} timestamp method data_json {TAIL}",
    "funding_rate": f"{HEAD} timestamp method data_json {TAIL}",
    "instruments": (
        f"{HEAD} exchange_symbol kind base quote settle tick_size lot_size min_amount min_cost contract_size "
        "active info_json symbol_raw session_id"
    ),
    "frames": f"{HEAD} connection text binary seq session_id capture_mono_ns clock_ok",
}
RECORDS = {
    "orderbook": [book(n, bids=[(99 - k, 1.0 + n) for k in range(n % 4)]) for n in range(1, 30)],
    "trades": [trade(n, cost=None if n % 2 else n * 1.0) for n in range(1, 30)],
    "ticker": [ticker(n) for n in range(1, 30)],
    "gaps": [gap(T0 + n, T0 + n + 5_000, first_seq=n) for n in range(0, 29_000, 1000)],
    "depth": [
        depth(n, "update" if n % 9 else "snapshot", bids=[(99 - k, k * 0.5) for k in range(n % 4)])
        for n in range(1, 30)
    ],
    "bidask": [event(n) for n in range(1, 30)],
    "funding_rate": [event(n, "funding_rate") for n in range(1, 30)],
    "instruments": [instrument(ts_recv=T0 + n * 1000, tick_size=n or None) for n in range(29)],
    "frames": [frame(n) for n in range(1, 30)],
}


@pytest.mark.parametrize("channel", EXPECTED)
def test_columns_stand_in_the_order_of_the_interface(channel):
    assert schema(channel).names == EXPECTED[channel].split()


def test_types_are_those_of_the_interface():
    form = schema("orderbook")
    assert [
        str(form.field(name).type) for name in ("collected_at", "capture_ts", "exchange", "hour", "nonce")
    ] == [
        "int64",
        "timestamp[us, tz=UTC]",
        "string",
        "int32",
        "int64",
    ]
    assert form.field("flags").type == pa.int32()
    assert form.field("clock_ok").type == pa.bool_()
    assert form.field("bids").type == pa.list_(pa.struct([("price", pa.float64()), ("size", pa.float64())]))
    assert all(field.nullable for field in form)


@pytest.mark.parametrize("channel", EXPECTED)
def test_rows_are_the_public_columns_of_their_records(channel):
    """The reference is `records.columns`, the row as the wire has it."""
    records = RECORDS[channel]
    made = batch(HOUR._replace(channel=channel, symbol=symbol_of(channel)), records)
    names = made.schema.names
    rest = names[names.index("hour") + 1 :]
    for record, row in zip(records, made.to_pylist(), strict=True):
        expected = columns(record)
        if channel == "gaps" or isinstance(record, Event):
            assert row.get("channel", channel) == expected.pop(0)
        for name, value in zip(rest, expected, strict=True):
            found = row[name]
            if name in {"bids", "asks"}:
                found = [[level["price"], level["size"]] for level in found]
            elif name in {"started_at", "ended_at"}:
                found = round(found.timestamp() * 1_000_000)
            assert found == value, name
        assert (row["exchange"], row["symbol"]) == (record.exchange, record.symbol)


level = st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(level, max_size=5), st.lists(level, max_size=5)), min_size=1, max_size=20))
def test_sides_of_any_length_keep_every_bit(sides):
    records = [book(n, bids=bids, asks=asks) for n, (bids, asks) in enumerate(sides, 1)]
    made = batch(HOUR, records)
    for column, index in (("bids", 0), ("asks", 1)):
        found = [
            pack_side([tuple(level.values()) for level in side]) for side in made.column(column).to_pylist()
        ]
        assert found == [pack_side(side[index]) for side in sides]


def test_d33_missing_values_are_null_and_never_zero():
    row = batch(HOUR, [book(3, nonce=None, bids=[])]).to_pylist()[0]
    assert (row["timestamp"], row["nonce"], row["exch_seq"], row["bids"]) == (None, None, None, [])


@pytest.mark.parametrize("nothing", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("others", [1.5, None])
def test_d33_neither_nan_nor_infinity_is_stored(nothing, others):
    records = [ticker(1, bid=nothing, ask=2.0), ticker(2, bid=others, ask=3.0)]
    made = batch(HOUR._replace(channel="ticker"), records)
    assert made.column("bid").to_pylist() == [None, others]
    assert made.column("ask").to_pylist() == [2.0, 3.0]


def test_a_torn_side_is_refused():
    with pytest.raises(ValueError, match="cannot read a packed side"):
        batch(HOUR, [book(1), msgspec_replace(book(2), b"1234567")])
    halves = [msgspec_replace(book(n), bytes(8)) for n in (1, 2)]  # together they would be a level
    with pytest.raises(ValueError, match="cannot read a packed side"):
        batch(HOUR, halves)


def msgspec_replace(record, bids):
    import msgspec

    return msgspec.structs.replace(record, bids=bids)


@pytest.fixture(scope="module", params=sorted(EXPECTED))
def segment(request, tmp_path_factory) -> tuple[str, Path, Path]:
    data = tmp_path_factory.mktemp("data")
    channel = "trades" if request.param in ("gaps", "instruments") else request.param
    (path,) = sealed(data, channel, RECORDS[request.param])
    return request.param, data, path


def symbol_of(channel: str) -> str:
    return "all" if channel == "frames" else "BTC-USDT"


@pytest.mark.parametrize("hive", [True, False])
def test_d30_every_reader_opens_segments_with_and_without_hive_inference(segment, hive):
    channel, _, path = segment
    rows = len(RECORDS[channel])
    expected = EXPECTED[channel].split()
    in_polars = pl.read_parquet(path, hive_partitioning=hive)
    assert in_polars.height == rows
    assert sorted(in_polars.columns) == sorted(expected)
    root = path.parents[6]
    in_arrow = pyarrow.dataset.dataset(
        root, format="parquet", partitioning="hive" if hive else None
    ).to_table()
    assert in_arrow.num_rows == rows
    assert sorted(in_arrow.schema.names) == sorted(expected)
    in_duckdb = duckdb.read_parquet(f"{root}/**/*.parquet", hive_partitioning=hive).to_arrow_table()
    assert in_duckdb.num_rows == rows
    assert sorted(in_duckdb.schema.names) == sorted(expected)
    for table in (in_polars.to_dicts(), in_arrow.to_pylist(), in_duckdb.to_pylist()):
        assert {(row["symbol"], row["year"], row["month"], row["day"], row["hour"]) for row in table} == {
            (symbol_of(channel), 2026, 1, 31, 14)
        }


def test_d30_stored_types_are_what_hive_inference_gives(segment):
    """Otherwise a reader with inference sees another type than one without."""
    _, _, path = segment
    root = path.parents[6]
    plain = pyarrow.dataset.dataset(root, format="parquet").schema
    hive = pyarrow.dataset.dataset(root, format="parquet", partitioning="hive").schema
    for name in ("exchange", "symbol", "year", "month", "day", "hour"):
        assert plain.field(name).type == hive.field(name).type, name


def test_partition_values_stand_in_the_data_and_in_the_path(segment):
    channel, data, path = segment
    where = path.relative_to(data).as_posix()
    assert where == (
        f"raw/ready/ccxt/{channel}/exchange=binance/symbol={symbol_of(channel)}/year=2026/month=1/day=31/hour=14/"
        "segment_20260131T14_00001.parquet"
    )
    row = pl.read_parquet(path, hive_partitioning=False).row(0, named=True)
    assert (row["exchange"], row["symbol"], row["year"], row["month"], row["day"], row["hour"]) == (
        *("binance", symbol_of(channel)),
        *(2026, 1, 31, 14),
    )


def test_the_footer_says_what_a_segment_is(segment):
    channel, _, path = segment
    metadata = pq.read_metadata(path).metadata
    assert metadata[b"daedalus.schema"] == f"bronze.{channel}/1".encode()
    assert metadata[b"daedalus.version"]
    assert metadata[b"daedalus.journal"].endswith(b"/journal_00000001")


def test_numbers_are_delta_encoded_and_doubles_have_no_dictionary(segment):
    _, _, path = segment
    group = pq.read_metadata(path).row_group(0)
    for index in range(group.num_columns):
        column = group.column(index)
        assert column.compression == "ZSTD"
        if column.physical_type in {"INT32", "INT64"}:
            assert "DELTA_BINARY_PACKED" in column.encodings, column.path_in_schema
        if column.physical_type == "DOUBLE":
            assert "RLE_DICTIONARY" not in column.encodings, column.path_in_schema


def test_importing_the_rooms_loads_neither_arrow_nor_polars_nor_boto():
    code = (
        "import sys, daedalus, daedalus.dataset.seal, daedalus.dataset.scan, daedalus.actors.syncer\n"
        "heavy = {'pyarrow', 'polars', 'boto3', 'botocore', 'numpy', 'zstandard'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
