"""Late rows: a new segment of their old hour, never a published file opened again, and the hour is marked."""

from pathlib import Path

from daedalus.dataset.dirty import clear, dirty_hours
from daedalus.dataset.layout import HOUR_NS, Layout, Partition
from daedalus.dataset.seal import seal
from daedalus.dataset.segment import Options
from daedalus.records import Flag
from tests.dataset.makings import T0, entry, frames_of, gap, seal_all, segments, trade, write_journal

HOUR = T0 // HOUR_NS
BACKFILLED = int(Flag.BACKFILLED)


def marked(data: Path) -> list[tuple[str, int]]:
    return [(found.symbol, found.hour - HOUR) for found in dirty_hours(Layout(data=str(data)))]


def at(hour: int, second: int = 0) -> int:
    return T0 + hour * HOUR_NS + second * 1_000_000_000


def commit(data: Path, number: int, *records) -> None:
    """Seal a journal of these records, in this order."""
    write_journal(data, "trades", [[entry(list(records), 1 + 100 * number)]], number)
    seal_all(data, "trades")


def test_d13_late_rows_go_to_a_new_segment_of_their_hour_and_mark_it_dirty(tmp_path):
    commit(tmp_path, 1, trade(1, ts=at(0)))
    commit(tmp_path, 2, trade(2, ts=at(1)))
    (first, _) = segments(tmp_path)
    content, status = (tmp_path / first).read_bytes(), (tmp_path / first).stat()
    assert marked(tmp_path) == []
    commit(tmp_path, 3, trade(3, ts=at(0, 5), flags=BACKFILLED), trade(4, ts=at(1, 6)))
    names = [path.name for path in segments(tmp_path)]
    assert names == [
        f"segment_20260131T{part}.parquet" for part in ("14_00001", "14_00002", "15_00001", "15_00002")
    ]
    assert (tmp_path / first).read_bytes() == content
    assert (tmp_path / first).stat().st_mtime_ns == status.st_mtime_ns
    assert marked(tmp_path) == [("BTC-USDT", 0)]


def test_the_turn_of_an_hour_marks_nothing(tmp_path):
    """The journal is closed two seconds into the new hour, so it holds both."""
    commit(tmp_path, 1, trade(1, ts=at(0)), trade(1, ts=at(0), symbol="ETH-USDT"))
    commit(
        tmp_path, 2, trade(2, ts=at(0, 3599)), trade(3, ts=at(1)), trade(2, symbol="ETH-USDT", ts=at(0, 3599))
    )
    commit(tmp_path, 3, trade(4, ts=at(1, 1)), trade(3, symbol="ETH-USDT", ts=at(1, 2)))
    assert marked(tmp_path) == []


def test_a_clock_that_was_set_back_marks_the_hour_it_fell_into(tmp_path):
    commit(tmp_path, 1, trade(1, ts=at(1)), trade(1, ts=at(0), session="s2"))
    assert marked(tmp_path) == [("BTC-USDT", 0)]


def test_a_backfill_across_the_hour_marks_it_whatever_was_stored_first(tmp_path):
    """Fetched just after the hour, before any live row of the new one: no row of it stands before."""
    commit(tmp_path, 1, trade(1, ts=at(0, 3000)))
    commit(tmp_path, 2, trade(2, ts=at(0, 3100), flags=BACKFILLED), trade(3, ts=at(1, 1)))
    assert marked(tmp_path) == [("BTC-USDT", 0)]


def test_another_stream_of_the_same_hour_is_not_marked(tmp_path):
    commit(tmp_path, 1, trade(1, ts=at(1)))
    commit(tmp_path, 2, trade(1, ts=at(0), symbol="ETH-USDT"))
    assert marked(tmp_path) == []


def test_gap_rows_come_late_by_nature_and_mark_nothing(tmp_path):
    commit(tmp_path, 1, trade(1, ts=at(1)), gap(at(1), at(1, 5)))
    commit(tmp_path, 2, gap(at(0), at(1, 9)))
    assert marked(tmp_path) == []


def test_a_mark_is_taken_away_and_comes_back_with_the_next_late_row(tmp_path):
    layout = Layout(data=str(tmp_path))
    partition = Partition("ccxt", "trades", "binance", "BTC-USDT", HOUR)
    commit(tmp_path, 1, trade(1, ts=at(1)))
    commit(tmp_path, 2, trade(2, ts=at(0)))
    assert list(dirty_hours(layout)) == [partition]
    clear(layout, partition)
    clear(layout, partition)
    assert list(dirty_hours(layout)) == []
    commit(tmp_path, 3, trade(3, ts=at(0, 1)))
    assert list(dirty_hours(layout)) == [partition]


def test_the_mark_is_there_before_the_rows_can_be_seen(tmp_path, monkeypatch):
    import daedalus.dataset.seal as module

    commit(tmp_path, 1, trade(1, ts=at(1)))
    path = write_journal(tmp_path, "trades", frames_of([trade(2, ts=at(0))]), 2)
    seen = []
    monkeypatch.setattr(module, "publish", lambda *_: seen.append(marked(tmp_path)))
    seal(Layout(data=str(tmp_path)), "trades", path, Options())
    assert seen == [[("BTC-USDT", 0)]]


def test_a_seal_that_begins_again_does_not_take_its_own_hours_for_earlier_ones(tmp_path, monkeypatch):
    """It died after it had claimed its numbers, before there was a plan."""
    import pytest

    import daedalus.dataset.seal as module

    path = write_journal(tmp_path, "trades", [[entry([trade(1, ts=at(0, 3599)), trade(2, ts=at(1))], 1)]], 1)
    real = module.replace

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        seal(Layout(data=str(tmp_path)), "trades", path, Options())
    monkeypatch.setattr(module, "replace", real)
    seal_all(tmp_path, "trades")
    assert marked(tmp_path) == []
