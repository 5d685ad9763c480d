"""The processes of one actor: made, watched, signalled, and buried only when the last of them is gone.

An actor may fork; what it leaves behind holds ports and files. So its end is told when its process group is
empty, and its control group too where there is one: a grandchild with a session of its own escapes from the
first and not from the second.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from daedalus.kernel import process
from daedalus.kernel.bootstrap import Order
from daedalus.kernel.cgroups import Cgroups, Leaf
from daedalus.kernel.logs import Pipe
from daedalus.kernel.nursery import Born, Nursery
from daedalus.kernel.reaper import Reaper, Status

__all__ = ["Body", "Hooks", "Maker"]

EMPTY_WAIT_S = 5.0  # for the last of a killed group to vanish; after that it is told as stuck
_POLL_S = 0.01
_LINGER_POLL_S = 0.5


class Maker(Protocol):
    """What makes and ends processes."""

    nursery: Nursery
    reaper: Reaper
    cgroups: Cgroups | None

    def strays(self, name: str) -> list[int] | None: ...
    def fault(self, error: BaseException) -> None: ...


class Hooks(NamedTuple):
    """Whom a body tells what."""

    born: Callable[[Born], None]
    lingers: Callable[[], None]  # the leader is dead, and somebody in its group does not die
    gone: Callable[[Status], None]  # nothing of it is left
    stopped: Callable[[bool], None]  # SIGSTOP, SIGCONT
    printed: Callable[[str, str], None]  # stream, line


class Body:
    """At most one process group at a time."""

    def __init__(self, name: str, maker: Maker, hooks: Hooks) -> None:
        """Begin without a process."""
        self._name = name
        self._maker = maker
        self._hooks = hooks
        self._task: asyncio.Task[None] | None = None
        self.pid: int | None = None  # of the leader, which is also the id of its group
        self.pidfd = -1
        self.identity: process.Identity | None = None
        self.pipes: tuple[Pipe, Pipe] | None = None
        self.leaf: Leaf | None = None
        self._making: asyncio.Task[None] | None = None
        self._ooms = 0  # that its control group had seen before it was born
        self.oom_killed = False
        self.error = ""  # why it could not be made

    @property
    def busy(self) -> bool:
        """Whether a process is being made or buried: its descriptors belong to a task meanwhile."""
        return self._task is not None and not self._task.done()

    def make(self, order: Order, zygote: str, memory_hard: int | None) -> None:
        """Make the process of `order`; `born` is told before it may do anything."""
        self.oom_killed, self.error = False, ""
        self._making = self._work(self._make(order, zygote, memory_hard))

    def abandon(self) -> None:
        """Withdraw the order if it is not born yet: a worker that comes too late leaves by itself."""
        if self._making is not None:
            self._making.cancel()

    def adopt(self, pid: int, pipes: tuple[Pipe, Pipe], leaf: Leaf | None) -> None:
        """Take over a child that an earlier image of this process made."""
        self.pid, self.pidfd, self.identity = pid, os.pidfd_open(pid), process.identify(pid)
        self.pipes, self.leaf = pipes, leaf
        self._maker.reaper.watch(pid, self._dead, process.kill_group_of, self._hooks.stopped)

    def pipe(self, stream: str) -> Callable[[str], None]:
        """Return what takes the lines of one stream."""
        return lambda text: self._hooks.printed(stream, text)

    def tell(self, signum: int) -> bool:
        """Send a signal to the leader alone. False: there is none."""
        return self.pidfd >= 0 and process.signal_pidfd(self.pidfd, signum)

    def tell_all(self, signum: int) -> bool:
        """Send a signal to the whole group. False: there is none."""
        return self.pid is not None and process.signal_group(self.pid, signum)

    def kill(self) -> None:
        """Kill the group; what has no process yet is never born."""
        if self.pid is None:
            self.abandon()
        else:
            self.tell_all(signal.SIGKILL)

    def _work(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._worked)
        return self._task

    def _worked(self, task: "asyncio.Task[None]") -> None:
        if task is self._making:
            self._making = None
            if task.cancelled():  # withdrawn before it had begun: nobody else tells of the end
                self._work(self._bury(Status()))
        if not task.cancelled() and (error := task.exception()) is not None:
            self._maker.fault(error)

    async def _make(self, order: Order, zygote: str, memory_hard: int | None) -> None:
        stdout, stderr = Pipe(self.pipe("stdout")), Pipe(self.pipe("stderr"))
        self.pipes = (stdout, stderr)

        def register(born: Born) -> None:
            self._making = None
            self.pid, self.pidfd, self.identity = born.pid, born.pidfd, process.identify(born.pid)
            self._move_in(born.pid, memory_hard)
            self._maker.reaper.watch(born.pid, self._dead, process.kill_group_of, self._hooks.stopped)
            self._hooks.born(born)

        try:
            await self._maker.nursery.make(order, zygote, stdout.writer, stderr.writer, register)
        except OSError as error:
            self.error = f"{type(error).__name__}: {error}"
            await self._bury(Status())
        except asyncio.CancelledError:
            if self.pid is None:
                await self._bury(Status())
        finally:
            stdout.close_writer()
            stderr.close_writer()

    def _move_in(self, pid: int, memory_hard: int | None) -> None:
        """Put the process, which has not begun yet, into a control group of its own."""
        if self._maker.cgroups is None:
            return
        leaf = self._maker.cgroups.leaf(self._name)
        leaf.set_limits(memory_hard)
        if leaf.add(pid):
            self.leaf, self._ooms = leaf, leaf.oom_kills() or 0
        else:
            leaf.remove()

    def _dead(self, status: Status) -> None:
        self._work(self._bury(status))

    async def _bury(self, status: Status) -> None:
        pid, self.pid = self.pid, None
        loop = asyncio.get_running_loop()
        deadline: float | None = loop.time() + EMPTY_WAIT_S
        while not self._empty(pid):
            if deadline is not None and loop.time() > deadline:
                deadline = None
                self._hooks.lingers()
            # nothing tells of a group's end; one that waits for a disk is not worth a busy loop
            await asyncio.sleep(_POLL_S if deadline is not None else _LINGER_POLL_S)
        if self.leaf is not None:
            self.oom_killed = (self.leaf.oom_kills() or 0) > self._ooms
            self.leaf.remove()
            self.leaf = None
        if self.pidfd >= 0:
            process.close_fd(self.pidfd)
            self.pidfd = -1
        for pipe in self.pipes or ():
            await pipe.finish()  # an exit is told after the last line
        self.pipes = self.identity = None
        self._hooks.gone(status)

    def _empty(self, pid: int | None) -> bool:
        """Kill what escaped from the group, and return whether nothing of it is left."""
        if self.leaf is not None and self.leaf.populated():
            self.leaf.kill()
            return False
        strays = self._maker.strays(self._name)
        for stray in strays or ():
            process.kill_child(stray)
        return strays == [] and (pid is None or process.group_is_empty(pid))
