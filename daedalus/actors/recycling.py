"""When a collector should make way for a fresh process of itself: memory that only grows, or age. Pure.

ccxt and its kind leak for days. The supervisor's soft limit ends such a process when it is too late to choose
the moment; this rule sees it coming. The slope is Theil's (the median of all slopes between two samples),
which bursts do not move, and it must be there in both halves of the time looked at: a step, or a cache that
fills, is in one.
"""

import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import msgspec

__all__ = ["SAMPLE_S", "Limits", "Recycling", "anonymous_bytes", "slope"]

SAMPLE_S = 60.0
_WINDOW = 120  # samples: two hours
_ENOUGH = 60  # samples before a slope is believed
_HOUR_S = 3600.0
_MIB = 1 << 20
_JITTER = 0.1  # of the age: collectors that were started together do not leave together


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a process may be, before it is replaced."""

    after_h: float = 0.0  # age, hours; 0: any
    mb_per_h: float = 0.0  # growth of its memory, MiB an hour; 0: any
    soft_bytes: int = 0  # the supervisor's memory_soft
    share: float = 0.7  # of it: below, growth is not minded
    settle_s: float = 1800.0  # so long after the start memory may grow


class Recycling:
    """Watches one process."""

    def __init__(self, limits: Limits, name: str = "") -> None:
        """Begin without a sample.

        Args:
            limits: 0 turns a rule off.
            name: of the process; its age limit is up to a tenth lower, by this.
        """
        self._limits = limits
        self._age_s = limits.after_h * _HOUR_S * (1.0 - _JITTER * (crc32(name.encode()) / 0xFFFFFFFF))
        self._samples: deque[tuple[float, float]] = deque(maxlen=_WINDOW)  # s, MiB
        self.mb_per_h: float | None = None

    def sample(self, age_s: float, anonymous: int) -> str | None:
        """Take a sample, every SAMPLE_S; return why the process should be replaced, or None.

        Args:
            age_s: of the process.
            anonymous: its memory, bytes.
        """
        limits = self._limits
        if limits.after_h > 0 and age_s >= self._age_s:
            return f"{age_s / _HOUR_S:.1f} h old"
        if limits.mb_per_h <= 0 or age_s < limits.settle_s:
            return None
        self._samples.append((age_s, anonymous / _MIB))
        if len(self._samples) < _ENOUGH:
            return None
        samples = list(self._samples)
        half = len(samples) // 2
        self.mb_per_h = per_h = round(min(slope(samples[:half]), slope(samples[half:])) * _HOUR_S, 3)
        much = anonymous >= limits.share * limits.soft_bytes
        if per_h >= limits.mb_per_h and much:
            return f"memory grows by {per_h:.0f} MiB/h and is at {anonymous / _MIB:.0f} MiB"
        return None


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the median slope between any two points (x, y).

    Source: H. Theil, "A rank-invariant method of linear and polynomial regression analysis", 1950.
    """
    found = sorted(
        (y - y0) / (x - x0) for number, (x, y) in enumerate(points) for x0, y0 in points[:number] if x > x0
    )
    middle = len(found) // 2
    return (found[middle] + found[~middle]) / 2 if found else 0.0


def anonymous_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Return this process's memory that is its own: resident without files and shared maps.

    Raises:
        OSError: /proc is not there.
    """
    _, resident, shared = statm.read_text().split()[:3]
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
