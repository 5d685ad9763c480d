"""Reads a spool that another process owns and writes to, without its lock.

The owner never waits for a reader, so what is read may be overwritten meanwhile: every record is copied and
then judged by its checksum, which its sequence is part of. One that does not hold any more has been given up,
which the owner does only with what is stored elsewhere (`spool` describes the file).
"""

import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

__all__ = ["RingView"]

_MAGIC = b"DJS1"
_PAGE = mmap.PAGESIZE
_HEAD = struct.Struct("<4sIQQ36s")
_CRC = struct.Struct("<I")
_SLOT = struct.Struct("<QQQQ")  # generation, oldest sequence, its place, acknowledged
_SLOT_AT = (256, 512)
_RECORD = struct.Struct("<IIQ")
_WRAP = 0xFFFFFFFF
_TRIES = 8  # the owner overtook us: from the oldest record once more


class RingView:
    """The records of one ring, oldest first; `more` goes on where it stopped."""

    def __init__(self, path: str | Path) -> None:
        """Map the file. A ring that is not there, or is no ring, has no records."""
        self._ring: mmap.mmap | None = None
        self._seed = 0
        self._seq = self._place = 0  # of the next record; 0: where the oldest is
        self.first: bytes | None = None  # the oldest record that was read
        self.broken = False  # some between it and the newest were not: overtaken, or damaged
        try:
            with Path(path).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size >= 2 * _PAGE and size % _PAGE == 0:
                    self._ring = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return
        if self._ring is not None and not self._is_ring(self._ring):
            self._ring = None

    def _is_ring(self, ring: mmap.mmap) -> bool:
        head = ring[: _HEAD.size]
        magic, _, epoch, capacity, _ = _HEAD.unpack(head)
        self._seed = crc32(epoch.to_bytes(8, "little"))
        sound: bool = crc32(head) == _CRC.unpack_from(ring, _HEAD.size)[0]
        return sound and magic == _MAGIC and capacity == len(ring) - _PAGE

    def more(self, keep: Callable[[bytes], bool]) -> list[bytes]:
        """Return the records that came since the last call, the first time all that are there.

        Args:
            keep: which of them.
        """
        ring = self._ring
        if ring is None:
            return []
        kept: list[bytes] = []
        for _ in range(_TRIES):
            oldest, place, acked = self._slot(ring)
            if self._seq < oldest or self._place == 0:
                self.broken = self.broken or self._place != 0
                self._seq, self._place = oldest, place
            while (record := self._take(ring)) is not None:
                if self.first is None:
                    self.first = record
                if keep(record):
                    kept.append(record)
            if self._seq > acked:
                return kept
        self.broken = True
        return kept

    def _slot(self, ring: mmap.mmap) -> tuple[int, int, int]:
        """Return the oldest sequence, its place, and what is acknowledged."""
        found = []
        for at in _SLOT_AT:
            slot = ring[at : at + _SLOT.size]
            if crc32(slot, self._seed) == _CRC.unpack_from(ring, at + _SLOT.size)[0]:
                found.append(_SLOT.unpack(slot))
        if not found:
            return 1, _PAGE, 0
        _, oldest, place, acked = max(found)
        return oldest, place, acked

    def _take(self, ring: mmap.mmap) -> bytes | None:
        """Return the next record and step behind it; None if there is none, or it is overwritten."""
        seq, place = self._seq, self._place
        seed = self._seed ^ seq & 0xFFFFFFFF
        if place + _RECORD.size > len(ring):
            place = _PAGE
        size, crc, found = _RECORD.unpack_from(ring, place)
        if found == seq and size == _WRAP and crc == crc32(b"", seed):
            place = _PAGE
            size, crc, found = _RECORD.unpack_from(ring, place)
        start = place + _RECORD.size
        if found != seq or start + size > len(ring):
            return None
        record = ring[start : start + size]
        if crc32(record, seed) != crc:
            return None
        self._seq, self._place = seq + 1, start + size
        return record

    def close(self) -> None:
        """Let go of the map."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None
