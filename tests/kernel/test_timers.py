"""Named timers, on a loop whose time is ours."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from daedalus.kernel.timers import LAG_S, Timers


class Handle:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self._when, self.call, self.cancelled = when, call, False

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """As much of a loop as timers use; `advance` calls late what was due, as a real one would."""

    def __init__(self) -> None:
        self.now = 0.0
        self.handles: list[Handle] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, function: Callable[..., None], *args: Any) -> Handle:
        handle = Handle(self.now + delay_s, lambda: function(*args))
        self.handles.append(handle)
        return handle

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [handle for handle in self.handles if handle.when() <= self.now]
        self.handles = [handle for handle in self.handles if handle not in due]
        for handle in due:
            if not handle.cancelled:
                handle.call()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


def test_a_timer_fires_once_at_its_time(loop: Loop) -> None:
    timers, rung = Timers(), []
    timers.arm("a", 2.0, lambda: rung.append("a"))
    loop.advance(1.9)
    assert (rung, timers.remaining("a")) == ([], pytest.approx(0.1))
    loop.advance(0.2)
    loop.advance(5.0)
    assert (rung, timers.remaining("a")) == (["a"], None)


def test_setting_one_again_replaces_it_and_infinity_is_never(loop: Loop) -> None:
    timers, rung = Timers(), []
    timers.arm("a", 1.0, lambda: rung.append("old"))
    timers.arm("a", 2.0, lambda: rung.append("new"))
    timers.arm("b", float("inf"), lambda: rung.append("never"))
    loop.advance(1.5)
    loop.advance(0.6)
    assert (rung, timers.remaining("b")) == (["new"], None)


def test_one_cancelled_is_not_heard_of_again(loop: Loop) -> None:
    timers, rung = Timers(), []
    timers.arm("a", 1.0, lambda: rung.append("a"))
    timers.arm("b", 1.0, lambda: rung.append("b"))
    timers.cancel("a")
    timers.cancel("unknown")
    timers.cancel_all()
    loop.advance(1.0)
    assert rung == []


def test_after_an_absence_a_deadline_is_extended_by_its_length(loop: Loop) -> None:
    timers, rung = Timers(), []
    timers.arm("a", 1.0, lambda: rung.append("a"))
    loop.advance(1.0 + LAG_S + 4.0)
    assert rung == []
    assert timers.remaining("a") == pytest.approx(LAG_S + 4.0)
    loop.advance(LAG_S + 4.0)
    assert rung == ["a"]


def test_hurry_shortens_what_is_longer_and_leaves_the_rest(loop: Loop) -> None:
    timers = Timers()
    timers.arm("long", 30.0, lambda: None)
    timers.arm("short", 0.2, lambda: None)
    loop.advance(0.1)
    timers.shorten(1.0)
    assert timers.remaining("long") == pytest.approx(1.0)
    assert timers.remaining("short") == pytest.approx(0.1)
