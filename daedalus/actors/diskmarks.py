"""What the free space of the data file system means: three marks, each with some inertia. Pure.

    ok ──below warn──▶ warn ──below evict──▶ evict ──below stop──▶ stop
       derived work ends    synced bronze goes      collectors take nothing

A level is entered below its mark and left only a point above it, so that a disk at a mark does not flap.
"""

from typing import Literal

__all__ = ["DiskMarks", "Level"]

Level = Literal["ok", "warn", "evict", "stop"]

_LEVELS: tuple[Level, ...] = ("ok", "warn", "evict", "stop")
_INERTIA_PCT = 1.0


class DiskMarks:
    """The level of one file system, remembered from look to look."""

    def __init__(self, warn_pct: float, evict_pct: float, stop_pct: float) -> None:
        """Begin at "ok". All in percent of the whole that is free; 0 turns a mark off.

        Raises:
            ValueError: the marks are not in order.
        """
        if not warn_pct >= evict_pct >= stop_pct >= 0:
            raise ValueError(
                f"cannot use the disk marks warn {warn_pct:g} %, evict {evict_pct:g} %, stop {stop_pct:g} %: "
                "each must be at most the one before it, and none below 0 %"
            )
        self._marks = (warn_pct, evict_pct, stop_pct)
        self._at = 0
        self.free_pct: float | None = None  # at the last look

    def level(self, free: int, total: int) -> Level:
        """Return the level, given what is free for us and the whole, in bytes (or blocks) alike.

        A file system that says it has no size says nothing: the level stays as it is.
        """
        if total <= 0:
            return _LEVELS[self._at]
        self.free_pct = free_pct = 100.0 * free / total
        entered = sum(free_pct < mark for mark in self._marks)
        held = sum(mark > 0 and free_pct < mark + _INERTIA_PCT for mark in self._marks)
        self._at = max(entered, min(self._at, held))
        return _LEVELS[self._at]
