# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, disable-error-code="valid-type,no-any-return"
"""The open frame: an account of the records that are in the ring and not sent yet.

A record is copied twice, into the ring and behind the others of its frame, while the caches have it:
gathered from the ring when the frame is closed, it cost 0.3 µs more (x86, measured). The sender is called
with the first record of a frame, and when there is enough to look at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cython

if cython.compiled:
    from cython.cimports.libc.string import memcpy

if TYPE_CHECKING:
    from daedalus.compiled.ring import Ring

__all__ = ["COMPILED", "FRONT", "Outbox"]

COMPILED: bool = cython.compiled

FRONT = 1024  # bytes free before the records: for the head of a message
_FRONT = cython.declare(cython.Py_ssize_t, 1024)
_FIRST_ROOM = 4096


@cython.cclass
class Outbox:
    """Appends to a ring. The sender, who inherits from it, closes the frame: it moves `frame_first` on."""

    frame_first = cython.declare(cython.longlong, visibility="public")  # sequence of its first record
    frame_bytes = cython.declare(cython.longlong, visibility="public")
    frame = cython.declare(
        object, visibility="public"
    )  # bytearray: FRONT bytes, then `frame_bytes` of records
    frame_notes = cython.declare(dict, visibility="public")  # the latest note under each key
    look_at = cython.declare(cython.longlong, visibility="public")  # records
    look_bytes = cython.declare(cython.longlong, visibility="public")
    refused = cython.declare(cython.longlong, visibility="public")
    _append: Any
    _out: cython.uchar[::1]  # the same memory as `frame`, for compiled code
    _room: cython.Py_ssize_t

    def __init__(self, ring: Ring) -> None:
        """Use `ring`; the first frame begins behind what is in it."""
        self._append = ring.append
        self.frame_first = ring.next_seq
        self.frame_bytes = 0
        self.frame = bytearray()
        self._room = 0
        self._grow(_FIRST_ROOM)
        self.frame_notes = {}
        self.look_at = self.look_bytes = 1
        self.refused = 0

    def append(self, record: bytes, key: str, note: object) -> bool:
        """Store one record, and the latest note under `key`. False: the ring is full, nothing was taken."""
        seq = self._append(record)
        if seq is None:
            self.refused += 1
            return False
        self.frame_notes[key] = note
        size: cython.Py_ssize_t = len(record)
        end: cython.Py_ssize_t = _FRONT + self.frame_bytes
        if end + size > self._room:
            self._grow(end + size)
        if not cython.compiled:
            self.frame[end : end + size] = record
        elif size:
            memcpy(cython.address(self._out[end]), cython.cast(cython.p_char, record), size)
        self.frame_bytes += size
        count: cython.longlong = seq
        count -= self.frame_first - 1
        if count == 1:
            self.opened()
        if count >= self.look_at or self.frame_bytes >= self.look_bytes:
            self.filled(count)
        return True

    @cython.cfunc
    def _grow(self, need: cython.Py_ssize_t) -> None:
        room: cython.Py_ssize_t = max(need, 2 * self._room)
        grown = bytearray(room)
        grown[: self._room] = self.frame
        self.frame = grown
        self._room = room
        if cython.compiled:
            self._out = grown

    def opened(self) -> None:
        """The open frame has its first record."""

    def filled(self, count: int) -> None:
        """The open frame has `look_at` records or more, or `look_bytes` bytes."""
