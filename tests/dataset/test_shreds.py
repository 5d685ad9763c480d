"""The short way from a journal to columns gives what the long way gives, or leaves a frame to it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daedalus.dataset.bronze import batch, partition_of
from daedalus.dataset.layout import HOUR_NS, Layout
from daedalus.dataset.reading import Reading, identity
from daedalus.dataset.segment import Options, sorted_by_time
from daedalus.dataset.shreds import Shreds
from daedalus.dataset.spread import spread
from daedalus.records import decode_many
from tests.dataset.makings import (
    T0,
    book,
    depth,
    entry,
    event,
    frame,
    gap,
    instrument,
    ticker,
    trade,
    write_journal,
)

ROOT = Path(__file__).resolve().parents[2]
numbers = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, float("nan"), float("inf"), 1e-320]), st.none())
whole = st.integers(-(2**63), 2**63 - 1)
missing = st.one_of(st.none(), whole)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
maybe = st.one_of(st.none(), texts)
levels = st.lists(st.tuples(st.floats(), st.floats()), max_size=3)
times = st.integers(0, 4 * 3600).map(lambda second: T0 - HOUR_NS + second * 1_000_000_000)
names = st.sampled_from(["BTC-USDT", "B", "TC-USDT", "ÄÖÜ-€"])
places = st.sampled_from(["okx", "o", "kx", "binance"])
flags = st.integers(-(2**31), 2**31 - 1)
common = {"symbol": names, "exchange": places, "exch_seq": missing, "flags": flags, "clock_ok": st.booleans()}
stamps = {"ts_event": missing, "ts_recv": times, "capture_mono_ns": whole, "collected_at": whole}


def made(maker, **fields):
    return st.fixed_dictionaries(fields).map(lambda values: maker(1, **values))


every_kind = st.one_of(
    made(
        trade, **common, **stamps, trade_id=maybe, side=maybe, cost=numbers, info_json=maybe, side_raw=maybe
    ),
    made(book, **common, **stamps, nonce=missing, bids=levels, asks=levels),
    made(ticker, **common, **stamps, bid=numbers, vwap=numbers, percentage=numbers, info_json=maybe),
    made(depth, **common, **stamps, bids=levels, asks=levels, first_exch_seq=missing, kind=texts),
    made(event, **common, **stamps, channel=st.sampled_from(["bidask", "ohlcv", "x"]), data_json=texts),
    made(
        instrument,
        ts_recv=times,
        symbol=names,
        tick_size=numbers,
        active=st.none() | st.booleans(),
        base=maybe,
    ),
    made(frame, ts_recv=times, text=maybe, binary=st.none() | st.binary(max_size=40)),
    st.builds(
        gap, times, times, symbol=names, exchange=places, reason=texts, detail=maybe, first_seq=missing
    ),
)


def tables(data: Path, path: Path, *, shredded: bool, options: Options) -> dict:
    """Spread a journal one way or the other: partition -> (table, rows, late, backfilled)."""
    reading = Reading(Layout(data=str(data)), "trades", path, identity(path))
    stem = path.with_name("shredded" if shredded else "plain")
    pieces = spread(reading if shredded else lambda _take: reading(), stem, "trades/j", options)
    found = {
        piece.partition: (pq.read_table(piece.path), piece.rows, piece.late, piece.backfilled)
        for piece in pieces
    }
    for piece in pieces:
        piece.path.unlink()
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    frames=st.lists(st.lists(every_kind, max_size=12), min_size=1, max_size=6),
    skip=st.integers(0, 2),
    small=st.booleans(),
)
def test_every_record_of_every_kind_is_the_same_row_both_ways(tmp_path_factory, frames, skip, small):
    data = tmp_path_factory.mktemp("data")
    entries = []
    first = 1
    for records in frames:
        entries.append(
            entry(records, first, skip=min(skip, len(records)), source="native" if first % 2 else "ccxt")
        )
        first += len(records)
    path = write_journal(data, "trades", [entries])
    options = Options(chunk_rows=1, buffer_bytes=2000, row_group_rows=4) if small else Options()
    short = tables(data, path, shredded=True, options=options)
    long = tables(data, path, shredded=False, options=options)
    assert short.keys() == long.keys()
    for partition, (table, rows, _, backfilled) in short.items():
        assert (rows, backfilled) == (long[partition][1], long[partition][3])
        assert same(table, long[partition][0]), partition


def same(one: pa.Table, other: pa.Table) -> bool:
    """Equal but for NaN, which is equal to itself here: the sides of a book keep every bit."""
    assert one.schema == other.schema
    return repr(one.to_pylist()) == repr(other.to_pylist())


def shreds_of(blob: bytes, skip: int = 0) -> list[tuple] | None:
    """What the shredder makes of a blob: (partition, rows) sorted; None if it does not take it."""
    shreds = Shreds(lambda _: True, 8192)
    if not shreds.take("ccxt", blob, skip):
        assert shreds.rows == shreds.bytes == 0, "a frame is taken whole or not at all"
        return None
    return sorted(
        (partition, repr(ordered(found, partition.channel))) for partition, found, _ in shreds.all()
    )


def ordered(found: pa.RecordBatch, channel: str) -> list:
    return sorted_by_time(pa.Table.from_batches([found]), channel).to_pylist()


def plainly(blob: bytes) -> list[tuple]:
    """What msgspec and `bronze.batch` make of a blob."""
    groups: dict = {}
    for record in decode_many(blob):
        groups.setdefault(partition_of("ccxt", record), []).append(record)
    return sorted(
        (partition, repr(ordered(batch(partition, records), partition.channel)))
        for partition, records in groups.items()
    )


BLOB = msgspec.msgpack.encode(
    [
        trade(1),
        book(2, bids=[(1.0, 2.0)] * 20),
        ticker(3),
        depth(4),
        event(5),
        gap(),
        instrument(),
        frame(6),
        frame(7),
    ]
)


def test_all_kinds_are_taken():
    assert shreds_of(BLOB) == plainly(BLOB)


def test_no_part_of_a_blob_is_taken_and_nothing_behind_its_end():
    for size in range(len(BLOB)):
        assert shreds_of(BLOB[:size]) is None
    assert shreds_of(BLOB + b"\xc0") is None


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    changes=st.lists(st.tuples(st.integers(0, len(BLOB) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, len(BLOB)),
    insert=st.binary(max_size=3),
)
def test_a_blob_of_other_bytes_is_left_alone_or_means_what_msgspec_reads(changes, cut, insert):
    other = bytearray(BLOB)
    for at, value in changes:
        other[at] = value
    blob = bytes(other[:cut] + insert + other[cut:])
    found = shreds_of(blob)
    if found is not None:
        assert found == plainly(blob)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_left_alone(blob):
    found = shreds_of(blob)
    assert found in (None, [])


NOT_TAKEN = {
    "a half level": book(1).__class__(**{**msgspec.structs.asdict(book(1)), "bids": bytes(8)}),
    "an integer beyond 64 bits": trade(1, exch_seq=2**63),
    "an integer beyond 32 bits": trade(1, flags=2**31),
    "no directory name": trade(1, symbol="BTC/USDT"),
    "an event of a channel with records of its own": event(1, "trades"),
    "a missing price": trade(1, price=None),
    "a price in words": trade(1, price="1"),
    "a year beyond the calendar": trade(1, ts=2**63 - 1, symbol="A" * 201),
}


@pytest.mark.parametrize("record", NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_what_fits_no_column_is_not_taken_and_neither_is_its_frame(record):
    assert shreds_of(msgspec.msgpack.encode([trade(1), record, trade(2)])) is None


@pytest.mark.parametrize(
    "price", [0, 1, -1, 3, 60_000, -60_001, 2**31, 2**52 - 1, 2**52, 2**53 - 1, 2**53, -(2**53)]
)
def test_a_price_that_is_a_whole_number_is_taken(price):
    blob = msgspec.msgpack.encode([trade(1, price=price)])
    assert shreds_of(blob) == plainly(blob)


def test_uncompiled_it_gives_the_same():
    code = (
        "import sys; from tests.dataset.test_shreds import BLOB, shreds_of\n"
        "from daedalus.compiled import shred\n"
        "sys.stdout.write(f'{shred.COMPILED}\\n{shreds_of(BLOB)!r}')"
    )
    env = {**os.environ, "DAEDALUS_PURE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=ROOT,
        env=env,
    )
    compiled, _, found = done.stdout.partition("\n")
    assert compiled == "False"
    assert found == repr(shreds_of(BLOB))


def test_a_partition_put_off_while_its_rows_are_held_is_read_whole_later(tmp_path: Path) -> None:
    """A frame that goes the long way between others, and too little room: no row may be left behind."""
    frames: list[list[Any]] = []
    for k in range(10):
        frames.append([trade(100 * k + i, symbol="A") for i in range(30)])
        frames.append([trade(100 * k + 50 + i, symbol="B") for i in range(10)])
    frames.append([trade(5000, symbol="C", price=2**53 + 2)])  # a whole number that only msgspec reads
    frames += [
        [trade(6000 + i, symbol="A") for i in range(5)],
        [trade(7000 + i, symbol="B") for i in range(5)],
    ]
    entries, first = [], 1
    for records in frames:
        entries.append(entry(records, first))
        first += len(records)
    path = write_journal(tmp_path, "trades", [entries])
    options = Options(buffer_bytes=40_000, row_group_rows=8192, row_group_rows_min=4000)
    short = tables(tmp_path, path, shredded=True, options=options)
    long = tables(tmp_path, path, shredded=False, options=options)
    rows = {partition.symbol: found[1] for partition, found in short.items()}
    assert rows == {partition.symbol: found[1] for partition, found in long.items()}
    assert rows == {"A": 305, "B": 105, "C": 1}
