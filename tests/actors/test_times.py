"""An exchange time that cannot be moves no figure and hides no trade; a stretch nobody filled is told."""

from typing import Any

import pytest
from msgspec.structs import replace

from daedalus.actors.times import is_believable, is_time
from daedalus.exchanges.adapter import Stream
from tests.actors.makings import BTC, START, book, event, make_bench, ticker, trade

__all__ = ["make_bench"]

S = 1_000_000_000
DAY = 86_400 * S
TRADES, BOOK = Stream(BTC, "trades"), Stream(BTC, "orderbook")
YEAR_2500 = 16_725_225_600 * S


@pytest.mark.parametrize(
    ("lag", "clock_ok", "believed"),
    [
        (0, True, True),
        (-60 * S, True, True),
        (-60 * S - 1, True, False),
        (-3600 * S, False, True),  # our clock is an hour behind, and says so itself
        (-DAY - 1, False, False),
        (DAY, True, True),
        (DAY + 1, True, False),
        (DAY + 1, False, False),
    ],
)
def test_a_time_is_believed_as_far_as_our_own_clock_can_be_trusted(
    lag: int, clock_ok: bool, believed: bool
) -> None:
    assert is_believable(START - lag, START, clock_ok=clock_ok) is believed


@pytest.mark.parametrize("absurd", [YEAR_2500, -1, 0, -(2**62), 2**70])
def test_d01_a_time_that_is_none_is_stored_as_missing(make_bench: Any, absurd: int) -> None:
    assert not is_time(absurd)
    bench = make_bench(TRADES, BOOK, Stream(BTC, "ticker"), Stream(BTC, "bidask"))
    bench.take(trade(1, ts_event=absurd), trade(2, ts_event=START))
    times = {"ts_event": absurd}
    bench.take(replace(book(), **times), replace(ticker(bid=1.0), **times), replace(event(), **times))
    assert [row.ts_event for row in bench.rows()] == [None, START]
    assert [bench.rows(name)[0].ts_event for name in ("orderbook", "ticker", "bidask")] == [None] * 3


@pytest.mark.parametrize("absurd", [YEAR_2500, -1, START + 3600 * S, START - 400 * DAY])
def test_a_hostile_time_has_no_part_in_the_lag_or_in_what_the_next_process_asks(
    make_bench: Any, absurd: int
) -> None:
    bench = make_bench(TRADES)
    for number in range(20):
        bench.take(trade(number, ts_event=bench.clock.wall_ns() - 20_000_000))
    bench.take(trade(20, ts_event=absurd))
    low, middle, high = bench.session.streams[TRADES].lag_ms()
    assert 20 <= low <= middle <= high < 22
    ids = bench.session.trades.of[BTC]
    ids.note_lag(bench.session.streams[TRADES].lags_ns)
    assert ids.lag_ns == 0  # else trades told again would be presumed stored, up to that time
    at = bench.intake.last_trade_at(BTC)
    assert 20_000_000 < bench.clock.wall_ns() - at < 30_000_000
    assert bench.intake.last_trade_at("DOGE/USD") is None


def test_only_hostile_times_are_no_lag_at_all(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    bench.take(trade(1, ts_event=START + 3600 * S))
    assert bench.session.streams[TRADES].lag_ms() == (None, None, None)
    assert bench.intake.last_trade_at(BTC) is None
    assert bench.rows()[0].ts_event == START + 3600 * S  # of our age: it is kept as the exchange said it


def test_what_rest_did_not_fill_is_a_gap_row_inside_the_gap_and_the_mark_stays(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    bench.take(trade(1))
    bench.take(trade(2), after_s=10)
    before = bench.outlets["trades"].link.marks["BTC-USD"]
    bench.intake.unfilled(TRADES, START + 3 * S, START + 7 * S, "3 pages were not enough")
    bench.intake.unfilled(TRADES, START + 900 * S, None, "its time is ahead of our clock")
    bench.intake.unfilled(BOOK, START, None, "nobody asked")
    first, second = bench.gaps()
    assert (first.reason, first.started_at, first.ended_at) == ("error", START + 3 * S, START + 7 * S)
    assert (first.detail, first.lost_estimate) == ("3 pages were not enough", None)
    assert second.started_at == second.ended_at <= bench.clock.wall_ns()
    assert bench.outlets["trades"].link.marks["BTC-USD"] == before
    assert bench.session.streams[TRADES].hole is None
    bench.intake.closing = True
    bench.intake.unfilled(TRADES, START, None, "too late")
    assert len(bench.gaps()) == 2
