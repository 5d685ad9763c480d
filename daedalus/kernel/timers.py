"""Named timers that do not punish others for our own absence.

When the whole supervisor was descheduled (a stalled disk, a suspended board), every timer is overdue at
once, and none of the deadlines says anything about the actor it was set for. A timer that fires late by
more than a second is therefore set again for as long as the absence lasted.
"""

import asyncio
from collections.abc import Callable, Hashable

__all__ = ["LAG_S", "Timers"]

LAG_S = 1.0


class Timers:
    """Timers by name; setting one again replaces it."""

    def __init__(self) -> None:
        """Begin with none."""
        self._handles: dict[Hashable, tuple[asyncio.TimerHandle, Callable[[], None]]] = {}

    def arm(self, name: Hashable, delay_s: float, callback: Callable[[], None]) -> None:
        """Call `callback` after `delay_s`; infinity means never."""
        self.cancel(name)
        if delay_s == float("inf"):
            return
        loop = asyncio.get_running_loop()
        handle = loop.call_later(max(0.0, delay_s), self._fire, name, loop.time() + max(0.0, delay_s))
        self._handles[name] = (handle, callback)

    def _fire(self, name: Hashable, due: float) -> None:
        late = asyncio.get_running_loop().time() - due
        _, callback = self._handles.pop(name)
        if late > LAG_S:
            self.arm(name, late, callback)
        else:
            callback()

    def remaining(self, name: Hashable) -> float | None:
        """Return the seconds left of a timer, at least 0; None when it is not set."""
        entry = self._handles.get(name)
        return None if entry is None else max(0.0, entry[0].when() - asyncio.get_running_loop().time())

    def shorten(self, at_most_s: float) -> None:
        """Bring every timer forward to at most `at_most_s` from now."""
        for name, (_, callback) in list(self._handles.items()):
            if (left := self.remaining(name)) is not None and left > at_most_s:
                self.arm(name, at_most_s, callback)

    def cancel(self, name: Hashable) -> None:
        """Forget a timer; it need not be set."""
        entry = self._handles.pop(name, None)
        if entry is not None:
            entry[0].cancel()

    def cancel_all(self) -> None:
        """Forget all timers."""
        for name in list(self._handles):
            self.cancel(name)
