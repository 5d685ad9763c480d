"""A trade comes once: with ids, without, across processes, across a reboot."""

import random
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.actors.tradefile import TradeFile
from daedalus.actors.tradeids import Remembered, TradeIds, TradeMemory
from daedalus.exchanges.adapter import TradeFact
from daedalus.records import Flag, Trade
from tests.actors.makings import BTC, START, backfilled, trade

S = 1_000_000_000


def new(ids: TradeIds, facts: Iterable[TradeFact]) -> list[bool]:
    return [ids.is_new(fact) for fact in facts]


@given(st.lists(st.integers(0, 60), max_size=200))
def test_c06_numbers_in_any_order_come_once_each(numbers: list[int]) -> None:
    ids = TradeIds()
    seen: set[int] = set()
    for number in numbers:
        last = ids.last if number in seen else str(number)
        assert ids.remember(str(number)) is (number not in seen)
        assert ids.last == last
        seen.add(number)
        assert all(low <= high for low, high in zip(ids._lows, ids._highs, strict=True))
        kept = {n for low, high in zip(ids._lows, ids._highs, strict=True) for n in range(low, high + 1)}
        assert kept == seen


def test_c06_duplicates_and_holes_are_counted() -> None:
    ids = TradeIds()
    new(ids, (trade(n) for n in range(100)))
    assert new(ids, [trade(50), trade(99), trade(105), trade(106), trade(105)]) == [False] * 2 + [
        True
    ] * 2 + [False]
    assert (ids.duplicates, ids.missing, ids.contiguous) == (3, 5, True)
    ids.is_new(backfilled(102))
    assert ids.missing == 4


def test_ids_that_jump_tell_of_no_holes() -> None:
    ids = TradeIds()
    new(ids, (trade(n * 7) for n in range(200)))
    assert (ids.contiguous, ids.missing, ids.hole_before(trade(2000))) == (False, None, None)


def test_d08_ids_that_do_not_rise_are_a_set() -> None:
    ids = TradeIds()
    numbers = list(range(1000))
    random.Random(1).shuffle(numbers)
    assert all(new(ids, map(trade, numbers)))
    assert not any(new(ids, map(trade, numbers)))
    words = TradeIds()
    assert [words.remember(word) for word in ("a-1", "b-1", "a-1", "9" * 40, "9" * 40)] == [
        True, True, False, True, False,
    ]  # fmt: skip


def test_d08_equal_trades_without_an_id_are_never_dropped_when_they_are_live() -> None:
    ids = TradeIds()
    assert new(ids, [trade(None)] * 3) == [True] * 3
    assert ids.duplicates == 0


def test_d08_without_ids_the_nth_of_equal_trades_told_again_is_the_nth_that_was_stored() -> None:
    ids = TradeIds()
    new(ids, [trade(None), trade(None), trade(None, ts_event=START + 1)])
    # a snapshot after a reconnection: two that are known, one equal to them that was missed, one more
    told = [backfilled(None), backfilled(None), backfilled(None), backfilled(None, ts_event=START + 9)]
    assert new(ids, told) == [False, False, True, True]
    assert new(ids, [trade(None)]) == [True]  # live again: the window is over
    assert new(ids, [backfilled(None)] * 4) == [False] * 4


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daedalus.actors.tradeids._RANGES", 100)
    monkeypatch.setattr("daedalus.actors.tradeids._RANGES_SPARE", 10)
    monkeypatch.setattr("daedalus.actors.tradeids._IDS", 100)
    ids = TradeIds()
    for number in range(1000):
        ids.remember(str(number * 2))
        ids.remember(f"x{number}")
    assert 100 <= len(ids._highs) <= 110
    assert len(ids._others) == 100
    assert not ids.remember(str(1998))
    assert len(ids.saved(START).ranges) <= 200


def test_ids_below_one_that_is_far_ahead_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daedalus.actors.tradeids._RANGES", 100)
    monkeypatch.setattr("daedalus.actors.tradeids._RANGES_SPARE", 10)
    ids = TradeIds()
    ids.remember("9" * 18)
    for number in range(1000):
        ids.remember(str(number * 2))
    assert 100 <= len(ids._highs) == len(ids._lows) == len(ids._times) <= 110
    assert not ids.remember("1998")


