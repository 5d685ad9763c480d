"""The supervisor: one process, one loop, a tree of groups and cells.

It decides nothing itself. News goes to the group concerned (`restart.step`), the instructions that come back
are performed by cells and timers; both are queues of one, so that no decision is made inside another.
"""

import asyncio
import random
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from daedalus.kernel import amend, errors, group, lifecycle, process, restart, upgrade, vitals
from daedalus.kernel.bell import Bell
from daedalus.kernel.bootstrap import Order
from daedalus.kernel.cell import Cell, LastExit
from daedalus.kernel.cgroups import Cgroups
from daedalus.kernel.clock import SystemClock
from daedalus.kernel.control import Control
from daedalus.kernel.events import EventRing
from daedalus.kernel.gatekeeper import Gatekeeper
from daedalus.kernel.home import Home
from daedalus.kernel.lifecycle import Class
from daedalus.kernel.logs import Forwarder
from daedalus.kernel.notify import Listener, Notifier
from daedalus.kernel.nursery import Nursery, order_of
from daedalus.kernel.plant import group_of, images_of
from daedalus.kernel.pulse import Pulse
from daedalus.kernel.reaper import Reaper
from daedalus.kernel.register import Register
from daedalus.kernel.spec import ActorSpec, Tree
from daedalus.kernel.timers import Timers

if TYPE_CHECKING:
    from daedalus.kernel.group import Group
    from daedalus.kernel.source import Source

__all__ = ["Supervisor"]

HURRY_S = 1.0
_SHOWN: dict[str, lifecycle.Event] = {
    "down": "gone", "done": "finish", "failed": "fail", "ignored": "ignore", "removed": "gone",
}  # fmt: skip
_QUIET = ("state", "drain", "drained", "reload", "reexec")  # kept for followers, not worth a line of log


