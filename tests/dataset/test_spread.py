"""Sharing out: a frame of one stream is taken as a whole, and never with a stranger in it."""

import polars as pl
import pytest

from daedalus.dataset.layout import HOUR_NS
from daedalus.dataset.segment import Options
from tests.dataset.makings import T0, entry, gap, instrument, seal_all, sealed, segments, trade, write_journal

STRANGERS = {
    "another symbol": trade(5, symbol="ETH-USDT"),
    "another exchange": trade(5, exchange="okx"),
    "the hour before": trade(5, ts=T0 - 1000),
    "the hour after": trade(5, ts=T0 + HOUR_NS),
    "a gap": gap(),
    "an instrument": instrument(),
}


@pytest.mark.parametrize("at", [0, 1, 4, 8])
@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
def test_a_stranger_anywhere_in_a_frame_goes_to_its_own_partition(tmp_path, stranger, at):
    records = [trade(n) for n in range(1, 9)]
    records.insert(at, stranger)
    write_journal(tmp_path, "trades", [[entry(records, 1)]])
    (summary,) = seal_all(tmp_path, "trades")
    assert sorted(item["rows"] for item in summary["segments"]) == [1, 8]
    for item in summary["segments"]:
        table = pl.read_parquet(tmp_path / item["path"], hive_partitioning=False)
        if item["rows"] == 8:
            assert table["seq"].to_list() == list(range(1, 9))
            assert table.select("exchange", "symbol", "hour").unique().rows() == [("binance", "BTC-USDT", 14)]
        else:
            assert table.select("exchange", "symbol").rows() == [(stranger.exchange, stranger.symbol)]


def test_frames_of_two_sources_are_not_mixed(tmp_path):
    records = [trade(n) for n in range(1, 9)]
    write_journal(
        tmp_path,
        "trades",
        [[entry(records, 1), entry(records, 1, sender="native binance", source="native")]],
    )
    seal_all(tmp_path, "trades")
    assert [path.parts[2] for path in segments(tmp_path)] == ["ccxt", "native"]


def test_a_frame_in_any_order_is_sorted_by_capture(tmp_path):
    """Across the bound at which a group becomes columns as well: 2048 rows."""
    records = [trade(n, ts=T0 + (n * 7919) % 5000 * 1000) for n in range(5000)]
    (path,) = sealed(tmp_path, "trades", records, size=100)
    table = pl.read_parquet(path)
    assert table["capture_ts"].is_sorted()
    assert sorted(table["seq"]) == list(range(5000))


def test_a_frame_of_nothing_but_duplicates_changes_nothing(tmp_path):
    records = [trade(n) for n in range(1, 9)]
    write_journal(tmp_path, "trades", [[entry(records, 1, skip=8)], [entry(records, 1)]])
    (summary,) = seal_all(tmp_path, "trades", Options(chunk_rows=1))
    assert summary["rows"] == 8
