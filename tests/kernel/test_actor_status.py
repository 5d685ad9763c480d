"""What an actor says of itself in a line."""

import asyncio
from typing import Any

import pytest

from daedalus.kernel import actor as room
from daedalus.kernel.actor import Actor, Context


class Ears:
    """Hears what is notified, and says whether it was heard."""

    def __init__(self, *heard: bool) -> None:
        self.lines: list[str] = []
        self.stats = 0
        self._heard = list(heard)
        self.enough = asyncio.Event()

    def send(self, **state: Any) -> bool:
        self.stats += "X_DAEDALUS_STATS" in state
        if self.stats > 5:
            self.enough.set()
        return True

    def status(self, text: str) -> bool:
        self.lines.append(text)
        return self._heard.pop(0) if self._heard else True


class Moody(Actor):
    """Says the next of its lines each time."""

    def __init__(self, *lines: str) -> None:
        super().__init__(None, Context(name="moody"))
        self._lines = list(lines)

    def status(self) -> str:
        return self._lines.pop(0) if len(self._lines) > 1 else self._lines[0]


async def report(actor: Actor, ears: Ears) -> list[str]:
    task = asyncio.get_running_loop().create_task(room._report(actor, ears))  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        await ears.enough.wait()
    task.cancel()
    return ears.lines


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "STATS_TELL_S", 0.0)


def test_a_status_is_told_when_it_changes_and_taken_back_when_all_is_well() -> None:
    async def act() -> None:
        actor = Moody("", "2 of 3 streams stale", "2 of 3 streams stale", "")
        assert await report(actor, Ears()) == ["2 of 3 streams stale", ""]

    asyncio.run(act())


def test_a_status_that_was_not_heard_is_told_again() -> None:
    async def act() -> None:
        assert await report(Moody("full"), Ears(False, False)) == ["full"] * 3

    asyncio.run(act())


def test_an_actor_with_nothing_to_say_says_nothing() -> None:
    async def act() -> None:
        assert await report(Actor(None, Context(name="quiet")), Ears()) == []

    asyncio.run(act())
