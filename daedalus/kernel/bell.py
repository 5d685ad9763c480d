"""A bell: wakes everybody who waits, and costs nothing while nobody does.

A ring that nobody waits for is not kept. Whoever waits looks first and waits only if there is nothing to see;
between the look and the wait there is no other turn of the loop, so no news can fall in between.
"""

import asyncio

__all__ = ["Bell"]


class Bell:
    """One bell for any number of listeners."""

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._waiting: set[asyncio.Event] = set()

    def ring(self) -> None:
        """Wake all who wait now."""
        if self._waiting:
            for event in self._waiting:
                event.set()
            self._waiting.clear()

    async def heard(self, *others: "Bell") -> None:
        """Return at the next ring of this bell or of one of the others."""
        event = asyncio.Event()
        bells = (self, *others)
        for bell in bells:
            bell._waiting.add(event)  # noqa: SLF001 - of its own kind
        try:
            await event.wait()
        finally:
            for bell in bells:
                bell._waiting.discard(event)  # noqa: SLF001
