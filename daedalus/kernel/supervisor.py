"""The supervisor: one process, one loop, a tree of groups and cells. `run(tree)` is all there is to call.

It decides nothing itself. News goes to the group concerned (`restart.step`), the instructions that come back
are performed by cells and timers; both are queues of one, so that no decision is made inside another.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from daedalus.kernel import bootstrap, errors, group, lifecycle, process, restart, vitals
from daedalus.kernel.bootstrap import Order
from daedalus.kernel.cell import Cell, LastExit
from daedalus.kernel.clock import SystemClock
from daedalus.kernel.control import Control
from daedalus.kernel.events import EventRing
from daedalus.kernel.group import Group
from daedalus.kernel.home import Home, LockedError, State
from daedalus.kernel.lifecycle import Class
from daedalus.kernel.limits import SAMPLE_INTERVAL_S
from daedalus.kernel.logs import Forwarder
from daedalus.kernel.notify import Listener, Notifier
from daedalus.kernel.nursery import Nursery, order_of
from daedalus.kernel.reaper import Reaper
from daedalus.kernel.spec import ActorSpec, Tree
from daedalus.kernel.timers import LAG_S, Timers

__all__ = ["Supervisor", "run"]

TICK_S = 0.25
HURRY_S = 1.0
_FINAL_SWEEP_S = 5.0
_QUIET = ("state", "drain", "drained")  # kept for followers, not worth a line of log


class Supervisor:
    """One running tree."""

    def __init__(self, tree: Tree, home: Home, cores: Sequence[int]) -> None:
        """Build cells and groups; nothing runs yet. `cores`: those that actors may have."""
        self.tree = tree
        self.home = home
        self.cores = cores
        self.clock = SystemClock()
        self.events = EventRing(self.clock)
        self.output = Forwarder(sys.stderr.fileno(), people=sys.stderr.isatty())
        self.reaper = Reaper(self._hear)
        used = {spec.zygote for spec in tree.actors if spec.target}
        preload = {name: tree.preload.get(name, ()) for name in sorted(used, reverse=True)}
        self.nursery = Nursery(preload, self.reaper, self._report)
        self.cells = {spec.name: Cell(spec, self) for spec in tree.actors}
        self.groups = {spec.name: self._plant(spec.name) for spec in tree.groups}
        self.root = tree.groups[0].name
        self.timers = Timers()
        self.state = "starting"
        self.hurry_s: float | None = None
        self.loop_lag_ms = 0.0
        self.foreign_datagrams = 0
        self.started_mono = time.monotonic()
        self.finished: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._signals = 0
        self._queue: deque[tuple[str, group.Event]] = deque()
        self._feeding = False
        self._changed = asyncio.Event()
        self._saving: asyncio.Handle | None = None
        self._listener: Listener | None = None
        self._by_pid: dict[int, Cell] = {}
        self._systemd = Notifier()
        self._random = random.Random()  # noqa: S311 - jitter

    def _plant(self, name: str) -> Group:
        spec = next(item for item in self.tree.groups if item.name == name)
        actors = [group.child_of_actor(item, spec) for item in self.tree.actors if item.group == name]
        nested = [group.child_of_group(item, spec) for item in self.tree.groups if item.parent == name]
        return Group(spec=spec, children=(*actors, *nested))

    # Decisions: fed in, carried out.

    def feed(self, name: str, event: group.Event) -> None:
        """Give a group its news, then carry out what it decides, one decision after the other."""
        if self.finished.done():
            return  # what still ends is swept, not decided about
        self._queue.append((name, event))
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._queue:
                target, item = self._queue.popleft()
                now = asyncio.get_running_loop().time()
                self.groups[target], instructions = restart.step(self.groups[target], item, now)
                for instruction in instructions:
                    self._perform(target, instruction)
        finally:
            self._feeding = False
        self.changed()

    def _perform(self, owner: str, what: group.Instruction) -> None:  # noqa: C901 - one case per instruction
        match what:
            case group.StartChild(name):
                self.timers.cancel((owner, name))
                if name in self.cells:
                    self.cells[name].start()
                else:
                    self.feed(name, group.Begin())
            case group.StopChild(name):
                if name in self.cells:
                    self.cells[name].stop()
                else:
                    self.feed(name, group.Close())
            case group.Wait(name, delay_s, failures):
                self._schedule(owner, name, delay_s, failures)
            case group.Park(name, delay_s):
                self._schedule(owner, name, delay_s)
            case group.Settle(name, slot):
                self.timers.cancel((owner, name))
                self._settle(name, slot)
            case group.Hold(name, delay_s):
                self.timers.arm(("hold", name), delay_s, lambda: self.feed(owner, group.Expired(name)))
            case group.Opened():
                self._opened(owner)
            case group.Closed(reason):
                self._closed(owner, reason)

    def next_in_s(self, name: str) -> float | None:
        """Return the seconds until a waiting or parked actor is started."""
        return self.timers.remaining((self.cells[name].spec.group, name))

    def _schedule(self, owner: str, name: str, delay_s: float, failures: int = 0) -> None:
        self.timers.arm((owner, name), delay_s, lambda: self.feed(owner, group.Due(name)))
        cell, parked = self.cells.get(name), failures == 0
        values = {"delay_s": round(delay_s, 3), "failures": failures, "parked": parked}
        if cell is None:
            self._event("restart_scheduled", name, None, **values)
            return
        cell.failures = failures or cell.failures
        cell.settle("fail" if parked else "back_off", "parked" if parked else "")
        self.emit("restart_scheduled", cell, **values)

    def _settle(self, name: str, slot: str) -> None:
        cell = self.cells.get(name)
        if cell is None:
            return
        events = {"down": "gone", "done": "finish", "failed": "fail", "ignored": "ignore", "removed": "gone"}
        cell.settle(events[slot])  # type: ignore[arg-type]
        if slot == "removed":
            del self.cells[name]

    def _opened(self, name: str) -> None:
        parent = self.groups[name].spec.parent
        if name != self.root and parent is not None:
            self.feed(parent, group.Ready(name))
        elif self.state == "starting":
            self.state = "running"
            self._report(
                "tree_started", actors=len(self.cells), took_s=round(time.monotonic() - self.started_mono, 3)
            )
            self._systemd.send(READY=1, STATUS=f"{len(self.cells)} actors")

    def _closed(self, name: str, reason: str) -> None:
        if reason in ("intensity", "abort"):
            self._event("escalate", name, None, reason=reason)
        parent = self.groups[name].spec.parent
        if name != self.root and parent is not None:
            verdict: group.Verdict = "abnormal" if reason == "abort" else "normal"
            self.feed(parent, group.Ended(name, verdict, self._random.random()))
        elif not self.finished.done():
            self.finished.set_result(
                errors.EXIT_ROOT_LIMIT if reason in ("intensity", "abort") else errors.EXIT_OK
            )

    # News of cells.

    def is_ready(self, cell: Cell) -> None:
        """Take a cell's word that it is up."""
        self.feed(cell.spec.group, group.Ready(cell.spec.name))

    def is_gone(self, cell: Cell, last: LastExit, planned: Class | None) -> None:
        """Take the end of a cell's last process, and let its group decide."""
        self._by_pid = {pid: other for pid, other in self._by_pid.items() if other is not cell}
        self.emit(
            "exit", cell, class_=last.class_, code=last.code, signal=last.signal, message=last.message,
            stderr_tail=last.stderr_tail if last.class_ not in ("normal", "requested") else [],
        )  # fmt: skip
        unclean = last.class_ == "shutdown_timeout" or (cell.requested and last.code not in (0, None))
        if unclean and cell.requested:
            self.emit("shutdown_error", cell, message=last.message)
        verdict, spare_s = lifecycle.verdict(last.class_, last.message, planned)
        name, owner = cell.spec.name, cell.spec.group
        before = self.groups[owner].reason
        self.feed(owner, group.Ended(name, verdict, self._random.random(), spare_s))
        if before != self.groups[owner].reason == "abort":
            self.emit("failed_to_start_child", cell, message=last.message)

    def order(self, spec: ActorSpec, generation: int) -> Order:
        """Return what a new process of `spec` is told."""
        return order_of(spec, generation, self.tree, self.cores)

    def strays(self, cell: Cell) -> list[int]:
        """Return children of ours that belong to no living actor: what escaped from its group."""
        leaders = {other.pid for other in self.cells.values() if other.pid is not None}
        others = [name for name, other in self.cells.items() if other is not cell and other.live]
        return self.reaper.strays(leaders | self.nursery.groups(), others)

    def printed(self, cell: Cell, stream: str, text: str) -> None:
        """Keep and forward a line that an actor printed."""
        line = cell.ring.append(time.time(), cell.generation, stream, text)
        if not self.output.actor_line(cell.spec.name, line):
            cell.log_dropped += 1

    def emit(self, kind: str, cell: Cell, **values: Any) -> None:
        """Record an event of a cell."""
        if "class_" in values:
            values["class"] = values.pop("class_")
        if kind == "spawn":
            self._by_pid[values["pid"]] = cell
        self._event(kind, cell.spec.name, cell.generation, **values)

    def _event(self, kind: str, name: str, generation: int | None, **values: Any) -> None:
        self.events.add(kind, name, generation, **values)
        if kind not in _QUIET:
            self._report(f"actor_{kind}", actor=name, generation=generation, **values)

    def _report(self, event: str, **values: Any) -> None:
        self.output.event(event, at=time.time(), **values)

    def changed(self) -> None:
        """Wake whoever waits for a state, and note who runs."""
        self._changed.set()
        self._changed = asyncio.Event()
        if self._saving is None:
            self._saving = asyncio.get_running_loop().call_soon(self._save)

    async def until_change(self) -> None:
        """Return at the next change of anything."""
        await self._changed.wait()

    def _save(self) -> None:
        self._saving = None
        running = {name: cell.identity for name, cell in self.cells.items() if cell.identity is not None}
        for name, pid in self.nursery.pids().items():
            who = process.identify(pid) if pid is not None else None
            if who is not None:
                running[f"zygote {name}"] = who
        if not self.finished.done():
            self.home.save(State(supervisor=process.identify(os.getpid()), processes=running))

    # The loop's work.

    def _hear(self) -> None:
        if self._listener is not None:
            self._listener.empty()

    def _heard(self, pid: int, said: dict[str, str]) -> None:
        cell = self._by_pid.get(pid)
        if cell is None:
            cell = self._by_pid.get(process.group_of(pid) or -1)
        if cell is None:
            self.foreign_datagrams += 1
        else:
            vitals.hear(cell, said, asyncio.get_running_loop().time())

    async def _tick(self) -> None:
        """Check beats and samples, forgiving everybody for the time we ourselves were away."""
        loop = asyncio.get_running_loop()
        due, sample_at, ping_at = loop.time() + TICK_S, loop.time(), loop.time()
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            now = loop.time()
            late = now - due
            self.loop_lag_ms = late * 1e3
            due = now + TICK_S
            self._hear()
            for cell in list(self.cells.values()):
                if late > LAG_S and cell.beat_at is not None:
                    cell.beat_at = min(now, cell.beat_at + late)
                vitals.check_beat(cell, now)
            if now >= sample_at:
                sample_at = now + SAMPLE_INTERVAL_S
                self.reaper.collect()
                for cell in list(self.cells.values()):
                    vitals.check_memory(cell, now)
            if now >= ping_at:
                ping_at = now + 10.0
                self._systemd.send(WATCHDOG=1)

    def shutdown(self, reason: group.Reason = "requested") -> None:
        """Stop the tree in reverse order; the second call hurries, the third kills all and exits 1."""
        self._signals += 1
        if self._signals == 1:
            self.state = "stopping"
            self._systemd.send(STOPPING=1)
            self._report("tree_stopping")
            self.feed(self.root, group.Close(reason))
        elif self._signals == 2:
            self.hurry_s = HURRY_S
            for cell in self.cells.values():
                cell.hurry(HURRY_S)
        elif not self.finished.done():
            # No decisions any more: groups would take these deaths for crashes.
            self._report("tree_killed", left=sum(cell.pid is not None for cell in self.cells.values()))
            self.finished.set_result(errors.EXIT_FAILED)

    def fault(self, error: BaseException) -> None:
        """End the supervisor because of a fault of its own: what it believes is no longer to be trusted."""
        if not self.finished.done():
            self.finished.set_exception(error)

    def _loop_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None:
            loop.default_exception_handler(context)
        else:
            self.fault(error)

    async def live(self, duration_s: float) -> int:
        """Run until the tree is closed and return the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._loop_fault)
        self._listener = Listener(str(self.home.path / "notify.sock"), self._heard)
        loop.add_reader(self._listener, self._listener.empty)
        loop.add_signal_handler(signal.SIGCHLD, self.reaper.collect)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.shutdown)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        control = Control(self, str(self.home.path / "control.sock"))
        await control.start()
        self.nursery.start()
        tick = loop.create_task(self._tick())
        if duration_s > 0:
            loop.call_later(duration_s, lambda: self.shutdown() if self._signals == 0 else None)
        self.feed(self.root, group.Begin())
        try:
            await asyncio.wait((self.finished, tick), return_when=asyncio.FIRST_COMPLETED)
            if tick.done():
                tick.result()
            return self.finished.result()
        finally:
            self.state = "stopped"
            tick.cancel()
            await control.close()
            await self._end()
            loop.remove_reader(self._listener)
            self._listener.close()
            self._report("tree_stopped", took_s=round(time.monotonic() - self.started_mono, 3))
            self.output.close()

    async def _end(self) -> None:
        """Leave no process behind: zygotes, adopted orphans, and after a fault of ours the actors too."""
        self.timers.cancel_all()
        self.nursery.close()
        deadline = time.monotonic() + _FINAL_SWEEP_S
        while (left := process.children_of(os.getpid())) and time.monotonic() < deadline:
            for pid in left:
                process.kill_child(pid)
            await asyncio.sleep(0.01)
            self.reaper.collect()


def run(tree: Tree, *, duration_s: float = 0.0, greet: Callable[[], None] | None = None) -> int:
    """Run a tree until it is told to stop, and return the exit code of the process.

    Args:
        tree: what to run. The runtime directory is made when it is missing.
        duration_s: stop the tree in good order after so many seconds; 0 runs until told.
        greet: called once the runtime directory is ours, before anything is started.

    Returns:
        0 stopped in good order; 6 a supervisor already runs in this directory; 70 the root gave up;
        78 the runtime directory cannot be used.
    """
    os.umask(0o077)
    try:
        home = Home(tree.runtime)
        home.lock()
    except (LockedError, errors.ConfigError) as error:
        print(f"daedalus-supervisor: {error}", file=sys.stderr)  # noqa: T201 - before any log there is only this
        return errors.EXIT_CONFLICT if isinstance(error, LockedError) else errors.EXIT_CONFIG
    if greet is not None:
        greet()
    swept = home.sweep_survivors()
    cores = bootstrap.pin(tree.supervisor_cpus)
    bootstrap.become_subreaper()

    async def body() -> int:
        supervisor = Supervisor(tree, home, cores)
        if swept:
            supervisor._report("survivors_swept", survivors=swept)  # noqa: SLF001
        return await supervisor.live(duration_s)

    try:
        return asyncio.run(body())
    finally:
        home.close()