class Supervisor:
    """One running tree."""

    def __init__(
        self,
        tree: Tree,
        home: Home,
        cores: Sequence[int],
        *,
        cgroups: Cgroups | None = None,
        source: "Source | None" = None,
    ) -> None:
        """Prepare; nothing runs yet. `cores`: those that actors may have. `source`: for a reload."""
        self.tree = tree
        self.home = home
        self.cores = cores
        self.cgroups = cgroups
        self.source = source
        self.image = 1  # counts the programs this process has been: see `upgrade`
        self.clock = SystemClock()
        self.events = EventRing(self.clock)
        self.printed_bell = Bell()
        self.output = Forwarder(sys.stderr.fileno(), people=sys.stderr.isatty())
        self.reaper = Reaper(self.empty_mail)
        self.nursery = Nursery(images_of(tree), self.reaper, self.report)
        self.register = Register(home, tree.data, self.report)
        self.cells: dict[str, Cell] = {}
        self.groups: dict[str, Group] = {}
        self.root = tree.groups[0].name
        self.timers = Timers()
        self.gatekeeper = Gatekeeper(self)
        self.pulse = Pulse(self)
        self.control = Control(self, str(home.path / "control.sock"))
        self.systemd = Notifier()
        self.state = "starting"
        self.frozen = False  # nothing is spawned: this process is about to become another program
        self.postponed: list[str] = []  # cells whose start fell into that time
        self.hurry_s: float | None = None
        self.foreign_datagrams = 0
        self.loop_lag_ms = 0.0  # how late the last beat of our own pulse came
        self.tasks: set[asyncio.Task[None]] = set()  # what nobody waits for
        self.started_mono = time.monotonic()
        self.finished: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.stopping_mono: float | None = None
        self.end_at: float | None = None  # monotonic: a duration was asked for
        self._signals = 0
        self._queue: deque[tuple[str, group.Event]] = deque()
        self._feeding = False
        self._changed = asyncio.Event()
        self._by_pid: dict[int, Cell] = {}
        self.listener: Listener | None = None
        self._random = random.Random()  # noqa: S311 - jitter

    def plant(self) -> None:
        """Make a cell for each actor and a group for each supervisor of the tree, all of them down."""
        down = self.register.known.down
        self.cells = {spec.name: self.new_cell(spec) for spec in self.tree.actors}
        self.groups = {spec.name: group_of(self.tree, spec, down) for spec in self.tree.groups}

    def new_cell(self, spec: ActorSpec) -> Cell:
        """Return a cell that is down; it goes on counting where an earlier supervisor left off."""
        cell = Cell(spec, self)
        cell.restarts = self.register.known.restarts.get(spec.name, 0)
        return cell

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
                if target not in self.groups:
                    continue  # removed by a reload; its last news changes nothing
                now = asyncio.get_running_loop().time()
                self.groups[target], instructions = restart.step(self.groups[target], item, now)
                for instruction in instructions:
                    self._perform(target, instruction)
                self.pulse.step_begun(target, now)
        except BaseException as error:
            self.fault(error)  # half of a decision was carried out: nothing is as it seems
            raise
        finally:
            self._feeding = False
        self.changed()

    def _perform(self, owner: str, what: group.Instruction) -> None:  # noqa: C901, PLR0912 - one case per instruction
        match what:
            case group.StartChild(name):
                self.timers.cancel((owner, name))
                if name in self.groups:
                    self.feed(name, group.Begin())
                else:
                    self._launch(owner, self.cells.get(name) or amend.plant(self, name))
            case group.StopChild(name):
                if name in self.postponed:  # it has no process, so it is gone already
                    self.postponed.remove(name)
                    self.feed(owner, group.Ended(name, "normal"))
                elif name in self.cells:
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
                self.wait_held(owner, name, delay_s)
            case group.Opened():
                self._opened(owner)
            case group.Closed(reason):
                self._closed(owner, reason)

    def _launch(self, owner: str, cell: Cell) -> None:
        if self.gatekeeper.holds(cell):
            self.feed(owner, group.Held(cell.spec.name))
        elif self.frozen:
            self.postponed.append(cell.spec.name)
        else:
            cell.start()

    def next_in_s(self, name: str) -> float | None:
        """Return the seconds until a waiting or parked actor is started."""
        return self.timers.remaining((self.cells[name].spec.group, name))

    def wait_due(self, owner: str, name: str, delay_s: float) -> None:
        """Tell `owner` after `delay_s` that the wait of its child is over."""
        self.timers.arm((owner, name), delay_s, lambda: self.feed(owner, group.Due(name)))

    def wait_held(self, owner: str, name: str, delay_s: float) -> None:
        """Tell `owner` after `delay_s` that its child has held up the others long enough."""
        self.timers.arm(("hold", name), delay_s, lambda: self.feed(owner, group.Expired(name)))

    def _schedule(self, owner: str, name: str, delay_s: float, failures: int = 0) -> None:
        self.wait_due(owner, name, delay_s)
        cell, parked = self.cells.get(name), failures == 0
        values = {"delay_s": round(delay_s, 3), "failures": failures, "parked": parked}
        if cell is None:
            self.record("restart_scheduled", name, None, **values)
            return
        cell.failures = failures or cell.failures
        cell.settle("fail" if parked else "back_off", "parked" if parked else "")
        self.emit("restart_scheduled", cell, **values)

    def _settle(self, name: str, slot: str) -> None:
        cell = self.cells.get(name)
        if cell is not None:
            cell.settle(_SHOWN[slot])
        if slot == "removed":
            self._forget(name)

    def _forget(self, name: str) -> None:
        """A removed child, with all that is in it when it is a group."""
        if name in self.groups:
            for child in self.groups[name].children:
                self._forget(child.name)
            del self.groups[name]
        self.cells.pop(name, None)

    def _opened(self, name: str) -> None:
        parent = self.groups[name].spec.parent
        if name != self.root and parent is not None:
            self.feed(parent, group.Ready(name))
        elif self.state == "starting":
            self.state = "running"
            self.report(
                "tree_started", actors=len(self.cells), took_s=round(time.monotonic() - self.started_mono, 3)
            )
            self.systemd.ready()
            self.systemd.status(f"{len(self.cells)} actors")

    def _closed(self, name: str, reason: str) -> None:
        if reason in ("intensity", "abort"):
            self.record("escalate", name, None, reason=reason)
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
        spec, owner = cell.spec, cell.spec.group
        verdict, spare_s = lifecycle.verdict(
            last.class_, last.message, planned, spec.memory_soft_min_interval_s
        )
        before = self.groups[owner].reason
        self.feed(owner, group.Ended(spec.name, verdict, self._random.random(), spare_s))
        if owner in self.groups and before != self.groups[owner].reason == "abort":
            self.emit("failed_to_start_child", cell, message=last.message)

    def order(self, spec: ActorSpec, generation: int) -> Order:
        """Return what a new process of `spec` is told."""
        return order_of(spec, generation, self.tree, self.cores)

    def strays(self, name: str) -> list[int] | None:
        """Return children of ours that belong to no living actor: what escaped from the group of `name`.

        None: it cannot be told at this moment; ask again.
        """
        leaders = {other.pid for other in self.cells.values() if other.pid is not None}
        others = [other.spec.name for other in self.cells.values() if other.spec.name != name and other.live]
        return self.reaper.strays(leaders | self.nursery.groups(), others)

    def printed(self, cell: Cell, stream: str, text: str) -> None:
        """Keep and forward a line that an actor printed."""
        line = cell.ring.append(time.time(), cell.generation, stream, text)
        if not self.output.actor_line(cell.spec.name, line):
            cell.log_dropped += 1
        self.printed_bell.ring()

    def emit(self, kind: str, cell: Cell, **values: Any) -> None:
        """Record an event of a cell."""
        if "class_" in values:
            values["class"] = values.pop("class_")
        if kind == "spawn":
            self.know(values["pid"], cell)
        self.record(kind, cell.spec.name, cell.generation, **values)

    def know(self, pid: int, cell: Cell) -> None:
        """Take what this process says as the word of the cell."""
        self._by_pid[pid] = cell

    def record(self, kind: str, name: str | None, generation: int | None, **values: Any) -> None:
        """Record an event, of a cell, a group or of the whole tree."""
        self.events.add(kind, name, generation, **values)
        if kind not in _QUIET:
            self.report(f"actor_{kind}", actor=name, generation=generation, **values)

    def report(self, event: str, **values: Any) -> None:
        """Write a line of the supervisor's own log."""
        self.output.event(event, **values)

    def changed(self) -> None:
        """Wake whoever waits for a state, and note who runs."""
        self._changed.set()
        self._changed = asyncio.Event()
        self.register.note(self)
        self.gatekeeper.look()

    async def until_change(self) -> None:
        """Return at the next change of anything."""
        await self._changed.wait()

    # The loop's work.

    def listen(self, listener: Listener) -> None:
        """Hear what actors say from now on."""
        self.listener = listener
        asyncio.get_running_loop().add_reader(listener, listener.empty)

    def close_mail(self) -> None:
        """Hear nobody any more."""
        if self.listener is not None:
            asyncio.get_running_loop().remove_reader(self.listener)
            self.listener.close()
            self.listener = None

    def empty_mail(self) -> None:
        """Take what actors have said: always before their exits are judged."""
        if self.listener is not None:
            self.listener.empty()

    def heard(self, pid: int, said: dict[str, str]) -> None:
        """Take what a process says on the notify socket."""
        cell = self._by_pid.get(pid)
        if cell is None:
            cell = self._by_pid.get(process.group_of(pid) or -1)
        if cell is None:
            self.foreign_datagrams += 1
        else:
            vitals.hear(cell, said, asyncio.get_running_loop().time())

    def shutdown(self, reason: group.Reason = "requested") -> None:
        """Stop the tree in reverse order; the second call hurries, the third kills all and exits 1."""
        self._signals += 1
        if self._signals == 1:
            self.state, self.stopping_mono = "stopping", time.monotonic()
            self.systemd.stopping()
            self.report("tree_stopping")
            self.feed(self.root, group.Close(reason))
        elif self._signals == 2:
            self.hurry_s = HURRY_S
            for cell in self.cells.values():
                cell.hurry(HURRY_S)
        elif not self.finished.done():
            # No decisions any more: groups would take these deaths for crashes.
            self.report("tree_killed", left=sum(cell.pid is not None for cell in self.cells.values()))
            self.finished.set_result(errors.EXIT_FAILED)

    # What an operator changes.

    async def add(self, name: str, table: dict[str, Any] | None) -> Cell:
        """Add an actor to the running tree: see `amend`."""
        return await amend.add(self, name, table)

    def remove(self, cell: Cell) -> None:
        """Forget an actor that has no process."""
        amend.remove(self, cell)

    async def reload(self, *, dry_run: bool = False) -> dict[str, Any]:
        """Read the configuration again and do what has changed: see `amend`."""
        return await amend.reload(self, dry_run=dry_run)

    async def reexec(self) -> int:
        """Become the newest program, with every actor kept: see `upgrade`."""
        return await upgrade.reexec(self)

    def fault(self, error: BaseException) -> None:
        """End the supervisor because of a fault of its own: what it believes is no longer to be trusted."""
        if not self.finished.done():
            self.finished.set_exception(error)

    def loop_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take an exception that nobody caught."""
        error = context.get("exception")
        if error is None:
            loop.default_exception_handler(context)
        else:
            self.fault(error)
