"""Gates: what must be true of the machine before an actor is started, and when to look again.

    time-sync              the wall clock is set from the network
    path:/dev/ttyUSB0      the file exists
    net:default-route      there is a way out, by IPv4 or IPv6
    actor:NAME=running     that actor is ready (a degraded one still is)

A held actor has not failed. Nothing is armed while nobody is held: `Watch` follows exactly the gates it is
given. It only says that looking may be worth it; what is true is asked again each time.
"""

import asyncio
import contextlib
import errno
import os
import select
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from daedalus.kernel import inotify, timesync
from daedalus.kernel.errors import ConfigError
from daedalus.kernel.inotify import Inotify

__all__ = ["FORMS", "Gate", "Watch", "is_open", "parse", "shut"]

FORMS = ("time-sync", "path:/ABSOLUTE", "net:default-route", "actor:NAME=running")
LOOK_S = 1.0  # where the kernel has no event for it

_RTMGRP_IPV4_ROUTE = 0x40
_RTMGRP_IPV6_ROUTE = 0x400
_NETLINK_BYTES = 65536
_RTF_UP = 0x1
_RTF_REJECT = 0x200
_READY = ("running", "degraded")
_ARM_TRIES = 4


class Gate(NamedTuple):
    """One gate. `subject` is the path of `path` and the name of `actor`, else empty."""

    kind: Literal["time-sync", "path", "net", "actor"]
    subject: str = ""


def parse(text: str) -> Gate:
    """Return the gate that `text` names.

    Raises:
        ConfigError: there is no such gate; the message names those there are.
    """
    kind, _, rest = text.partition(":")
    if text == "time-sync":
        return Gate("time-sync")
    if text == "net:default-route":
        return Gate("net")
    if kind == "path" and rest.startswith("/") and "\0" not in rest:
        return Gate("path", rest)
    name, _, state = rest.rpartition("=")
    if kind == "actor" and name and state == "running":
        return Gate("actor", name)
    raise ConfigError(f"cannot read the gate {text!r}: must be one of {', '.join(FORMS)}")


def is_open(gate: Gate, states: Callable[[str], str | None], root: Path = Path("/")) -> bool:
    """Return whether the gate is open now. Reads a few small files, nothing that blocks.

    Args:
        gate: which.
        states: gives the state of an actor, None for one that there is not.
        root: what the files are below; for tests.
    """
    match gate.kind:
        case "time-sync":
            return timesync.is_synchronized(root)
        case "path":
            return os.path.exists(root / gate.subject.lstrip("/"))  # noqa: PTH110 - False on any error
        case "net":
            return has_default_route(root)
        case "actor":
            return states(gate.subject) in _READY


def shut(
    requires: Iterable[str], states: Callable[[str], str | None], root: Path = Path("/")
) -> tuple[str, ...]:
    """Return those of the gates that are still shut, in the order given.

    Raises:
        ConfigError: one of them is no gate.
    """
    return tuple(text for text in requires if not is_open(parse(text), states, root))


def has_default_route(root: Path = Path("/")) -> bool:
    """Return whether the kernel has a default route that leads somewhere."""
    return any(map(_is_default_4, _lines(root / "proc/net/route"))) or any(
        map(_is_default_6, _lines(root / "proc/net/ipv6_route"))
    )


def _lines(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text("ascii", "replace").splitlines()]
    except OSError:  # no IPv6, or no right to look
        return []


def _is_default_4(fields: list[str]) -> bool:
    """Iface Destination Gateway Flags RefCnt Use Metric Mask …, addresses and flags in hexadecimal."""
    return len(fields) > 7 and fields[1] == fields[7] == "0" * 8 and _leads_out(fields[3], fields[0])


def _is_default_6(fields: list[str]) -> bool:
    """Destination length source length next-hop metric use-count use flags iface, all hexadecimal.

    Without a default route the kernel lists one all the same: to lo, refusing.
    """
    return len(fields) == 10 and fields[:2] == ["0" * 32, "00"] and _leads_out(fields[8], fields[9])


def _leads_out(flags: str, interface: str) -> bool:
    return interface != "lo" and int(flags, 16) & (_RTF_UP | _RTF_REJECT) == _RTF_UP


