"""The sd_notify protocol: datagrams of KEY=value lines to the socket in $NOTIFY_SOCKET, and its other end."""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Self

__all__ = ["DATAGRAM_MAX", "Listener", "Notifier", "parse"]

DATAGRAM_MAX = 64 * 1024  # bytes; statistics of an actor may be long
_BUDGET = 1024  # datagrams per turn of the loop
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid: the last two are unsigned, and "nobody" may be 2**32 - 2
_LINE_ENDS = str.maketrans("\r\n\0", "   ")


class Notifier:
    """Sends state to whoever supervises this process; without $NOTIFY_SOCKET it does nothing.

    Every method returns False when the message is lost: the socket is full or gone, or the message too long.
    A sign of life may be lost, the next one comes; who must be heard (`ready`) tries again.
    """

    def __init__(self, address: str | None = None) -> None:
        """Speak to `address` (default: $NOTIFY_SOCKET), a path or an abstract name that begins with @."""
        path = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def send(self, **state: str | int) -> bool:
        """Send one datagram of KEY=value lines; line ends within a value become blanks."""
        if self._socket is None:
            return True
        text = "\n".join(f"{key}={str(value).translate(_LINE_ENDS)}" for key, value in state.items())
        try:
            self._socket.sendto(text.encode("utf-8", "replace"), self._address)
        except OSError:
            return False
        return True

    def ready(self, status: str = "") -> bool:
        """Say that we are up, or up again after `reloading`."""
        return self.send(READY=1, STATUS=status) if status else self.send(READY=1)

    def reloading(self) -> bool:
        """Say that the configuration is being read anew; `ready` must follow."""
        return self.send(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

    def stopping(self) -> bool:
        """Say that the end has begun."""
        return self.send(STOPPING=1)

    def watchdog(self) -> bool:
        """Give a sign of life."""
        return self.send(WATCHDOG=1)

    def status(self, text: str) -> bool:
        """Say in one line what we are at."""
        return self.send(STATUS=text)

    def extend_timeout(self, usec: int) -> bool:
        """Ask for `usec` more, from now on, before a start, stop or run is taken to hang."""
        return self.send(EXTEND_TIMEOUT_USEC=usec)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def parse(data: bytes) -> dict[str, str]:
    """Return the assignments of one datagram; lines without "=" are skipped, the last of a key wins."""
    pairs = (line.partition("=") for line in data.decode("utf-8", "replace").split("\n"))
    return {key: value for key, separator, value in pairs if separator}


class Listener:
    """The supervisor's end: one datagram socket for all actors. The kernel says which process sent what."""

    def __init__(self, path: str, heard: Callable[[int, dict[str, str]], None]) -> None:
        """Bind `path`. `heard(pid, assignments)` is called by `empty`."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - a stale one of a dead supervisor; the lock is ours
        fresh = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        fresh.bind(path)
        self._begin(fresh, heard)

    @classmethod
    def adopt(cls, fd: int, heard: Callable[[int, dict[str, str]], None]) -> Self:
        """Take over the socket that an earlier image of this process let go with `release`."""
        self = cls.__new__(cls)
        self._begin(socket.socket(fileno=fd), heard)
        return self

    def _begin(self, bound: socket.socket, heard: Callable[[int, dict[str, str]], None]) -> None:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket = bound
        self._heard = heard
        self._buffer = memoryview(bytearray(DATAGRAM_MAX))
        self.malformed = 0  # too long, not UTF-8, without an assignment or a sender

    def fileno(self) -> int:
        """Return the descriptor, for the loop."""
        return self._socket.fileno()

    def empty(self) -> None:
        """Hand on everything that has arrived."""
        space = socket.CMSG_SPACE(_CREDENTIALS.size)
        for _ in range(_BUDGET):
            try:
                size, ancillary, flags, _ = self._socket.recvmsg_into([self._buffer], space)
            except BlockingIOError:
                return
            said = _understood(bytes(self._buffer[:size])) if not flags & socket.MSG_TRUNC else {}
            pid = _sender(ancillary)
            if said and pid > 0:
                self._heard(pid, said)
            else:
                self.malformed += 1

    def release(self) -> int:
        """Let go of the socket for the next image of this process: what waits in it is not lost."""
        return self._socket.detach()

    def close(self) -> None:
        """Close the socket; the file stays until the runtime directory is cleared."""
        self._socket.close()


def _understood(data: bytes) -> dict[str, str]:
    """Return the assignments, none when the datagram is not text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return {}
    return {} if "\0" in text.rstrip("\0") else parse(data)


def _sender(ancillary: list[tuple[int, int, bytes]]) -> int:
    """Return the pid in the kernel's credentials; 0 for a process of another pid namespace, or for none."""
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(content) >= _CREDENTIALS.size:
            return int(_CREDENTIALS.unpack(content[: _CREDENTIALS.size])[0])
    return 0
