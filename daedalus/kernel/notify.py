"""The sd_notify protocol: datagrams of KEY=value lines to the socket in $NOTIFY_SOCKET, and its other end."""

import contextlib
import os
import socket
import struct
from collections.abc import Callable

__all__ = ["Listener", "Notifier", "parse"]

_DATAGRAM_MAX = 8192
_BUDGET = 1024  # datagrams per turn of the loop
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Notifier:
    """Sends state to whoever supervises this process; without $NOTIFY_SOCKET it does nothing."""

    def __init__(self, address: str | None = None) -> None:
        path = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def send(self, **state: str | int) -> None:
        """Send one datagram of KEY=value lines. A full or vanished socket is not the sender's problem."""
        if self._socket is not None:
            data = "\n".join(f"{key}={value}" for key, value in state.items()).encode()
            with contextlib.suppress(OSError):
                self._socket.sendto(data, self._address)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def parse(data: bytes) -> dict[str, str]:
    """Return the assignments of one datagram; lines without "=" are skipped, the last of a key wins."""
    pairs = (line.partition("=") for line in data.decode("utf-8", "replace").splitlines())
    return {key: value for key, separator, value in pairs if separator}


class Listener:
    """The supervisor's end: one datagram socket for all actors. The kernel says which process sent what."""

    def __init__(self, path: str, heard: Callable[[int, dict[str, str]], None]) -> None:
        """Bind `path`. `heard(pid, assignments)` is called by `empty`."""
        self._heard = heard
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - a stale one of a dead supervisor; the lock is ours
        self._socket.bind(path)

    def fileno(self) -> int:
        """Return the descriptor, for the loop."""
        return self._socket.fileno()

    def empty(self) -> None:
        """Hand on everything that has arrived."""
        space = socket.CMSG_SPACE(_CREDENTIALS.size)
        for _ in range(_BUDGET):
            try:
                data, ancillary, _, _ = self._socket.recvmsg(_DATAGRAM_MAX, space)
            except BlockingIOError:
                return
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    self._heard(_CREDENTIALS.unpack(content[: _CREDENTIALS.size])[0], parse(data))

    def close(self) -> None:
        """Close the socket; the file stays until the runtime directory is cleared."""
        self._socket.close()