def test_one_id_far_ahead_is_not_what_a_backfill_begins_at() -> None:
    ids = TradeIds()
    new(ids, map(trade, range(1000, 1200)))
    assert ids.is_new(trade(10**17))
    assert (ids.last, ids.outliers) == ("1199", 0)
    assert ids.hole_before(trade(1203)) == 3
    new(ids, map(trade, range(1203, 1300)))
    assert (ids.last, ids.outliers, ids.missing, ids.contiguous) == ("1299", 1, 3, True)
    again = TradeIds()
    again.restore(ids.saved(START))
    assert again.last == "1299"
    assert not again.is_new(trade(10**17))


def test_a_second_id_far_ahead_confirms_the_first() -> None:
    ids = TradeIds()
    new(ids, map(trade, (1, 2, 10**12)))
    assert ids.last == "2"
    new(ids, map(trade, (10**12 + 1, 10**12 + 2)))
    assert (ids.last, ids.outliers) == (str(10**12 + 2), 0)


def test_a_trade_that_is_told_again_is_not_the_last_live_one() -> None:
    ids = TradeIds()
    new(ids, [backfilled(7), trade(5), backfilled(90), backfilled(10**17)])
    assert ids.last == "5"


def memory(path: Path | None = None) -> tuple[TradeMemory, TradeFile]:
    made = TradeMemory({BTC: "BTC-USD"})
    file = TradeFile(str(path or ""), "x", made)
    file.load()
    return made, file


def test_the_file_outlives_the_spool(tmp_path: Path) -> None:
    first, file = memory(tmp_path)
    new(first.of[BTC], [trade(n) for n in (*range(10, 40), 45)])
    file.save(START)
    again, _ = memory(tmp_path)
    assert again.of[BTC].last == "45"
    told = [backfilled(n) for n in (10, 39, 40, 44, 45, 46)]
    assert new(again.of[BTC], told) == [False, False, True, True, False, True]


def test_after_a_crash_and_a_reboot_what_happened_before_the_last_row_is_taken_to_be_stored(
    tmp_path: Path,
) -> None:
    """The file is up to a minute old: ids 31 to 40 were stored after it was written."""
    first, file = memory(tmp_path)
    new(first.of[BTC], map(trade, range(31)))
    file.save(START)
    again, _ = memory(tmp_path)
    again.doubt(START + 90 * S, [])
    again.told({"BTC-USD": START + 40 * S})
    facts = [backfilled(n, ts_event=START + n * S) for n in (29, 35, 40, 41, 50)]
    assert new(again.of[BTC], facts) == [False, False, False, True, True]
    assert again.of[BTC].presumed == 3
    assert again.of[BTC].is_new(trade(36, ts_event=START + 36 * S)), "what is live is never presumed"


@pytest.mark.parametrize("name", ["{}", "u-{}"])
def test_after_a_reboot_no_trade_is_doubled_whose_id_the_file_has_left_out(tmp_path: Path, name: str) -> None:
    """A thousand were stored, their ids no ranges: the file has but the last of them."""
    stored = [{"trade_id": name.format(n * 7), "ts_event": START + n} for n in range(1000)]
    random.Random(1).shuffle(stored)
    first, file = memory(tmp_path)
    assert all(new(first.of[BTC], [msgspec.structs.replace(trade(1), **one) for one in stored]))
    for turn in range(2):  # the second time from what was restored
        file.save(START + 2000)
        again, file = memory(tmp_path)
        again.doubt(START + 90 * S, [])
        again.told({"BTC-USD": START + 999})
        told = [msgspec.structs.replace(backfilled(1), **one) for one in stored]
        assert not any(new(again.of[BTC], told))
        untimed = [msgspec.structs.replace(one, ts_event=None) for one in told]
        assert not any(new(again.of[BTC], untimed))
        later = msgspec.structs.replace(told[0], trade_id=name.format(10**4 + turn), ts_event=START + 3000)
        assert again.of[BTC].is_new(later)


def test_a_file_of_an_earlier_version_that_is_full_is_not_believed_to_have_everything() -> None:
    made, _ = memory()
    made.of[BTC].restore(Remembered(until=START, ranges=[(n * 2, n * 2) for n in range(200)]))
    made.told({"BTC-USD": START})
    assert not made.of[BTC].is_new(backfilled(1001, ts_event=START))
    assert made.of[BTC].is_new(backfilled(1001, ts_event=START + 1))


@pytest.mark.parametrize("number", [7, None])
def test_the_time_of_the_last_trade_outlives_its_process(tmp_path: Path, number: int | None) -> None:
    first, file = memory(tmp_path)
    first.of[BTC].is_new(trade(number))
    first.of[BTC].note_time(START + 5)
    first.of[BTC].note_time(START + 3)
    file.save(START)
    again, _ = memory(tmp_path)
    assert again.of[BTC].last_ts == START + 5
    assert again.of[BTC].last == (None if number is None else "7")


