"""The spool: a ring of records in a preallocated, mapped file that outlives its process.

    file   = page ring
    page   = head (magic, version, epoch, capacity, boot id, CRC)
             two slots (generation, oldest sequence and its place, acknowledged, CRC), written in turn
    ring   = record…      [u32 size, u32 CRC-32, u64 sequence] payload; one record never wraps,
                          a record of size 2^32-1 says "go on at place 0"

Rules. The payload is stored before its header, and the slot that moves the oldest record forward before the
bytes of that record are overwritten. So whatever instruction a SIGKILL hits, the next owner finds exactly the
whole records: from the place in the newest valid slot, hop by size while sequence and CRC fit.
Sequences of one epoch are never used twice: a ring whose acknowledged part is broken, or that survived a
reboot (its newest pages may not have), is begun afresh under a new epoch.
"""

import contextlib
import fcntl
import mmap
import os
import secrets
import struct
from collections import deque
from pathlib import Path
from zlib import crc32

__all__ = ["Spool"]

_MAGIC = b"DJS1"
_VERSION = 1
_PAGE = mmap.PAGESIZE
_HEAD = struct.Struct("<4sIQQ36s")
_CRC = struct.Struct("<I")
_SLOT = struct.Struct("<QQQQ")  # generation, oldest sequence, its place, acknowledged
_SLOT_AT = (256, 512)  # apart from each other and from the head
_RECORD = struct.Struct("<IIQ")
_RECORD_BYTES = _RECORD.size
_WRAP = 0xFFFFFFFF
_U32 = 0xFFFFFFFF
_BLOCKS = 1024  # about so many places are remembered; records are given up by the block


