"""A new supervisor in the place of the old one, with every actor kept: exec in place.

`execve` keeps the pid, the children and the open descriptors of a process, and replaces everything else. So
what the old image knows goes into a memory file, with the numbers of the descriptors that stay open (locks,
sockets, the pipes that actors print into); the new image builds the same supervisor around it. The children
never notice: their parent has the same pid, what they print waits in the pipes, what they say in the socket.

    old image                                  new image
    try whether the new program can be loaded,
      and understands what it will be left
    spawn nothing any more, wait for those
      being made or buried
    estate ──▶ memory file ── execve ──▶       estate ──▶ take_over() ──▶ resume()

The zygotes are left behind: they hold the code of the old image.
"""

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from daedalus.kernel import errand
from daedalus.kernel.cell import Cell
from daedalus.kernel.errors import ControlError
from daedalus.kernel.group import Group
from daedalus.kernel.lifecycle import Class, Event, State
from daedalus.kernel.logs import Pipe
from daedalus.kernel.notify import Listener
from daedalus.kernel.nursery import actor_environment
from daedalus.kernel.postmortem import LastExit
from daedalus.kernel.spec import ActorSpec, Tree

if TYPE_CHECKING:
    from daedalus.kernel.supervisor import Supervisor

__all__ = ["Estate", "end_of", "inherited", "reexec", "resume", "take_over", "understand"]

_VARIABLE = "DAEDALUS_ESTATE"  # "pid:fd" of the memory file
_VERSION = 1
_TRY_S = 60.0
_QUIET_S = 20.0  # the longest that a process is made or buried, and then some
_TRIAL = """
import sys, daedalus.cli.supervisor, daedalus.kernel.launch
from daedalus.kernel.upgrade import understand
understand(open(sys.argv[1], "rb").read())
"""


class Pipes(msgspec.Struct, frozen=True):
    """One stream of an actor: the reading end, and what was read of an unfinished line."""

    fd: int
    rest: bytes


class CellEstate(msgspec.Struct, kw_only=True):
    """Everything a cell knows that its specification does not say. Times are monotonic, and stay valid."""

    spec: ActorSpec
    state: State
    substate: str
    shut_gates: tuple[str, ...]
    generation: int
    last_exit: LastExit | None
    restarts: int
    restarted: list[float]
    failures: int
    ring: bytes
    log_dropped: int
    ready: bool
    ready_at: float | None
    started_at: float | None
    beat_at: float | None
    mailbox: int | None
    status_text: str
    stats: dict[str, Any] | None
    stats_at: float | None
    drained: tuple[int | None, int | None] | None
    drain_timed_out: bool
    requested: bool
    paused: bool
    suspended: bool
    killed_for: Class | None
    left_for: Class | None
    detail: str
    reported: str
    ignoring: bool
    phase: tuple[str, float, Event] | None = None  # name, seconds left, event
    pid: int | None = None
    pipes: tuple[Pipes, Pipes] | None = None


_APART = ("ring", "restarted", "phase", "pid", "pipes")
_FACTS = tuple(name for name in CellEstate.__struct_fields__ if name not in _APART)


class Estate(msgspec.Struct, kw_only=True):
    """What one image leaves to the next. A new field has a default, or the version changes."""

    version: int = _VERSION
    tree: Tree
    cores: list[int]
    image: int
    state: str
    started_mono: float
    end_at: float | None
    foreign_datagrams: int
    hurry_s: float | None
    groups: list[Group]
    cells: list[CellEstate]
    waits: list[tuple[str, str, float]]  # owner, child, seconds left
    holds: list[tuple[str, str, float]]
    postponed: list[str]
    events: bytes
    backlog: bytes
    control_fd: int
    notify_fd: int
    lock_fds: list[int]


# In the old image.


async def reexec(supervisor: "Supervisor") -> int:
    """Become the newest program on the next turn of the loop; return the number of the present image.

    Raises:
        ControlError: the new program cannot be loaded, or the supervisor is on its way out. All goes on.
    """
    _need_life(supervisor)
    await _try(supervisor)
    _need_life(supervisor)  # it may have been told to stop meanwhile
    supervisor.frozen = True
    try:
        async with asyncio.timeout(_QUIET_S):
            while any(cell.body.busy for cell in supervisor.cells.values()):
                await supervisor.until_change()
                await asyncio.sleep(0)  # the task that told of the change ends after this turn
    except TimeoutError:
        _thaw(supervisor)
        busy = ", ".join(name for name, cell in supervisor.cells.items() if cell.body.busy)
        message = f"cannot replace the supervisor: {busy} neither comes nor goes"
        raise ControlError("timeout", message) from None
    asyncio.get_running_loop().call_soon(_leave, supervisor)
    return supervisor.image


