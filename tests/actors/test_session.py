"""Numbers, capture order and gap rows."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from daedalus.actors.session import Session, StreamState
from daedalus.exchanges.adapter import BookFact, Fact, Fault, Now, Stream, TickerFact, TradeFact
from daedalus.kernel.journal import Mark
from daedalus.records import Flag, Gap

BOOK, TRADES, TICKER = (Stream("BTC/USD", channel) for channel in ("orderbook", "trades", "ticker"))
OTHER = Stream("ETH/USD", "trades")
T = 1_700_000_000_000_000_000
US = 1000


def at(us: int) -> Now:
    return Now(T + us * US, us * US, T // 1_000_000)


def trade(number: int | None = None, flags: int = 0) -> TradeFact:
    return TradeFact(
        symbol="BTC/USD",
        trade_id=None if number is None else str(number),
        ts_event=None,
        side="buy",
        side_raw="BUY",
        price=1.0,
        amount=2.0,
        cost=2.0,
        flags=flags,
    )


def book() -> BookFact:
    return BookFact(symbol="BTC/USD", ts_event=None, nonce=None, bids=b"", asks=b"")


def session(*, known: bool = True) -> Session:
    made = Session("coinbase", [BOOK, TRADES, TICKER, OTHER], "s1", T)
    if known:
        for channel in ("orderbook", "trades", "ticker"):
            made.restarted(channel, {}, at(0))
    return made


def store(made: Session, key: Stream, us: int, fact: Fact | None = None):
    """Do with one fact what the collector does."""
    state = made.streams[key]
    fact = fact or trade()
    missing = made.trades.of[fact.symbol].hole_before(fact) if isinstance(fact, TradeFact) else None
    if made.is_duplicate(fact):
        return None, None
    gaps = [made.room(key, at(us), missing)]
    if state.hole or state.last_at is None:
        gaps.append(made.found(key, at(us), first=True, missing=missing))
    gaps.append(made.closed(state, at(us), missing))
    row = made.row(state, fact, at(us))
    made.stored(state, row)
    return next(filter(None, gaps), None), row


def test_rows_are_numbered_from_1_in_each_stream() -> None:
    made = session()
    assert [store(made, TRADES, us)[1].seq for us in (1, 2, 3)] == [1, 2, 3]
    assert store(made, BOOK, 4, book())[1].seq == 1


@given(st.lists(st.tuples(st.sampled_from([BOOK, TRADES, TICKER]), st.integers(-5, 50)), max_size=60))
def test_capture_times_are_strictly_increasing_per_symbol_over_all_channels(
    steps: list[tuple[Stream, int]],
) -> None:
    made = session()
    facts = {BOOK: book(), TRADES: trade(), TICKER: TickerFact(symbol="BTC/USD")}
    times = [store(made, key, us, facts[key])[1].ts_recv for key, us in steps]
    assert all(later > earlier for earlier, later in pairwise(times))
    assert all(time % US == 0 for time in times)


def test_a_tie_moves_by_one_microsecond_and_no_other_symbol_is_moved() -> None:
    made = session()
    assert [store(made, key, 5)[1].ts_recv for key in (TRADES, TRADES)] == [T + 5000, T + 6000]
    other = made.row(made.streams[OTHER], TradeFact(**{**_fields(trade()), "symbol": "ETH/USD"}), at(5))
    assert other.ts_recv == T + 5000


def _fields(fact: TradeFact) -> dict:
    return {name: getattr(fact, name) for name in fact.__struct_fields__}


def test_the_very_first_start_has_neither_gap_nor_flag() -> None:
    gap, row = store(session(), TRADES, 1)
    assert (gap, row.flags) == (None, 0)


def test_a_restart_leaves_a_row_from_the_last_stored_to_the_first_good_message() -> None:
    made = session(known=False)
    made.restarted("trades", {"BTC-USD": Mark(T - 9000, 77, "s0")}, at(0))
    gap = made.found(TRADES, at(5))  # the subscription was acknowledged
    assert gap is not None
    assert (gap.reason, gap.channel, gap.symbol) == ("restart", "trades", "BTC-USD")
    assert (gap.started_at, gap.ended_at) == (T - 9000, T + 5000)
    assert (gap.first_seq, gap.last_seq, gap.session_id) == (77, 1, "s1")
    again, row = store(made, TRADES, 900)
    assert (again, row.flags) == (None, Flag.AFTER_GAP)
    assert store(made, TRADES, 901)[1].flags == 0


def test_marks_that_come_late_make_the_row_all_the_same() -> None:
    made = session(known=False)
    _, row = store(made, TRADES, 3)
    assert row.flags == Flag.AFTER_GAP  # nobody could say that nothing was before
    (gap,) = made.restarted("trades", {"BTC-USD": Mark(T - 9000, 77, "s0")}, at(50))
    assert (gap.started_at, gap.ended_at, gap.first_seq, gap.last_seq) == (T - 9000, T + 3000, 77, 1)


def test_marks_that_come_late_cover_no_row_that_is_there() -> None:
    made = session(known=False)
    store(made, TRADES, 3)
    store(made, TRADES, 600)
    (gap,) = made.restarted("trades", {"BTC-USD": Mark(T - 9000, 77, "s0")}, at(601))
    assert (gap.started_at, gap.ended_at, gap.last_seq) == (T - 9000, T + 3000, 1)
    # what the next process is told begins after the rows, not at the end of this gap
    assert made.mark(gap) == Mark(T + 600_000, 2, "s1")


def test_a_seam_between_earlier_sessions_is_told_by_the_process_that_hears_of_it() -> None:
    made = session(known=False)
    a, b, last = Mark(T - 9000, 77, "sA"), Mark(T - 5000, 1, "sB"), Mark(T - 4000, 50, "sB")
    (gap,) = made.restarted("trades", {"BTC-USD": last}, at(0), [("BTC-USD", a, b)])
    assert (gap.reason, gap.started_at, gap.ended_at) == ("restart", T - 9000, T - 5000)
    assert (gap.first_seq, gap.last_seq, gap.session_id, gap.detail) == (77, 1, "s1", "until sB")
    assert made.mark(gap) == last  # a crash now: the next gap begins after the rows of sB
    own = made.found(TRADES, at(5))
    assert own is not None
    assert (own.started_at, own.ended_at, own.first_seq) == (T - 4000, T + 5000, 50)


def test_marks_that_come_late_leave_an_open_hole_as_it_is() -> None:
    made = session(known=False)
    store(made, TRADES, 3)
    made.lost(Fault((TRADES,), "disconnect", ""), None, at(400))
    (gap,) = made.restarted("trades", {"BTC-USD": Mark(T - 9000, 77, "s0")}, at(500))
    assert (gap.reason, gap.ended_at) == ("restart", T + 3000)
    later, _ = store(made, TRADES, 700)
    assert isinstance(later, Gap)
    assert (later.reason, later.started_at, later.ended_at) == ("disconnect", T + 3000, T + 700_000)


def test_a_disconnect_lasts_from_the_last_good_message_of_the_connection() -> None:
    made = session()
    store(made, TRADES, 10)
    made.lost(Fault((TRADES, BOOK), "disconnect", "gone"), T + 40 * US, at(50))
    made.lost(Fault((TRADES,), "error", "refused"), None, at(60))  # the hole is open already
    gap, row = store(made, TRADES, 100)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.started_at, gap.ended_at) == ("disconnect", T + 40_000, T + 100_000)
    assert (gap.first_seq, gap.last_seq, row.seq) == (1, 2, 2)
    assert row.flags & Flag.AFTER_GAP
    assert row.ts_recv > gap.ts_recv


def test_a_stream_that_never_came_has_a_gap_from_its_subscription() -> None:
    made = session()
    made.lost(Fault((TRADES,), "disconnect", "refused"), None, at(20))
    gap, _ = store(made, TRADES, 70)
    assert isinstance(gap, Gap)
    assert (gap.started_at, gap.ended_at, gap.first_seq) == (T + 20_000, T + 70_000, None)


def test_backfilled_rows_do_not_use_up_the_flag() -> None:
    made = session()
    store(made, TRADES, 1)
    made.lost(Fault((TRADES,), "disconnect", ""), None, at(2))
    flags = [
        store(made, TRADES, us, trade(us, flags=kind))[1].flags
        for us, kind in ((3, Flag.BACKFILLED), (4, Flag.BACKFILLED), (5, 0), (6, 0))
    ]
    assert flags == [130, 130, Flag.AFTER_GAP, 0]


def test_what_is_shed_is_numbered_counted_and_enclosed() -> None:
    made = session()
    store(made, TRADES, 1)
    state = made.streams[TRADES]
    made.shed_row(state)
    made.shed_row(state)
    made.row(state, trade(), at(3))
    made.refused(state)
    gap, row = store(made, TRADES, 9)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.first_seq, gap.last_seq, gap.lost_estimate) == ("overflow", 1, 5, 3)
    assert (gap.started_at, gap.ended_at) == (T + 1000, T + 9000)
    assert (row.seq, row.flags, state.shed) == (5, Flag.AFTER_GAP, 3)


def test_a_clock_step_ends_the_session_and_never_makes_a_gap_of_negative_length() -> None:
    made = session()
    store(made, TRADES, 5000)
    made.stepped("s2", at(10))
    gap, row = store(made, TRADES, 20)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.first_seq, gap.last_seq, gap.session_id) == ("clock_step", 1, 1, "s2")
    assert gap.started_at <= gap.ended_at == T + 20_000
    assert (row.seq, row.session_id, row.ts_recv) == (1, "s2", gap.ts_recv + US)


def test_d03_a_clock_step_tells_the_step_and_the_last_good_time_by_the_old_clock() -> None:
    made = session()
    store(made, TRADES, 5_000_000)
    store(made, BOOK, 5_000_001, book())
    made.lost(Fault((BOOK,), "disconnect", "gone"), None, at(5_000_002))
    made.stepped("s2", at(10), -3_600_000_000_000)
    stepped, _ = store(made, TRADES, 20)
    gone, _ = store(made, BOOK, 21, book())
    assert isinstance(stepped, Gap)
    assert isinstance(gone, Gap)
    assert stepped.started_at == stepped.ended_at
    said = "clock stepped by -3600.000 s, last good 2023-11-14T22:13:25.00000{}Z by the old clock"
    assert (stepped.reason, stepped.detail) == ("clock_step", said.format(0))
    assert (gone.reason, gone.detail) == ("disconnect", f"gone; {said.format(1)}")


def test_what_a_gap_row_says_of_clock_steps_is_bounded() -> None:
    made = session()
    store(made, TRADES, 1)
    for number in range(100):
        made.stepped(f"s{number}", at(10), 10**9)
    gap, _ = store(made, TRADES, 20)
    assert isinstance(gap, Gap)
    assert gap.detail is not None
    assert len(gap.detail) < 600


def test_what_is_shed_before_the_first_row_outlives_a_clock_step() -> None:
    made = session()
    state = made.streams[TRADES]
    made.shed_row(state)
    made.shed_row(state)
    made.stepped("s2", at(5))
    made.shed_row(state)
    gap, row = store(made, TRADES, 9)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.lost_estimate, gap.first_seq, gap.session_id) == ("overflow", 3, None, "s2")
    assert (gap.started_at, gap.ended_at, gap.last_seq, row.seq) == (T, T + 9000, 2, 2)


def test_a_restart_in_which_rows_were_shed_estimates_no_loss() -> None:
    made = session(known=False)
    made.shed_because = "disk 1.9 % free"
    made.shed_row(made.streams[TRADES])
    made.restarted("trades", {"BTC-USD": Mark(T - 9000, 77, "s0")}, at(5))
    gap, _ = store(made, TRADES, 9)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.lost_estimate, gap.detail) == ("restart", None, "disk 1.9 % free")


def test_gaps_that_are_open_at_shutdown_end_there() -> None:
    made = session()
    store(made, TRADES, 1)
    made.lost(Fault((TRADES,), "disconnect", ""), None, at(2))
    made.shed_row(_stored(made, BOOK))
    gaps = made.ended(at(90))
    assert {(gap.channel, gap.reason, gap.ended_at, gap.last_seq) for gap in gaps} == {
        ("trades", "disconnect", T + 90_000, None),
        ("orderbook", "overflow", T + 90_000, None),
    }


def _stored(made: Session, key: Stream) -> StreamState:
    store(made, key, 5, book())
    return made.streams[key]
