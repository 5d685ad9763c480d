"""Silence of streams: by their own pace, in bursts, frozen, and never in a storm of alarms."""

import random

import pytest

from daedalus.exchanges.adapter import BookFact, DepthFact, Stream, TickerFact
from daedalus.exchanges.freshness import BookWatch, QuietWatch, StreamWatch, Watches
from tests.exchanges.shellkit import BOOK, BTC, DEPTH, SIDE, TICKER, TRADES, book, depth, event, trade

S = 1_000_000_000


def watch(minimum_s: float = 10, maximum_s: float = 120) -> StreamWatch:
    one = StreamWatch(TRADES, minimum_s, maximum_s)
    one.opened(0)
    return one


def test_c14_a_quiet_pair_is_not_dead_and_a_busy_one_is_soon_missed() -> None:
    quiet, busy = watch(), watch()
    for n in range(1, 40):
        quiet.heard(None, n * 10 * S)
        busy.heard(None, n * S // 10)
    assert quiet.limit_s(400 * S) == pytest.approx(80, rel=0.05)
    assert busy.limit_s(4 * S) == 10


def test_what_a_subscription_sends_at_once_is_no_pace() -> None:
    one = watch()
    for n in range(19):
        one.heard(None, n + 1)
    assert one.limit_s(20) == 120
    one.heard(None, 20)
    assert one.limit_s(20) == 10
    one.opened(S)
    assert one.limit_s(S) == 120


def test_a_burst_does_not_wipe_out_the_memory_of_pauses() -> None:
    one = watch()
    now = 0
    for _ in range(30):
        now += 12 * S
        one.heard(None, now)
    for n in range(50_000):  # in five seconds
        one.heard(None, now + n * 100_000)
    assert one.limit_s(now + 5 * S) > 90


def test_several_facts_of_one_message_are_one_sign_of_life() -> None:
    one = watch()
    for _ in range(100):
        one.heard(None, S)
    assert one.heard_count == 1


def test_the_alarms_of_a_stream_double_its_limit_and_are_forgiven_with_time() -> None:
    one = watch()
    limits = []
    for n in range(1, 8):
        one.alarm(n * S)
        limits.append(one.limit_s(n * S))
    assert limits == [240, 480, 960, 1920, 3840, 3840, 3840]
    hours = 3600 * S
    assert one.limit_s(25 * hours) == 240
    assert one.limit_s(31 * hours) == 120


def test_a_pair_that_is_quieter_than_the_bound_is_known_to_be_so_after_a_trade() -> None:
    """A trade every four minutes, the bound at two: every alarm is false."""
    dice = random.Random(5)
    watches = Watches([TRADES], 10, 120)
    watches.opened(0)
    now, next_trade, alarms = 0, 0.0, []
    for second in range(24 * 3600):
        now = second * S
        if second >= next_trade:
            watches.heard(trade(BTC, str(second)), now)
            next_trade = second + dice.uniform(200, 280)
        if watches.silent(now):
            alarms.append(second)
            watches.opened(now)
    assert alarms == [121]


@pytest.mark.parametrize(("mean_s", "drops_max"), [(60, 2), (300, 6)])
def test_fifty_quiet_pairs_that_trade_by_chance_hardly_ever_drop_their_connection(
    mean_s: int, drops_max: int
) -> None:
    dice = random.Random(1)
    streams = [Stream(f"{n}/USD", "trades") for n in range(50)]
    watches = Watches(streams, 10, 120)
    watches.opened(0)
    due = [dice.expovariate(1 / mean_s) for _ in streams]
    drops = 0
    for second in range(5, 12 * 3600, 5):
        for n, stream in enumerate(streams):
            while due[n] <= second:
                watches.heard(trade(stream.symbol, "1"), int(due[n] * S))
                due[n] += dice.expovariate(1 / mean_s)
        if watches.silent(second * S):
            drops += 1
            watches.opened(second * S)
    assert drops <= drops_max


def test_a_quiet_trades_stream_that_died_is_dropped_at_last() -> None:
    one = QuietWatch(TRADES, 10, 120)
    one.opened(0)
    for n in range(1, 200):
        one.heard(None, n * 3600 * S)
    assert one.limit_s(200 * 3600 * S) == 120 * 32


def test_a_book_is_never_so_quiet() -> None:
    one = BookWatch(BOOK, 10, 120)
    one.opened(0)
    for n in range(1, 40):
        one.heard(book(BTC, n), n * 100 * S)
    assert one.limit_s(3900 * S) == 120


def test_fifty_quiet_pairs_drop_their_connection_together() -> None:
    streams = [Stream(f"{n}/USD", "trades") for n in range(50)]
    watches = Watches(streams, 10, 120)
    watches.opened(0)
    for n, stream in enumerate(streams):
        watches.heard(trade(stream.symbol, "1"), n * S)  # not at the same moment
    drops = []
    for second in range(600):
        if watches.silent(second * S):
            drops.append(second)
            watches.opened(second * S)
    assert drops == [121, 322]


def test_one_silent_stream_of_several_is_named() -> None:
    watches = Watches([BOOK, TRADES, TICKER], 10, 120)
    watches.opened(0)
    for n in range(1, 31):
        for fact in (book(BTC, n), trade(BTC, str(n)), TickerFact(symbol=BTC)):
            watches.heard(fact, n * S // 10)
    for n in range(31, 200):
        watches.heard(trade(BTC, str(n)), n * S // 10)
        watches.heard(TickerFact(symbol=BTC), n * S // 10)
    now = 199 * S // 10
    assert watches.due_in(now) < 0
    (found,) = watches.silent(now)
    assert (found.stream, found.limit_s) == (BOOK, 10)
    assert found.silent_s == pytest.approx(16.9)
    assert watches.silent(now) == []  # its limit has doubled, its watch begun anew


def test_a_book_that_never_answers_is_given_up_after_32_upper_bounds_at_the_latest() -> None:
    watches = Watches([BOOK], 10, 120)
    watches.opened(0)
    limits, now = [], 0
    while len(limits) < 8:
        now += S
        if found := watches.silent(now):
            limits.append(found[0].limit_s)
            watches.reopened([BOOK], now)  # asked for anew, in vain
    assert limits == [120, 240, 480, 960, 1920, 3840, 3840, 3840]


def test_a_stream_that_waits_for_an_answer_of_ours_is_excused() -> None:
    watches = Watches([BOOK], 10, 120)
    watches.opened(0)
    assert watches.silent(500 * S, {BOOK}) == []
    assert watches.silent(501 * S) == []
    assert len(watches.silent(621 * S)) == 1


@pytest.mark.parametrize("kind", ["orderbook", "depth"])
@pytest.mark.parametrize("known", ["nonce", "ts_event", "content"])
def test_c02_a_book_that_repeats_itself_is_frozen(kind: str, known: str) -> None:
    stream = Stream(BTC, kind)
    watches = Watches([stream], 10, 120)
    watches.opened(0)

    def said(n: int, moment: int) -> BookFact | DepthFact:
        common = {
            "symbol": BTC,
            "nonce": n if known == "nonce" else None,
            # with an update id the time does not count: a server may stamp a frozen book anew
            "ts_event": n if known == "ts_event" else moment if known == "nonce" else None,
            "bids": SIDE * n if known == "content" else SIDE,
            "asks": SIDE,
        }
        return (
            BookFact(**common)
            if kind == "orderbook"
            else DepthFact(kind="update", first_exch_seq=None, **common)
        )

    for n in range(1, 31):
        watches.heard(said(n, n), n * S // 10)
    assert watches.silent(4 * S) == []
    for moment in range(31, 200):
        watches.heard(said(30, moment), moment * S // 10)
    (found,) = watches.silent(20 * S)
    assert found.stream == stream
    watches.heard(said(31, 0), 21 * S)
    assert watches.silent(22 * S) == []


def test_a_stream_of_which_the_exchange_says_that_nothing_has_changed_is_heard() -> None:
    watches = Watches([BOOK, TRADES, TICKER], 10, 120)
    watches.opened(0)
    for n in range(1, 31):
        watches.heard(book(BTC, n), n * S // 10)
        watches.heard(trade(BTC, str(n)), n * S // 10)
        watches.heard(TickerFact(symbol=BTC), n * S // 10)
    watches.alive([BOOK, TICKER, Stream("X/Y", "orderbook"), Stream(BTC, "bidask")], 12 * S)
    (found,) = watches.silent(15 * S)
    assert found.stream == TRADES
    assert watches.last_told(BOOK) == book(BTC, 30)  # nothing was told anew
    assert watches.last_told(TICKER) == TickerFact(symbol=BTC)


def test_after_a_resynchronisation_update_ids_begin_anew() -> None:
    one = BookWatch(BOOK, 10, 120)
    one.opened(0)
    one.heard(book(BTC, 5), S)
    one.opened(2 * S)
    one.heard(book(BTC, 5), 3 * S)
    assert one.heard_count == 1


def test_a_successor_knows_what_was_learned_of_pauses_and_alarms() -> None:
    old = Watches([BOOK, TRADES], 10, 120)
    old.opened(0)
    old.heard(trade(BTC, "1"), 9 * S)
    old.silent(200 * S)
    new = Watches([TRADES, TICKER], 10, 120)
    new.learn(old)
    new.opened(200 * S)
    assert new.find(TRADES).limit_s(200 * S) == 240  # type: ignore[union-attr]
    assert new.find(TICKER).limit_s(200 * S) == 120  # type: ignore[union-attr]


def test_channels_without_facts_of_their_own_and_foreign_symbols_are_not_watched() -> None:
    watches = Watches([Stream(BTC, "bidask"), DEPTH], 10, 120)
    watches.opened(0)
    watches.heard(event(BTC), S)
    watches.heard(trade("X/Y", "1"), S)
    watches.heard(depth("update", BTC, 1), 119 * S)
    assert watches.silent(125 * S) == []
    assert watches.find(Stream(BTC, "bidask")) is None
    assert Watches([], 10, 120).due_in(S) == float("inf")
