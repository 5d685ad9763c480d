"""The playhead: what is due, in which order, and what lateness does."""

from collections.abc import Iterator

import pytest

from daedalus.simulator.market import Depth, Event, Market, Opening
from daedalus.simulator.orderflow import OrderFlow
from daedalus.simulator.playhead import LATE_NS, Playhead, State

S = 1_000_000_000


class Script:
    """A source with depth updates at given times."""

    exchange = "binance"
    price_step = size_step = "0.1"
    origin_ns = 0

    def __init__(self, symbol: str, times: list[float], *, recorded: bool = True) -> None:
        self.symbol = symbol
        self.recorded = recorded
        self.times = times

    def opening(self) -> Opening:
        return Opening(0, [], [], 0)

    def events(self) -> Iterator[Event]:
        for number, time in enumerate(self.times, 1):
            at = round(time * S)
            yield Depth(at, self.origin_ns + at, number, number, [("1", str(number))], [])


def _playhead(*scripts: Script, speed: float = 1.0, skip_s: float = 0.0) -> Playhead:
    return Playhead(scripts, [Market(script) for script in scripts], speed=speed, skip_s=skip_s)


def _taken(head: Playhead, now: float, limit: int = 99) -> list[tuple[str, float]]:
    return [(market.symbol, event.at_ns / S) for market, event in head.take(round(now * S), limit)]


def test_nothing_is_due_before_the_start() -> None:
    head = _playhead(Script("A/B", [0]))
    assert head.due_ns() is None
    assert _taken(head, 99) == []
    assert head.state is State.WAITING


def test_sources_are_merged_in_time() -> None:
    head = _playhead(Script("A/B", [0, 2, 3]), Script("C/D", [1, 2.5]))
    head.start(100 * S, 0)
    assert _taken(head, 102) == [("A/B", 0), ("C/D", 1), ("A/B", 2)]
    assert head.due_ns() == round(102.5 * S)
    assert _taken(head, 110) == [("C/D", 2.5), ("A/B", 3)]
    assert head.due_ns() is None
    assert head.state is State.ENDED


@pytest.mark.parametrize("speed", [0.5, 10.0])
def test_speed_divides_time(speed: float) -> None:
    head = _playhead(Script("A/B", [0, 4]), speed=speed)
    head.start(0, 0)
    assert _taken(head, 0) == [("A/B", 0)]
    assert head.due_ns() == round(4 / speed * S)


def test_take_keeps_to_its_limit() -> None:
    head = _playhead(Script("A/B", [0, 1, 2]))
    head.start(0, 0)
    assert len(_taken(head, 99, limit=2)) == 2
    assert len(_taken(head, 99, limit=2)) == 1


def test_skipping_moves_the_book_and_releases_nothing() -> None:
    script = Script("A/B", [0, 1, 2, 3])
    market = Market(script)
    head = Playhead([script], [market], skip_s=2)
    assert market.book.last_id == 2
    head.start(50 * S, 0)
    assert head.due_ns() == 50 * S
    assert _taken(head, 51) == [("A/B", 2), ("A/B", 3)]


def test_a_second_start_changes_nothing() -> None:
    head = _playhead(Script("A/B", [0, 5]))
    head.start(0, 0)
    _taken(head, 0)
    head.start(4 * S, 0)
    assert head.due_ns() == 5 * S
    _taken(head, 5)
    head.due_ns()
    head.start(9 * S, 0)
    assert head.state is State.ENDED


def test_a_late_model_skips_ahead_and_dates_its_events_anew() -> None:
    script = Script("A/B", [0, 1, 2, 3], recorded=False)
    head = _playhead(script)
    head.start(0, 1000 * S)
    assert not head.catch_up(LATE_NS - 1)
    assert head.catch_up(60 * S)
    assert head.due_ns() == 60 * S
    assert script.origin_ns == 1060 * S


def test_a_late_recording_skips_nothing() -> None:
    head = _playhead(Script("A/B", [0, 1]))
    head.start(0, 0)
    assert not head.catch_up(60 * S)
    assert len(_taken(head, 60)) == 2


def test_the_model_dates_its_first_event_by_the_start_not_by_the_making() -> None:
    model = OrderFlow("coinbase", "BTC/USD", rate=100, seed=1)
    head = Playhead([model], [Market(model)])
    head.start(0, 1_700_000_000 * S)
    stamps = [event.ts_ns for _, event in head.take(S) if isinstance(event, Depth)]
    assert 1_700_000_000 * S <= stamps[0] < 1_700_000_001 * S
