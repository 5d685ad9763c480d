"""C08: a connection is replaced before the exchange cuts it, and nobody can see it in the data."""

import asyncio

import pytest
from msgspec.structs import replace

from daedalus.exchanges.adapter import BookFact, Control, DepthFact, Fault, Limits, TickerFact
from daedalus.exchanges.freshness import Watches
from daedalus.exchanges.overlap import Sieve
from daedalus.exchanges.socket import NativeConnection
from daedalus.records import Flag, pack_side
from tests.exchanges.shellkit import (
    BOOK,
    BTC,
    DEPTH,
    FREE,
    TICKER,
    TRADES,
    Credulous,
    Exchange,
    Rig,
    Sink,
    book,
    depth,
    play,
    trade,
)
from tests.loops import until

SOON = 0.2 / 3600  # hours
CHANNELS = {"orderbook": [BTC], "depth": [BTC], "trades": [BTC]}


class Comparable(Credulous):
    comparable = True


@pytest.mark.parametrize("library", ["picows", "aiohttp"])
def test_c08_a_planned_replacement_leaves_no_gap_and_no_book_goes_back(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEDALUS_WEBSOCKET", library)
    exchange = Exchange([[["snapshot", BTC, 10], ["book", BTC, 10], ["trade", BTC, "1"]]])

    async def work(rig: Rig) -> None:
        sink = rig.sink
        await until(lambda: len(exchange.peers) == 2)  # the second connection
        await exchange.say(1, ["subscribed", [TRADES]], ["trade", BTC, "2"], ["ticker", BTC])
        await until(lambda: "2" in sink.ids)  # its trades pass
        await exchange.say(0, ["book", BTC, 12], ["update", BTC, 12])
        await until(lambda: len(sink.books) == 2)
        await exchange.say(1, ["snapshot", BTC, 11], ["book", BTC, 11], ["ready"], ["trade", BTC, "3"])
        await until(lambda: "3" in sink.ids)
        assert rig.shared.rotations == 0  # ready, but older than what is stored
        await exchange.say(0, ["trade", BTC, "4"])
        await until(lambda: "4" in sink.ids)
        await exchange.say(1, ["update", BTC, 13], ["book", BTC, 13])
        await until(lambda: rig.shared.rotations == 1)
        await until(lambda: exchange.goodbyes)  # the old one was told, not cut
        await exchange.say(1, ["book", BTC, 14], ["trade", BTC, "5"])
        await until(lambda: "5" in sink.ids)
        assert sink.faults == []
        assert sink.ids == ["1", "2", "3", "4", "5"]
        assert [fact.nonce for fact in sink.books] == [10, 12, 13, 14]
        assert [(f.kind, f.nonce) for f in sink.of(DepthFact)] == [
            ("snapshot", 10),
            ("update", 12),
            ("snapshot", 99),  # the whole book of the new adapter: its deltas go on from there
        ]
        assert sink.of(Control) == []  # nothing to subscribe anew in the eyes of the collector
        assert rig.connection.adapter is rig.adapters[1]
        assert (rig.shared.connects_made, rig.shared.faults) == (2, 0)
        assert rig.connection.messages == 7

    play(exchange, work, channels=CHANNELS, make=Comparable, rotate_after_h=SOON)


def test_c08_where_numbers_mean_nothing_on_another_connection_the_exchanges_time_decides() -> None:
    sieve, watches = Sieve(Sink(), comparable=False), Watches([BOOK], 10, 120)
    watches.opened(0)

    def at(moment: int | None, nonce: int | None) -> BookFact:
        return BookFact(symbol=BTC, ts_event=moment, nonce=nonce, bids=b"", asks=b"")

    watches.heard(at(100, 900), 1)
    assert not sieve.caught_up(watches)  # it has said nothing of that book
    for moment, reached in ((99, False), (100, True), (None, True)):
        sieve.take(Sink().capture(), [at(moment, 1)])
        assert sieve.caught_up(watches) is reached
    assert sieve.ahead(watches) == []


def _at(moment: int | None, price: float = 1.0) -> BookFact:
    side = pack_side([(price, 1.0)])
    return BookFact(symbol=BTC, ts_event=moment, nonce=None, bids=side, asks=side)


def _quote(moment: int | None, last: float, exch_seq: int = 0) -> TickerFact:
    return TickerFact(symbol=BTC, ts_event=moment, last=last, exch_seq=exch_seq)


@pytest.mark.parametrize("comparable", [True, False])
@pytest.mark.parametrize(
    ("told", "withheld", "expected"),
    [
        ([_at(100)], [_at(99), _at(101)], [_at(101)]),
        ([_at(100)], [_at(101), _at(102)], [replace(_at(102), flags=int(Flag.CONFLATED))]),
        ([_at(100)], [_at(100)], []),
        ([_at(100)], [_at(100, 2.0)], [_at(100, 2.0)]),
        ([_at(100)], [_at(99, 2.0)], []),
        ([_at(None)], [_at(None, 2.0)], [_at(None, 2.0)]),
        ([], [_at(100)], [_at(100)]),
        ([_quote(100, 1.0)], [_quote(101, 2.0)], [_quote(101, 2.0)]),
        ([_quote(100, 1.0, 7)], [_quote(100, 1.0, 3)], []),  # the same one, counted anew
        ([_quote(None, 1.0)], [_quote(None, 2.0)], [_quote(None, 2.0)]),
        ([_quote(100, 1.0)], [_quote(99, 2.0)], []),
        ([], [_quote(1, 1.0), _quote(2, 1.0)], [replace(_quote(2, 1.0), flags=int(Flag.CONFLATED))]),
    ],
)
def test_c08_what_a_take_over_withheld_and_the_first_had_not_told_is_told(
    told: list[BookFact], withheld: list[BookFact], expected: list[BookFact], *, comparable: bool
) -> None:
    sieve, watches = Sieve(Sink(), comparable=comparable), Watches([BOOK, TICKER], 10, 120)
    watches.opened(0)
    for fact in told:
        watches.heard(fact, 1)
    sieve.take(Sink().capture(), withheld)
    assert sieve.ahead(watches) == expected


def test_c08_what_was_withheld_before_a_stream_was_resynchronised_is_never_told() -> None:
    sieve, watches = Sieve(Sink(), comparable=False), Watches([BOOK, TICKER], 10, 120)
    watches.opened(0)
    watches.heard(_at(100), 1)
    sieve.take(Sink().capture(), [_at(101), _quote(101, 2.0), _at(102), _quote(102, 2.0)])
    sieve.lost(Fault((BOOK, TICKER), "checksum", "broken", local=True), None)
    assert not sieve.caught_up(watches)
    assert sieve.ahead(watches) == []
    sieve.take(Sink().capture(), [_at(103)])
    assert sieve.caught_up(watches)
    assert sieve.ahead(watches) == [_at(103)]


def test_c08_a_planned_replacement_tells_the_tickers_and_books_that_it_withheld() -> None:
    exchange = Exchange([[["ticker", BTC], ["trade", BTC, "1"]]])

    async def work(rig: Rig) -> None:
        await until(lambda: len(exchange.peers) == 2 and rig.sink.ids == ["1"])
        await exchange.say(1, ["book", BTC, 1], ["book", BTC, 2], ["trade", BTC, "2"])
        await until(lambda: rig.sink.ids == ["1", "2"])
        assert rig.sink.books == []
        await exchange.say(1, ["ready"])
        await until(lambda: rig.shared.rotations == 1)
        assert [(fact.nonce, fact.flags) for fact in rig.sink.books] == [(2, int(Flag.CONFLATED))]
        assert len(rig.sink.of(TickerFact)) == 1
        assert rig.sink.faults == []

    channels = {"orderbook": [BTC], "trades": [BTC], "ticker": [BTC]}
    play(exchange, work, channels=channels, rotate_after_h=SOON)


def test_c08_a_book_by_rest_counts_as_told() -> None:
    exchange = Exchange([[["ask", "whole", "/book", [BOOK]]]], [[["book", BTC, 4], ["ready"]]])
    exchange.rest = {"/book": [[["book", BTC, 5]]]}

    async def work(rig: Rig) -> None:
        await until(lambda: rig.sink.books)
        await until(lambda: len(exchange.peers) == 2)
        await exchange.say(1, ["trade", BTC, "1"])
        await until(lambda: rig.sink.ids == ["1"])
        assert rig.shared.rotations == 0
        await exchange.say(1, ["book", BTC, 6])
        await until(lambda: rig.shared.rotations == 1)
        assert [fact.nonce for fact in rig.sink.books] == [5, 6]

    play(exchange, work, make=Comparable, rotate_after_h=SOON)


def test_c08_a_book_of_which_the_old_connection_knew_nothing_holds_up_nobody() -> None:
    sieve, watches = Sieve(Sink(), comparable=True), Watches([BOOK, DEPTH, TRADES], 10, 120)
    watches.opened(0)
    assert sieve.caught_up(watches)


def test_c06_of_an_untrusted_connection_only_trades_with_an_id_pass() -> None:
    sink = Sink()
    sieve = Sieve(sink, comparable=True)
    said = [
        trade(BTC, "1"),
        trade(BTC, None),
        book(BTC, 1),
        depth("update", BTC, 1),
        Control("subscribed", (TICKER,)),
        Control("heartbeat"),
    ]
    sieve.take(sink.capture(), said)  # type: ignore[arg-type]
    assert sink.log == [trade(BTC, "1")]
    assert sieve.acked == {TICKER}
    assert set(sieve.books) == {BOOK, DEPTH}


def test_c08_one_that_never_becomes_ready_is_given_up_and_tried_again() -> None:
    exchange = Exchange([[["book", BTC, 1]]], [[["book", BTC, 1]]], [[["book", BTC, 1], ["ready"]]])

    async def work(rig: Rig) -> None:
        await until(lambda: rig.shared.rotations == 1)
        assert rig.sink.faults == []
        assert len(exchange.peers) == 3
        assert exchange.goodbyes  # the second got its goodbye

    play(exchange, work, make=Comparable, rotate_after_h=SOON, ready_s=0.1)


@pytest.mark.parametrize("fault", ["fault", "fatal"])
def test_c08_a_fault_of_the_second_connection_is_no_gap(fault: str) -> None:
    exchange = Exchange([[["trade", BTC, "1"]]], [[[fault]]], [[["ready"]]])

    async def work(rig: Rig) -> None:
        await until(lambda: rig.shared.rotations == 1)
        assert rig.sink.faults == []
        assert rig.sink.ids == ["1"]

    play(exchange, work, channels={"trades": [BTC]}, rotate_after_h=SOON)


def test_c08_when_the_old_one_dies_first_the_second_one_steps_in() -> None:
    exchange = Exchange([[["trade", BTC, "1"]]], [[["subscribed", [TRADES]]], [["trade", BTC, "2"]]])

    async def work(rig: Rig) -> None:
        sink = rig.sink
        await until(lambda: "2" in sink.ids)
        exchange.cut(exchange.peers[0])
        await until(lambda: sink.faults)
        await until(lambda: sink.of(Control))
        await exchange.say(1, ["book", BTC, 7], ["trade", BTC, "3"])
        await until(lambda: "3" in sink.ids)
        ((fault, _),) = sink.faults  # there was a gap, and it is short
        assert fault.reason == "disconnect"
        assert sink.of(Control) == [Control("subscribed", (TRADES,))]
        assert len(sink.books) == 1
        assert len(exchange.peers) == 2

    play(exchange, work, rotate_after_h=SOON)


def test_c08_never_two_at_once() -> None:
    exchange = Exchange()

    async def work(rig: Rig) -> None:
        other = NativeConnection(
            lambda: Credulous(CHANNELS), rig.sink, rig.shared, 2, uniform=lambda _low, high: high
        )
        second = asyncio.ensure_future(other.run())
        try:
            await until(lambda: len(exchange.peers) == 3)
            await asyncio.sleep(0.1)  # the other is old by now too
            assert len(exchange.peers) == 3
            assert sum(c._candidate is not None for c in (rig.connection, other)) == 1
            await exchange.say(2, ["ready"])
            await until(lambda: len(exchange.peers) == 4)
            assert rig.shared.rotations == 1
        finally:
            await other.close()
            await second

    play(exchange, work, rotate_after_h=SOON)


def test_c08_it_happens_before_the_exchanges_own_end_and_spread_by_chance() -> None:
    drawn: list[tuple[float, float]] = []

    async def work(rig: Rig) -> None:
        rig.connection._uniform = lambda low, high: drawn.append((low, high)) or high  # type: ignore[func-returns-value]
        for hours, age_s in ((23.0, None), (23.0, 24 * 3600.0), (0.5, None)):
            rig.shared.options = type(rig.shared.options)(url="ws://x", rotate_after_h=hours)
            rig.shared.age_s = age_s
            rig.connection._age_s()

    play(exchange := Exchange(), work, start=False)
    assert exchange.peers == []
    assert drawn == [
        (23 * 3600 - 600, 23 * 3600),
        (24 * 3600 * 0.95 - 600, 24 * 3600 * 0.95),
        (0.5 * 3600 * 0.9, 0.5 * 3600),
    ]


def test_c08_a_reconnect_begins_a_new_age() -> None:
    exchange = Exchange(*[[[["trade", BTC, str(n)], ["ready"]]] for n in range(9)])

    async def work(rig: Rig) -> None:
        for n in range(3):
            await until(lambda n=n: len(exchange.peers) == n + 1 and str(n) in rig.sink.ids)
            await asyncio.sleep(0.15)
            exchange.cut(exchange.peers[-1])
        assert rig.shared.rotations == 0

    play(exchange, work, channels={"trades": [BTC]}, rotate_after_h=0.6 / 3600)


def test_closing_in_the_middle_of_an_overlap_closes_both() -> None:
    exchange = Exchange([[["trade", BTC, "1"]]], [[["trade", BTC, "2"]]])

    async def work(rig: Rig) -> None:
        await until(lambda: "2" in rig.sink.ids)
        await rig.connection.close()
        assert rig.task is not None
        await rig.task
        await until(lambda: len(exchange.goodbyes) == 2)
        assert rig.sink.faults == []

    play(exchange, work, rotate_after_h=SOON)


def test_the_second_connection_asks_and_sends_as_the_first_did() -> None:
    exchange = Exchange([[["heartbeat"]]], [[["ask", "whole", "/book", [BOOK]], ["send", "more"]]])
    exchange.rest = {"/book": [[["book", BTC, 5], ["ready"]]]}

    async def work(rig: Rig) -> None:
        await until(lambda: rig.shared.rotations == 1)
        assert exchange.heard == ["hello", "hello", "more"]
        assert exchange.asked == ["/book"]
        assert rig.sink.faults == []

    limits = Limits(connects=FREE.connects, sends=FREE.sends, rest=FREE.rest, age_s=0.2)
    play(exchange, work, channels={"orderbook": [BTC]}, limits=limits)