class Spool:
    """A bounded ring of records, numbered from 1. One owner at a time, by flock.

    `append` refuses when the ring is full of unacknowledged records. Acknowledged records stay readable until
    they are overwritten.
    """

    def __init__(self, path: Path, fd: int, ring: mmap.mmap) -> None:
        """Use `open`."""
        self.path = path
        self.epoch = 0
        self.next_seq = 1
        self.acked = 0
        self._fd = fd
        self._map = ring
        self._capacity = len(ring) - _PAGE
        self._end = len(ring)
        self._stride = max(self._capacity // _BLOCKS, 1)
        self._generation = 0
        self._seed = 0
        # Places are offsets in the map. A block is (first sequence, place, bytes ever written before it).
        self._blocks: deque[tuple[int, int, int]] = deque()
        self._head = _PAGE
        self._limit = _PAGE  # a record that ends at or before it needs no room made
        self._block_due = _PAGE  # a record that begins at or behind it begins a block
        self._written = 0  # bytes before the newest block
        self._reader = (0, 0)  # sequence and place at which the last read stopped

    @classmethod
    def open(cls, path: str | Path, capacity_bytes: int) -> "Spool":
        """Continue the ring at `path`, or begin a new one under a new epoch.

        A ring of another capacity is continued as it is while it holds unacknowledged records.

        Args:
            path: the file; its directory is made if missing.
            capacity_bytes: size of the ring, at least 4 KiB, rounded up to whole pages.

        Raises:
            BlockingIOError: another process owns it.
            OSError: the file cannot be made or the file system has no room for it.
            ValueError: the capacity is too small.
        """
        if capacity_bytes < _PAGE:
            raise ValueError(f"cannot open the spool {path}: {capacity_bytes} bytes, at least {_PAGE}")
        size = _PAGE + -(-capacity_bytes // _PAGE) * _PAGE
        path = Path(path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BlockingIOError(
                    error.errno, f"cannot open the spool {path}: another process owns it"
                ) from None
            spool = cls._continued(path, fd)
            if spool is not None and (
                spool.next_seq - 1 > spool.acked or spool.capacity_bytes + _PAGE == size
            ):
                return spool
            os.ftruncate(fd, 0)
            try:
                # Allocated now: a full tmpfs is an error here, not a SIGBUS in the middle of a record.
                os.posix_fallocate(fd, 0, size)
            except OSError as error:
                os.ftruncate(fd, 0)
                raise OSError(
                    error.errno, f"cannot make the spool {path}: {error.strerror} ({size} bytes)"
                ) from None
            spool = cls(path, fd, mmap.mmap(fd, size))
            spool._begin()
        except BaseException:
            os.close(fd)
            raise
        return spool

    @classmethod
    def _continued(cls, path: Path, fd: int) -> "Spool | None":
        size = os.fstat(fd).st_size
        if size < 2 * _PAGE or size % _PAGE:
            return None
        ring = mmap.mmap(fd, size)
        spool = cls(path, fd, ring)
        if spool._recover():
            return spool
        ring.close()
        return None

    def append(self, record: bytes) -> int | None:
        """Store one record and return its sequence; None if the ring is full of unacknowledged records."""
        size = len(record)
        start = self._head
        end = start + _RECORD_BYTES + size
        if end > self._limit:
            if not self._make_room(_RECORD_BYTES + size):
                return None
            start = self._head
            end = start + _RECORD_BYTES + size
        seq = self.next_seq
        ring = self._map
        ring[start + _RECORD_BYTES : end] = record
        _RECORD.pack_into(ring, start, size, crc32(record, self._seed ^ seq & _U32), seq)
        if start >= self._block_due:
            self._begin_block(seq, start)
        self._head = end
        self.next_seq = seq + 1
        return seq

    def read(self, seq: int, limit: int, max_bytes: int = 1 << 20) -> list[bytes]:
        """Return up to `limit` records from `seq` on, fewer if they exceed `max_bytes`, but at least one.

        Empty if `seq` is no longer, or not yet, in the ring.
        """
        oldest = self.oldest()
        if not oldest <= seq < self.next_seq:
            return []
        ring = self._map
        at, place = self._reader
        # The place behind a record holds as long as that record: a wrap between may be overwritten then.
        if at != seq or seq == oldest:
            at, place = self._place_before(seq)
        records: list[bytes] = []
        last = min(seq + limit, self.next_seq)
        room = max_bytes
        while at < last:
            place, size = self._hop(place)
            if at >= seq:
                room -= size
                if room < 0 and records:
                    break
                records.append(ring[place + _RECORD_BYTES : place + _RECORD_BYTES + size])
            place += _RECORD_BYTES + size
            at += 1
        self._reader = (at, place)
        return records

    def oldest(self) -> int:
        """Return the lowest sequence still in the ring; `next_seq` if it is empty."""
        return self._blocks[0][0] if self._blocks else self.next_seq

    def acknowledge(self, seq: int) -> None:
        """Take note that everything up to `seq` is stored elsewhere. Lower than before: ignored."""
        if self.acked < seq < self.next_seq:
            self.acked = seq
            self._save()

    @property
    def capacity_bytes(self) -> int:
        """Return the size of the ring."""
        return self._capacity

    @property
    def fill(self) -> float:
        """Return the share of the ring that holds unacknowledged records, 0 to 1, to about 0.1 %."""
        if self.acked + 1 >= self.next_seq:
            return 0.0
        index = self._block_of(self.acked + 1)
        first = self._blocks[index][2]
        newest = self._blocks[-1]
        used = self._written + self._head - newest[1] - first
        return min(used / self._capacity, 1.0)

    def renew(self) -> None:
        """Begin a new epoch; unacknowledged records are taken along and numbered from 1."""
        kept: list[bytes] = []
        while self.acked + 1 + len(kept) < self.next_seq:
            kept += self.read(self.acked + 1 + len(kept), 1 << 20)
        self._begin()
        for record in kept:
            self.append(record)

    def close(self) -> None:
        """Let go of the file. It stays, with all its records."""
        if self._fd >= 0:
            self._map.close()
            os.close(self._fd)
            self._fd = -1

    def _begin(self) -> None:
        self._map[:_PAGE] = bytes(_PAGE)
        self.epoch = secrets.randbits(63)
        self.next_seq, self.acked, self._generation = 1, 0, 0
        self._seed = crc32(self.epoch.to_bytes(8, "little"))
        self._blocks.clear()
        self._reader = (0, 0)
        self._written = 0
        self._head = self._block_due = _PAGE
        self._limit = self._end
        self._save()
        head = _HEAD.pack(_MAGIC, _VERSION, self.epoch, self._capacity, _boot_id())
        self._map[: _HEAD.size + 4] = head + _CRC.pack(crc32(head))

    def _save(self) -> None:
        """Write the other slot, so that a kill in the middle leaves one that is valid."""
        self._generation += 1
        oldest, place = self._blocks[0][:2] if self._blocks else (self.next_seq, self._head)
        slot = _SLOT.pack(self._generation, oldest, place, self.acked)
        at = _SLOT_AT[self._generation & 1]
        self._map[at : at + _SLOT.size + 4] = slot + _CRC.pack(crc32(slot, self._seed))

    def _begin_block(self, seq: int, place: int) -> None:
        if self._blocks:
            # Bytes lost at the wrap are not counted: `fill` is a share, not an account.
            before = self._blocks[-1][1]
            self._written += (place if place > before else self._end + place - _PAGE) - before
        self._blocks.append((seq, place, self._written))
        self._block_due = place + self._stride

    def _make_room(self, need: int) -> bool:
        """Set head and limit so that `need` bytes fit; False if unacknowledged records are in the way."""
        if need > self._capacity:
            return False
        while True:
            tail = self._blocks[0][1] if self._blocks else self._head
            head = self._head
            if head >= tail:  # live records, if any, lie between tail and head
                if head + need <= self._end:
                    self._limit = self._end
                    return True
                if not self._blocks:
                    self._head = _PAGE
                    self._save()  # an empty ring is found by its slot alone
                elif _PAGE + need < tail:
                    self._wrap()
                    self._limit = tail - 1  # head may not meet tail: that means empty
                    return True
            elif head + need < tail:
                self._limit = tail - 1
                return True
            if self._blocks and not self._give_up_block():
                return False

    def _wrap(self) -> None:
        if self._head + _RECORD_BYTES <= self._end:
            seq = self.next_seq
            _RECORD.pack_into(self._map, self._head, _WRAP, crc32(b"", self._seed ^ seq & _U32), seq)
        # The block goes on behind the wrap with a place of its own: places within a block ascend.
        self._head = self._block_due = _PAGE

    def _give_up_block(self) -> bool:
        following = self._blocks[1][0] if len(self._blocks) > 1 else self.next_seq
        if following - 1 > self.acked:
            return False
        self._blocks.popleft()
        if not self._blocks:
            self._block_due = 0  # whatever comes next begins a block
        self._save()
        return True

    def _block_of(self, seq: int) -> int:
        low, high = 0, len(self._blocks)
        while high - low > 1:
            middle = (low + high) // 2
            if self._blocks[middle][0] <= seq:
                low = middle
            else:
                high = middle
        return low

    def _place_before(self, seq: int) -> tuple[int, int]:
        first, place, _ = self._blocks[self._block_of(seq)]
        return first, place

    def _hop(self, place: int) -> tuple[int, int]:
        """Return place and size of the record at `place`, on the other side of a wrap if there is one."""
        if place + _RECORD_BYTES > self._end:
            place = _PAGE
        size: int = _RECORD.unpack_from(self._map, place)[0]
        if size == _WRAP:
            place = _PAGE
            size = _RECORD.unpack_from(self._map, place)[0]
        return place, size

    def _recover(self) -> bool:
        """Find the whole records of the ring in the map; False if it has to be begun afresh."""
        head = self._map[: _HEAD.size]
        magic, version, epoch, capacity, boot = _HEAD.unpack(head)
        if (
            crc32(head) != _CRC.unpack_from(self._map, _HEAD.size)[0]
            or (magic, version, capacity) != (_MAGIC, _VERSION, self._capacity)
            or boot != _boot_id()
        ):
            return False
        self.epoch = epoch
        self._seed = crc32(epoch.to_bytes(8, "little"))
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

    def _recover_one(self) -> bool:
        """Take the record at head if it is whole and the next in order."""
        seq, place = self.next_seq, self._head
        if place + _RECORD_BYTES > self._end:
            place = _PAGE
        size, crc, found = _RECORD.unpack_from(self._map, place)
        seed = self._seed ^ seq & _U32
        if found == seq and size == _WRAP and crc == crc32(b"", seed):
            place = _PAGE
            size, crc, found = _RECORD.unpack_from(self._map, place)
        end = place + _RECORD_BYTES + size
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


def _boot_id() -> bytes:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()[:36]
    return b""
