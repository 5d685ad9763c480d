"""What an intake sheds and says of it; raw messages, and what an exchange says of its markets."""

from itertools import pairwise
from typing import Any

from daedalus.actors.intake import ALL_FRAMES
from daedalus.actors.streamstate import Hole
from daedalus.exchanges.adapter import Control, Fault, InstrumentFact, Now, Stream
from daedalus.kernel.journal import Mark
from daedalus.records import Flag, Frame, Instrument, decode
from tests.actors.makings import BTC, START, book, depth, make_bench, trade

__all__ = ["make_bench"]

BOOK, TRADES, DEPTH = (Stream(BTC, channel) for channel in ("orderbook", "trades", "depth"))


def at(bench: Any) -> Now:
    """Return the capture time, a little later."""
    bench.clock.advance(0.001)
    return bench.intake.capture()


# --- no room ----------------------------------------------------------------------------------------------


def test_0_8_what_finds_no_room_is_counted_and_enclosed_by_a_gap_row(make_bench: Any) -> None:
    bench = make_bench(TRADES, spool_bytes=1 << 14)
    sent = 0
    while bench.session.streams[TRADES].shed < 20:
        bench.take(trade(sent))
        sent += 1
    bench.acknowledge()
    bench.take(trade(sent))
    bench.acknowledge()
    (gap,) = bench.gaps()
    last = bench.rows()[-1]
    assert (gap.reason, gap.last_seq, gap.lost_estimate) == ("overflow", last.seq, 20)
    assert gap.last_seq - gap.first_seq - 1 == 20
    assert (last.seq, last.flags) == (sent + 1, Flag.AFTER_GAP)
    state = bench.session.streams[TRADES]
    assert (state.received, state.rows, state.shed, state.gaps) == (sent + 1, sent - 19, 20, 1)


def test_a_fault_and_an_acknowledgement_during_an_overflow_move_neither_end_of_it(make_bench: Any) -> None:
    bench = make_bench(TRADES, spool_bytes=1 << 14)
    sent = 0
    while bench.session.streams[TRADES].shed < 5:
        bench.take(trade(sent))
        sent += 1
    bench.take(after_s=10)
    bench.lose(TRADES)
    bench.take(Control("subscribed", (TRADES,)), after_s=10)
    bench.take(trade(sent))
    bench.acknowledge()
    bench.take(trade(sent + 1))
    (gap,) = bench.gaps()
    stored = bench.rows()[-2]
    assert (gap.reason, gap.started_at, gap.first_seq) == ("overflow", stored.ts_recv, stored.seq)


