"""What becomes of facts: rows, numbers, capture times, gap rows, and what is shed."""

from itertools import pairwise
from typing import Any

import pytest

from daedalus.exchanges.adapter import Control, Fault, Stream
from daedalus.kernel.journal import Mark
from daedalus.records import Depth, Event, Flag, Ticker, Trade, decode
from tests.actors.makings import (
    BTC,
    START,
    backfilled,
    book,
    depth,
    event,
    make_bench,
    ticker,
    trade,
)

__all__ = ["make_bench"]

S = 1_000_000_000
BOOK, TRADES, TICKER, DEPTH, BIDASK = (
    Stream(BTC, channel) for channel in ("orderbook", "trades", "ticker", "depth", "bidask")
)


def test_c03_a_record_is_in_the_spool_and_on_the_air_before_the_next_message(make_bench: Any) -> None:
    bench = make_bench(BOOK)
    bench.take(book())
    (row,) = bench.rows("orderbook")
    topic, data = bench.listener.heard[0]
    assert (topic, decode(data)) == (b"book/x/BTC-USD/", row)


def test_every_fact_has_its_channel_and_a_topic_if_it_is_published(make_bench: Any) -> None:
    bench = make_bench(BOOK, TRADES, TICKER, DEPTH, BIDASK)
    bench.take(book(), trade(1), ticker(bid=1.0), depth("snapshot"), depth("update"), event())
    kinds = {channel: [type(row) for row in bench.rows(channel)] for channel in bench.outlets}
    assert kinds["depth"] == [Depth, Depth]
    assert (kinds["bidask"], kinds["trades"], kinds["ticker"]) == ([Event], [Trade], [Ticker])
    assert {topic for topic, _ in bench.listener.heard} == {
        b"book/x/BTC-USD/", b"trade/x/BTC-USD/", b"ticker/x/BTC-USD/", b"depth/x/BTC-USD/",
    }  # fmt: skip


