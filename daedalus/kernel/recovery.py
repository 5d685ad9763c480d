"""What a journal is worth after a crash: how far its senders are stored, and where its last whole frame ends.

A journal of 50 MB unpacks to half a gigabyte, and a restarted writer has 100 ms. So the headers are hopped
over without looking into the frames, to the newest table of cursors; only what follows it is unpacked.
Damage in between is found, and told, by who reads the whole journal: the sealer.
"""

import errno
import mmap
import os
from pathlib import Path

import msgspec

from daedalus.kernel.journal import (
    CLOSED,
    Cursor,
    Damage,
    Entry,
    advance,
    contents,
    frame_at,
    frames,
    head_at,
)

__all__ = ["Tail", "close_leftover", "read_tail"]


class Tail(msgspec.Struct, frozen=True):
    """The end of a journal."""

    end: int  # bytes: behind the last whole frame
    empty: bool  # not one entry in it
    cursors: dict[str, Cursor]  # after its last whole frame


def read_tail(path: Path, before: dict[str, Cursor]) -> Tail:
    """Return how far a journal goes.

    Args:
        path: the journal, open or closed; nobody writes it.
        before: the cursors at its beginning, in case its own table is damaged.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = _written(file.fileno())
        if size == 0:
            return Tail(0, True, dict(before))
        data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    start, empty = _newest_table(data)
    cursors = dict(before)
    end = start
    # Twice over the same few MiB: the first pass finds the end, the second the content.
    for frame in frames(data, start):
        if not isinstance(frame, Damage):
            end = frame.end
    for item in contents(data, start):
        if isinstance(item, dict):
            cursors.update(item)
        elif isinstance(item, Entry):
            empty = False
            advance(cursors, [item])
    return Tail(end, empty, cursors)


def _written(fd: int) -> int:
    """Return the size up to the last byte that was ever written.

    Behind it lie 4 MiB of zeros that were set aside: to look through them takes 25 ms.
    """
    size = os.fstat(fd).st_size
    end = 0
    while end < size:
        try:
            end = os.lseek(fd, os.lseek(fd, end, os.SEEK_DATA), os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows
                break
            return size  # a file system that knows of no holes
    return end


def _newest_table(data: mmap.mmap) -> tuple[int, bool]:
    """Return where the newest whole table stands (0: there is none), and whether no entry precedes it."""
    tables = []
    offset, entries_from = 0, len(data)
    while (head := head_at(data, offset)) is not None:
        if head.records == 0:
            tables.append(offset)
        else:
            entries_from = min(entries_from, offset)
        offset = head.end
    for table in reversed(tables):
        if frame_at(memoryview(data), table) is not None:
            return table, table < entries_from
    return 0, True


def close_leftover(path: Path, end: int) -> Path:
    """Close the open journal of a dead writer behind its last whole frame; return its path (`.closed`).

    What is cut off was mostly never acknowledged, and its sender still has it. If it was (a damaged disk),
    the numbers of the next journal leave a hole, and the sealer writes the gap row.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, end)
        os.fsync(fd)
    finally:
        os.close(fd)
    closed = path.rename(path.with_suffix(CLOSED))
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return closed
