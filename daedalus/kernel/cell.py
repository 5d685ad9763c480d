"""One actor under supervision: its lifecycle state, its process, its timers, and what it last said.

The cell performs what `lifecycle` says and reports to the office (the supervisor) what its group must
decide about: that it is ready, and that no process of it is left.
"""

import asyncio
import contextlib
import signal
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any, Protocol

import msgspec

from daedalus.kernel import lifecycle, process
from daedalus.kernel.bootstrap import Order
from daedalus.kernel.lifecycle import LIVE, Class, Event, Exit, State
from daedalus.kernel.limits import Meter
from daedalus.kernel.logs import Pipe, Ring
from daedalus.kernel.nursery import Born, Nursery
from daedalus.kernel.reaper import Reaper, Status
from daedalus.kernel.spec import ActorSpec
from daedalus.kernel.timers import Timers

__all__ = ["Cell", "LastExit", "Office"]

KILL_GRACE_S = 5.0
EOF_WAIT_S = 1.0  # a grandchild may hold the writing end of a log pipe
EMPTY_WAIT_S = 5.0  # for the last of a killed group to vanish
HOUR_S = 3600.0
_POLL_S = 0.01


class LastExit(msgspec.Struct, frozen=True):
    """How the actor's last process ended, as shown by the control program."""

    class_: Class = msgspec.field(name="class")
    code: int | None
    signal: str | None
    at: float  # wall seconds
    message: str
    stderr_tail: list[str]


class Office(Protocol):
    """What a cell needs of the supervisor."""

    nursery: Nursery
    reaper: Reaper
    hurry_s: float | None  # no timeout is longer than this once the end is pressing

    def order(self, spec: ActorSpec, generation: int) -> Order: ...
    def emit(self, kind: str, cell: "Cell", **values: Any) -> None: ...
    def printed(self, cell: "Cell", stream: str, text: str) -> None: ...
    def is_ready(self, cell: "Cell") -> None: ...
    def is_gone(self, cell: "Cell", last: LastExit, planned: Class | None) -> None: ...
    def changed(self) -> None: ...
    def strays(self, cell: "Cell") -> list[int]: ...
    def fault(self, error: BaseException) -> None: ...


