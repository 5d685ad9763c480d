"""The journal: an append-only file of checksummed frames, one commit group each.

    file   = frame… zeros…                      preallocated: the zero tail is the normal end
    frame  = header payload
    header = "DJF1", u32 payload bytes, u32 raw bytes, u32 records, u32 CRC-32 of the 12 bytes and the payload
    payload = zstd-1 of a MessagePack array [kind, value]
              "cursors": {sender: Cursor}       the first frame, and again every few MiB: recovery is fast
              "entries": [Entry, …]             one commit group

Rules. A frame is either whole (its CRC holds) or it is not there: no record is ever taken from a damaged one.
What lies between whole frames is yielded as `Damage`, byte for byte, and reading goes on at the next frame.
A frame is written at one offset until its fdatasync succeeded: a failed write is written again, never behind.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import msgspec

if TYPE_CHECKING:
    from zstandard import ZstdDecompressor

__all__ = [
    "CLOSED",
    "OPEN",
    "Cursor",
    "Damage",
    "Entry",
    "Frame",
    "Head",
    "Journal",
    "Mark",
    "advance",
    "contents",
    "frame_at",
    "frames",
    "head_at",
    "journals",
    "read",
]

OPEN = ".open"  # being written
CLOSED = ".closed"  # to be sealed

_MAGIC = b"DJF1"
_HEADER = struct.Struct("<4s4I")
_RAW_MAX = 256 << 20  # bytes: a header that promises more is damage
_WINDOW_LOG = 18  # 256 KiB stay in the cache: a fifth less time than zstd-1's 512, for 0 to 2 % more bytes
_RAW_BYTES = 1 << 20  # of a buffer for what is compressed
_GROW_BYTES = 4 << 20  # preallocation step: a full disk is an error before a frame is begun
_CHECKPOINT_BYTES = 4 << 20  # a table of cursors at least this often: recovery decompresses no more than this


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """The last record of one stream, for the gap row after a crash."""

    ts_recv: int  # ns UTC
    seq: int
    session_id: str


class Cursor(msgspec.Struct, array_like=True, frozen=True):
    """How far one sender is stored."""

    epoch: int
    seq: int  # the highest sequence of that epoch on disk
    source: str
    marks: dict[str, Mark]  # stream -> its last stored record, of earlier epochs as well


class Entry(msgspec.Struct, array_like=True):
    """One link frame as the journal keeps it."""

    sender: str  # "binance"
    source: str  # "ccxt" | "native"
    epoch: int
    first_seq: int
    count: int
    skip: int  # the first so many records are duplicates of what is stored already
    marks: dict[str, Mark]  # stream (symbol) -> the last record of it in this frame
    blob: bytes  # MessagePack array of `count` records; as received: a view of ZeroMQ's own memory


class Damage(msgspec.Struct, frozen=True):
    """Bytes of a journal that belong to no whole frame."""

    offset: int
    data: bytes
    records: int | None = None  # that were in it by its header; None: the header is damaged as well


class Head(NamedTuple):
    """The header of a frame."""

    end: int  # of the frame, an offset in the file
    raw_bytes: int
    records: int  # 0: a table of cursors
    crc: int


class Frame(NamedTuple):
    """One whole frame: where it is and what is in it, still compressed."""

    offset: int
    end: int
    raw_bytes: int
    records: int  # 0: a table of cursors
    payload: memoryview


_encoder = msgspec.msgpack.Encoder()
_kind_decoder = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])
_entries_decoder = msgspec.msgpack.Decoder(list[Entry])
_cursors_decoder = msgspec.msgpack.Decoder(dict[str, Cursor])


def journals(directory: Path) -> list[tuple[int, Path]]:
    """Return (number, path) of the journals in `directory`, oldest first, open and closed."""
    return sorted(
        (int(path.stem[8:]), path)
        for path in directory.glob("journal_*")
        if path.suffix in {OPEN, CLOSED} and path.stem[8:].isdecimal()
    )


def advance(cursors: dict[str, Cursor], entries: list[Entry]) -> None:
    """Move the cursors, in place, behind entries that are stored."""
    for entry in entries:
        before = cursors.get(entry.sender)
        marks = entry.marks if before is None else {**before.marks, **entry.marks}
        cursors[entry.sender] = Cursor(entry.epoch, entry.first_seq + entry.count - 1, entry.source, marks)


def head_at(data: mmap.mmap | bytes | memoryview, offset: int) -> Head | None:
    """Return the header at `offset` if it can be one. Its checksum is not looked at."""
    if offset + _HEADER.size > len(data):
        return None
    magic, size, raw_bytes, records, crc = _HEADER.unpack_from(data, offset)
    end = offset + _HEADER.size + size
    if magic != _MAGIC or end > len(data) or raw_bytes > _RAW_MAX:
        return None
    return Head(end, raw_bytes, records, crc)


def frame_at(view: memoryview, offset: int) -> Frame | None:
    """Return the frame at `offset` if it is whole."""
    head = head_at(view, offset)
    if head is None:
        return None
    payload = view[offset + _HEADER.size : head.end]
    if crc32(payload, crc32(view[offset + 4 : offset + 16])) != head.crc:
        return None
    return Frame(offset, head.end, head.raw_bytes, head.records, payload)


def frames(data: mmap.mmap | bytes, offset: int = 0) -> Iterator[Frame | Damage]:
    """Yield the whole frames of a journal from `offset` on, and the damage between and after them.

    Trailing zeros are the preallocated tail, not damage. The caller releases the payloads before it closes
    the map.
    """
    view = memoryview(data)
    size = len(view)
    while offset < size:
        frame = frame_at(view, offset)
        if frame is not None:
            yield frame
            offset = frame.end
            continue
        following = data.find(_MAGIC, offset + 1)
        while following >= 0 and frame_at(view, following) is None:
            following = data.find(_MAGIC, following + 1)
        end = size if following < 0 else following
        lost = bytes(view[offset:end])
        if following < 0:
            lost = lost.rstrip(b"\0")
        if lost:
            yield Damage(offset, lost, _records_by_header(view, offset, end))
        offset = end


def _records_by_header(view: memoryview, offset: int, end: int) -> int | None:
    """Return the records of a damaged frame whose header still says where it ends, and rightly so."""
    head = head_at(view, offset)
    return head.records if head is not None and head.end == end and head.records <= head.raw_bytes else None


def _content(frame: Frame, zstd: "ZstdDecompressor") -> tuple[str, Any]:
    raw = zstd.decompress(frame.payload, max_output_size=frame.raw_bytes)
    return _kind_decoder.decode(raw)


def contents(data: mmap.mmap | bytes, offset: int = 0) -> Iterator[Entry | dict[str, Cursor] | Damage]:
    """Yield entries, tables of cursors and damage from `offset` on."""
    import zstandard

    zstd = zstandard.ZstdDecompressor()
    for frame in frames(data, offset):
        if isinstance(frame, Damage):
            yield frame
            continue
        # The CRC held, so what does not decode now was written by another version: an error, not damage.
        kind, value = _content(frame, zstd)
        if kind == "entries":
            yield from _entries_decoder.decode(value)
        elif kind == "cursors":
            yield _cursors_decoder.decode(value)
        else:
            raise ValueError(f"cannot read the journal frame at {frame.offset}: unknown kind {kind!r}")


def read(path: str | Path) -> Iterator[Entry | Damage]:
    """Yield the entries of the journal at `path` in the order they were committed, and the damage between.

    Reads one frame at a time: memory is that of one commit group, whatever the size of the journal.

    Raises:
        OSError: the file cannot be opened.
        ValueError: a whole frame of a kind this version does not know.
    """
    with Path(path).open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return
        # Not closed by hand: a generator that is dropped half-way still holds views on the map.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for item in contents(data):
        if not isinstance(item, dict):
            yield item


class Journal:
    """The journal being written. Blocking calls: the owner keeps them off its event loop."""

    def __init__(self, directory: Path, number: int, cursors: dict[str, Cursor]) -> None:
        """Create journal `number` with its table of cursors, durable when this returns.

        Raises:
            FileExistsError: that number exists already.
            OSError: the disk is full or cannot be written; nothing is left behind.
        """
        import zstandard

        self.number = number
        self.path = directory / f"journal_{number:08d}{OPEN}"
        self.bytes = 0  # written and durable
        self.records = 0
        self.cursors = dict(cursors)  # as of the last append
        self._directory = directory
        self._zstd = zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters.from_level(1, window_log=_WINDOW_LOG)
        )
        self._raw = bytearray(_RAW_BYTES)
        self._allocated = 0
        self._checkpoint = 0
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            self._write(self._frame("cursors", cursors, 0))
            _sync_directory(directory)
        except OSError:
            os.close(self._fd)
            self.path.unlink()
            raise

    def append(self, entries: list[Entry]) -> None:
        """Write one commit group and make it durable. An empty group does nothing.

        Raises:
            OSError: nothing of the group counts as stored; the same call may be tried again.
        """
        if not entries:
            return
        count = sum(entry.count for entry in entries)
        frame = self._frame("entries", entries, count)
        due = self.bytes + len(frame) - self._checkpoint >= _CHECKPOINT_BYTES
        after = dict(self.cursors)
        advance(after, entries)
        if due:
            frame += self._frame("cursors", after, 0)
        self._write(frame)
        self.cursors = after
        self.records += count
        if due:
            self._checkpoint = self.bytes

    def close(self) -> Path:
        """Cut the zero tail, close for good, and return the path it has now (`.closed`).

        Raises:
            OSError: the journal is whole and still open; this may be called again.
        """
        if self.path.suffix != CLOSED:
            os.ftruncate(self._fd, self.bytes)
            self._allocated = self.bytes
            os.fsync(self._fd)
            self.path = self.path.rename(self.path.with_suffix(CLOSED))
        _sync_directory(self._directory)
        self.abandon()
        return self.path

    def abandon(self) -> None:
        """Let go of the file as it is, for recovery at the next start."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _frame(self, kind: str, value: object, records: int) -> bytes:
        # One buffer for all groups: a fresh one of this size costs more in page faults than in copying.
        raw = self._raw
        _encoder.encode_into((kind, value), raw)
        payload = self._zstd.compress(raw)
        head = _HEADER.pack(_MAGIC, len(payload), len(raw), records, 0)
        return head[:16] + crc32(payload, crc32(head[4:16])).to_bytes(4, "little") + payload

    def _write(self, frame: bytes) -> None:
        end = self.bytes + len(frame)
        if end > self._allocated:
            # Before the frame is begun, so that a full disk leaves no half of it.
            grown = max(end, self._allocated + _GROW_BYTES)
            os.posix_fallocate(self._fd, self._allocated, grown - self._allocated)
            self._allocated = grown
        view, offset = memoryview(frame), self.bytes
        while view:
            written = os.pwrite(self._fd, view, offset)
            view, offset = view[written:], offset + written
        os.fdatasync(self._fd)
        self.bytes = end


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