def test_what_nobody_asked_for_is_not_taken(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    bench.take(book(), trade(1, symbol="ETH/USD"), event(), event("unheard_of"))
    bench.intake.lost(Fault((BOOK,), "stale", ""), None)
    bench.take(Control("subscribed", (BOOK, TRADES)), Control("heartbeat"))
    assert bench.records() == []


# --- time -------------------------------------------------------------------------------------------------


def test_d01_a_time_that_is_missing_repeated_or_in_the_future_is_stored_as_it_is(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    times = [None, START, START, START + 3600 * S, START - 3600 * S]
    bench.take(*(trade(number, ts_event=at) for number, at in enumerate(times)))
    rows = bench.rows()
    assert [row.ts_event for row in rows] == times
    assert all(a.ts_recv < b.ts_recv for a, b in pairwise(rows))


def test_d02_capture_time_rises_strictly_over_all_channels_of_a_symbol(make_bench: Any) -> None:
    bench = make_bench(BOOK, TRADES, TICKER, DEPTH, BIDASK)
    bench.take(book(), trade(1), depth("snapshot"), event(), after_s=0)
    bench.take(trade(2), book(), ticker(), event(), depth(), after_s=0)
    bench.lose(TRADES, after_s=0)
    bench.take(trade(3), book(), after_s=0)
    every = [record for channel in bench.outlets for record in bench.records(channel)]
    times = [record.ts_recv for record in every]
    assert len(times) == len(set(times)) == 12
    for channel in bench.outlets:
        assert all(a.ts_recv < b.ts_recv for a, b in pairwise(bench.records(channel)))


@pytest.mark.parametrize("step_s", [3600.0, -3600.0, 0.26, -0.26])
def test_d03_a_step_of_the_clock_ends_the_session_with_a_row_in_every_stream(
    make_bench: Any, step_s: float
) -> None:
    bench = make_bench(BOOK, TRADES, DEPTH)
    bench.intake.snapshots = lambda: [depth("snapshot", 7)]
    bench.take(trade(1), book(), depth("snapshot"), depth())
    before = bench.session.session_id
    bench.clock.step_wall(step_s)
    assert bench.intake.check_clock()
    assert not bench.intake.check_clock()
    bench.take(trade(2), book())
    bench.intake.look()
    for channel in ("trades", "orderbook", "depth"):
        (gap,) = bench.gaps(channel)
        last, first = (
            [row for row in bench.rows(channel) if row.session_id == before][-1],
            bench.rows(channel)[-1],
        )
        assert (gap.reason, gap.first_seq, gap.last_seq) == ("clock_step", last.seq, 1)
        assert (gap.started_at, gap.ended_at) == (min(last.ts_recv, gap.ended_at), gap.ended_at)
        assert (first.seq, first.session_id) == (1, bench.session.session_id)
        assert first.flags & Flag.AFTER_GAP
        assert abs(first.ts_recv - bench.clock.wall_ns()) < S
    assert bench.rows("depth")[-1].nonce == 7, "a chain of changes begins anew with the whole book"
    assert before != bench.session.session_id


def test_d03_a_clock_that_is_slewed_is_followed(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    bench.clock.step_wall(0.24)
    assert not bench.intake.check_clock()


def test_c18_rows_say_whether_the_clock_was_synchronised(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    bench.session.clock_ok = False
    bench.take(trade(1))
    bench.session.clock_ok = True
    bench.take(trade(2))
    assert [row.clock_ok for row in bench.rows()] == [False, True]


def test_d04_a_negative_latency_is_stored_and_told(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    for number in range(10):
        at = bench.clock.wall_ns() + 1_270_000_000
        bench.take(trade(number, ts_event=at), after_s=0)
    assert all(row.ts_event - row.ts_recv > 1_269_000_000 for row in bench.rows())
    low, middle, high = bench.session.streams[TRADES].lag_ms()
    assert -1271 < low <= middle <= high < -1269


def test_c09_the_lag_of_a_stream_is_told_and_what_came_late_by_nature_is_not_in_it(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    for number in range(100):
        lag_ms = 500 if number >= 98 else 20
        bench.clock.advance(0.001)
        at = bench.clock.wall_ns() - lag_ms * 1_000_000
        bench.take(
            trade(number, ts_event=at), backfilled(1000 + number, ts_event=START - 3600 * S), after_s=0
        )
    low, middle, high = bench.session.streams[TRADES].lag_ms()
    assert (round(low), round(middle), round(high)) == (20, 20, 500)
    stats = bench.session.streams[TRADES].stats(bench.clock.wall_ns(), 1)
    assert (stats["trades.BTC-USD.received"], stats["trades.BTC-USD.stored"]) == (200, 200)


def test_the_rate_is_of_the_time_between_two_looks(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    state = bench.session.streams[TRADES]
    assert state.rated(S) is None
    bench.take(*map(trade, range(30)))
    assert [state.rated(3 * S), state.rated(3 * S + 1), state.rated(5 * S)] == [15.0, 15.0, 0.0]


def test_c10_out_of_order_trades_keep_their_own_times_and_the_order_of_capture(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    for number in (5, 3, 4, 1):
        bench.take(trade(number, ts_event=START + number))
    assert [row.trade_id for row in bench.rows()] == ["5", "3", "4", "1"]
    assert [row.seq for row in bench.rows()] == [1, 2, 3, 4]


def test_d12_d13_what_is_told_late_is_captured_now_in_the_hour_that_is(make_bench: Any) -> None:
    """Partitions are of capture time: a trade of the hour before falls into this one, and says BACKFILLED."""
    bench = make_bench(TRADES)
    hour = 3600 * S
    to_the_hour_s = (hour - START % hour) / S
    bench.take(trade(1))
    bench.clock.advance(to_the_hour_s - 0.001)
    bench.take(trade(2), backfilled(3, ts_event=START), after_s=0)
    rows = bench.rows()
    assert [row.ts_recv // hour - START // hour for row in rows] == [0, 1, 1]
    assert rows[1].ts_recv % hour == 0, "a row at HH:00:00.000000 is of the new hour"
    assert rows[2].flags == Flag.BACKFILLED


# --- books ------------------------------------------------------------------------------------------------


def test_d06_d07_crossed_locked_and_one_sided_books_are_stored_with_their_flags(make_bench: Any) -> None:
    bench = make_bench(BOOK)
    flags = [Flag.CROSSED, Flag.LOCKED, Flag.ONE_SIDED]
    bench.take(*(book(flags=int(flag)) for flag in flags))
    assert [row.flags for row in bench.rows("orderbook")] == flags


# --- gaps -------------------------------------------------------------------------------------------------


def test_d14_the_first_row_after_a_gap_says_so_and_no_other(make_bench: Any) -> None:
    bench = make_bench(BOOK, TRADES)
    bench.take(trade(1), book())
    bench.lose(BOOK, TRADES)
    bench.take(trade(2), book(), trade(3), book())
    for channel in ("trades", "orderbook"):
        assert [bool(row.flags & Flag.AFTER_GAP) for row in bench.rows(channel)] == [False, True, False]
        (gap,) = bench.gaps(channel)
        assert (gap.first_seq, gap.last_seq) == (1, 2)


def test_books_wait_for_their_snapshot_and_all_others_for_the_acknowledgement(make_bench: Any) -> None:
    bench = make_bench(BOOK, TRADES, TICKER, DEPTH, BIDASK)
    bench.take(book(), trade(1), ticker(), depth("snapshot"), event())
    every = (BOOK, TRADES, TICKER, DEPTH, BIDASK)
    bench.lose(*every)
    bench.take(Control("subscribed", every), after_s=1)
    ended = bench.clock.wall_ns() // 1000 * 1000
    assert {channel: len(bench.gaps(channel)) for channel in bench.outlets} == {
        "orderbook": 0, "trades": 1, "ticker": 1, "depth": 0, "bidask": 1,
    }  # fmt: skip
    assert bench.gaps("ticker")[0].ended_at == ended
    bench.take(depth("update"), after_s=1)
    assert len(bench.rows("depth")) == 1, "a change of what nobody knows"
    bench.take(depth("snapshot"), book(), after_s=1)
    (gap,) = bench.gaps("depth")
    assert (gap.reason, gap.first_seq, gap.last_seq) == ("disconnect", 1, 3)
    assert bench.rows("depth")[1].seq == 3


def test_a_gap_of_trades_tells_how_many_are_missing_where_their_ids_do(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    bench.take(*map(trade, range(100)))
    bench.lose(TRADES)
    bench.take(Control("subscribed", (TRADES,)), after_s=1)
    ended = bench.clock.wall_ns() // 1000 * 1000
    assert bench.gaps() == [], "it waits for the first row"
    bench.take(trade(107), after_s=1)
    (gap,) = bench.gaps()
    assert (gap.lost_estimate, gap.ended_at, gap.first_seq, gap.last_seq) == (7, ended, 100, 101)
    assert bench.records()[-2] == gap
    # a hole in the ids themselves, found by the adapter: no acknowledgement in between
    bench.lose(TRADES, reason="sequence")
    bench.take(trade(113))
    assert bench.gaps()[-1].lost_estimate == 5


@pytest.mark.parametrize("how", ["time", "fault", "end", "step"])
def test_a_gap_does_not_wait_for_its_first_row_for_ever(make_bench: Any, how: str) -> None:
    bench = make_bench(TRADES)
    bench.take(*map(trade, range(100)))
    bench.lose(TRADES)
    bench.take(Control("subscribed", (TRADES,)), after_s=1)
    ended = bench.clock.wall_ns() // 1000 * 1000
    bench.clock.advance(4.9)
    bench.intake.look()
    assert bench.gaps() == []
    if how == "time":
        bench.clock.advance(0.1)
        bench.intake.look()
    elif how == "fault":
        bench.lose(TRADES)
    elif how == "step":
        bench.clock.step_wall(-3600)
        bench.intake.check_clock()
    else:
        bench.intake.end()
    gap = bench.gaps()[0]
    assert (gap.reason, gap.ended_at, gap.lost_estimate, gap.last_seq) == ("disconnect", ended, None, 101)


def test_a_backfilled_row_after_a_gap_counts_nothing(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    bench.take(*map(trade, range(100)))
    bench.lose(TRADES)
    bench.take(Control("subscribed", (TRADES,)))
    bench.take(backfilled(103), trade(110))
    assert [gap.lost_estimate for gap in bench.gaps()] == [None]


def test_the_end_is_a_gap_from_the_last_good_message_of_each_connection(make_bench: Any) -> None:
    bench = make_bench(BOOK, TRADES, TICKER)
    bench.take(trade(1), book(), after_s=1)
    at = bench.clock.wall_ns() // 1000 * 1000
    bench.intake.closing = True
    bench.clock.advance(5)
    bench.intake.lost(Fault((TRADES, BOOK), "disconnect", "closed"), at + 3 * S)
    bench.intake.end()
    now = bench.clock.wall_ns() // 1000 * 1000
    told = {channel: bench.gaps(channel)[0] for channel in bench.outlets}
    assert {(gap.reason, gap.detail, gap.ended_at, gap.last_seq) for gap in told.values()} == {
        ("restart", "stopped", now, None)
    }
    assert [told[name].started_at for name in ("trades", "orderbook", "ticker")] == [
        at + 3 * S,
        at + 3 * S,
        START,
    ]
    assert [told[name].first_seq for name in ("trades", "orderbook", "ticker")] == [1, 1, None]
    # the next process is told to go on from there
    assert bench.outlets["trades"].link.marks["BTC-USD"] == Mark(now, 1, bench.session.session_id)


def test_a_start_that_asked_nothing_ends_without_a_claim(make_bench: Any) -> None:
    bench = make_bench(TRADES, asked=False)
    bench.intake.end()
    assert bench.records() == []


def test_an_exchange_that_never_answered_is_a_gap_from_its_subscription(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    bench.lose(TRADES, after_s=30)
    bench.take(trade(1), after_s=30)
    (gap,) = bench.gaps()
    assert (gap.started_at, gap.first_seq, gap.last_seq) == (START, None, 1)


def test_c07_after_a_reconnection_the_missing_trades_come_by_request_and_once(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    bench.take(*map(trade, range(60)))
    bench.lose(TRADES)
    assert bench.intake.last_trade(BTC) == "59"
    bench.take(trade(66))  # live again, before the answer
    bench.take(*map(backfilled, range(55, 68)))
    bench.take(trade(67), trade(68))
    ids = [int(row.trade_id) for row in bench.rows()]
    assert sorted(ids) == list(range(69))
    late = [int(row.trade_id) for row in bench.rows() if row.flags & Flag.BACKFILLED]
    assert late == [60, 61, 62, 63, 64, 65, 67], "flagged: no kernel sees them"
    assert bench.gaps()[0].lost_estimate == 6
    assert bench.intake.last_trade("DOGE/USD") is None


def test_c16_a_thousand_streams_fail_and_recover_each_on_its_own(make_bench: Any) -> None:
    keys = [Stream(f"C{number}/USD", "trades") for number in range(1000)]
    bench = make_bench(*keys)
    bench.take(*(trade(1, symbol=key.symbol) for key in keys))
    bench.lose(*keys)
    bench.take(*(trade(2, symbol=key.symbol) for key in keys[:500]))
    assert len(bench.gaps()) == 500
    assert sum(state.hole is not None for state in bench.session.streams.values()) == 500
