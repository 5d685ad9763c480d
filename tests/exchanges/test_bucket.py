"""The token bucket: arithmetic with a clock in the hand, and the queue of those who wait."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.exchanges.bucket import Bucket

S = 1_000_000_000


class Hand:
    def __init__(self) -> None:
        self.now = 5 * S

    def __call__(self) -> int:
        return self.now


def spent(bucket: Bucket, hand: Hand, until: int) -> list[int]:
    """Spend one token as soon as there is one; return when."""
    times = []
    while True:
        wait_s = bucket.ready_in(hand.now)
        if wait_s > 0:
            hand.now += max(round(wait_s * S), 1)
        if hand.now >= until:
            return times
        if bucket.ready_in(hand.now) == 0:
            bucket.spend(hand.now)
            times.append(hand.now)


def busiest(times: list[int], window: int) -> int:
    return max((sum(at <= other < at + window for other in times) for at in times), default=0)


def test_a_burst_is_bounded_and_comes_back_with_time() -> None:
    hand = Hand()
    bucket = Bucket(3, 2, clock=hand)
    for _ in range(3):
        assert bucket.ready_in(hand.now) == 0
        bucket.spend(hand.now)
    assert bucket.ready_in(hand.now) == pytest.approx(0.5)
    assert bucket.ready_in(hand.now, 3) == pytest.approx(1.5)
    assert bucket.ready_in(hand.now + S // 2) == 0
    assert bucket.ready_in(hand.now + 100 * S, 3) == 0
    assert bucket.ready_in(hand.now + 100 * S, 3.5) == 0  # more than it holds: when full, on credit
    bucket.spend(hand.now + 100 * S, 4)
    assert bucket.ready_in(hand.now + 100 * S) == pytest.approx(1.0)


def test_a_clock_that_stands_or_goes_back_gives_nothing() -> None:
    bucket = Bucket(1, 1, clock=lambda: 10 * S)
    bucket.spend(10 * S)
    assert bucket.ready_in(3 * S) == pytest.approx(1.0)
    assert bucket.ready_in(10 * S) == pytest.approx(1.0)


def test_a_pause_serves_nobody_and_ends_with_an_empty_bucket() -> None:
    hand = Hand()
    bucket = Bucket(4, 1, clock=hand)
    bucket.pause(hand.now, 30)
    bucket.pause(hand.now, 2)  # a shorter one takes nothing back
    assert bucket.ready_in(hand.now) == pytest.approx(30)
    hand.now += 30 * S
    assert bucket.ready_in(hand.now) == pytest.approx(1)
    assert bucket.ready_in(hand.now + S) == 0


@pytest.mark.parametrize(("capacity", "per_s"), [(0.5, 1), (1, 0), (1, -1), (float("nan"), 1)])
def test_a_bucket_that_could_never_serve_is_refused(capacity: float, per_s: float) -> None:
    with pytest.raises(ValueError, match="cannot make a bucket"):
        Bucket(capacity, per_s)


@given(
    count=st.floats(2, 300),
    period_s=st.floats(0.5, 300),
    restart_at=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_d28_reconnects_and_a_restart_stay_within_what_the_exchange_allows(
    count: float, period_s: float, restart_at: float, seed: int
) -> None:
    """Whoever reconnects as fast as it can, idle or busy before, and is restarted once in a window."""
    hand = Hand()
    begin = hand.now
    limit = (count, period_s)
    window = round(period_s * S)
    first = Bucket.shared(limit, hand)
    hand.now += round(random.Random(seed).uniform(0, 2) * window)  # idle: the bucket fills
    times = spent(first, hand, hand.now + round(restart_at * window))
    times += spent(Bucket.shared(limit, hand), hand, hand.now + window)
    assert hand.now > begin
    assert busiest(times, window) <= count + 1  # tokens are whole, the allowance need not be


def test_d28_a_storm_of_fresh_processes_begins_with_little_each() -> None:
    hand = Hand()
    times = []
    for _ in range(3):  # in one window
        times += spent(Bucket.shared((60, 60), hand), hand, hand.now + 20 * S)
    assert busiest(times, 60 * S) <= 60


@pytest.mark.parametrize("share", [2, 3, 7])
def test_d28_processes_that_divide_an_allowance_stay_within_it_together(share: int) -> None:
    times = []
    for _ in range(share):  # each is restarted once
        hand = Hand()
        times += spent(Bucket.shared((60, 60), hand, share=share), hand, hand.now + 25 * S)
        times += spent(Bucket.shared((60, 60), hand, share=share), hand, hand.now + 60 * S)
    assert 30 <= busiest(sorted(times), 60 * S) <= 60


def test_a_share_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot take 1/0 of an allowance"):
        Bucket.shared((60, 60), share=0)


def test_those_who_wait_are_served_in_turn_and_a_pause_holds_them() -> None:
    order: list[str] = []

    async def main() -> None:
        bucket = Bucket(1, 200, fill=1)

        async def taker(name: str, n: float) -> None:
            await bucket.take(n)
            order.append(name)

        async with asyncio.TaskGroup() as group:
            for name, n in (("a", 1), ("heavy", 3), ("b", 0.1)):
                group.create_task(taker(name, n))
            await asyncio.sleep(0)
            assert bucket.waiting == 2
        assert bucket.waiting == 0
        assert bucket.waited == 2

    asyncio.run(main())
    assert order == ["a", "heavy", "b"]


def test_who_gives_up_waiting_takes_nothing_and_holds_up_nobody() -> None:
    async def main() -> None:
        bucket = Bucket(1, 100, fill=0)
        gone = asyncio.ensure_future(bucket.take())
        stays = asyncio.ensure_future(bucket.take())
        await asyncio.sleep(0)
        gone.cancel()
        await stays
        assert gone.cancelled()
        assert bucket.waiting == 0

    asyncio.run(main())
