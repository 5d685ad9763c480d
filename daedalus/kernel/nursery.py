"""The supervisor's hold on its zygotes: starts them, replaces dead ones, and makes actors through them.

An order that a zygote does not answer (dead, hung, still the size of a house) is carried out by a fresh
interpreter, so that no start is ever lost with a zygote.
"""

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from daedalus.kernel import bootstrap, process, zygote
from daedalus.kernel.bootstrap import Order
from daedalus.kernel.reaper import Reaper, Status
from daedalus.kernel.spec import PROGRAMS, ActorSpec, Tree

__all__ = ["Born", "Nursery", "actor_environment", "order_of"]

READY_TIMEOUT_S = 60.0  # ccxt takes about 5 s to import on a Pi 4
HANDSHAKE_TIMEOUT_S = 10.0
RESTART_BASE_S = 0.5
RESTART_CAP_S = 30.0
ZYGOTE_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}  # an arena per thread and core is memory we do not have
OOM_SCORE_ADJ = 200  # writers stay at 0: they go last


class Born(NamedTuple):
    """A process that was just made and is registered with the reaper."""

    pid: int
    pidfd: int
    via: str  # "zygote", "exec" or "command"


def actor_environment() -> dict[str, str]:
    """Return our environment without what systemd meant for us alone."""
    return {
        key: value for key, value in os.environ.items() if not key.startswith(("WATCHDOG_", "NOTIFY_SOCKET"))
    }


def order_of(spec: ActorSpec, generation: int, tree: Tree, available: Sequence[int]) -> Order:
    """Return what the next process of an actor is told. `available`: the cores that actors may have."""
    identity = {
        "NOTIFY_SOCKET": f"{tree.runtime}/notify.sock",
        "DAEDALUS_ACTOR": spec.name,
        "DAEDALUS_GENERATION": str(generation),
        "DAEDALUS_SUPERVISOR_PID": str(os.getpid()),
        "DAEDALUS_RUNTIME": tree.runtime,
    }
    return Order(
        name=spec.name,
        generation=generation,
        supervisor_pid=os.getpid(),
        runtime=tree.runtime,
        data=tree.data,
        target=spec.target,
        settings=base64.b64encode(spec.settings).decode(),
        heartbeat_interval_s=spec.heartbeat_interval_s,
        drain_s=spec.drain_s,
        command=[*spec.command, *spec.args],
        env=spec.env | identity,
        unset=[name for name in ZYGOTE_ENVIRONMENT if name not in os.environ],
        cwd=spec.cwd,
        cpus=list(spec.cpus),
        available=list(available),
        nice=spec.nice,
        ionice=spec.ionice,
        memory_rlimit=spec.memory_rlimit,
        oom_score_adj=0 if spec.role == "writer" else OOM_SCORE_ADJ,
    )


class _Zygote:
    def __init__(self, name: str, modules: tuple[str, ...]) -> None:
        self.name = name
        self.modules = modules
        self.pid: int | None = None
        self.socket: socket.socket | None = None
        self.settled = asyncio.Event()  # ready or dead: whoever waits may go on
        self.ready = False
        self.failures = 0
        self.handle: asyncio.TimerHandle | None = None


