# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, disable-error-code="valid-type,no-any-return"
"""A ring of numbered records in mapped memory.

    memory = page ring
    page   = two slots (generation, oldest sequence and its place, acknowledged, CRC), written in turn
    ring   = record…      [u32 size, u32 CRC-32, u64 sequence] payload; one record never wraps,
                          a record of size 2^32-1 says "go on at place 0"

Rules, for whoever may be killed between any two stores: the payload is stored before its header, and the
slot that moves the oldest record forward before the bytes of that record are overwritten.

Compiled code stores payload and header itself, and a compiler may reorder stores as long as nobody can look
in between. So a call that it cannot look into (the barrier) stands where the order counts. A kill leaves the
memory as the process's own processor sees it, in the order of the program: no fence is needed, and none would
help against a loss of power, which a file in tmpfs does not outlive.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING, Any
from zlib import crc32

import cython

if cython.compiled:
    from cython.cimports.cpython.exc import PyErr_Occurred
    from cython.cimports.daedalus.compiled.checksum import crc32_fast, crc32_is_fast
    from cython.cimports.libc.string import memcpy

if TYPE_CHECKING:
    from mmap import mmap

__all__ = ["COMPILED", "Ring"]

COMPILED: bool = cython.compiled

_CRC = struct.Struct("<I")
_SLOT = struct.Struct("<QQQQ")  # generation, oldest sequence, its place, acknowledged
_SLOT_AT = (256, 512)  # apart from each other and from the head
_RECORD = struct.Struct("<IIQ")
_RECORD_BYTES = cython.declare(cython.Py_ssize_t, 16)
_WRAP = 0xFFFFFFFF
_U32 = 0xFFFFFFFF
_BLOCKS = 1024  # about so many places are remembered; records are given up by the block
_GIVE_UP = (
    64  # and a share of so much of the ring at once, if it is acknowledged: a slot is written each time
)


@cython.cclass
class Ring:
    """The records of one epoch, numbered from 1, in `memory` behind its first page.

    `append` refuses when the ring is full of unacknowledged records. Acknowledged records stay readable until
    they are overwritten. Places are offsets in the memory.
    """

    epoch = cython.declare(object, visibility="public")
    next_seq = cython.declare(cython.longlong, visibility="public")
    acked = cython.declare(cython.longlong, visibility="public")
    _map = cython.declare(object, visibility="public")
    _bytes: cython.uchar[::1]  # the same memory, for the stores of compiled code
    _first: cython.Py_ssize_t  # the first place
    _end: cython.Py_ssize_t
    _stride: cython.Py_ssize_t
    _head: cython.Py_ssize_t
    _limit: cython.Py_ssize_t  # a record that ends at or before it needs no room made
    _block_due: cython.Py_ssize_t  # a record that begins at or behind it begins a block
    _written: cython.longlong  # bytes before the newest block
    _generation: cython.longlong
    _seed: cython.longlong
    _blocks: Any  # (first sequence, place, bytes ever written before it)
    _crc32: Any  # an attribute is found faster than a global
    _fast: cython.bint  # the checksum needs no zlib
    _released: cython.bint
    _read_seq: cython.longlong  # at which the last read stopped
    _read_place: cython.Py_ssize_t

    def __init__(self, memory: mmap, page: int) -> None:
        """Use `memory`, `page` bytes of which are not the ring's. `begin` or `recover` comes next."""
        self._map = memory
        if cython.compiled:
            self._bytes = memory
        self._first = page
        self._end = len(memory)
        self._stride = max((self._end - page) // _BLOCKS, 1)
        self._blocks = deque()
        self._crc32 = crc32
        self._fast = crc32_is_fast() if cython.compiled else False
        self._released = False
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Forget all records; the next is the first of `epoch`. The memory is left as it is."""
        self.epoch = epoch
        self.next_seq = 1
        self.acked = 0
        self._generation = 0
        self._seed = crc32(epoch.to_bytes(8, "little"))
        self._blocks.clear()
        self._read_seq = 0
        self._read_place = 0
        self._written = 0
        self._head = self._first
        self._block_due = self._first
        self._limit = 0 if self._released else self._end

    def release(self) -> None:
        """Let go of the memory. Nothing is taken nor read any more."""
        self._released = True
        self._limit = 0
        if cython.compiled:
            self._bytes = None

    def append(self, record: bytes) -> int | None:
        """Store one record and return its sequence; None if the ring is full of unacknowledged records."""
        size: cython.Py_ssize_t = len(record)
        start: cython.Py_ssize_t = self._head
        end: cython.Py_ssize_t = start + _RECORD_BYTES + size
        if end > self._limit:
            if not self._make_room(_RECORD_BYTES + size):
                return None
            start = self._head
            end = start + _RECORD_BYTES + size
        seq: cython.longlong = self.next_seq
        crc: cython.longlong
        if cython.compiled and self._fast:
            crc = crc32_fast(cython.cast(cython.p_char, record), size, (self._seed ^ seq) & 0xFFFFFFFF)
        else:
            crc = self._crc32(record, (self._seed ^ seq) & 0xFFFFFFFF)
        if cython.compiled:
            memcpy(
                cython.address(self._bytes[start + _RECORD_BYTES]), cython.cast(cython.p_char, record), size
            )
            PyErr_Occurred()  # the barrier
            self._store(start, size, 4)
            self._store(start + 4, crc, 4)
            self._store(start + 8, seq, 8)
        else:
            self._map[start + _RECORD_BYTES : end] = record
            _RECORD.pack_into(self._map, start, size, crc, seq)
        if start >= self._block_due:
            self._begin_block(seq, start)
        self._head = end
        self.next_seq = seq + 1
        return seq

    @cython.cfunc
    @cython.exceptval(check=False)
    def _store(self, place: cython.Py_ssize_t, value: cython.longlong, size: cython.int) -> cython.void:
        """Store a number, the lowest byte first (compiled only)."""
        i: cython.int
        for i in range(size):
            self._bytes[place + i] = (value >> (8 * i)) & 0xFF

    def read(
        self, seq: cython.longlong, limit: cython.longlong, max_bytes: cython.longlong = 1 << 20
    ) -> list[bytes]:
        """Return up to `limit` records from `seq` on, fewer if they exceed `max_bytes`, but at least one.

        Empty if `seq` is no longer, or not yet, in the ring.
        """
        if not self._seek(seq):
            return []
        ring = self._map
        records: list[bytes] = []
        last: cython.longlong = min(seq + limit, self.next_seq)
        room: cython.longlong = max_bytes
        size: cython.Py_ssize_t
        while self._read_seq < last:
            size = self._hop()
            room -= size
            if room < 0 and records:
                break
            start: cython.Py_ssize_t = self._read_place + _RECORD_BYTES
            records.append(ring[start : start + size])
            self._read_place = start + size
            self._read_seq += 1
        return records

    def oldest(self) -> int:
        """Return the lowest sequence still in the ring; `next_seq` if it is empty."""
        return self._blocks[0][0] if self._blocks else self.next_seq

    def acknowledge(self, seq: cython.longlong) -> None:
        """Take note that everything up to `seq` is stored elsewhere. Lower than before: ignored."""
        if self.acked < seq < self.next_seq:
            self.acked = seq
            self._save()

    @property
    def fill(self) -> float:
        """Return the share of the ring that holds unacknowledged records, 0 to 1, to about 0.1 %."""
        if self.acked + 1 >= self.next_seq:
            return 0.0
        first: cython.longlong = self._blocks[self._block_of(self.acked + 1)][2]
        newest: cython.longlong = self._blocks[len(self._blocks) - 1][1]
        used: cython.double = self._written + self._head - newest - first
        return min(used / (self._end - self._first), 1.0)

    def _save(self) -> None:
        """Write the other slot, so that a kill in the middle leaves one that is valid."""
        self._generation += 1
        oldest, place = self._blocks[0][:2] if self._blocks else (self.next_seq, self._head)
        slot = _SLOT.pack(self._generation, oldest, place, self.acked)
        at = _SLOT_AT[self._generation & 1]
        self._map[at : at + _SLOT.size + 4] = slot + _CRC.pack(crc32(slot, self._seed))

    @cython.cfunc
    def _begin_block(self, seq: cython.longlong, place: cython.Py_ssize_t) -> None:
        if self._blocks:
            # Bytes lost at the wrap are not counted: `fill` is a share, not an account.
            before: cython.Py_ssize_t = self._blocks[len(self._blocks) - 1][1]
            self._written += (place if place > before else self._end + place - self._first) - before
        self._blocks.append((seq, place, self._written))
        self._block_due = place + self._stride

    @cython.cfunc
    def _make_room(self, need: cython.Py_ssize_t) -> cython.bint:
        """Set head and limit so that `need` bytes fit; False if unacknowledged records are in the way."""
        tail: cython.Py_ssize_t
        head: cython.Py_ssize_t
        if need > self._end - self._first or self._released:
            return False
        while True:
            tail = self._blocks[0][1] if self._blocks else self._head
            head = self._head
            if head >= tail:  # live records, if any, lie between tail and head
                if head + need <= self._end:
                    self._limit = self._end
                    return True
                if not self._blocks:
                    self._head = self._first
                    self._save()  # an empty ring is found by its slot alone
                elif self._first + need < tail:
                    self._wrap()
                    self._limit = tail - 1  # head may not meet tail: that means empty
                    return True
            elif head + need < tail:
                self._limit = tail - 1
                return True
            if self._blocks and not self._give_up():
                return False

    @cython.cfunc
    def _wrap(self) -> None:
        if self._head + _RECORD_BYTES <= self._end:
            seq = self.next_seq
            _RECORD.pack_into(self._map, self._head, _WRAP, crc32(b"", (self._seed ^ seq) & _U32), seq)
        # The block goes on behind the wrap with a place of its own: places within a block ascend.
        self._head = self._block_due = self._first

    @cython.cfunc
    def _give_up(self) -> cython.bint:
        """Give up the oldest block, and some behind it, if they are acknowledged."""
        blocks = self._blocks
        enough: cython.longlong = blocks[0][2] + (self._end - self._first) // _GIVE_UP
        given = False
        while blocks and (blocks[1][0] if len(blocks) > 1 else self.next_seq) - 1 <= self.acked:
            if given and blocks[0][2] >= enough:
                break
            blocks.popleft()
            given = True
        if not given:
            return False
        if not blocks:
            self._block_due = 0  # whatever comes next begins a block
        self._save()
        return True

    @cython.cfunc
    def _block_of(self, seq: cython.longlong) -> cython.Py_ssize_t:
        """Return the index of the block with `seq` in it, or the first."""
        return max(bisect_left(self._blocks, (seq + 1,)) - 1, 0)

    @cython.cfunc
    def _seek(self, seq: cython.longlong) -> cython.bint:
        """Set the reader before `seq`; False if it is not in the ring."""
        oldest: cython.longlong = self.oldest()
        if not oldest <= seq < self.next_seq or self._released:
            return False
        # The place behind a record holds as long as that record: a wrap between may be overwritten then.
        if self._read_seq != seq or seq == oldest:
            block = self._blocks[self._block_of(seq)]
            self._read_seq = block[0]
            self._read_place = block[1]
        while self._read_seq < seq:
            size: cython.Py_ssize_t = self._hop()
            self._read_place += _RECORD_BYTES + size
            self._read_seq += 1
        return True

    @cython.cfunc
    def _hop(self) -> cython.Py_ssize_t:
        """Return the size of the record at the reader, which first crosses a wrap if there is one."""
        if self._read_place + _RECORD_BYTES > self._end:
            self._read_place = self._first
        size: cython.longlong = self._size_at(self._read_place)
        if size == _WRAP:
            self._read_place = self._first
            size = self._size_at(self._first)
        return size

    @cython.cfunc
    def _size_at(self, place: cython.Py_ssize_t) -> cython.longlong:
        if cython.compiled:
            i: cython.int
            size: cython.longlong = 0
            for i in range(4):
                size |= cython.cast(cython.longlong, self._bytes[place + i]) << (8 * i)
        else:
            size = _RECORD.unpack_from(self._map, place)[0]
        return size

    def recover(self, epoch: int) -> bool:
        """Find the whole records of `epoch` in the memory; False if the ring has to be begun afresh."""
        self.begin(epoch)
        slots = []
        for at in _SLOT_AT:
            slot = self._map[at : at + _SLOT.size]
            if crc32(slot, self._seed) == _CRC.unpack_from(self._map, at + _SLOT.size)[0]:
                slots.append(_SLOT.unpack(slot))
        if not slots:
            return False
        self._generation, oldest, place, self.acked = max(slots)
        self.next_seq, self._head, self._block_due = oldest, place, 0
        while self._recover_one():
            pass
        if self.next_seq <= self.acked:
            return False  # broken among the acknowledged: the next sequence is not known
        self._limit = self._head  # the first append looks for room
        return True

    @cython.cfunc
    def _recover_one(self) -> cython.bint:
        """Take the record at head if it is whole and the next in order."""
        seq: cython.longlong = self.next_seq
        place: cython.Py_ssize_t = self._head
        if place + _RECORD_BYTES > self._end:
            place = self._first
        size, crc, found = _RECORD.unpack_from(self._map, place)
        seed = (self._seed ^ seq) & _U32
        if found == seq and size == _WRAP and crc == crc32(b"", seed):
            place = self._first
            size, crc, found = _RECORD.unpack_from(self._map, place)
        end: cython.Py_ssize_t = place + _RECORD_BYTES + size
        if found != seq or end > self._end:
            return False
        # Acknowledged records are only counted: their bytes are looked at by nobody but replays.
        if seq > self.acked and crc32(self._map[place + _RECORD_BYTES : end], seed) != crc:
            return False
        if place < self._head or place >= self._block_due:
            self._begin_block(seq, place)
        self._head = end
        self.next_seq = seq + 1
        return True