def test_a_file_of_an_earlier_version_has_no_time_and_is_read(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    old = b'{"BTC/USD":{"until":5,"lag_ns":0,"last":"9","ranges":[[1,9]],"others":[],"since":null}}'
    (tmp_path / "state" / "trades-x.json").write_bytes(old)
    again, _ = memory(tmp_path)
    assert (again.of[BTC].last, again.of[BTC].last_ts) == ("9", None)
    assert not again.of[BTC].is_new(backfilled(9))


def test_trades_without_an_id_that_are_told_again_after_a_restart_are_stored_once(tmp_path: Path) -> None:
    first, file = memory(tmp_path)
    for at in (1, 2, 3):
        first.of[BTC].is_new(trade(None, ts_event=START + at))
        first.of[BTC].note_time(START + at)
    file.save(START + 50)
    again, _ = memory(tmp_path)
    again.told({"BTC-USD": START + 50})
    told = [backfilled(None, ts_event=START + at) for at in (2, 3, 4)]
    assert new(again.of[BTC], told) == [False, False, True]


def test_the_time_of_the_last_trade_is_that_of_a_believable_row() -> None:
    def row(ts_event: int | None, flags: int = 0) -> Trade:
        return Trade(
            exchange="x", symbol="BTC-USD", collected_at=0, ts_recv=START, trade_id=None, ts_event=ts_event,
            side=None, price=1.0, amount=1.0, cost=None, info_json=None, symbol_raw=BTC, seq=1,
            session_id="s", capture_mono_ns=0, clock_ok=True, exch_seq=None, flags=flags, side_raw=None,
        )  # fmt: skip

    made, _ = memory()
    made.remember([row(START - 5), row(None), row(START + 61 * S), row(1), row(START, Flag.BACKFILLED)])
    assert made.of[BTC].last_ts == START - 5


def test_a_clock_behind_the_exchange_moves_the_horizon(tmp_path: Path) -> None:
    """Recorded: capture 1.27 s before exchange time. A stored trade may have happened after its capture."""
    first, file = memory(tmp_path)
    first.of[BTC].is_new(trade(1))
    first.of[BTC].note_lag([-1_270_000_000, 30_000_000])
    file.save(START)
    again, _ = memory(tmp_path)
    again.told({"BTC-USD": START + 40 * S})
    facts = [backfilled(40, ts_event=START + 41 * S), backfilled(41, ts_event=START + 42 * S)]
    assert new(again.of[BTC], facts) == [False, True]


def test_a_clean_stop_leaves_nothing_to_presume(tmp_path: Path) -> None:
    first, file = memory(tmp_path)
    first.of[BTC].is_new(trade(1))
    file.save(START + 50 * S)
    again, _ = memory(tmp_path)
    again.doubt(START + 90 * S, [])
    assert again.of[BTC].horizon == START + 90 * S  # until the writer has spoken
    again.told({"BTC-USD": START + 50 * S})  # the mark of the last gap row
    assert again.of[BTC].horizon is None
    again.told({})
    assert again.of[BTC].horizon is None


def test_a_spool_that_is_there_leaves_nothing_to_doubt(tmp_path: Path) -> None:
    first, file = memory(tmp_path)
    first.of[BTC].is_new(trade(1))
    file.save(START)
    again, _ = memory(tmp_path)
    again.doubt(START + 90 * S, ["BTC-USD"])
    assert again.of[BTC].horizon is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"BTC/USD": 3}',
        b'{"BTC/USD":{"until":1,"ranges":[[5,1]]}}',
        b"\xff",
        b'{"Z/Z":{"until":1}}',
    ],
)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    _, file = memory(tmp_path)
    assert file.path is not None
    file.path.parent.mkdir()
    file.path.write_bytes(content)
    again, _ = memory(tmp_path)
    assert again.of[BTC].is_new(trade(3))


def test_a_disk_that_refuses_the_file_ends_nothing(tmp_path: Path) -> None:
    made, file = memory(tmp_path)
    made.of[BTC].is_new(trade(1))
    (tmp_path / "state").write_text("a file in the place of the directory")
    file.save(START)
    file.save(START)
    _, nowhere = memory()
    nowhere.save(START)


def test_ranges_that_overlap_are_not_believed() -> None:
    ids = TradeIds()
    ids.restore(Remembered(until=1, ranges=[(1, 5), (4, 9)]))
    assert ids.is_new(trade(2))
    assert msgspec.json.decode(msgspec.json.encode(ids.saved(7)), type=Remembered).until == 7
