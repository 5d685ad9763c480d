"""Directories that say when something in them changes: the kernel's inotify, of which Python has no door.

Raw calls of libc. Where there is no inotify (a seccomp filter, no instance or watch left) `Inotify.open`
gives None and `watch` False: the caller looks by itself from time to time.
"""

import ctypes
import os
import struct
from typing import NamedTuple

__all__ = ["APPEARS", "CHANGED", "GONE", "Inotify", "News"]

APPEARS = 0x00000080 | 0x00000100  # IN_MOVED_TO | IN_CREATE
GONE = 0x00000400 | 0x00000800  # IN_DELETE_SELF | IN_MOVE_SELF
CHANGED = 0x00000002  # IN_MODIFY
OVERFLOW = 0x00004000  # IN_Q_OVERFLOW
IGNORED = 0x00008000  # IN_IGNORED: the watch is no more
_ONLYDIR = 0x01000000
_HEAD = struct.Struct("iIII")
_BUDGET = 64 * 1024  # bytes per turn of the loop


class News(NamedTuple):
    """One event: which watch, what happened, to which name in the directory (empty: to itself)."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One instance. Its descriptor is readable when there is news."""

    def __init__(self, fd: int, libc: ctypes.CDLL) -> None:
        """Use `open`."""
        self.fd = fd
        self._libc = libc

    @classmethod
    def open(cls) -> "Inotify | None":
        """Return a new instance, None when there is none to be had."""
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, AttributeError):
            return None
        return None if fd < 0 else cls(fd, libc)

    def watch(self, path: str, mask: int) -> int | None:
        """Watch a directory; the same directory gives the same number. None: it cannot be watched."""
        number = self._libc.inotify_add_watch(self.fd, os.fsencode(path), mask | _ONLYDIR)
        return None if number < 0 else int(number)

    def forget(self, watch: int) -> None:
        """Stop watching. News that is already queued may still come."""
        self._libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> list[News]:
        """Return what has happened, at most 64 KiB of it; nothing when nothing has."""
        try:
            data = os.read(self.fd, _BUDGET)
        except BlockingIOError:
            return []
        found, at = [], 0
        while at < len(data):
            watch, mask, _, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            found.append(News(watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))))
            at += length
        return found

    def close(self) -> None:
        """End all watches."""
        os.close(self.fd)
