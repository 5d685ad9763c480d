"""What happened in the tree: a ring of events with gapless numbers, for people, tests and followers.

Numbers go on when the supervisor replaces itself (`dump`, `load`), so that a follower who comes back with the
last number it saw misses nothing and sees nothing twice.
"""

from collections import deque
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

import msgspec

from daedalus.kernel.bell import Bell
from daedalus.kernel.clock import Clock

__all__ = ["RETAINED", "EventRing"]

RETAINED = 4096


class _Kept(msgspec.Struct):
    """What one image of the supervisor leaves to the next."""

    seq: int
    events: list[dict[str, Any]]


class EventRing:
    """The last RETAINED events, oldest first. Followers that sleep through more than that see the hole.

    `bell` is rung at every event.
    """

    def __init__(self, clock: Clock) -> None:
        """Begin with event 1."""
        self.bell = Bell()
        self._clock = clock
        self._events: deque[dict[str, Any]] = deque(maxlen=RETAINED)
        self._seq = 0

    @property
    def last(self) -> int:
        """The number of the newest event; 0 before the first."""
        return self._seq

    def add(self, kind: str, actor: str | None, generation: int | None, **values: Any) -> dict[str, Any]:
        """Record an event and return it."""
        self._seq += 1
        event = {
            "seq": self._seq,
            "ts": self._clock.wall_ns() / 1e9,
            "mono": self._clock.mono_ns() / 1e9,
            "type": kind,
            "actor": actor,
            "generation": generation,
            **values,
        }
        self._events.append(event)
        self.bell.ring()
        return event

    def since(self, seq: int) -> list[dict[str, Any]]:
        """Return the retained events after `seq`, which is exclusive."""
        if seq >= self._seq:
            return []
        newest = min(self._seq - seq, len(self._events))
        return list(islice(self._events, len(self._events) - newest, None))

    async def follow(self, seq: int) -> AsyncIterator[dict[str, Any]]:
        """Yield events after `seq` for ever."""
        while True:
            for event in self.since(seq):
                seq = event["seq"]
                yield event
            if seq >= self._seq:
                await self.bell.heard()

    def dump(self) -> bytes:
        """Return what the next image of this supervisor must know."""
        return msgspec.json.encode(_Kept(seq=self._seq, events=list(self._events)))

    def load(self, data: bytes) -> None:
        """Go on where the image before left off: its events, then the next number.

        Raises:
            msgspec.DecodeError: `data` is not from `dump`.
        """
        kept = msgspec.json.decode(data, type=_Kept)
        self._seq = kept.seq
        self._events = deque(kept.events, maxlen=RETAINED)
        self.bell.ring()