class Cell:
    """One actor. Its group says start and stop; everything in between is here."""

    def __init__(self, spec: ActorSpec, office: Office) -> None:
        """Begin stopped, generation 0."""
        self.spec = spec
        self.state: State = "stopped"
        self.substate = ""
        self.generation = 0
        self.identity: process.Identity | None = None
        self.ready = False
        self.ready_at: float | None = None  # monotonic
        self.started_at: float | None = None  # wall
        self.beat_at: float | None = None  # monotonic, from READY on
        self.mailbox: int | None = None
        self.status_text = ""
        self.last_exit: LastExit | None = None
        self.restarts = 0
        self.restarted: deque[float] = deque(maxlen=4096)  # monotonic, for the last hour
        self.failures = 0
        self.meter = Meter()
        self.ring = Ring()
        self.log_dropped = 0
        self.timers = Timers()
        self._office = office
        self._pid: int | None = None
        self._pidfd = -1
        self._pipes: tuple[Pipe, Pipe] | None = None
        self._task: asyncio.Task[None] | None = None
        self._forget()

    def _forget(self) -> None:
        """Begin a new process with nothing known about it."""
        self.requested = False
        self.paused = False  # SIGSTOP
        self._killed_for: Class | None = None
        self._left_for: Class | None = None
        self._detail = ""
        self.reported = ""
        self.ignoring = False
        self._spawn_errno = ""

    @property
    def pid(self) -> int | None:
        """The leader's pid while it lives, which is also the id of its group."""
        return self._pid

    @property
    def live(self) -> bool:
        """Whether a process of it lives or is being made."""
        return self.state in LIVE

    def restarts_last_hour(self, now: float) -> int:
        """Return how often it was started again in the last hour."""
        return sum(now - at <= HOUR_S for at in self.restarted)

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
        self.generation += 1
        if self.generation > 1:
            self.restarts += 1
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

    def settle(self, event: Event, substate: str = "") -> None:
        """Show what the group decided about a cell without a process."""
        self.handle(event)
        self.substate = substate

    # Verdicts of the supervisor.

    def kill_for(self, reason: Class, detail: str) -> None:
        """Kill it at once, with a reason for the post-mortem."""
        if self.state in LIVE and self.state not in ("killing", "stuck"):
            self._killed_for, self._detail = reason, detail
            self.handle("kill")

    def leave_for(self, reason: Class, detail: str) -> None:
        """Ask it to drain and go, to be started again at once."""
        if self.state in ("running", "degraded"):
            self._left_for, self._detail = reason, detail
            self.handle("drain" if self.spec.target or self.spec.drain_signal else "stop")

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

    def _arm(self, name: str, delay_s: float, event: Event) -> None:
        hurry_s = self._office.hurry_s
        self.timers.arm(
            "phase",
            delay_s if hurry_s is None else min(delay_s, hurry_s),
            lambda: self._timed_out(name, event),
        )

    def _timed_out(self, name: str, event: Event) -> None:
        if name == "start":
            self.kill_for("start_timeout", f"{self.spec.start_timeout_s:g}s")
            return
        if event == "drain_timeout":
            self._office.emit("drain_timeout", self, drain_s=self.spec.drain_s)
        if event == "shutdown_timeout":
            self._killed_for = self._killed_for or "shutdown_timeout"
            self._detail = self._detail or f"{self._shutdown_s():g}s"
        self.handle(event)

    def _shutdown_s(self) -> float:
        value = self.spec.shutdown_s
        if value == "infinity":
            return float("inf")
        return 0.0 if value == "brutal_kill" else value

    def _disarm(self) -> None:
        self.timers.cancel("phase")

    def _arm_start(self) -> None:
        if self._pid is not None:  # the clock runs from the birth, not while a zygote imports
            self._arm("start", self.spec.start_timeout_s, "kill")

    def _arm_drain(self) -> None:
        self._arm("drain", self.spec.drain_s, "drain_timeout")

    def _arm_shutdown(self) -> None:
        self._arm("shutdown", self._shutdown_s(), "shutdown_timeout")

    def _arm_kill(self) -> None:
        self._arm("kill", KILL_GRACE_S, "kill_timeout")

    def _spawn(self) -> None:
        self._work(self._make())

    def _send_drain(self) -> None:
        name = self.spec.drain_signal or "SIGTERM"
        self._office.emit("drain", self, drain_s=self.spec.drain_s)
        if self._pidfd >= 0:  # the leader alone: what it works with must live while it drains
            process.signal_pidfd(self._pidfd, signal.Signals[name])
            process.signal_pidfd(self._pidfd, signal.SIGCONT)

    def _send_term(self) -> None:
        if self._pid is None:
            self._abandon()
            return
        process.signal_group(self._pid, signal.SIGTERM)
        process.signal_group(self._pid, signal.SIGCONT)  # a stopped process keeps SIGTERM pending

    def _send_kill(self) -> None:
        self._office.emit("kill", self, reason=self._killed_for or "requested", detail=self._detail)
        if self._pid is None:
            self._abandon()
            return
        process.signal_group(self._pid, signal.SIGKILL)

    def _alert(self) -> None:
        self._office.emit("stuck", self, pid=self._pid, wait_s=KILL_GRACE_S)

    # The process.

    def _abandon(self) -> None:
        """It is not born yet: the order is withdrawn, and a worker that comes too late leaves by itself."""
        if self._task is not None:
            self._task.cancel()

    async def _make(self) -> None:
        office, generation = self._office, self.generation
        stdout, stderr = (
            Pipe(lambda text: self._line("stdout", text)),
            Pipe(lambda text: self._line("stderr", text)),
        )
        self._pipes = (stdout, stderr)
        try:
            await office.nursery.make(
                office.order(self.spec, generation),
                self.spec.zygote,
                stdout.writer,
                stderr.writer,
                self._registered,
            )
        except OSError as error:
            self._spawn_errno = f"{type(error).__name__}: {error}"
            await self._bury(Status())
        except asyncio.CancelledError:
            if self._pid is None:
                await self._bury(Status())
        finally:
            stdout.close_writer()
            stderr.close_writer()

    def _work(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._worked)

    def _worked(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._office.fault(error)

    def _registered(self, born: Born) -> None:
        self._pid, self._pidfd = born.pid, born.pidfd
        self.identity = process.identify(born.pid)
        self.started_at = time.time()
        self.meter = Meter()
        self.mailbox = None
        self._office.reaper.watch(born.pid, self._gone, self._dying, self._stopped)
        self._office.emit("spawn", self, pid=born.pid, via=born.via)
        if self.state == "starting":
            self._arm_start()
            if self.spec.ready == "spawn":
                self.declare_ready()
        self._office.changed()

    def _line(self, stream: str, text: str) -> None:
        self._office.printed(self, stream, text)

    def _dying(self, pid: int) -> None:
        # The zombie still pins the group's id: whatever is left in the group goes with its leader.
        process.signal_group(pid, signal.SIGKILL)

    def _stopped(self, stopped: bool) -> None:
        self.paused = stopped
        self._office.changed()

    def _gone(self, status: Status) -> None:
        self._work(self._bury(status))

    async def _bury(self, status: Status) -> None:
        """Wait until the whole group is empty, then report. A port or a file may be held until then."""
        pid, self._pid = self._pid, None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + EMPTY_WAIT_S
        while loop.time() < deadline:
            strays = self._office.strays(self)
            for stray in strays:
                process.kill_child(stray)
            if not strays and (pid is None or process.group_is_empty(pid)):
                break
            await asyncio.sleep(_POLL_S)
        if self._pidfd >= 0:
            process.close_fd(self._pidfd)
            self._pidfd = -1
        for pipe in self._pipes or ():
            pipe.drain()
            pipe.close()
        self._pipes = None
        self._report_end(status)

    def _report_end(self, status: Status) -> None:
        name = None
        if status.signal is not None:
            with contextlib.suppress(ValueError):
                name = signal.Signals(status.signal).name
            name = name or f"signal {status.signal}"
        known = Exit(
            state=self.state,
            code=status.code,
            signal=name,
            core=status.core,
            requested=self.requested,
            killed_for=self._killed_for,
            left_for=self._left_for,
            detail=self._detail,
            reported=self.reported,
            clean_codes=self.spec.clean_exit_codes,
            fatal_codes=self.spec.fatal_exit_codes,
        )
        class_, message = lifecycle.classify(known)
        if self._spawn_errno and not self.requested:
            class_, message = "spawn_error", self._spawn_errno
        last = LastExit(
            class_, status.code, name, time.time(), message, self.ring.stderr_tail(self.generation)
        )
        self.last_exit = last
        self.identity = None
        self.ready = False
        self.ready_at = self.beat_at = None
        self.paused = False
        self.timers.cancel("phase")
        planned = self._left_for if class_ == self._left_for else None
        if self.ignoring and class_ == "normal":
            planned = "normal"  # said IGNORE: not an end but an answer
        self._office.is_gone(self, last, planned)

    def declare_ready(self) -> None:
        """It is up: by its own word, or by being born where that is enough."""
        now = asyncio.get_running_loop().time()
        self.ready = True
        self.ready_at = self.beat_at = now
        self.handle("ready")
        self._office.emit("ready", self)
        self._office.is_ready(self)
