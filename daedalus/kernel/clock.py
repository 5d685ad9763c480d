"""Clocks: one that runs, one that a test holds in its hand, and the capture clock of a session."""

import time
from typing import Protocol

__all__ = ["CaptureClock", "Clock", "ManualClock", "SystemClock"]

_US = 1000


class Clock(Protocol):
    """Wall and monotonic time, both int nanoseconds."""

    def wall_ns(self) -> int: ...
    def mono_ns(self) -> int: ...


class SystemClock:
    """The machine's clocks."""

    wall_ns = staticmethod(time.time_ns)
    mono_ns = staticmethod(time.monotonic_ns)


class ManualClock:
    """A clock that moves when it is told to."""

    def __init__(self, wall_ns: int = 1_700_000_000_000_000_000, mono_ns: int = 1_000_000_000) -> None:
        self._wall = wall_ns
        self._mono = mono_ns

    def wall_ns(self) -> int:
        return self._wall

    def mono_ns(self) -> int:
        return self._mono

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        step = round(seconds * 1e9)
        self._wall += step
        self._mono += step

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock alone, as NTP does."""
        self._wall += round(seconds * 1e9)


class CaptureClock:
    """Capture time of one session: wall time at its start plus the monotonic clock since.

    It never runs backwards, whatever NTP does to the wall clock; `drift_ns` says how far the two have
    come apart, so that the owner can end the session.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mono0 = clock.mono_ns()
        self._offset = clock.wall_ns() - self._mono0

    def now(self) -> tuple[int, int]:
        """Return (capture time in ns UTC, whole microseconds; monotonic ns)."""
        mono = self._clock.mono_ns()
        return (mono + self._offset) // _US * _US, mono

    def drift_ns(self) -> int:
        """Return wall clock minus capture time, ns."""
        return self._clock.wall_ns() - self._clock.mono_ns() - self._offset
