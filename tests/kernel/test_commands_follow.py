"""Bells, the ring of events, and those who follow events and lines."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from daedalus.kernel.bell import Bell
from daedalus.kernel.clock import ManualClock
from daedalus.kernel.commands import COMMANDS, STREAMS
from daedalus.kernel.errors import ControlError
from daedalus.kernel.events import RETAINED, EventRing
from daedalus.kernel.logs import RING_LINES
from tests.kernel.control_room import FakeOffice, tree
from tests.loops import drive, until


def within(work: Callable[[FakeOffice], Awaitable[Any]], *actors: str) -> Any:
    """Run `work` on a tree that is up."""

    async def body() -> Any:
        return await work(await FakeOffice(tree(*(actors or ("g/a", "g/b")))).begin())

    return drive(body)


def stream(office: FakeOffice, cmd: str, **args: Any) -> AsyncIterator[Any]:
    return STREAMS[cmd](office, args)  # type: ignore[arg-type]


async def everything(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


async def take(items: AsyncIterator[Any], count: int) -> list[Any]:
    return [await anext(items) for _ in range(count)]


class Follower:
    """Somebody who follows for as long as a test lasts."""

    def __init__(self, items: AsyncIterator[Any]) -> None:
        self.seen: list[Any] = []
        self.task = asyncio.create_task(self._follow(items))

    async def _follow(self, items: AsyncIterator[Any]) -> None:
        async for item in items:
            self.seen.append(item)

    async def has(self, count: int) -> list[Any]:
        await until(lambda: len(self.seen) >= count)
        return self.seen

    async def asleep(self) -> None:
        """Let it take all that there is."""
        for _ in range(5):
            await asyncio.sleep(0)


def test_a_bell_wakes_all_who_wait_and_nobody_who_comes_later() -> None:
    async def work() -> None:
        one, other = Bell(), Bell()
        one.ring()  # nobody hears it, and it is not kept
        waiting = [asyncio.create_task(one.heard()), asyncio.create_task(other.heard(one))]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        one.ring()
        late = asyncio.create_task(one.heard())
        await asyncio.gather(*waiting)
        assert not late.done()
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        assert (one._waiting, other._waiting) == (set(), set())

    drive(work)


def test_events_have_no_gaps_and_the_ring_forgets_the_oldest() -> None:
    ring = EventRing(ManualClock())
    for _ in range(RETAINED + 10):
        ring.add("spawn", "g/a", 1)
    assert RETAINED >= 4096
    assert [event["seq"] for event in ring.since(0)] == list(range(11, RETAINED + 11))
    assert [event["seq"] for event in ring.since(RETAINED + 8)] == [RETAINED + 9, RETAINED + 10]
    assert ring.since(RETAINED + 10) == ring.since(10**9) == []


def test_numbers_go_on_in_the_next_image() -> None:
    old, new = EventRing(ManualClock()), EventRing(ManualClock())
    for number in range(RETAINED + 3):
        old.add("exit", "g/a", 1, code=number, message="ä")
    new.load(old.dump())
    new.add("spawn", "g/a", 2)
    assert new.last == RETAINED + 4
    assert new.since(RETAINED + 2)[0] == old.since(RETAINED + 2)[0]
    assert [event["seq"] for event in new.since(0)] == list(range(5, RETAINED + 5))
    for number in range(RETAINED):
        new.add("exit", "g/a", 1, code=number)
    assert len(new.since(0)) == RETAINED


def test_since_is_exclusive_and_without_follow_the_stream_ends() -> None:
    async def work(office: FakeOffice) -> None:
        last = office.events.last
        office.events.add("x", "g/a", 1)
        assert [event["seq"] for event in await everything(stream(office, "events", since=last))] == [
            last + 1
        ]
        assert len(await everything(stream(office, "events"))) == last + 1
        assert await everything(stream(office, "events", since=10**9)) == []
        for wrong in ({"since": -1}, {"since": "1"}, {"since": 10**9, "follow": True}):
            with pytest.raises(ControlError) as caught:
                await everything(stream(office, "events", **wrong))
            assert caught.value.code == "usage"

    within(work)


def test_every_follower_gets_every_event_once() -> None:
    async def work(office: FakeOffice) -> None:
        followers = [
            Follower(stream(office, "events", since=office.events.last, follow=True)) for _ in range(3)
        ]
        first = office.events.last + 1
        for number in range(50):
            office.events.add("x", "g/a", number)
            if number % 7 == 0:
                await asyncio.sleep(0)
        for follower in followers:
            assert [event["seq"] for event in await follower.has(50)] == list(range(first, first + 50))
            follower.task.cancel()

    within(work)


def test_a_follower_costs_nothing_while_nothing_happens() -> None:
    async def work(office: FakeOffice) -> None:
        loop: Any = asyncio.get_running_loop()
        timers = len(loop._scheduled)
        follower = Follower(stream(office, "logs", follow=True))
        await follower.asleep()
        assert len(loop._scheduled) == timers  # it sleeps until the bell, not for a while
        office.say("g/a", "one")
        assert [item["text"] for item in await follower.has(1)] == ["one"]
        follower.task.cancel()

    within(work)


def test_lines_are_merged_by_time_and_the_last_ones_are_given() -> None:
    async def work(office: FakeOffice) -> None:
        for number in range(6):
            office.cells["g/a" if number % 2 else "g/b"].ring.append(number, 1, "stdout", str(number))
        assert [item["text"] for item in await everything(stream(office, "logs"))] == list("012345")
        assert [item["text"] for item in await everything(stream(office, "logs", lines=2))] == ["4", "5"]
        assert await everything(stream(office, "logs", lines=0)) == []
        mine = await everything(stream(office, "logs", actors=["a"], since=2.5))
        assert mine == [
            {"actor": "g/a", "seq": seq, "ts": ts, "generation": 1, "stream": "stdout", "text": str(ts)}
            for seq, ts in ((2, 3), (3, 5))
        ]
        for wrong in ({"lines": -1}, {"lines": "5"}, {"since": "noon"}):
            with pytest.raises(ControlError) as caught:
                await everything(stream(office, "logs", **wrong))
            assert caught.value.code == "usage"

    within(work)


def test_a_follower_of_lines_is_told_of_new_generations() -> None:
    async def work(office: FakeOffice) -> None:
        follower = Follower(stream(office, "logs", actors=["a"], follow=True))
        await follower.asleep()
        office.say("g/a", "before")
        office.say("g/b", "not followed")
        await follower.has(1)
        await COMMANDS["restart"](office, {"actors": ["all"]})  # type: ignore[arg-type]
        office.say("g/a", "after")
        seen = await follower.has(3)
        assert [(item.get("text"), item.get("event"), item["generation"]) for item in seen] == [
            ("before", None, 1),
            (None, "started", 2),
            ("after", None, 2),
        ]
        follower.task.cancel()

    within(work)


def test_a_follower_of_all_follows_what_is_added_and_forgets_what_is_removed() -> None:
    async def work(office: FakeOffice) -> None:
        follower = Follower(stream(office, "logs", actors=["g"], follow=True))
        await follower.asleep()
        await COMMANDS["add"](office, {"name": "g/new"})  # type: ignore[arg-type]
        office.say("g/new", "hello")
        seen = await follower.has(2)
        assert [(item["actor"], item.get("text")) for item in seen] == [("g/new", None), ("g/new", "hello")]
        await COMMANDS["stop"](office, {"actors": ["g/new"]})  # type: ignore[arg-type]
        await COMMANDS["remove"](office, {"actors": ["g/new"]})  # type: ignore[arg-type]
        office.say("g/a", "still here")
        assert (await follower.has(3))[2]["text"] == "still here"
        follower.task.cancel()

    within(work)


def test_a_slow_follower_sees_what_it_missed_by_the_numbers() -> None:
    async def work(office: FakeOffice) -> None:
        items = stream(office, "logs", actors=["a"], follow=True)
        office.say("g/a", "first")
        (first,) = await take(items, 1)
        for number in range(3 * RING_LINES):
            office.say("g/a", str(number))
        late = await take(items, RING_LINES)
        assert (first["seq"], late[0]["seq"], late[-1]["seq"]) == (1, 2 * RING_LINES + 2, 3 * RING_LINES + 1)
        office.say("g/a", "last")
        assert (await take(items, 1))[0]["seq"] == 3 * RING_LINES + 2
        await items.aclose()  # type: ignore[attr-defined]

    within(work)
