"""Sealing: every record once, in order, in its partition, whatever the journal looks like."""

import io
import json
import os
import random
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path
from zlib import crc32

import msgspec
import polars as pl
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daedalus.dataset import seal as sealing
from daedalus.dataset.layout import HOUR_NS, Layout
from daedalus.dataset.segment import Options
from daedalus.records import decode
from tests.dataset.makings import (
    T0,
    book,
    entry,
    frames_of,
    gap,
    seal_all,
    sealed,
    segments,
    ticker,
    trade,
    write_journal,
)


def ids(paths) -> list[str]:
    return [row for path in paths for row in pl.read_parquet(path)["trade_id"]]


def test_a_sealed_journal_is_gone_and_leaves_nothing_in_active(tmp_path):
    (path,) = sealed(tmp_path, "trades", [trade(n) for n in range(1, 101)])
    assert ids([path]) == [str(1000 + n) for n in range(1, 101)]
    assert list(Layout(data=str(tmp_path)).active("trades").iterdir()) == []


def test_rows_at_the_full_hour_belong_to_the_new_hour(tmp_path):
    records = [trade(1, ts=T0 + HOUR_NS - 1000), trade(2, ts=T0 + HOUR_NS), trade(3, ts=T0 + HOUR_NS + 1000)]
    first, second = sealed(tmp_path, "trades", records)
    assert (first.parent.name, second.parent.name) == ("hour=14", "hour=15")
    assert (ids([first]), ids([second])) == (["1001"], ["1002", "1003"])
    assert pl.read_parquet(second)["hour"].unique().to_list() == [15]


def test_one_journal_holds_many_streams_sources_and_gaps(tmp_path):
    groups = [
        [entry([trade(1), trade(1, symbol="ETH-USDT"), gap(T0 - 1)], 1)],
        [entry([trade(1, exchange="coinbase", symbol="BTC-USD")], 1, sender="coinbase", source="native")],
    ]
    write_journal(tmp_path, "trades", groups)
    seal_all(tmp_path, "trades")
    assert [path.parts[2:6] for path in segments(tmp_path)] == [
        ("ccxt", "gaps", "exchange=binance", "symbol=BTC-USDT"),
        ("ccxt", "trades", "exchange=binance", "symbol=BTC-USDT"),
        ("ccxt", "trades", "exchange=binance", "symbol=ETH-USDT"),
        ("native", "trades", "exchange=coinbase", "symbol=BTC-USD"),
    ]
    assert segments(tmp_path)[0].parts[-2] == "hour=13", "gaps are partitioned by their start"


def test_duplicates_that_the_link_marked_are_left_out(tmp_path):
    records = [trade(n) for n in range(1, 7)]
    write_journal(tmp_path, "trades", [[entry(records[:4], 1)], [entry(records[2:], 3, skip=2)]])
    (summary,) = seal_all(tmp_path, "trades")
    assert summary["rows"] == 6
    assert ids([tmp_path / summary["segments"][0]["path"]]) == [str(1000 + n) for n in range(1, 7)]


def test_the_next_journal_gets_the_next_number_also_when_the_first_segment_is_gone(tmp_path):
    (first,) = sealed(tmp_path, "trades", [trade(1)])
    first.unlink()
    (second,) = sealed(tmp_path, "trades", [trade(2)])
    assert second.name == "segment_20260131T14_00002.parquet"


def test_three_channels_share_the_numbers_of_the_gaps(tmp_path):
    for channel in ("orderbook", "trades", "ticker"):
        write_journal(tmp_path, channel, [[entry([gap(channel=channel)], 1)]])
        seal_all(tmp_path, channel)
    assert [path.name[-13:-8] for path in segments(tmp_path)] == ["00001", "00002", "00003"]


def test_an_empty_journal_is_removed_and_publishes_nothing(tmp_path):
    write_journal(tmp_path, "trades", [])
    (summary,) = seal_all(tmp_path, "trades")
    assert (summary["rows"], summary["segments"], segments(tmp_path)) == (0, [], [])
    assert list(Layout(data=str(tmp_path)).active("trades").iterdir()) == []


def test_an_open_journal_is_left_alone(tmp_path):
    path = write_journal(tmp_path, "trades", frames_of([trade(1)]))
    still_open = path.rename(path.with_suffix(".open"))
    assert seal_all(tmp_path, "trades") == []
    assert still_open.exists()