def _need_life(supervisor: "Supervisor") -> None:
    if supervisor.frozen or supervisor.state not in ("starting", "running"):
        raise ControlError("busy", f"cannot replace a supervisor that is {supervisor.state}")


async def _try(supervisor: "Supervisor") -> None:
    """Have a child of the new program load itself, and read an estate as it would be now."""
    trial = supervisor.home.path / "estate.trial"
    try:
        trial.write_bytes(msgspec.msgpack.encode(_write(supervisor, let_go=False)))
        tried = await errand.run(
            [sys.executable, "-P", "-c", _TRIAL, str(trial)],
            supervisor.reaper,
            timeout_s=_TRY_S,
            environment=actor_environment(),
        )
    except OSError as error:
        raise ControlError("failed", f"cannot try the new program: {error}") from None
    finally:
        trial.unlink(missing_ok=True)
    if not tried.ok:
        raise ControlError("failed", f"cannot load the new program: {tried.complaint()}")


def _thaw(supervisor: "Supervisor") -> None:
    supervisor.frozen = False
    postponed, supervisor.postponed = supervisor.postponed, []
    for name in postponed:
        supervisor.cells[name].start()


def _leave(supervisor: "Supervisor") -> None:
    if any(cell.body.busy for cell in supervisor.cells.values()):  # one more end in this very turn
        asyncio.get_running_loop().call_later(0.01, _leave, supervisor)
        return
    if supervisor.state not in ("starting", "running"):  # told to stop in the last moment
        _thaw(supervisor)
        return
    estate = _write(supervisor, let_go=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    try:
        supervisor.nursery.close()
        _exec(estate)
    except OSError as error:  # the program has gone since it was tried
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
        supervisor.fault(error)


def _exec(estate: Estate) -> NoReturn:
    memory = os.memfd_create("estate", 0)
    with os.fdopen(os.dup(memory), "wb") as file:
        file.write(msgspec.msgpack.encode(estate))
    # a stream that the actor has closed has no descriptor any more
    pipes = [pipe.fd for cell in estate.cells for pipe in cell.pipes or () if pipe.fd >= 0]
    for fd in (memory, estate.control_fd, estate.notify_fd, *estate.lock_fds, *pipes):
        os.set_inheritable(fd, True)
    os.environ[_VARIABLE] = f"{os.getpid()}:{memory}"
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves, anew


def _write(supervisor: "Supervisor", *, let_go: bool) -> Estate:
    """Return the estate as it is now. `let_go`: this image uses its sockets and pipes no more."""
    control_fd = notify_fd = -1
    if let_go:
        assert supervisor.listener is not None
        supervisor.empty_mail()
        control_fd, notify_fd = supervisor.control.release(), supervisor.listener.release()
        supervisor.listener = None
    waits, holds = [], []
    for owner, group in supervisor.groups.items():
        for child in group.children:
            left_s = supervisor.timers.remaining((owner, child.name))
            if left_s is not None:
                waits.append((owner, child.name, left_s))
            held_s = supervisor.timers.remaining(("hold", child.name))
            if held_s is not None:
                holds.append((owner, child.name, held_s))
    return Estate(
        tree=supervisor.tree,
        cores=list(supervisor.cores),
        image=supervisor.image,
        state=supervisor.state,
        started_mono=supervisor.started_mono,
        end_at=supervisor.end_at,
        foreign_datagrams=supervisor.foreign_datagrams,
        hurry_s=supervisor.hurry_s,
        groups=list(supervisor.groups.values()),
        cells=[_write_cell(cell, let_go=let_go) for cell in supervisor.cells.values()],
        waits=waits,
        holds=holds,
        postponed=supervisor.postponed,
        events=supervisor.events.dump(),
        backlog=supervisor.output.dump(),
        control_fd=control_fd,
        notify_fd=notify_fd,
        lock_fds=supervisor.home.locks,
    )


def _write_cell(cell: Cell, *, let_go: bool) -> CellEstate:
    facts = {name: getattr(cell, name) for name in _FACTS}
    left_s = cell.timers.remaining("phase")
    phase = None
    if cell.phase is not None and left_s is not None:
        phase = (cell.phase[0], left_s, cell.phase[1])
    pipes = None
    if cell.body.pipes is not None and let_go:
        stdout, stderr = (Pipes(*pipe.release()) for pipe in cell.body.pipes)
        pipes = (stdout, stderr)
    return CellEstate(
        **facts,
        ring=cell.ring.dump(),
        restarted=list(cell.restarted),
        phase=phase,
        pid=cell.pid,
        pipes=pipes,
    )


# In the new image.

_estate: Estate | None = None


def understand(data: bytes) -> Estate:
    """Return the estate that an image has written, which may be an older one than this.

    Raises:
        msgspec.DecodeError: it is not one, or one of another form.
    """
    estate = msgspec.msgpack.decode(data, type=Estate)
    if estate.version != _VERSION:
        raise msgspec.ValidationError(f"an estate of version {estate.version}, must be {_VERSION}")
    return estate


def inherited() -> Estate | None:
    """Return what an earlier image of this very process left, None when there was none.

    Raises:
        msgspec.DecodeError: it cannot be understood. The process ends, and its actors with it: a new one
            begins from the beginning.
    """
    global _estate  # noqa: PLW0603 - asked twice: by the command line and by `run`
    text = os.environ.pop(_VARIABLE, "")
    pid, _, fd = text.partition(":")
    if pid == str(os.getpid()) and fd.isdecimal():
        with open(int(fd), "rb") as file:  # noqa: PTH123 - a descriptor
            file.seek(0)
            _estate = understand(file.read())
    return _estate


def end_of(estate: Estate | None, duration_s: float) -> float | None:
    """Return when the tree is to stop by itself, monotonic seconds."""
    if estate is not None:
        return estate.end_at
    return asyncio.get_running_loop().time() + duration_s if duration_s > 0 else None


async def take_over(supervisor: "Supervisor", estate: Estate) -> None:
    """Build the supervisor that the earlier image was, around the processes it left."""
    supervisor.image = estate.image + 1
    supervisor.state = estate.state
    supervisor.started_mono = estate.started_mono
    supervisor.foreign_datagrams = estate.foreign_datagrams
    supervisor.hurry_s = estate.hurry_s
    supervisor.home.locks = estate.lock_fds
    supervisor.events.load(estate.events)
    supervisor.output.load(estate.backlog)
    for fd in (estate.control_fd, estate.notify_fd, *estate.lock_fds):
        os.set_inheritable(fd, False)
    supervisor.groups = {group.spec.name: group for group in estate.groups}
    supervisor.cells = {left.spec.name: _revive(supervisor, left) for left in estate.cells}
    supervisor.listen(Listener.adopt(estate.notify_fd, supervisor.heard))
    await supervisor.control.adopt(estate.control_fd)


def _revive(supervisor: "Supervisor", left: CellEstate) -> Cell:
    cell = Cell(left.spec, supervisor)
    for name in _FACTS:
        setattr(cell, name, getattr(left, name))
    cell.ring.load(left.ring)
    cell.restarted.extend(left.restarted)
    if left.pid is not None and left.pipes is not None:
        stdout = Pipe.adopt(left.pipes[0].fd, left.pipes[0].rest, cell.body.pipe("stdout"))
        stderr = Pipe.adopt(left.pipes[1].fd, left.pipes[1].rest, cell.body.pipe("stderr"))
        leaf = supervisor.cgroups.leaf(left.spec.name) if supervisor.cgroups is not None else None
        cell.body.adopt(left.pid, (stdout, stderr), leaf)
        supervisor.know(left.pid, cell)
    if left.phase is not None:
        cell.arm(*left.phase)
    return cell


def resume(supervisor: "Supervisor", estate: Estate) -> None:
    """Go on where the earlier image stopped."""
    for owner, name, left_s in estate.waits:
        supervisor.wait_due(owner, name, left_s)
    for owner, name, left_s in estate.holds:
        supervisor.wait_held(owner, name, left_s)
    supervisor.gatekeeper.resume()
    for name in estate.postponed:
        supervisor.cells[name].start()
    supervisor.report("supervisor_replaced", image=supervisor.image, actors=len(supervisor.cells))
    supervisor.record("reexec", None, None, image=supervisor.image, actors=len(supervisor.cells))
    supervisor.reaper.collect()
    supervisor.changed()
