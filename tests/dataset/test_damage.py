"""Damage in a journal: nothing unreadable is stored, nothing readable is lost, every loss has its gap row."""

from pathlib import Path

import polars as pl
import pytest

from daedalus.dataset.layout import Layout
from daedalus.kernel.journal import Cursor, Mark, frames
from tests.dataset.makings import entry, frames_of, seal_all, trade, write_journal


def stored(data: Path, channel: str) -> pl.DataFrame:
    found = sorted(Layout(data=str(data)).ready("ccxt", channel).rglob("*.parquet"))
    return (
        pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in found])
        if found
        else pl.DataFrame()
    )


def flip(path: Path, frame: int) -> None:
    """Damage the payload of the n-th frame; the first is the table of cursors."""
    content = bytearray(path.read_bytes())
    found = list(frames(bytes(content)))[frame]
    content[found.end - 1] ^= 0x55
    path.write_bytes(content)


def test_a_damaged_frame_becomes_a_gap_row_for_each_stream_that_lost_rows(tmp_path):
    two = []
    for n in range(1, 21):
        two += [trade(n), trade(n, symbol="ETH-USDT")]
    path = write_journal(tmp_path, "trades", frames_of(two))
    flip(path, 2)
    (summary,) = seal_all(tmp_path, "trades")
    assert summary["gap_rows"] == 2
    rows = stored(tmp_path, "trades")
    assert sorted(rows["seq"].unique()) == [*range(1, 6), *range(11, 21)]
    for row in stored(tmp_path, "gaps").rows(named=True):
        assert (row["first_seq"], row["last_seq"], row["lost_estimate"], row["reason"]) == (5, 11, 5, "error")
        around = rows.filter(pl.col("symbol") == row["symbol"])
        assert around.filter(pl.col("seq") == 5)["capture_ts"].item() == row["started_at"]
        assert around.filter(pl.col("seq") == 11)["capture_ts"].item() == row["ended_at"]


def test_a_stream_that_lost_nothing_gets_no_gap_row(tmp_path):
    groups = [
        [entry([trade(1), trade(1, symbol="ETH-USDT")], 1)],
        [entry([trade(2)], 3)],
        [entry([trade(3), trade(2, symbol="ETH-USDT")], 4)],
    ]
    flip(write_journal(tmp_path, "trades", groups), 2)
    seal_all(tmp_path, "trades")
    assert stored(tmp_path, "gaps")["symbol"].to_list() == ["BTC-USDT"]


def test_damaged_bytes_are_kept_with_their_reason(tmp_path):
    path = write_journal(tmp_path, "trades", frames_of([trade(n) for n in range(1, 31)]))
    flip(path, 2)
    damaged = list(frames(path.read_bytes()))[2].data
    seal_all(tmp_path, "trades")
    (kept,) = Layout(data=str(tmp_path)).quarantine("trades").glob("*.bin")
    assert kept.read_bytes() == damaged
    assert "CRC-32 is wrong" in kept.with_name(kept.name + ".reason").read_text()


def test_a_torn_last_frame_is_no_gap_because_it_was_never_acknowledged(tmp_path):
    path = write_journal(tmp_path, "trades", frames_of([trade(n) for n in range(1, 31)]))
    path.write_bytes(path.read_bytes()[:-5])
    (summary,) = seal_all(tmp_path, "trades")
    assert (summary["rows"], summary["gap_rows"]) == (20, 0)


def test_a_damaged_last_frame_that_was_acknowledged_is_a_gap(tmp_path):
    """The next journal's table of cursors knows that the lost records had been stored."""
    records = [trade(n) for n in range(1, 31)]
    flip(write_journal(tmp_path, "trades", frames_of(records)), 3)
    last = Mark(records[-1].ts_recv, 30, "s1")
    write_journal(tmp_path, "trades", [], 2, {"binance": Cursor(7, 30, "ccxt", {"BTC-USDT": last})})
    first, _ = seal_all(tmp_path, "trades")
    assert (first["rows"], first["gap_rows"]) == (21, 1)
    row = stored(tmp_path, "gaps").row(0, named=True)
    assert (row["first_seq"], row["last_seq"], row["lost_estimate"]) == (20, None, 10)
    assert round(row["ended_at"].timestamp() * 1e6) * 1000 == last.ts_recv


def test_a_hole_that_the_journal_before_was_cut_at_is_a_gap(tmp_path):
    """What a crash damaged is cut off when the journal is closed; only the next one shows the hole."""
    before = trade(10)
    stood = Cursor(7, 10, "ccxt", {"BTC-USDT": Mark(before.ts_recv, 10, "s1")})
    later = [entry([trade(n) for n in range(21, 31)], 21)]
    write_journal(tmp_path, "trades", [later], 2, {"binance": stood})
    (summary,) = seal_all(tmp_path, "trades")
    assert summary["gap_rows"] == 1
    row = stored(tmp_path, "gaps").row(0, named=True)
    assert (row["first_seq"], row["last_seq"], row["lost_estimate"], row["reason"]) == (10, 21, 10, "error")


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_truncated_journal_gives_every_whole_frame(tmp_path, cut):
    path = write_journal(tmp_path, "trades", frames_of([trade(n) for n in range(1, 31)]))
    content = path.read_bytes()[:-cut]
    path.write_bytes(content)
    whole = sum(10 for found in frames(content) if getattr(found, "records", 0))
    (summary,) = seal_all(tmp_path, "trades")
    assert summary["rows"] == whole


def test_a_journal_of_noise_publishes_nothing(tmp_path):
    path = write_journal(tmp_path, "trades", [])
    path.write_bytes(bytes(range(1, 256)) * 9)
    (summary,) = seal_all(tmp_path, "trades")
    assert (summary["rows"], summary["damaged_bytes"]) == (0, 255 * 9)
    assert not path.exists()


def test_records_that_cannot_be_decoded_are_put_aside(tmp_path):
    groups = frames_of([trade(n) for n in range(1, 31)])
    groups[1][0].blob = b"\x91\xc1"
    write_journal(tmp_path, "trades", groups)
    (summary,) = seal_all(tmp_path, "trades")
    assert summary["rows"] == 21
    assert stored(tmp_path, "gaps").select("first_seq", "last_seq", "lost_estimate").rows() == [(10, 21, 10)]
