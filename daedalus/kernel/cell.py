"""One actor under supervision: its lifecycle state, its process, its timers, and what it last said.

The cell performs what `lifecycle` says and reports to the office (the supervisor) what its group must
decide about: that it is ready, and that no process of it is left.
"""

import asyncio
import signal
import time
from collections import deque
from typing import Any, Protocol

from daedalus.kernel import lifecycle, process
from daedalus.kernel.body import Body, Hooks, Maker
from daedalus.kernel.bootstrap import Order
from daedalus.kernel.lifecycle import LIVE, Class, Event, State
from daedalus.kernel.limits import Meter
from daedalus.kernel.logs import Ring
from daedalus.kernel.nursery import Born
from daedalus.kernel.postmortem import LastExit, examine
from daedalus.kernel.reaper import Status
from daedalus.kernel.spec import KILL_GRACE_S, ActorSpec
from daedalus.kernel.timers import Timers

__all__ = ["Cell", "LastExit", "Office"]
HOUR_S = 3600.0


class Office(Maker, Protocol):
    """What a cell needs of the supervisor."""

    hurry_s: float | None  # no timeout is longer than this once the end is pressing

    def order(self, spec: ActorSpec, generation: int) -> Order: ...
    def emit(self, kind: str, cell: "Cell", **values: Any) -> None: ...
    def printed(self, cell: "Cell", stream: str, text: str) -> None: ...
    def is_ready(self, cell: "Cell") -> None: ...
    def is_gone(self, cell: "Cell", last: LastExit, planned: Class | None) -> None: ...
    def changed(self) -> None: ...


