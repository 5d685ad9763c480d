"""Commands that stream: what happened and what was printed, and with `follow` all that is to come.

A follower sleeps until the bell rings, then takes what is new. It is given only what the rings still hold, so
one that is slow misses lines rather than make anybody wait; the hole shows in `seq`.
"""

from collections.abc import AsyncIterator, Iterator
from heapq import merge
from itertools import islice
from typing import Any

import msgspec

from daedalus.kernel.cell import Cell
from daedalus.kernel.commands.office import Office
from daedalus.kernel.commands.select import select, texts_in
from daedalus.kernel.errors import ControlError
from daedalus.kernel.logs import Line

__all__ = ["stream_events", "stream_logs"]


def _integer(args: dict[str, Any], key: str) -> int | None:
    value = args.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ControlError("usage", f"cannot use {key} {value!r:.40}: it must be a whole number, 0 or more")
    return value


async def stream_events(office: Office, args: dict[str, Any]) -> AsyncIterator[Any]:
    """Give the events after `since` (exclusive), and with `follow` all to come."""
    since = _integer(args, "since") or 0
    if not args.get("follow"):
        for event in office.events.since(since):
            yield event
        return
    if since > office.events.last:
        raise ControlError("usage", f"cannot follow events after {since}: the last is {office.events.last}")
    async for event in office.events.follow(since):
        yield event


async def stream_logs(office: Office, args: dict[str, Any]) -> AsyncIterator[Any]:
    """Give the last `lines` lines of actors, merged by time, and with `follow` all to come.

    A new generation is announced by an item of its own: {actor, ts, generation, "event": "started"}.
    """
    tap = _Tap(office, texts_in(args, "actors") or ["all"])
    since, wanted = args.get("since") or 0, _integer(args, "lines")
    if isinstance(since, bool) or not isinstance(since, int | float):
        raise ControlError("usage", f"cannot use since {since!r:.40}: it must be seconds since 1970")
    shown = [item for item in tap.lines() if item["ts"] >= since]
    for item in shown if wanted is None else shown[max(0, len(shown) - wanted) :]:
        yield item
    while args.get("follow"):
        fresh = tap.fresh()
        for item in fresh:
            yield item
        if not fresh:
            await office.printed_bell.heard(office.events.bell)


class _Tap:
    """What one follower of lines has seen."""

    def __init__(self, office: Office, names: list[str]) -> None:
        self._office = office
        self._names = names
        self._known = list(office.cells.values())
        self._seen = dict.fromkeys(select(office, names), 0)  # cell -> the last line taken
        self._event = office.events.last

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines not seen yet, by time; those of one actor in their own order."""
        news = [(cell, self._take(cell)) for cell in self._seen if cell.ring.count > self._seen[cell]]
        return list(merge(*(_shown(cell, lines) for cell, lines in news), key=_ts))

    def _take(self, cell: Cell) -> list[Line]:
        lines = cell.ring.lines
        fresh = min(cell.ring.count - self._seen[cell], len(lines))
        self._seen[cell] = cell.ring.count
        return list(islice(lines, len(lines) - fresh, None))

    def fresh(self) -> list[dict[str, Any]]:
        """Return what is new: lines, and the starts of new generations in front of theirs."""
        self._notice_changes()
        names = {cell.spec.name for cell in self._seen}
        starts = [
            {
                "actor": event["actor"],
                "ts": event["ts"],
                "generation": event["generation"],
                "event": "started",
            }
            for event in self._office.events.since(self._event)
            if event["type"] == "spawn" and event["actor"] in names
        ]
        self._event = self._office.events.last
        return list(merge(starts, self.lines(), key=_ts))

    def _notice_changes(self) -> None:
        """Follow actors that were added since, and forget those that went."""
        known = list(self._office.cells.values())
        if known == self._known:
            return
        self._known = known
        try:
            cells = select(self._office, self._names)
        except ControlError:  # none of that name at the moment; one may be added again
            cells = []
        self._seen = {cell: self._seen.get(cell, 0) for cell in cells}


def _shown(cell: Cell, lines: list[Line]) -> Iterator[dict[str, Any]]:
    for line in lines:
        yield {"actor": cell.spec.name, **msgspec.to_builtins(line)}


def _ts(item: dict[str, Any]) -> float:
    ts: float = item["ts"]
    return ts