class Watch:
    """Says when it is worth looking at the gates again. Lives on the running loop."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """Follow nothing yet. `changed` is called on the loop, never from within `follow` or `close`."""
        self._changed = changed
        self._gates: frozenset[Gate] = frozenset()
        self._paths: _Paths | None = None
        self._routes: _Routes | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.Handle | None = None

    def follow(self, gates: Iterable[Gate]) -> None:
        """Follow exactly these from now on. Whatever is new among them is looked at once more, soon.

        That closes the gap between a look that found a gate shut and the moment it was followed.
        """
        wanted = frozenset(gates)
        fresh = wanted - self._gates
        self._gates = wanted
        paths = {gate.subject for gate in wanted if gate.kind == "path"}
        if paths and self._paths is None:
            self._paths = _Paths(self.look)
        if self._paths is not None:
            self._paths.follow(paths)
            if not paths:
                self._paths.close()
                self._paths = None
        net = any(gate.kind == "net" for gate in wanted)
        if net and self._routes is None:
            self._routes = _Routes(self.look)
        elif not net and self._routes is not None:
            self._routes.close()
            self._routes = None
        self._tick()
        if fresh:
            self.look()

    def look(self) -> None:
        """Call `changed` in the next turn of the loop, once for any number of calls.

        For the supervisor when an actor's state changes; a no-op while nothing is followed.
        """
        if self._gates and self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._soon = None
        self._changed()

    @property
    def armed(self) -> tuple[str, ...]:
        """Return what it listens to now: "inotify", "mounts", "netlink", "timer"."""
        found = [] if self._paths is None else self._paths.armed
        found += ["netlink"] if self._routes is not None and self._routes.works else []
        return (*found, *(["timer"] if self._timer is not None else []))

    def _tick(self) -> None:
        """Arm the timer when something is followed for which there is no event, else disarm it."""
        blind = (self._paths is not None and not self._paths.works) or (
            self._routes is not None and not self._routes.works
        )
        if blind or any(gate.kind == "time-sync" for gate in self._gates):
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._rung)
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rung(self) -> None:
        self._timer = None
        self._tick()
        self.look()

    def close(self) -> None:
        """Follow nothing any more and give everything back."""
        self.follow(())
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None


class _Paths:
    """Waits for files to appear: by the nearest directory above that exists, and by mounts."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._wanted: set[str] = set()
        self._names: dict[int, set[str]] = {}  # watch -> names that lead on to something wanted
        self._complete = True
        self._inotify = Inotify.open()
        if self._inotify is not None:
            asyncio.get_running_loop().add_reader(self._inotify.fd, self._read)
        self._mounts = _Mounts(self._mounted)

    @property
    def works(self) -> bool:
        """Whether every wanted path has a watch that will tell."""
        return self._inotify is not None and self._complete and self._mounts.works

    @property
    def armed(self) -> list[str]:
        found = ["inotify"] if self._names else []
        return found + (["mounts"] if self._mounts.works else [])

    def follow(self, paths: set[str]) -> None:
        if paths != self._wanted:
            self._wanted = paths
            self._arm()

    def _arm(self) -> None:
        """Watch anew. A path that appears while we arm is found by the look that always follows."""
        if self._inotify is None:
            return
        before, self._names, self._complete = set(self._names), {}, True
        for path in self._wanted:
            for target in {os.path.abspath(path), os.path.realpath(path)}:  # noqa: PTH100 - not resolve: both
                self._complete &= self._arm_one(self._inotify, target)
        for watch in before - set(self._names):
            self._inotify.forget(watch)

    def _arm_one(self, instance: Inotify, target: str) -> bool:
        """Watch the nearest directory above `target` for the name that leads on. False: no use."""
        for _ in range(_ARM_TRIES):
            above, name = os.path.split(target)
            while (watch := instance.watch(above, inotify.APPEARS | inotify.GONE)) is None:
                if above == "/":
                    return False
                above, name = os.path.split(above)
            self._names.setdefault(watch, set()).add(name)
            step = os.path.join(above, name)  # noqa: PTH118 - strings all along
            if step == target or not os.path.lexists(step):
                return True
        return False  # it appeared just before we watched for it, each time; or we may not look into it

    def _read(self) -> None:
        if self._inotify is None:
            return
        for news in self._inotify.read():
            if news.mask & inotify.OVERFLOW or news.name in self._names.get(news.watch, ()):
                break
            if news.watch in self._names and news.mask & (inotify.GONE | inotify.IGNORED):
                break
        else:
            return
        self._mounted()

    def _mounted(self) -> None:
        self._arm()
        self._look()

    def close(self) -> None:
        self._mounts.close()
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None


class _Mounts:
    """Says when something is mounted: a path can appear without any event in its directory.

    The kernel's table of mounts is always readable and signals a change as an exceptional condition, which
    the loop does not wait for; an epoll of its own turns that into something readable.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._epoll = select.epoll()
        self._table = -1
        with contextlib.suppress(OSError):
            self._table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
            self._epoll.register(self._table, select.EPOLLPRI)
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._read)

    @property
    def works(self) -> bool:
        return self._table >= 0

    def _read(self) -> None:
        self._epoll.poll(0)  # finds nothing: the loop's own question has used the condition up
        self._changed()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()
        if self._table >= 0:
            os.close(self._table)
            self._table = -1


class _Routes:
    """Says when a route comes or goes, by the kernel's own broadcast."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._socket: socket.socket | None = None
        with contextlib.suppress(OSError):  # refused where AF_NETLINK is filtered
            self._socket = _broadcast()
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    @property
    def works(self) -> bool:
        return self._socket is not None

    def _read(self) -> None:
        if self._socket is None:
            return
        try:
            self._socket.recv(_NETLINK_BYTES)  # one per turn: the look is one for all of them
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # Some news was lost, which is news.
        self._look()

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None


def _broadcast() -> socket.socket:
    """Return a socket on which the kernel tells of every route that comes or goes."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        made.setblocking(False)
        made.bind((0, _RTMGRP_IPV4_ROUTE | _RTMGRP_IPV6_ROUTE))
    except OSError:
        made.close()
        raise
    return made
