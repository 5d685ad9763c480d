"""A closed journal as the sealer reads it: record by record, what is unreadable put aside with its reason."""

import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from daedalus.dataset.bronze import batch, partition_of
from daedalus.dataset.cursors import load_state, state_path
from daedalus.dataset.damage import Continuity
from daedalus.dataset.durable import make_directory, replace
from daedalus.dataset.layout import Layout
from daedalus.kernel.journal import Cursor, Damage, Entry, contents, journals
from daedalus.records import Gap, channel_of, decode_many, encode, sanitise

__all__ = ["Reading", "Take", "identity"]

Take = Callable[[str, bytes, int], bool]  # source, blob, skip

_HEAD_BYTES = 1 << 16
_FORGET_EVERY = 512  # entries: mapped pages count as memory of the process


def identity(path: Path) -> str:
    """Return what tells this journal from another of its name: 16 hex digits of its ends and its size."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = sha256(size.to_bytes(8, "little") + file.read(_HEAD_BYTES))
        file.seek(max(0, size - _HEAD_BYTES))
        digest.update(file.read())
    return digest.hexdigest()[:16]


class _Records:
    """The records of an entry, made when somebody asks for them."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def __iter__(self) -> Iterator[Any]:
        return iter(decode_many(self._entry.blob)[self._entry.skip :])


class Reading:
    """Reads one journal, as often as it is asked to; each pass yields the same."""

    def __init__(self, layout: Layout, channel: str, path: Path, mark: str) -> None:
        """Prepare to read.

        Args:
            layout: where the quarantine is.
            channel: the journal's.
            path: the closed journal.
            mark: its `identity`.
        """
        self._quarantine = layout.quarantine(channel)
        self._state_path = state_path(layout, channel)
        self._channel = channel
        self._path = path
        self._mark = mark
        self.careful = False  # look at every record: some do not fit their columns
        self.damaged_bytes = 0
        self.gaps = 0

    def __call__(self, take: Take | None = None) -> Iterator[tuple[str, Sequence[Any], int]]:
        """Yield (source, records, their encoded bytes): duplicates left out, gap rows of damage put in.

        Args:
            take: is offered every entry first, as (source, blob, skip). Of those it takes, which it says by
                True, no records are yielded.
        """
        self.damaged_bytes = self.gaps = 0
        continuity = Continuity(self._channel, f"damaged journal {self._channel}/{self._path.stem}")
        before, following = self._around()
        if before is not None:
            continuity.cursors(before)
        for item in _items(self._path):
            if isinstance(item, Damage):
                self._put_aside(item.offset, item.data, "no whole frame: magic, length or CRC-32 is wrong")
                continuity.damage(item.records)
            elif isinstance(item, dict):
                continuity.cursors(item)
            elif take is not None and not self.careful and take(item.source, item.blob, item.skip):
                continuity.entry(item, _Records(item))
                yield item.source, (), len(item.blob)
            else:
                try:
                    records = decode_many(item.blob)[item.skip :]
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    self._put_aside(item.first_seq, item.blob, f"records of {item.sender!r}: {error}", "seq")
                    continuity.lost(item)
                    continue
                continuity.entry(item, records)
                if self.careful:
                    records = self._sifted(item, records)
                yield item.source, records, len(item.blob)
        for source, gap in continuity.end(following):
            self.gaps += 1
            yield source, [gap], 0

    def _sifted(self, entry: Entry, records: list[Any]) -> list[Any]:
        """Leave out what fits no column, and say so with a gap row."""
        kept = []
        for number, record in enumerate(records, entry.first_seq + entry.skip):
            try:
                batch(partition_of(entry.source, record), [record])
            except (ValueError, OverflowError, TypeError) as error:
                self._put_aside(number, encode(record), f"a record of {entry.sender!r}: {error}", "record")
                substitute = _instead_of(record)
                if substitute is not None:
                    kept.append(substitute)
                    self.gaps += 1
            else:
                kept.append(record)
        return kept

    def _around(self) -> tuple[Mapping[str, Cursor] | None, Mapping[str, Cursor]]:
        """The cursors when the journal was begun and when it was closed, as others than itself know them."""
        number = int(self._path.stem[8:])
        state = load_state(self._state_path)
        before = state.cursors if 0 < state.journal == number - 1 else None
        if state.journal == number:
            return before, state.cursors
        for other, path in journals(self._path.parent):
            if other > number:
                first = next(_items(path), None)
                return before, first if isinstance(first, dict) else {}
        return before, {}

    def _put_aside(self, offset: int, data: bytes, reason: str, unit: str = "byte") -> None:
        self.damaged_bytes += len(data)
        path = self._quarantine / f"{self._path.stem}-{self._mark}-{unit}{offset}.bin"
        note = path.with_name(f"{path.name}.reason")
        if not note.exists():
            make_directory(self._quarantine)
            replace(path, data)
            where = f"{self._channel}/{self._path.name} at {unit} {offset}"
            replace(note, f"cannot read {len(data)} bytes of {where}: {reason}\n".encode())


def _instead_of(record: Any) -> Gap | None:
    """The gap row for one record that cannot be stored; None for a gap row, or where it has no place."""
    if isinstance(record, Gap) or any(_unusable(name) for name in (record.exchange, record.symbol)):
        return None
    return Gap(
        exchange=record.exchange,
        symbol=record.symbol,
        collected_at=record.ts_recv // 1_000_000,
        ts_recv=record.ts_recv,
        channel=channel_of(record),
        started_at=record.ts_recv,
        ended_at=record.ts_recv,
        session_id=record.session_id,
        first_seq=None,
        last_seq=None,
        reason="error",
        lost_estimate=1,
        detail="a record that fits no column",
    )


def _unusable(name: str) -> bool:
    try:
        return sanitise(name) != name
    except ValueError:
        return True


def _items(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for number, item in enumerate(contents(data)):
        yield item
        if number % _FORGET_EVERY == 0:
            data.madvise(mmap.MADV_DONTNEED)
