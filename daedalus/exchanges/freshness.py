"""When silence is a fault: a limit that follows a connection's own pace.

A quiet pair is not dead and a frozen one is not healthy; no fixed number tells them apart. The limit is a
multiple of the longest pause seen lately, between two configured bounds.
"""

__all__ = ["Freshness"]

_PAUSES = 8.0  # times the longest recent pause
_DECAY = 0.999  # per message: the memory of a pause fades over about a thousand messages
_NS = 1_000_000_000


class Freshness:
    """Silence of one connection. Times are monotonic nanoseconds, limits seconds."""

    def __init__(self, minimum_s: float, maximum_s: float) -> None:
        """Begin without a message: the limit is `maximum_s` until a pace is known."""
        self._minimum = minimum_s
        self._maximum = maximum_s
        self._last: int | None = None
        self._pause_s: float | None = None
        self._alarms = 0

    def opened(self, mono_ns: int) -> None:
        """Start the watch at a new connection. The pace is kept: it is the market's, not the socket's."""
        self._last = mono_ns

    def seen(self, mono_ns: int) -> None:
        """Note a message."""
        if self._last is not None:
            pause = (mono_ns - self._last) / _NS
            faded = (self._pause_s or 0.0) * _DECAY
            self._pause_s = max(faded, pause)
        self._last = mono_ns
        self._alarms = 0

    @property
    def limit_s(self) -> float:
        """Silence that is a fault, s. Doubled for each alarm that a reconnection did not cure."""
        if self._pause_s is None:
            limit = self._maximum
        else:
            limit = min(max(_PAUSES * self._pause_s, self._minimum), self._maximum)
        return limit * (1 << self._alarms)

    def stale(self, mono_ns: int) -> bool:
        """Return whether the silence is a fault, and start the watch anew if it is."""
        if self._last is None or (mono_ns - self._last) / _NS <= self.limit_s:
            return False
        self._alarms = min(self._alarms + 1, 5)
        self._last = mono_ns
        return True
