"""A supervisor without processes for the tests of commands: real groups and rings, cells that obey at once.

An actor does what its `script` says at each start: "up", "fail", "hang" (never ready) or "gate". Time is the
loop's own; nothing here waits for anything but the next turn.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from daedalus.kernel import group, restart
from daedalus.kernel.bell import Bell
from daedalus.kernel.clock import ManualClock
from daedalus.kernel.commands import COMMANDS
from daedalus.kernel.errors import ControlError
from daedalus.kernel.events import EventRing
from daedalus.kernel.lifecycle import LIVE
from daedalus.kernel.limits import Meter
from daedalus.kernel.logs import Ring
from daedalus.kernel.postmortem import LastExit
from daedalus.kernel.spec import ActorSpec, GroupSpec, Tree
from tests.loops import drive

SETTLED = {"down": "stopped", "done": "done", "failed": "failed", "ignored": "ignored", "removed": "stopped"}


def tree(*actors: str, groups: tuple[GroupSpec, ...] = (), **keys: Any) -> Tree:
    """Return a tree of these actors: "g/a" in group g. Groups that are not given are one_for_one."""
    given = {spec.name: spec for spec in groups}
    names = dict.fromkeys([*given, *(name.rpartition("/")[0] for name in actors)])
    return Tree(
        runtime="/r",
        data="/d",
        groups=(
            given.get("root") or GroupSpec(name="root", parent=None),
            *(given.get(name) or GroupSpec(name=name) for name in names if name != "root"),
        ),
        actors=tuple(ActorSpec(name=name, group=name.rpartition("/")[0], **keys) for name in actors),
    )


class FakeCell:
    """One actor whose process is imagined."""

    def __init__(self, spec: ActorSpec, office: "FakeOffice", number: int) -> None:
        self.spec = spec
        self.office = office
        self.state = "stopped"
        self.substate = ""
        self.shut_gates: tuple[str, ...] = ()
        self.generation = 0
        self.pid: int | None = None
        self.script: list[str] = []
        self.stops_at_once = True
        self.drains: tuple[int | None, int | None] | None = (0, 7)
        self.drained: tuple[int | None, int | None] | None = None
        self.drain_timed_out = False
        self.suspended = self.paused = False
        self.signals: list[int] = []
        self.last_exit: LastExit | None = None
        self.stats: dict[str, Any] | None = None
        self.stats_at: float | None = None
        self.restarts = self.log_dropped = 0
        self.ready_at = self.beat_at = self.started_at = None
        self.ready = False
        self.mailbox: int | None = None
        self.status_text = ""
        self.meter = Meter()
        self.ring = Ring()
        self._number = number

    @property
    def live(self) -> bool:
        return self.state in LIVE

    def restarts_last_hour(self, now: float) -> int:
        del now
        return self.restarts

    # Orders of the group.

    def start(self) -> None:
        does = self.script.pop(0) if self.script else "up"
        if does == "gate":
            self.shut_gates = ("time-sync",)
            self.become("held")
            self.office.feed(self.spec.group, group.Held(self.spec.name))
            return
        self.generation += 1
        self.pid = 1000 * self._number + self.generation
        self.drained, self.drain_timed_out = None, False
        self.become("starting")
        self.office.events.add("spawn", self.spec.name, self.generation, pid=self.pid)
        if does == "up":
            self.office.later(self.be_ready)
        elif does == "fail":
            self.office.later(lambda: self.end("abnormal", "exit 1"))

    def be_ready(self) -> None:
        if self.state == "starting":
            self.become("running")
            self.office.feed(self.spec.group, group.Ready(self.spec.name))

    def stop(self) -> None:
        self.become("draining")
        if self.stops_at_once:
            self.office.later(self.go)

    def go(self) -> None:
        if self.state == "draining":
            self.drained = self.drains
            self.end("normal", "exit 0")

    def end(self, verdict: Any, message: str) -> None:
        self.pid = None
        class_ = "requested" if verdict == "normal" else "abnormal"
        self.last_exit = LastExit(class_, 0 if verdict == "normal" else 1, None, 1.0, message, [])
        self.office.feed(self.spec.group, group.Ended(self.spec.name, verdict))

    # Signals.

    def send(self, signum: int) -> bool:
        self.signals.append(signum)
        return self.pid is not None

    def pause(self) -> bool:
        self.suspended = self.pid is not None
        return self.suspended

    def resume(self) -> bool:
        self.suspended = self.paused = False
        return self.pid is not None

    def become(self, state: str) -> None:
        self.state = state
        self.office.changed()


class FakeOffice:
    """The supervisor as its commands see it."""

    def __init__(self, of: Tree) -> None:
        self.tree = of
        self.root = of.groups[0].name
        self.state = "running"
        self.image = 1
        self.clock = ManualClock()
        self.events = EventRing(self.clock)
        self.printed_bell = Bell()
        self.nursery = SimpleNamespace(pids=lambda: {"light": 17})
        self.reaper = SimpleNamespace(orphans_reaped=0)
        self.output = SimpleNamespace(dropped=0)
        self.started_mono = self.loop_lag_ms = 0.0
        self.foreign_datagrams = 0
        self.told: list[str] = []  # orders, in their order
        self.told_to_leave = self.reexeced = 0
        self.scripts: list[str] = []  # of an actor that is added from the file
        self.cells = {spec.name: FakeCell(spec, self, number) for number, spec in enumerate(of.actors, 1)}
        self.groups = {spec.name: self._plant(spec) for spec in of.groups}
        self._queue: deque[tuple[str, group.Event]] = deque()
        self._changed = asyncio.Event()

    def _plant(self, spec: GroupSpec) -> group.Group:
        actors = [group.child_of_actor(item, spec) for item in self.tree.actors if item.group == spec.name]
        nested = [group.child_of_group(item, spec) for item in self.tree.groups if item.parent == spec.name]
        return group.Group(spec=spec, children=(*actors, *nested))

    async def begin(self) -> "FakeOffice":
        """Start the tree and let it come up."""
        self.feed(self.root, group.Begin())
        while any(item.phase == "opening" for item in self.groups.values()):
            await self.until_change()
        self.told.clear()
        return self

    def feed(self, name: str, event: group.Event) -> None:
        self._queue.append((name, event))
        if len(self._queue) > 1:
            return  # a decision is being carried out; this one is next
        while self._queue:
            owner, item = self._queue[0]
            now = asyncio.get_running_loop().time()
            self.groups[owner], instructions = restart.step(self.groups[owner], item, now)
            for what in instructions:
                self._perform(owner, what)
            self._queue.popleft()
        self.changed()

    def _perform(self, owner: str, what: group.Instruction) -> None:
        match what:
            case group.StartChild(name) if name in self.cells:
                self.told.append(f"start {name}")
                self.cells[name].start()
            case group.StartChild(name):
                self.feed(name, group.Begin())
            case group.StopChild(name) if name in self.cells:
                self.told.append(f"stop {name}")
                self.cells[name].stop()
            case group.StopChild(name):
                self.feed(name, group.Close())
            case group.Wait(name) if name in self.cells:
                self.cells[name].become("backoff")
            case group.Park(name) if name in self.cells:
                self.cells[name].substate = "parked"
                self.cells[name].become("failed")
            case group.Settle(name, slot) if name in self.cells:
                self.cells[name].become(SETTLED[slot])
                if slot == "removed":
                    del self.cells[name]
            case group.Opened() if owner != self.root:
                self.feed(str(self.groups[owner].spec.parent), group.Ready(owner))
            case group.Closed() if owner != self.root:
                self.feed(str(self.groups[owner].spec.parent), group.Ended(owner, "normal"))

    def later(self, work: Any) -> None:
        asyncio.get_running_loop().call_soon(work)

    def changed(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until_change(self) -> None:
        await self._changed.wait()

    def next_in_s(self, name: str) -> float | None:
        del name
        return None

    def say(self, name: str, text: str) -> None:
        """Print a line, as the actor."""
        cell = self.cells[name]
        cell.ring.append(self.clock.wall_ns() / 1e9, cell.generation, "stdout", text)
        self.printed_bell.ring()

    # What an operator changes.

    async def add(self, name: str, table: dict[str, Any] | None) -> FakeCell:
        if table == {"bad": 1}:
            raise ControlError("config", "actors.x.bad: unknown key\nactors.x.command: missing")
        spec = ActorSpec(name=name, group=name.rpartition("/")[0])
        cell = self.cells[name] = FakeCell(spec, self, 90)
        cell.script = list(table.get("script", []) if table else self.scripts)
        of = self.groups[spec.group].spec
        self.feed(spec.group, group.Add(replace(group.child_of_actor(spec, of), by_hand=table is not None)))
        return cell

    def remove(self, cell: FakeCell) -> None:
        self.told.append(f"remove {cell.spec.name}")
        self.feed(cell.spec.group, group.Remove(cell.spec.name))

    async def reload(self, *, dry_run: bool) -> dict[str, Any]:
        self.told.append(f"reload {dry_run}")
        return {"applied": not dry_run, "changes": [], "unchanged": len(self.cells), "warnings": []}

    async def reexec(self) -> int:
        self.reexeced += 1
        return self.image

    def shutdown(self) -> None:
        self.told_to_leave += 1


def within(of: Tree, work: Callable[[FakeOffice], Awaitable[Any]]) -> Any:
    """Run `work` on a tree that is up."""

    async def body() -> Any:
        return await work(await FakeOffice(of).begin())

    return drive(body)


async def ask(office: FakeOffice, cmd: str, *actors: str, **args: Any) -> Any:
    """Return the result of one command."""
    return await COMMANDS[cmd](office, {"actors": list(actors), **args})


async def refusal(office: FakeOffice, cmd: str, *actors: str, **args: Any) -> ControlError:
    """Return the error that one command ends with."""
    with pytest.raises(ControlError) as caught:
        await ask(office, cmd, *actors, **args)
    return caught.value
