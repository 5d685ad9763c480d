"""Segment numbers: each given once, remembered across crashes, and few on disk."""

import threading
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.dataset.counters import Counters, claim, claim_pure, overtaken, release
from daedalus.dataset.layout import Layout, Partition, segment_path


def hour(number: int, symbol: str = "BTC-USDT") -> Partition:
    return Partition("ccxt", "trades", "binance", symbol, 491_630 + number)


def test_a_journal_that_asks_again_gets_the_same_numbers(tmp_path):
    layout = Layout(data=str(tmp_path))
    first = claim(layout, "trades/journal_1#a", [hour(0), hour(1)])
    assert claim(layout, "trades/journal_2#b", [hour(0)]) == {hour(0): 2}
    assert claim(layout, "trades/journal_1#a", [hour(0), hour(1)]) == first == {hour(0): 1, hour(1): 1}


def test_numbers_stay_used_after_the_claim_is_released(tmp_path):
    layout = Layout(data=str(tmp_path))
    claim(layout, "a", [hour(0)])
    release(layout, lambda key: key == "a")
    assert claim(layout, "a", [hour(0)]) == {hour(0): 2}


def test_a_lost_counters_file_counts_on_from_the_disk(tmp_path):
    layout = Layout(data=str(tmp_path))
    path = segment_path(layout, hour(0), 41)
    path.parent.mkdir(parents=True)
    path.touch()
    assert claim(layout, "a", [hour(0)]) == {hour(0): 42}


def test_a_damaged_counters_file_is_named_and_not_overwritten(tmp_path):
    layout = Layout(data=str(tmp_path))
    path = layout.state() / "counters.json"
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(ValueError, match=r"cannot read the segment counters .*counters\.json"):
        claim(layout, "a", [hour(0)])
    assert path.read_text() == "{"


@given(st.lists(st.integers(0, 200), min_size=1, max_size=60))
def test_no_number_is_given_twice_in_any_order_of_hours(hours):
    """Old hours are folded away; a late row in one of them still gets a fresh number."""
    counters, seen = Counters(), set()
    for journal, number in enumerate(hours):
        ((partition, given_number),) = claim_pure(counters, str(journal), [hour(number)], lambda _: 0).items()
        assert (partition, given_number) not in seen
        seen.add((partition, given_number))
    (stream,) = counters.streams.values()
    assert max(stream.hours) - min(stream.hours) <= 24
    assert msgspec.json.decode(msgspec.json.encode(counters), type=Counters) == counters


def test_writers_at_the_same_time_get_different_numbers(tmp_path):
    layout = Layout(data=str(tmp_path))
    found: list[int] = []

    def writer(name: str) -> None:
        found.extend(claim(layout, f"{name}{n}", [hour(0)])[hour(0)] for n in range(5))

    threads = [threading.Thread(target=writer, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 16))


def sealed(layout: Layout, journal: str, at: int) -> tuple[int, bool]:
    """Claim and release the number of one journal's one hour; return it, and whether it is late."""
    there = Partition("ccxt", "trades", "binance", "BTC-USDT", at)
    numbers = claim(layout, journal, [there])
    late = there in overtaken(layout, journal, numbers)
    release(layout, lambda _: True)
    return numbers[there], late


def test_a_minute_with_the_clock_a_year_ahead_makes_no_later_segment_late(tmp_path):
    layout = Layout(data=str(tmp_path))
    now = time.time_ns() // 3_600_000_000_000 - 100  # the past: an hour may turn while this runs
    assert [sealed(layout, f"a{n}", now + n) for n in range(3)] == [(1, False)] * 3
    assert not sealed(layout, "ahead", now + 8760)[1]
    after = [sealed(layout, f"b{n}", now + 3 + n) for n in range(5)]
    assert not any(late for _, late in after)
    assert sealed(layout, "c", now + 3)[1], "what is late is still seen to be late"
    assert not sealed(layout, "d", now + 60)[1]


def test_a_journal_of_days_ago_is_late(tmp_path):
    layout = Layout(data=str(tmp_path))
    now = time.time_ns() // 3_600_000_000_000 - 1
    sealed(layout, "a", now)
    assert sealed(layout, "b", now - 72)[1]