class Cell:
    """One actor. Its group says start and stop; everything in between is here."""

    def __init__(self, spec: ActorSpec, office: Office) -> None:
        """Begin stopped, generation 0."""
        self.spec = spec
        self.state: State = "stopped"
        self.substate = ""
        self.shut_gates: tuple[str, ...] = ()  # why it is held
        self.generation = 0
        self.last_exit: LastExit | None = None
        self.restarts = 0
        self.restarted: deque[float] = deque(maxlen=4096)  # monotonic, for the last hour
        self.failures = 0
        self.ring = Ring()
        self.log_dropped = 0
        self.timers = Timers()
        self.phase: tuple[str, Event] | None = None  # the one timer of a live state: its name and its event
        self._office = office
        self.body = Body(
            spec.name, office, Hooks(self._born, self._alert, self._gone, self._stopped, self._line)
        )
        self._forget()

    def _forget(self) -> None:
        """Begin a new process with nothing known about it."""
        self.meter = Meter()
        self.ready = False
        self.ready_at: float | None = None  # monotonic
        self.started_at: float | None = None  # wall
        self.beat_at: float | None = None  # monotonic, from READY on
        self.mailbox: int | None = None
        self.status_text = ""
        self.stats: dict[str, Any] | None = None  # what it last told of itself
        self.stats_at: float | None = None  # monotonic
        self.drained: tuple[int | None, int | None] | None = None  # in flight, flushed
        self.drain_timed_out = False
        self.requested = False
        self.paused = False  # SIGSTOP seen
        self.suspended = False  # by an operator: its heartbeat is not awaited
        self.killed_for: Class | None = None
        self.left_for: Class | None = None
        self.detail = ""
        self.reported = ""
        self.ignoring = False

    @property
    def pid(self) -> int | None:
        """The leader's pid while it lives, which is also the id of its group."""
        return self.body.pid

    @property
    def identity(self) -> process.Identity | None:
        """Who the leader is, for all time."""
        return self.body.identity

    @property
    def live(self) -> bool:
        """Whether a process of it lives or is being made."""
        return self.state in LIVE

    def restarts_last_hour(self, now: float) -> int:
        """Return how often it was started again in the last hour."""
        while self.restarted and now - self.restarted[0] > HOUR_S:
            self.restarted.popleft()
        return len(self.restarted)

    def emit(self, kind: str, **values: Any) -> None:
        """Record an event of this actor."""
        self._office.emit(kind, self, **values)

    # Orders of the group.

    def start(self) -> None:
        """Make a process, in a new generation."""
        if self.live:  # its last process is buried, and the group wants the next at once
            self.handle("gone")
        self._forget()
        self.substate = ""
        self.shut_gates = ()
        self.generation += 1
        if self.generation > 1:
            self.restarts += 1
            if self.last_exit is None or self.last_exit.class_ != "requested":  # nobody flaps by request
                self.restarted.append(asyncio.get_running_loop().time())
        self.handle("start")

    def stop(self) -> None:
        """Drain and stop; the group is told when nothing is left."""
        self.requested = True
        if self.state not in ("starting", "running", "degraded"):
            return  # already on its way, for another reason
        drains = bool(self.spec.target or self.spec.drain_signal) and self.spec.drain_s > 0
        if self.spec.shutdown_s == "brutal_kill":
            self.handle("kill")
        else:
            self.handle("drain" if drains else "stop")

    def hold(self, gates: tuple[str, ...]) -> None:
        """Show that it waits for its gates."""
        self.shut_gates = gates
        if self.live:  # its last process is buried
            self.handle("gone")
        if self.state != "held":
            self.handle("hold")

    def settle(self, event: Event, substate: str = "") -> None:
        """Show what the group decided about a cell without a process."""
        self.handle(event)
        self.substate = substate

    # Verdicts of the supervisor.

    def kill_for(self, reason: Class, detail: str) -> None:
        """Kill it at once, with a reason for the post-mortem."""
        if self.state in LIVE and self.state not in ("killing", "stuck"):
            self.killed_for, self.detail = reason, detail
            self.handle("kill")

    def leave_for(self, reason: Class, detail: str) -> None:
        """Ask it to drain and go, to be started again at once."""
        if self.state in ("running", "degraded"):
            self.left_for, self.detail = reason, detail
            self.handle("drain" if self.spec.target or self.spec.drain_signal else "stop")

    # Signals of the operator.

    def send(self, signum: int) -> bool:
        """Send a signal to the leader. False: there is none."""
        return self.body.tell(signum)

    def pause(self) -> bool:
        """Stop the whole group in its tracks and suspend its heartbeat. False: nothing lives."""
        self.suspended = self.body.tell_all(signal.SIGSTOP) or self.suspended
        self._office.changed()
        return self.suspended

    def resume(self) -> bool:
        """Let the group go on; its heartbeat is awaited anew. False: nothing lives."""
        if not self.body.tell_all(signal.SIGCONT):
            return False
        self.suspended = False
        if self.beat_at is not None:
            self.beat_at = asyncio.get_running_loop().time()
        self._office.changed()
        return True

    def hurry(self, at_most_s: float) -> None:
        """Shorten what is left of every timeout."""
        self.timers.shorten(at_most_s)

    # The table's work.

    def handle(self, event: Event) -> None:
        """Take one event through the table and do what it says."""
        before = self.state
        self.state, actions = lifecycle.step(before, event)
        for action in actions:
            getattr(self, f"_{action}")()
        if before != self.state:
            self._office.emit("state", self, state=self.state, before=before)
        self._office.changed()

    def arm(self, name: str, delay_s: float, event: Event) -> None:
        """Give the present state its time; `event` comes when it is up."""
        hurry_s = self._office.hurry_s
        self.phase = (name, event)
        self.timers.arm(
            "phase",
            delay_s if hurry_s is None else min(delay_s, hurry_s),
            lambda: self._timed_out(name, event),
        )

    def extend(self, delay_s: float) -> None:
        """Give the present state at least so much more time: EXTEND_TIMEOUT_USEC."""
        left_s = self.timers.remaining("phase")
        if self.phase is not None and left_s is not None and left_s < delay_s:
            self.arm(self.phase[0], delay_s, self.phase[1])

    def _timed_out(self, name: str, event: Event) -> None:
        if name == "start":
            self.kill_for("start_timeout", f"{self.spec.start_timeout_s:g}s")
            return
        if event == "drain_timeout":
            self.drain_timed_out = True
            self._office.emit("drain_timeout", self, drain_s=self.spec.drain_s)
        if event == "shutdown_timeout":
            self.killed_for = self.killed_for or "shutdown_timeout"
            self.detail = self.detail or f"{self._shutdown_s():g}s"
        self.handle(event)

    def _shutdown_s(self) -> float:
        value = self.spec.shutdown_s
        if value == "infinity":
            return float("inf")
        return 0.0 if value == "brutal_kill" else value

    def _disarm(self) -> None:
        self.phase = None
        self.timers.cancel("phase")

    def _arm_start(self) -> None:
        if self.pid is not None:  # the clock runs from the birth, not while a zygote imports
            self.arm("start", self.spec.start_timeout_s, "kill")

    def _arm_drain(self) -> None:
        self.arm("drain", self.spec.drain_s, "drain_timeout")

    def _arm_shutdown(self) -> None:
        self.arm("shutdown", self._shutdown_s(), "shutdown_timeout")

    def _arm_kill(self) -> None:
        self.arm("kill", KILL_GRACE_S, "kill_timeout")

    def _spawn(self) -> None:
        order = self._office.order(self.spec, self.generation)
        self.body.make(order, self.spec.zygote, self.spec.memory_hard)

    def _send_drain(self) -> None:
        self._office.emit("drain", self, drain_s=self.spec.drain_s)
        # the leader alone: what it works with must live while it drains
        self.body.tell(signal.Signals[self.spec.drain_signal or "SIGTERM"])
        self.body.tell(signal.SIGCONT)

    def _send_term(self) -> None:
        self.body.abandon()
        self.body.tell_all(signal.SIGTERM)
        self.body.tell_all(signal.SIGCONT)  # a stopped process keeps SIGTERM pending

    def _send_kill(self) -> None:
        self._office.emit("kill", self, reason=self.killed_for or "requested", detail=self.detail)
        self.body.kill()

    def _alert(self) -> None:
        self.substate = "stuck"
        self._office.emit("stuck", self, pid=self.pid, wait_s=KILL_GRACE_S)

    # News of the process.

    def _born(self, born: Born) -> None:
        self.started_at = time.time()
        self._office.emit("spawn", self, pid=born.pid, via=born.via)
        if self.state == "starting":
            self._arm_start()
            if self.spec.ready == "spawn":
                self.declare_ready()
        self._office.changed()

    def _line(self, stream: str, text: str) -> None:
        self._office.printed(self, stream, text)

    def _stopped(self, stopped: bool) -> None:
        self.paused = stopped
        self._office.changed()

    def _gone(self, status: Status) -> None:
        last, planned = examine(self, status)
        self.last_exit = last
        self.ready = self.paused = self.suspended = False
        self.ready_at = self.beat_at = None
        self._disarm()
        self._office.is_gone(self, last, planned)

    def declare_ready(self) -> None:
        """It is up: by its own word, or by being born where that is enough."""
        now = asyncio.get_running_loop().time()
        self.ready = True
        self.ready_at = self.beat_at = now
        self.handle("ready")
        self._office.emit("ready", self)
        self._office.is_ready(self)