def test_a_set_back_clock_makes_one_sorted_segment(tmp_path):
    """Runs of a partition are merged: row groups of four rows make the journal span many of them."""
    step = [trade(n, ts=T0 + 5000 * n) for n in range(1, 60)]
    again = [trade(n, ts=T0 + 5000 * n - 150_000 + 1000, session="s2") for n in range(60, 120)]
    options = Options(row_group_rows=4, row_group_rows_min=2, chunk_rows=10)
    (path,) = sealed(tmp_path, "trades", step + again, options)
    frame = pl.read_parquet(path)
    assert frame.height == 119
    assert frame["capture_ts"].is_sorted()
    assert set(frame["trade_id"]) == {str(1000 + n) for n in range(1, 120)}


@pytest.mark.parametrize("group", [500, 8192], ids=["two runs are merged", "one row group is sorted"])
def test_thousands_of_rows_that_overlap_in_time_come_out_in_order(tmp_path, group):
    """More rows in each run than a merge reads at once."""
    first = [trade(n, ts=T0 + n * 10_000) for n in range(1, 3001)]
    second = [trade(n, ts=T0 + (n - 3000) * 4_000 + 1_000, session="s2") for n in range(3001, 6001)]
    options = Options(row_group_rows=group, row_group_rows_min=100, chunk_rows=500)
    (path,) = sealed(tmp_path, "trades", first + second, options, size=100)
    frame = pl.read_parquet(path)
    assert frame["capture_ts"].is_sorted()
    assert sorted(frame["seq"]) == list(range(1, 6001))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stamps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3_000)), min_size=1, max_size=120),
    frame=st.integers(1, 9),
    group=st.integers(2, 12),
    budget=st.sampled_from([2_000, 20_000, 1 << 30]),
)
def test_any_order_and_any_budget_store_every_record_once_and_sorted(
    tmp_path_factory, stamps, frame, group, budget
):
    """Four symbols, two hours, times in any order; the smallest budget forces several passes."""
    data = tmp_path_factory.mktemp("any")
    records = [
        trade(number, ts=T0 + seconds * 1_000_000_000 * 2, symbol=f"S{symbol}-USDT")
        for number, (symbol, seconds) in enumerate(stamps, 1)
    ]
    options = Options(row_group_rows=group, row_group_rows_min=2, buffer_bytes=budget, chunk_rows=7)
    write_journal(data, "trades", frames_of(records, frame))
    (summary,) = seal_all(data, "trades", options)
    found = []
    for item in summary["segments"]:
        table = pl.read_parquet(data / item["path"], hive_partitioning=False)
        assert table["capture_ts"].is_sorted()
        assert table.height == item["rows"]
        assert table.select("symbol", "hour").n_unique() == 1
        found += table.select("symbol", "capture_ts", "trade_id").rows()
    expected = [(r.symbol, r.ts_recv, r.trade_id) for r in records]
    assert Counter((s, round(t.timestamp() * 1e6) * 1000, i) for s, t, i in found) == Counter(expected)


