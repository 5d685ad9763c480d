"""The loop of an actor, in this process and supervised by nobody."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from typing import ClassVar

import msgspec
import pytest

from daedalus.kernel import actor as room
from daedalus.kernel import leash
from daedalus.kernel.actor import Actor, Context, Drained, run
from daedalus.kernel.errors import EXIT_CONFIG, EXIT_FAILED, EXIT_OK, FatalError


class Settings(msgspec.Struct, frozen=True):
    start: str = ""
    drain: str = ""
    stop: str = ""
    task: str = ""


def _raise() -> None:
    raise RuntimeError("told so, in a callback")


class Story(Actor):
    """Does in each hook what its settings say, and writes down how far it came."""

    Settings = Settings
    lines: ClassVar[list[str]] = []

    async def _do(self, hook: str) -> None:
        Story.lines.append(hook)
        for word in getattr(self.settings, hook).split():
            if word == "term":
                os.kill(os.getpid(), signal.SIGTERM)
            elif word == "hup":
                os.kill(os.getpid(), signal.SIGHUP)
            elif word == "forever":
                await asyncio.Event().wait()
            elif word == "stubborn":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    await asyncio.sleep(0.05)
            elif word == "fatal":
                raise FatalError("cannot go on: told so")
            elif word == "fail":
                raise RuntimeError("told so")
            elif word == "callback":
                asyncio.get_running_loop().call_soon(_raise)
            elif word == "leave":
                self.leave()
            await asyncio.sleep(0)
        Story.lines.append(f"{hook} done")

    async def start(self) -> None:
        if self.settings.task:
            self.spawn(self._do("task"))
        await self._do("start")

    async def drain(self) -> Drained:
        await self._do("drain")
        return Drained(0, 1)

    async def stop(self) -> None:
        await self._do("stop")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(room, "STOP_S", 0.02)
    monkeypatch.setattr(room, "configure", lambda *_: None)
    Story.lines = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def live(drain_s: float = 30.0, **told: str) -> int:
    context = Context(name="g/story", heartbeat_interval_s=0.0, drain_s=drain_s)
    return run(Story, msgspec.msgpack.encode(told), context)


def test_told_once_it_drains_and_stops_in_order() -> None:
    assert live(start="term") == EXIT_OK
    assert Story.lines == ["start", "start done", "drain", "drain done", "stop", "stop done"]


def test_told_twice_the_drain_is_cut_and_it_still_stops() -> None:
    assert live(start="term", drain="term forever") == EXIT_OK
    assert Story.lines[2:] == ["drain", "stop", "stop done"]


def test_a_drain_that_never_ends_is_cut_at_its_bound() -> None:
    assert live(drain_s=0.01, start="term", drain="forever") == EXIT_OK
    assert Story.lines[2:] == ["drain", "stop", "stop done"]


def test_a_stop_that_never_ends_is_cut_and_is_a_failure() -> None:
    assert live(start="term", stop="forever") == EXIT_FAILED
    assert Story.lines[-1] == "stop"


def test_a_task_that_does_not_let_go_keeps_nobody_from_stopping() -> None:
    assert live(start="term", task="stubborn") == EXIT_FAILED
    assert Story.lines.index("stop done") < len(Story.lines)


def test_a_hangup_alone_ends_nothing() -> None:
    assert live(start="hup leave term") == EXIT_OK
    assert Story.lines.count("drain") == 1


@pytest.mark.parametrize(("word", "code"), [("fatal", EXIT_CONFIG), ("fail", EXIT_FAILED)])
@pytest.mark.parametrize("hook", ["start", "task", "drain"])
def test_an_exception_anywhere_stops_it_and_says_how_it_counts(hook: str, word: str, code: int) -> None:
    told = {"start": "term" if hook == "drain" else "", "task": ""} | {hook: word}
    assert live(**told) == code
    assert "stop done" in Story.lines


def test_an_exception_in_a_callback_ends_it_as_one_in_a_hook_would() -> None:
    """A mailbox that stopped in the middle of its messages would never be read again."""
    assert live(start="callback") == EXIT_FAILED
    assert Story.lines[-2:] == ["stop", "stop done"]


def test_settings_that_do_not_fit_are_a_failure() -> None:
    assert run(Story, msgspec.msgpack.encode({"start": 1}), Context(name="g/story")) == EXIT_FAILED


def test_without_a_supervisor_there_is_no_leash() -> None:
    leash.tie(0, 0.0)
    assert not leash.is_orphan(0)
    assert "leash" not in {thread.name for thread in threading.enumerate()}


def test_a_supervisor_is_known_by_being_the_parent() -> None:
    assert not leash.is_orphan(os.getppid())
    assert leash.is_orphan(os.getpid())
