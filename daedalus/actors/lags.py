"""How late the last rows were: a ring of numbers, eight bytes each, where a deque has forty."""

from array import array

__all__ = ["Lags"]

KEPT = 4096


class Lags:
    """The lags of the last 4096 rows."""

    def __init__(self) -> None:
        self._ns = array("q")
        self._at = 0  # the oldest, once the ring is full

    def note(self, lag_ns: int) -> None:
        """Take the lag of one row."""
        if len(self._ns) < KEPT:
            self._ns.append(lag_ns)
            return
        self._ns[self._at] = lag_ns
        self._at = (self._at + 1) % KEPT

    def ms(self, percent: int) -> float | None:
        """Return a percentile in ms; None before the first row."""
        lags = sorted(self._ns)
        return lags[len(lags) * percent // 100] / 1e6 if lags else None
