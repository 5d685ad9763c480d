"""The systemd journal's own protocol: one datagram per entry, fields instead of text.

Source: systemd.io/JOURNAL_NATIVE_PROTOCOL. A standard error that is the journal would do for text; the socket
keeps what belongs to a line beside it (actor, generation, priority), so that `journalctl` can select by it.
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Mapping

__all__ = ["SOCKET", "Journal", "encode", "is_journal"]

SOCKET = "/run/systemd/journal/socket"
_LENGTH = struct.Struct("<Q")
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def is_journal(fd: int, environ: Mapping[str, str]) -> bool:
    """Return whether `fd` is the stream to the journal that $JOURNAL_STREAM names, not redirected."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def encode(fields: Mapping[str, str]) -> bytes:
    r"""Return an entry in the journal's wire form: values of many lines carry their length.

    >>> encode({"MESSAGE": "hello", "PRIORITY": "6"})
    b'MESSAGE=hello\nPRIORITY=6\n'
    """
    parts = []
    for name, text in fields.items():
        key, value = name.encode("ascii"), text.encode("utf-8", "replace")
        if b"\n" in value:
            parts += [key, b"\n", _LENGTH.pack(len(value)), value, b"\n"]
        else:
            parts += [key, b"=", value, b"\n"]
    return b"".join(parts)


class Journal:
    """The road to the journal. It survives restarts of journald, and never blocks."""

    def __init__(self, path: str = SOCKET) -> None:
        """Speak to the socket `path`, from the first entry on."""
        self._path = path
        self._socket: socket.socket | None = None

    def fileno(self) -> int:
        """Return the descriptor to wait for after `send` was refused; -1 when there is none."""
        return -1 if self._socket is None else self._socket.fileno()

    def send(self, fields: Mapping[str, str]) -> bool:
        """Send one entry. False: the journal is busy, try again when the socket is writable.

        Raises:
            OSError: there is no journal to be reached.
        """
        data = encode(fields)
        fresh = self._socket is None
        try:
            return self._send(data)
        except OSError:
            self.close()
            if fresh:
                raise
        try:  # its socket was replaced under us
            return self._send(data)
        except OSError:
            self.close()
            raise

    def _send(self, data: bytes) -> bool:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            self._socket.connect(self._path)
        try:
            self._socket.send(data)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            return self._send_large(data)
        return True

    def _send_large(self, data: bytes) -> bool:
        """Send an entry that no datagram holds: in memory of its own, sealed, by its descriptor."""
        assert self._socket is not None
        fd = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(fd, left) :]
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            socket.send_fds(self._socket, [b""], [fd])
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        return True

    def close(self) -> None:
        """Let go of the socket; the next entry opens it again."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None
