"""What happened in the tree: a ring of events with gapless numbers, for people, tests and followers."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from daedalus.kernel.clock import Clock

__all__ = ["EventRing"]

RETAINED = 4096


class EventRing:
    """The last RETAINED events, oldest first. Followers that sleep through more than that see the hole."""

    def __init__(self, clock: Clock) -> None:
        """Begin with event 1."""
        self._clock = clock
        self._events: deque[dict[str, Any]] = deque(maxlen=RETAINED)
        self._seq = 0
        self._wake: asyncio.Event = asyncio.Event()

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
        self._wake.set()
        return event

    def since(self, seq: int) -> list[dict[str, Any]]:
        """Return the retained events after `seq`."""
        return [event for event in self._events if event["seq"] > seq]

    async def follow(self, seq: int) -> AsyncIterator[dict[str, Any]]:
        """Yield events after `seq` for ever."""
        while True:
            for event in self.since(seq):
                seq = event["seq"]
                yield event
            if seq >= self._seq:
                self._wake.clear()
                await self._wake.wait()
