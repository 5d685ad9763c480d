# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, disable-error-code="valid-type,no-any-return"
"""The open frame: an account of the records that are in the ring and not sent yet.

The records themselves are gathered from the ring when the frame is closed. So what a record costs here is a
few additions, and a call only with the first of a frame and when there is enough to look at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cython

if TYPE_CHECKING:
    from daedalus.compiled.ring import Ring

__all__ = ["COMPILED", "Outbox"]

COMPILED: bool = cython.compiled


@cython.cclass
class Outbox:
    """Appends to a ring. The sender, who inherits from it, closes the frame: it moves `frame_first` on."""

    frame_first = cython.declare(cython.longlong, visibility="public")  # sequence of its first record
    frame_bytes = cython.declare(cython.longlong, visibility="public")
    frame_notes = cython.declare(dict, visibility="public")  # the latest note under each key
    look_at = cython.declare(cython.longlong, visibility="public")  # records
    look_bytes = cython.declare(cython.longlong, visibility="public")
    refused = cython.declare(cython.longlong, visibility="public")
    _append: Any

    def __init__(self, ring: Ring) -> None:
        """Use `ring`; the first frame begins behind what is in it."""
        self._append = ring.append
        self.frame_first = ring.next_seq
        self.frame_bytes = 0
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
        self.frame_bytes += len(record)
        count: cython.longlong = seq
        count -= self.frame_first - 1
        if count == 1:
            self.opened()
        if count >= self.look_at or self.frame_bytes >= self.look_bytes:
            self.filled(count)
        return True

    def opened(self) -> None:
        """The open frame has its first record."""

    def filled(self, count: int) -> None:
        """The open frame has `look_at` records or more, or `look_bytes` bytes."""