def test_an_overflow_with_a_fault_inside_estimates_no_loss_and_names_the_fault(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    bench.take(trade(1))
    bench.outlets["trades"].held = True
    bench.take(trade(2))
    bench.lose(TRADES, after_s=90)
    bench.lose(TRADES, reason="stale")
    bench.take(trade(900))
    bench.outlets["trades"].held = False
    bench.take(trade(901))
    (gap,) = bench.gaps()
    assert (gap.reason, gap.lost_estimate, gap.detail) == ("overflow", None, "disconnect: gone")
    assert (gap.first_seq, gap.last_seq) == (1, 4)


def test_a_fault_with_an_overflow_inside_estimates_no_loss(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    bench.take(*map(trade, range(100)))
    bench.lose(TRADES)
    bench.take(Control("subscribed", (TRADES,)))
    bench.outlets["trades"].held = True
    bench.take(trade(110))
    bench.outlets["trades"].held = False
    bench.take(trade(112))
    (gap,) = bench.gaps()
    assert (gap.reason, gap.lost_estimate, gap.detail) == ("disconnect", None, "gone")
    bench.lose(TRADES)
    bench.take(trade(115))
    assert bench.gaps()[-1].lost_estimate == 2, "the next one is counted again"


def test_a_depth_chain_that_lost_a_change_begins_anew_with_a_snapshot(make_bench: Any) -> None:
    bench = make_bench(DEPTH)
    asked: list[int] = []
    valid = [False]

    def snapshots() -> list[Any]:
        asked.append(bench.clock.mono_ns())
        return [depth("snapshot", 1000)] if valid[0] else []

    bench.intake.snapshots = snapshots
    bench.take(depth("snapshot"), depth())
    outlet = bench.outlets["depth"]
    outlet.held = True
    bench.take(depth(nonce=2), depth(nonce=3))
    outlet.held = False
    bench.take(depth(nonce=4), depth(nonce=5))
    bench.take(depth(nonce=6))
    assert len(asked) == 1, "a book that is not valid now is not asked for at every message"
    assert len(bench.rows("depth")) == 2
    valid[0] = True
    bench.clock.advance(1.1)
    bench.intake.look()
    rows = bench.rows("depth")
    assert [(row.kind, row.nonce, row.seq) for row in rows[2:]] == [("snapshot", 1000, 8)]
    (gap,) = bench.gaps("depth")
    assert (gap.reason, gap.first_seq, gap.last_seq, gap.lost_estimate) == ("overflow", 2, 8, 5)
    bench.take(depth(nonce=1001))
    assert [row.seq for row in bench.rows("depth")[2:]] == [8, 9]
    assert bench.rows("depth")[2].flags == Flag.AFTER_GAP | Flag.SNAPSHOT


def test_d26_a_disk_below_its_mark_takes_nothing_and_the_gap_row_says_why(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    bench.take(trade(1))
    bench.session.shed_because = "disk 1.9 % free: nothing is stored"
    bench.outlets["trades"].held = True
    bench.take(trade(2), trade(3))
    assert len(bench.records()) == 1
    bench.outlets["trades"].held, bench.session.shed_because = False, None
    bench.take(trade(4))
    (gap,) = bench.gaps()
    assert (gap.reason, gap.lost_estimate, gap.detail) == (
        "overflow",
        2,
        "disk 1.9 % free: nothing is stored",
    )


def test_a_gap_row_that_is_owed_is_paid_before_the_next_row(make_bench: Any) -> None:
    bench = make_bench(TRADES, spool_bytes=1 << 14)
    number = 0
    while bench.outlets["trades"].store(b"\x90", "BTC-USD", Mark(START, 0, "s")):
        number += 1
    bench.lose(TRADES)
    bench.take(Control("subscribed", (TRADES,)))
    assert len(bench.outlets["trades"].owed) == 1
    bench.acknowledge()
    bench.take(trade(1))
    *_, gap, row = bench.outlets["trades"].spool.read(number + 1, 10)
    assert [type(decode(one)).__name__ for one in (gap, row)] == ["Gap", "Trade"]


def test_no_row_overtakes_a_gap_row_that_is_owed(make_bench: Any) -> None:
    bench = make_bench(TRADES, spool_bytes=1 << 14)
    outlet = bench.outlets["trades"]
    bench.take(trade(1))
    while outlet.store(b"\x90", "BTC-USD", Mark(START, 1, "s")):
        pass
    outlet.shedding = False
    filled = outlet.spool.next_seq
    bench.lose(TRADES)
    bench.take(Control("subscribed", (TRADES,)))
    bench.take(after_s=6)
    bench.intake.look()
    assert (len(outlet.owed), outlet.shedding) == (1, True)
    outlet.shedding = False
    outlet.spool.acknowledge(filled // 20)
    assert not outlet.has_room(), "whatever has been said of room before"
    assert 0.9 < outlet.spool.fill < 0.96, "room for a row, none to speak of for what is owed"
    bench.take(trade(2))
    bench.lose(TRADES)
    bench.take(trade(3))
    assert (outlet.spool.next_seq, len(outlet.owed)) == (filled, 1), "a crash now loses no stretch"
    outlet.spool.acknowledge(filled // 2)
    bench.take(trade(4))
    assert not outlet.owed
    *_, first, second, row = (decode(one) for one in outlet.spool.read(filled, 10))
    assert (first.reason, second.reason, row.trade_id) == ("disconnect", "overflow", "4")
    assert (second.first_seq, second.last_seq, row.seq) == (1, 4, 4)


def test_no_raw_message_overtakes_a_gap_row_that_is_owed(make_bench: Any) -> None:
    bench = make_bench(TRADES, ALL_FRAMES, spool_bytes=1 << 14)
    outlet = bench.outlets["frames"]
    bench.intake.frame(bench.intake.capture(), 1, b"x", text=True)
    while outlet.store(b"\x90", "all", Mark(START, 1, "s")):
        pass
    outlet.shedding = False
    filled = outlet.spool.next_seq
    state = bench.session.streams[ALL_FRAMES]
    bench.intake.store_gap(bench.session._gap(state, Hole("disconnect", START, 1, ""), START, 2, at(bench)))
    outlet.spool.acknowledge(filled // 20)
    bench.intake.frame(at(bench), 1, b"y", text=True)
    assert (outlet.spool.next_seq, state.shed) == (filled, 1)
    bench.acknowledge()
    bench.intake.frame(at(bench), 1, b"z", text=True)
    kinds = [type(decode(one)).__name__ for one in outlet.spool.read(filled, 10)]
    assert kinds == ["Gap", "Gap", "Frame"]


# --- raw messages and markets -----------------------------------------------------------------------------


def test_raw_messages_are_rows_of_their_own_stream_word_for_word(make_bench: Any) -> None:
    bench = make_bench(TRADES, ALL_FRAMES)
    now = bench.intake.capture()
    for connection, payload, text in (
        (1, b'{"a":1}', True),
        (2, memoryview(b"\x00\xff"), False),
        (2, b"\xff", True),
    ):
        bench.intake.frame(now, connection, payload, text=text)
    rows = bench.rows("frames")
    assert [(row.connection, row.text, row.binary) for row in rows] == [
        (1, '{"a":1}', None),
        (2, None, b"\x00\xff"),
        (2, None, b"\xff"),
    ]
    assert [(row.symbol, row.seq) for row in rows] == [("all", 1), ("all", 2), ("all", 3)]
    assert all(isinstance(row, Frame) for row in rows)
    assert all(a.ts_recv < b.ts_recv for a, b in pairwise(rows))
    assert bench.listener.heard == [], "nobody subscribes to them"


def test_raw_messages_are_shed_first_and_say_so(make_bench: Any) -> None:
    bench = make_bench(TRADES, ALL_FRAMES, spool_bytes=1 << 16)
    state = bench.session.streams[ALL_FRAMES]
    while not state.shed:
        bench.intake.frame(bench.intake.capture(), 1, b"x" * 100, text=True)
    assert 0.5 < bench.outlets["frames"].spool.fill < 0.7
    bench.acknowledge()
    bench.intake.frame(bench.intake.capture(), 1, b"x", text=True)
    (gap,) = bench.gaps("frames")
    assert (gap.reason, gap.symbol, gap.lost_estimate) == ("overflow", "all", state.shed)


def test_raw_messages_have_a_gap_row_for_every_connection_that_ends_and_none_for_a_local_fault(
    make_bench: Any,
) -> None:
    bench = make_bench(TRADES, ALL_FRAMES)
    bench.intake.frame(at(bench), 1, b"x", text=True)
    last = bench.rows("frames")[-1]
    bench.intake.lost(Fault((TRADES,), "checksum", "resynchronised", local=True), None)
    bench.intake.frame(at(bench), 1, b"y", text=True)
    assert bench.gaps("frames") == []
    bench.lose(TRADES, after_s=30)
    bench.lose(TRADES, reason="stale")
    back = at(bench)
    bench.intake.frame(back, 2, b"z", text=True)
    bench.intake.frame(at(bench), 2, b"z", text=True)
    (gap,) = bench.gaps("frames")
    assert (gap.symbol, gap.reason, gap.detail, gap.first_seq, gap.last_seq) == (
        "all", "disconnect", "gone", 2, 3,
    )  # fmt: skip
    assert last.ts_recv < gap.started_at < gap.ended_at == back.ts_recv
    assert gap.ended_at - gap.started_at > 30 * 10**9


def test_without_raw_capture_a_raw_message_is_nothing(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    bench.intake.frame(bench.intake.capture(), 1, b"x", text=True)
    assert bench.records() == []


def test_markets_are_stored_once_a_day_and_when_they_change(make_bench: Any) -> None:
    bench = make_bench(BOOK, TRADES)
    market = InstrumentFact(symbol=BTC, tick_size=0.01, kind="spot")
    finer = InstrumentFact(symbol=BTC, tick_size=0.001, kind="spot")
    bench.take(book())
    mark = bench.outlets["orderbook"].link.marks["BTC-USD"]
    for facts in ([market], [market], [finer], [InstrumentFact(symbol="DOGE/USD")]):
        bench.intake.instruments(facts)
    bench.clock.advance(86_400)
    bench.intake.instruments([finer])
    stored = [row for row in bench.records("orderbook") if isinstance(row, Instrument)]
    assert [(row.symbol, row.tick_size, row.symbol_raw) for row in stored] == [
        ("BTC-USD", 0.01, BTC), ("BTC-USD", 0.001, BTC), ("BTC-USD", 0.001, BTC),
    ]  # fmt: skip
    assert bench.outlets["orderbook"].link.marks["BTC-USD"] == mark, "they say nothing of the rows"
    bench.take(book())
    assert [row.seq for row in bench.rows("orderbook") if not isinstance(row, Instrument)] == [1, 2]


def test_a_market_stored_while_a_gap_row_waits_for_its_first_trade_does_not_stand_for_it(
    make_bench: Any,
) -> None:
    bench = make_bench(TRADES)
    bench.take(*map(trade, range(100)))
    last = bench.rows()[-1]
    bench.lose(TRADES)
    bench.take(Control("subscribed", (TRADES,)), after_s=60)
    bench.intake.instruments([InstrumentFact(symbol=BTC)])
    assert bench.gaps() == [], "it waits"
    mark = bench.outlets["trades"].link.marks["BTC-USD"]
    assert (mark.ts_recv, mark.seq) == (last.ts_recv, 100), "a crash now: the next gap row begins there"
    bench.take(trade(103))
    assert bench.gaps()[-1].lost_estimate == 3


def test_a_market_that_finds_no_room_is_stored_once_there_is_some(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    outlet = bench.outlets["trades"]
    bench.take(trade(1))
    outlet.held = True
    bench.intake.instruments([InstrumentFact(symbol=BTC, tick_size=0.01)])
    bench.intake.instruments([InstrumentFact(symbol=BTC, tick_size=0.001)])
    bench.intake.look()
    assert len(bench.rows()) == 1
    outlet.held = False
    for _ in range(2):
        bench.intake.look()
    assert [row.tick_size for row in bench.rows() if isinstance(row, Instrument)] == [0.001]


def test_a_market_that_found_no_room_goes_behind_no_last_gap_row(make_bench: Any) -> None:
    bench = make_bench(TRADES)
    bench.outlets["trades"].held = True
    bench.intake.instruments([InstrumentFact(symbol=BTC, tick_size=0.01)])
    bench.outlets["trades"].held = False
    bench.intake.end()
    bench.intake.look()
    assert [type(row).__name__ for row in bench.records()] == ["Gap"]
