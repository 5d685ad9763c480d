"""Sides, backoff, freshness: the small rules."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.exchanges.adapter import book_flags
from daedalus.exchanges.backoff import full_jitter
from daedalus.exchanges.freshness import Freshness
from daedalus.exchanges.sides import SideCheck, semantics, taker
from daedalus.records import Flag, pack_side

S = 1_000_000_000


@pytest.mark.parametrize(
    ("side", "meaning", "expected"),
    [
        ("BUY", "maker", "sell"),
        ("sell", "maker", "buy"),
        ("buy", "taker", "buy"),
        ("buy", "unknown", None),
        (None, "taker", None),
        ("", "taker", None),
        ("cross", "maker", None),
    ],
)
def test_the_takers_side(side: str | None, meaning: str, expected: str | None) -> None:
    assert taker(side, meaning) == expected  # type: ignore[arg-type]


def test_what_is_configured_outranks_the_table() -> None:
    assert semantics("coinbase") == "maker"
    assert semantics("coinbase", "taker") == "taker"
    assert semantics("an exchange nobody knows") == "taker"


def test_a_wrong_table_is_noticed_by_the_quotes() -> None:
    right, wrong = SideCheck(), SideCheck()
    for n in range(200):
        bought = n % 2 == 0
        price = 101.0 if bought else 100.0
        right.update("buy" if bought else "sell", price, 100.0, 101.0)
        wrong.update("sell" if bought else "buy", price, 100.0, 101.0)
    assert (right.agreement, right.suspicious) == (1.0, False)
    assert (wrong.agreement, wrong.suspicious) == (0.0, True)


def test_trades_between_the_quotes_and_crossed_quotes_prove_nothing() -> None:
    check = SideCheck()
    check.update("buy", 100.5, 100.0, 101.0)
    check.update("buy", 100.5, 101.0, 100.0)
    check.update(None, 101.0, 100.0, 101.0)
    assert (check.compared, check.agreement) == (0, None)


@given(st.integers(0, 10_000), st.floats(0.01, 10), st.floats(10, 300), st.integers())
def test_a_wait_lies_between_nothing_and_its_bound(attempt: int, base: float, cap: float, seed: int) -> None:
    delay = full_jitter(attempt, base, cap, random.Random(seed).uniform)
    assert 0 <= delay <= min(cap, base * 2 ** min(attempt, 60))


def test_bounds_double_up_to_the_cap() -> None:
    assert [full_jitter(n, 0.5, 300, lambda _low, high: high) for n in (0, 1, 2, 9, 10, 999)] == [
        *(0.5, 1.0, 2.0, 256.0, 300, 300),
    ]


def test_silence_is_measured_by_the_connections_own_pace() -> None:
    busy, quiet = Freshness(10, 120), Freshness(10, 120)
    for n in range(100):
        busy.seen(n * S // 10)
        quiet.seen(n * 10 * S)
    assert (busy.limit_s, quiet.limit_s) == (10, 80)
    last = 99 * S // 10
    assert not busy.stale(last + 10 * S)
    assert busy.stale(last + 11 * S)


def test_an_alarm_that_reconnecting_does_not_cure_comes_later_each_time() -> None:
    watch = Freshness(10, 120)
    watch.opened(0)
    assert not watch.stale(119 * S)
    assert watch.stale(121 * S)
    watch.opened(122 * S)
    assert not watch.stale(250 * S)
    assert watch.stale(363 * S)
    watch.seen(364 * S)
    assert watch.limit_s <= 120


@pytest.mark.parametrize(
    ("bids", "asks", "flags"),
    [
        ([(1, 1)], [(2, 1)], 0),
        ([(2, 1)], [(2, 1)], Flag.LOCKED),
        ([(3, 1)], [(2, 1)], Flag.CROSSED),
        ([], [(2, 1)], Flag.ONE_SIDED),
        ([(1, 1)], [], Flag.ONE_SIDED),
        ([], [], Flag.ONE_SIDED),
    ],
)
def test_book_flags(bids: list, asks: list, flags: int) -> None:
    assert book_flags(pack_side(bids), pack_side(asks)) == flags
