"""Segment counters: which number the next segment of a partition has. Never the same twice.

`{data}/state/counters.json` is shared by all writers (the gaps of three channels lie in one table), so it
is changed under a lock. A journal *claims* its numbers before anything is published and gives the claim up
when it is gone; asking again after a crash returns the same numbers. Numbers outlive the files: a segment
that was shipped and removed does not free its number. Old hours are folded into one floor per stream, so
that the file stays small; a late row in such an hour gets a number above the floor.

An hour more than a day after the present came from a clock that was ahead. It keeps its numbers, and is not
the newest of its stream: else every later segment would be late until that date.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from daedalus.dataset.durable import locked, replace
from daedalus.dataset.layout import Layout, Partition, hive_values, segment_path

__all__ = ["Counters", "claim", "claim_pure", "overtaken", "release"]

_KEEP_HOURS = 24  # before the newest hour of a stream
_AHEAD_HOURS = 24  # of the present: what is later than that, no honest clock has said
_HOUR_NS = 3_600_000_000_000


class Stream(msgspec.Struct):
    """The numbers given out in one stream."""

    floor: int = 0  # of all hours that are no longer listed
    hours: dict[int, int] = {}  # hour since 1970 -> the last number given out


class Counters(msgspec.Struct):
    """The content of counters.json."""

    version: int = 1
    streams: dict[str, Stream] = {}  # source/channel/exchange/symbol ->
    claims: dict[str, dict[str, int]] = {}  # journal identity -> stream@hour -> number


def claim_pure(
    counters: Counters,
    journal: str,
    partitions: Iterable[Partition],
    highest: Callable[[Partition], int],
    present: int | None = None,
) -> dict[Partition, int]:
    """Give every partition of `journal` its number; those claimed before keep theirs.

    Args:
        counters: changed in place.
        journal: identity of the journal.
        partitions: what it holds.
        highest: the highest number on disk; guards against a lost counters file.
        present: hour since 1970 that it is now; None: every hour is believed.
    """
    claims = counters.claims.setdefault(journal, {})
    given = {}
    for partition in partitions:
        key = f"{partition.stream}@{partition.hour}"
        number = claims.get(key)
        if number is None:
            stream = counters.streams.setdefault(partition.stream, Stream())
            last = max(stream.hours.get(partition.hour, stream.floor), highest(partition))
            number = claims[key] = stream.hours[partition.hour] = last + 1
            _fold(stream, present)
        given[partition] = number
    return given


def _fold(stream: Stream, present: int | None) -> None:
    newest = max(stream.hours)
    if present is not None:
        newest = max((hour for hour in stream.hours if hour <= present + _AHEAD_HOURS), default=newest)
    oldest = newest - _KEEP_HOURS
    for hour in [hour for hour in stream.hours if hour < oldest]:
        stream.floor = max(stream.floor, stream.hours.pop(hour))


def claim(layout: Layout, journal: str, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """Return the segment numbers of a journal, durably its own.

    Raises:
        ValueError: counters.json is damaged (message has the path).
    """
    path = _path(layout)
    with locked(path.with_suffix(".lock")):
        counters = _load(path)
        given = claim_pure(
            counters, journal, partitions, lambda partition: _highest(layout, partition), _present()
        )
        replace(path, msgspec.json.format(msgspec.json.encode(counters), indent=1))
    return given


def overtaken(layout: Layout, journal: str, partitions: Iterable[Partition]) -> set[Partition]:
    """Return those of a journal's partitions whose stream had a later hour before this journal.

    Hours more than a day after both the present and the journal's own newest hour do not count.

    Args:
        layout: the data set.
        journal: identity of the journal; it has claimed its numbers.
        partitions: what it holds.
    """
    counters = _load(_path(layout))
    own = counters.claims.get(journal, {})
    late = set()
    partitions = list(partitions)
    believed = max([_present(), *(partition.hour for partition in partitions)]) + _AHEAD_HOURS
    for partition in partitions:
        stream = counters.streams.get(partition.stream, Stream())
        # An hour whose first number this journal has was not there before it.
        newest = max(
            (
                h
                for h in stream.hours
                if h <= believed and own.get(f"{partition.stream}@{h}") not in {1, stream.floor + 1}
            ),
            default=partition.hour,
        )
        if newest > partition.hour:
            late.add(partition)
    return late


def release(layout: Layout, gone: Callable[[str], bool]) -> None:
    """Forget the claims of journals that are gone. The numbers stay used."""
    path = _path(layout)
    with locked(path.with_suffix(".lock")):
        counters = _load(path)
        kept: Mapping[str, dict[str, int]] = {
            key: value for key, value in counters.claims.items() if not gone(key)
        }
        if len(kept) < len(counters.claims):
            counters.claims = dict(kept)
            replace(path, msgspec.json.format(msgspec.json.encode(counters), indent=1))


def _present() -> int:
    return time.time_ns() // _HOUR_NS


def _path(layout: Layout) -> Path:
    return layout.state() / "counters.json"


def _load(path: Path) -> Counters:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Counters()
    try:
        return msgspec.json.decode(content, type=Counters)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"cannot read the segment counters {path}: {error}; move the file away to count on from ready/"
        ) from error


def _highest(layout: Layout, partition: Partition) -> int:
    """The highest segment number on disk, also in padded directories."""
    start = partition.start
    wanted = {"month": start.month, "day": start.day, "hour": start.hour}
    directory = segment_path(layout, partition, 1).parent
    root = directory.parents[2]  # year=…
    highest = 0
    for path in root.glob(f"month=*/day=*/hour=*/segment_{partition.stamp}_*"):
        values = hive_values(path.relative_to(root))
        number = path.name.split("_")[2].split(".")[0]
        if number.isdecimal() and all(values[key] == value for key, value in wanted.items()):
            highest = max(highest, int(number))
    return highest
