"""Dirty hours: hours of bronze that got rows after the next hour had begun. The batch computes them again.

    {data}/state/dirty-hours/{source}/{channel}/exchange=E/symbol=S/year=…/hour=13.json    one file an hour

A mark is made before its rows can be seen. Who computes the hour again takes the mark away *first* and reads
the rows then: what comes in between marks it once more.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from daedalus.dataset.durable import make_directory, remove, replace
from daedalus.dataset.layout import HOUR_NS, Layout, Partition, hive_values

__all__ = ["clear", "dirty_hours", "mark"]


def mark(layout: Layout, segment: str) -> None:
    """Say, durably, that an hour gets a late segment. Doing it again changes nothing.

    Args:
        layout: the data set.
        segment: its path below the data directory.
    """
    path = _path(layout, Path(layout.data, segment).parent)
    make_directory(path.parent)
    replace(path, msgspec.json.encode({"segment": segment}))


def clear(layout: Layout, partition: Partition) -> None:
    """Take the mark away; that there is none is fine."""
    if (path := _path(layout, layout.partition(partition))).exists():
        remove(path)


def dirty_hours(layout: Layout) -> Iterator[Partition]:
    """Yield the marked hours, oldest first within each stream."""
    from datetime import UTC, datetime

    root = layout.state() / "dirty-hours"
    found = []
    for path in root.glob("*/*/exchange=*/symbol=*/year=*/month=*/day=*/hour=*.json"):
        values = hive_values(path.relative_to(root).with_suffix(""))
        source, channel = path.relative_to(root).parts[:2]
        start = datetime(
            int(values["year"]), int(values["month"]), int(values["day"]), int(values["hour"]), tzinfo=UTC
        )
        hour = int(start.timestamp()) // (HOUR_NS // 1_000_000_000)
        found.append(Partition(source, channel, str(values["exchange"]), str(values["symbol"]), hour))
    yield from sorted(found)


def _path(layout: Layout, directory: Path) -> Path:
    below = directory.relative_to(layout.ready())
    return layout.state() / "dirty-hours" / below.with_name(f"{below.name}.json")