class Nursery:
    """Makes processes. One order at a time per call; calls run side by side."""

    def __init__(
        self, preload: Mapping[str, tuple[str, ...]], reaper: Reaper, report: Callable[..., None]
    ) -> None:
        """Prepare, start nothing.

        Args:
            preload: zygote name -> the modules it imports.
            reaper: is told of every process made here.
            report: called as report(event_name, **values) for the supervisor's log.
        """
        self._zygotes = {name: _Zygote(name, modules) for name, modules in preload.items()}
        self._reaper = reaper
        self._report = report
        self._closing = False
        self._groups: set[int] = set()

    def start(self) -> None:
        """Start all zygotes; they import side by side."""
        for item in self._zygotes.values():
            self._start(item)

    def ensure(self, preload: Mapping[str, tuple[str, ...]]) -> None:
        """Start the zygotes that a changed tree needs and the present one does not have."""
        for name, modules in preload.items():
            if name not in self._zygotes:
                self._zygotes[name] = _Zygote(name, modules)
                self._start(self._zygotes[name])

    def pids(self) -> dict[str, int | None]:
        """Return the pid of each zygote, None while it is dead."""
        return {name: item.pid for name, item in self._zygotes.items()}

    def _start(self, item: _Zygote) -> None:
        item.handle = None
        item.settled.clear()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            environment = ZYGOTE_ENVIRONMENT | actor_environment()
            command = [sys.executable, "-P", "-m", "daedalus.kernel.zygote", "--serve"]
            command += [str(theirs.fileno()), str(os.getpid()), *item.modules]
            try:
                child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    command,
                    stdin=subprocess.DEVNULL,
                    env=environment,
                    pass_fds=[theirs.fileno()],
                    process_group=0,
                )
            except OSError as error:  # no process, no memory: until there is, actors get interpreters
                ours.close()
                item.settled.set()
                item.failures += 1
                delay = min(RESTART_CAP_S, RESTART_BASE_S * 2.0 ** (item.failures - 1))
                self._report("zygote_failed", zygote=item.name, error=str(error), restart_in_s=delay)
                item.handle = asyncio.get_running_loop().call_later(delay, self._start, item)
                return
        ours.setblocking(False)
        item.socket = ours
        item.pid = process.release(child)
        self._groups.add(item.pid)
        self._reaper.watch(item.pid, lambda status: self._died(item, status))
        asyncio.get_running_loop().add_reader(ours, self._reported, item, ours)

    def _reported(self, item: _Zygote, sock: socket.socket) -> None:
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # its end closed: the reaper will tell
            asyncio.get_running_loop().remove_reader(sock)
            return
        item.ready = True
        item.failures = 0
        item.settled.set()
        self._report("zygote_started", zygote=item.name, pid=item.pid, **json.loads(data))

    def _died(self, item: _Zygote, status: Status) -> None:
        loop = asyncio.get_running_loop()
        if item.socket is not None:
            loop.remove_reader(item.socket)
            item.socket.close()
            item.socket = None
        pid, item.pid, item.ready = item.pid, None, False
        item.settled.set()
        if self._closing:
            return
        delay = min(RESTART_CAP_S, RESTART_BASE_S * 2.0 ** (item.failures - 1)) if item.failures else 0.0
        item.failures += 1
        self._report(
            "zygote_exited",
            zygote=item.name,
            pid=pid,
            code=status.code,
            signal=status.signal,
            restart_in_s=delay,
        )
        item.handle = loop.call_later(delay, self._start, item)

    def groups(self) -> set[int]:
        """Return the process groups of all zygotes so far: unregistered workers still belong to one."""
        return self._groups

    async def make(
        self,
        order: Order,
        name: str,
        stdout: int,
        stderr: int,
        register: Callable[[Born], None],
    ) -> Born:
        """Make the process of `order` and return it, registered.

        Args:
            order: what it is to be.
            name: the zygote to use for a built-in actor; foreign programs have theirs.
            stdout: descriptor for its standard output; stays open here.
            stderr: the same for standard error.
            register: called with the process before it may do anything.

        Raises:
            OSError: no process could be made at all.
        """
        item = self._zygotes.get(PROGRAMS if order["command"] else name)
        if item is not None:
            born_there = await self._ask(item, order, (stdout, stderr), register)
            if born_there is not None:
                return born_there
        born = self._execute(order, stdout, stderr)
        register(born)
        return born

    async def _ask(
        self, item: _Zygote, order: Order, fds: tuple[int, int], register: Callable[[Born], None]
    ) -> Born | None:
        """Have a zygote carry out the order. None: it did not, and will not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_TIMEOUT_S):
                await item.settled.wait()
        payload = json.dumps(order).encode()
        if item.socket is None or not item.ready or len(payload) > zygote.ORDER_MAX:
            return None
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._reaper.expecting += 1
        try:
            ours.setblocking(False)
            with theirs:
                socket.send_fds(item.socket, [payload], [*fds, theirs.fileno()])
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                pid = await loop.sock_recv(ours, 32)
            if not pid:
                return None
            via = "command" if order["command"] else "zygote"
            born = Born(int(pid), os.pidfd_open(int(pid)), via)
            register(born)
            with contextlib.suppress(OSError):  # died since: the reaper will tell
                ours.send(zygote.GO)
        except (OSError, TimeoutError):
            return None
        else:
            return born
        finally:
            ours.close()
            self._reaper.expecting -= 1
            loop.call_soon(self._reaper.collect)  # what was left alone while the pid was unknown

    def _execute(self, order: Order, stdout: int, stderr: int) -> Born:
        environment = actor_environment() | order["env"]
        payload = os.memfd_create("order", os.MFD_CLOEXEC)
        try:
            os.write(payload, json.dumps(order).encode())
            if order["command"]:
                command = [sys.executable, "-I", "-S", bootstrap.__file__, str(payload)]
            else:
                environment = ZYGOTE_ENVIRONMENT | environment
                command = [sys.executable, "-P", "-m", "daedalus.kernel.zygote", "--exec", str(payload)]
            child = subprocess.Popen(  # noqa: S603 - our own interpreter; the program behind it is the user's
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                pass_fds=[payload],
                process_group=0,
            )
        finally:
            os.close(payload)
        pid = process.release(child)
        return Born(pid, os.pidfd_open(pid), "command" if order["command"] else "exec")

    def close(self) -> None:
        """Kill the zygotes. Their actors are not theirs and live on."""
        self._closing = True
        for item in self._zygotes.values():
            if item.handle is not None:
                item.handle.cancel()
            if item.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(item.pid, signal.SIGKILL)  # our unreaped child: the pid is pinned