def test_small_partitions_beyond_the_budget_are_put_off_and_not_split(tmp_path):
    records = [trade(n, symbol=f"S{n % 7}-USDT") for n in range(1, 8000)]
    random.Random(1).shuffle(records)
    records.sort(key=lambda record: record.ts_recv // 1_000_000_000)
    paths = sealed(tmp_path, "trades", records, Options(buffer_bytes=400_000, chunk_rows=500), size=100)
    assert [pq.read_metadata(path).num_row_groups for path in paths] == [1] * 7
    assert sorted(int(value) for value in ids(paths)) == list(range(1001, 9000))


def test_row_groups_have_the_size_they_are_told(tmp_path):
    records = [trade(n, ts=T0 + n * 1000) for n in range(1, 20_001)]
    (path,) = sealed(tmp_path, "trades", records, size=500)
    found = pq.read_metadata(path)
    sizes = [found.row_group(index).num_rows for index in range(found.num_row_groups)]
    assert sum(sizes) == 20_000
    assert all(4000 <= size <= 3 * 4096 for size in sizes[:-1])


@pytest.mark.parametrize("channel", ["trades", "orderbook", "ticker"])
def test_ndjson_holds_the_same_rows(tmp_path, channel):
    make = {"trades": trade, "orderbook": book, "ticker": ticker}[channel]
    (path,) = sealed(tmp_path, channel, [make(n) for n in range(1, 40)], Options(raw_format="ndjson"))
    assert path.name == "segment_20260131T14_00001.ndjson.zst"
    text = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
    rows = [json.loads(line) for line in io.BytesIO(text)]
    assert [row["seq"] for row in rows] == list(range(1, 40))
    assert rows[0]["capture_ts"] == "2026-01-31T14:00:00.001000Z"


def test_a_name_that_leaves_the_partition_goes_to_quarantine(tmp_path):
    write_journal(tmp_path, "trades", [[entry([trade(1, symbol="../../../x"), trade(2)], 1)]])
    (summary,) = seal_all(tmp_path, "trades")
    assert (summary["rows"], summary["damaged_bytes"] > 0) == (1, True)
    assert [path.parts[5] for path in segments(tmp_path)] == ["symbol=BTC-USDT"]
    (note,) = Layout(data=str(tmp_path)).quarantine("trades").glob("*.reason")
    assert "cannot use the name" in note.read_text()


def test_a_value_that_fits_no_column_goes_to_quarantine_with_a_gap_row(tmp_path):
    records = [book(1), book(2, nonce=1 << 63), book(3)]
    write_journal(tmp_path, "orderbook", frames_of(records))
    (summary,) = seal_all(tmp_path, "orderbook")
    gaps, books = (tmp_path / item["path"] for item in summary["segments"])
    assert pl.read_parquet(books)["seq"].to_list() == [1, 3]
    row = pl.read_parquet(gaps).row(0, named=True)
    assert (row["reason"], row["channel"], row["lost_estimate"]) == ("error", "orderbook", 1)
    (kept,) = Layout(data=str(tmp_path)).quarantine("orderbook").glob("*.bin")
    assert decode(kept.read_bytes()) == records[1]


def test_a_plan_of_another_journal_of_the_same_name_is_not_carried_out(tmp_path):
    path = write_journal(tmp_path, "trades", frames_of([trade(1)]))
    stale = sealing.Plan("0" * 16, [])
    path.with_suffix(".plan").write_bytes(msgspec.json.encode(stale))
    (summary,) = seal_all(tmp_path, "trades")
    assert summary["rows"] == 1


def test_a_published_segment_is_never_replaced(tmp_path):
    """Even when the counters file is lost: the number on disk is respected."""
    (first,) = sealed(tmp_path, "trades", [trade(1)])
    before = first.read_bytes()
    Layout(data=str(tmp_path)).state().joinpath("counters.json").unlink()
    (second,) = sealed(tmp_path, "trades", [trade(2)])
    assert second.name.endswith("_00002.parquet")
    assert first.read_bytes() == before


def run_sealer(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "daedalus.dataset.seal", "--data", str(data), "--channel", "trades"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.system
def test_the_program_prints_one_line_per_journal(tmp_path):
    write_journal(tmp_path, "trades", frames_of([trade(1)]), 1)
    write_journal(tmp_path, "trades", frames_of([trade(2)]), 2)
    done = run_sealer(tmp_path, "--parent", str(os.getpid()))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert [(line["journal"], line["rows"]) for line in lines] == [
        ("trades/journal_00000001", 1),
        ("trades/journal_00000002", 1),
    ]


@pytest.mark.system
def test_the_program_takes_one_journal_when_told(tmp_path):
    write_journal(tmp_path, "trades", frames_of([trade(1)]), 1)
    second = write_journal(tmp_path, "trades", frames_of([trade(2)]), 2)
    done = run_sealer(tmp_path, "--journal", str(second))
    assert json.loads(done.stdout)["journal"] == "trades/journal_00000002"
    assert [path.name for path in second.parent.iterdir()] == ["journal_00000001.closed"]


@pytest.mark.system
def test_a_sealer_whose_parent_is_gone_does_nothing(tmp_path):
    path = write_journal(tmp_path, "trades", frames_of([trade(1)]))
    done = run_sealer(tmp_path, "--parent", "1")
    assert (done.returncode, path.exists()) == (1, True)
    assert "cannot seal" in done.stderr


def frame_of_kind(kind: str) -> bytes:
    """A whole frame of another version."""
    raw = msgspec.msgpack.encode((kind, []))
    payload = zstandard.ZstdCompressor().compress(raw)
    head = struct.pack("<III", len(payload), len(raw), 1)
    return b"DJF1" + head + struct.pack("<I", crc32(payload, crc32(head))) + payload


@pytest.mark.system
def test_one_bad_journal_exits_1_and_the_others_are_sealed(tmp_path):
    foreign = write_journal(tmp_path, "trades", frames_of([trade(1)]), 1)
    foreign.write_bytes(frame_of_kind("tomorrow"))
    write_journal(tmp_path, "trades", frames_of([trade(2)]), 2)
    done = run_sealer(tmp_path)
    bad, good = (json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 1
    assert "unknown kind 'tomorrow'" in bad["error"]
    assert foreign.exists()
    assert good["rows"] == 1
