"""The spool: a ring of records in a preallocated, mapped file that outlives its process.

    file   = page ring                          laid out by daedalus/compiled/ring.py, but for
    page   = head (magic, version, epoch, capacity, boot id, CRC) …

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
from pathlib import Path
from zlib import crc32

from daedalus.compiled.ring import Ring

__all__ = ["Spool"]

_MAGIC = b"DJS1"
_VERSION = 1
_PAGE = mmap.PAGESIZE
_HEAD = struct.Struct("<4sIQQ36s")
_CRC = struct.Struct("<I")


class Spool(Ring):
    """A bounded ring of records, numbered from 1. One owner at a time, by flock.

    `append` refuses when the ring is full of unacknowledged records. Acknowledged records stay readable until
    they are overwritten.
    """

    def __init__(self, path: Path, fd: int, ring: mmap.mmap) -> None:
        """Use `open`."""
        super().__init__(ring, _PAGE)
        self.path = path
        self._fd = fd
        self._capacity = len(ring) - _PAGE

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
        spool.release()
        ring.close()
        return None

    @property
    def capacity_bytes(self) -> int:
        """Return the size of the ring."""
        return self._capacity

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
            self.release()
            self._map.close()
            os.close(self._fd)
            self._fd = -1

    def _begin(self) -> None:
        self._map[:_PAGE] = bytes(_PAGE)
        self.begin(secrets.randbits(63))
        self._save()
        head = _HEAD.pack(_MAGIC, _VERSION, self.epoch, self._capacity, _boot_id())
        self._map[: _HEAD.size + 4] = head + _CRC.pack(crc32(head))

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
        return self.recover(epoch)


def _boot_id() -> bytes:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()[:36]
    return b""
