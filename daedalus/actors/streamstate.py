"""One stream of a running session: its numbers, its open hole, and the figures that are told of it. Pure."""

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from daedalus.exchanges.adapter import Stream

if TYPE_CHECKING:
    from daedalus.kernel.journal import Mark

__all__ = ["Hole", "StreamState"]

_LAGS = 256  # rows over which the lag is told
_NS = 1e9
_DETAIL_CHARS = 400  # of a gap row, beyond which nothing is added


class Hole(NamedTuple):
    """A stretch that is not observed, and goes on."""

    reason: str
    started_at: int  # ns UTC
    first_seq: int | None
    detail: str | None
    lost: int | None = None  # rows known to be lost
    mixed: bool = False  # a fault and rows that were shed: nobody can tell how many are missing

    def also(self, said: str) -> "Hole":
        """Return it with a further detail, unless there are many already."""
        if self.detail is not None and len(self.detail) >= _DETAIL_CHARS:
            return self
        return self._replace(detail=f"{self.detail}; {said}" if self.detail else said)

    def mixed_with(self, said: str) -> "Hole":
        """Return an overflow with a fault inside; only the first is told."""
        return self if self.mixed else self.also(said)._replace(lost=None, mixed=True)


class StreamState:
    """What a session knows of one stream. The session changes it, everybody reads it."""

    __slots__ = (
        "_rated_at",
        "_rated_rows",
        "after_gap",
        "channel",
        "closing",
        "earlier",
        "first_at",
        "gaps",
        "hole",
        "key",
        "lags_ns",
        "last_at",
        "rate_per_s",
        "received",
        "reconnects",
        "rows",
        "seq",
        "shed",
        "shed_since",
        "snapshot_asked_at",
        "stored_seq",
        "symbol",
    )

    def __init__(self, key: Stream, symbol: str) -> None:
        """Begin without a row. `symbol`: its name on disk and in topics."""
        self.key = key
        self.symbol = symbol
        self.channel = key.channel
        self.seq = 0
        self.stored_seq: int | None = None  # of the last row that was stored, also by an earlier process
        self.earlier: Mark | None = None  # of the last row that an earlier process stored
        self.first_at: int | None = None  # capture of the first good message of this process
        self.last_at: int | None = None  # capture of the last row or other good message
        self.hole: Hole | None = None
        self.closing: tuple[Hole, int] | None = None  # a hole that ended then, and waits for its first row
        self.after_gap = False
        self.shed_since: int | None = None  # `shed` when the overflow began
        self.snapshot_asked_at = 0  # ns: when the exchange was last asked for this stream's snapshot
        # figures since the start of the process
        self.received = 0  # rows that were numbered
        self.rows = 0  # of them stored
        self.shed = 0  # of them not
        self.gaps = 0
        self.reconnects = 0
        self.lags_ns: deque[int] = deque(maxlen=_LAGS)  # capture time minus exchange time; may be negative
        self.rate_per_s: float | None = None
        self._rated_at = 0
        self._rated_rows = 0

    @property
    def needs_snapshot(self) -> bool:
        """Whether a change of the book cannot be stored: the chain of changes before it is broken."""
        unbroken = self.hole is None and self.shed_since is None and self.last_at is not None
        return self.channel == "depth" and not unbroken

    def lag_ms(self) -> tuple[float | None, float | None, float | None]:
        """Return (lowest, median, 99th percentile) of capture minus exchange time over the last rows, ms.

        Negative where the exchange's clock is ahead of ours: it is told as it is.
        """
        lags = sorted(self.lags_ns)
        if not lags:
            return None, None, None
        chosen = (lags[0], lags[len(lags) // 2], lags[len(lags) * 99 // 100])
        low, middle, high = (round(lag / 1e6, 3) for lag in chosen)
        return low, middle, high

    def rated(self, mono_ns: int) -> float | None:
        """Return rows a second since the last time that this was asked, at least a second ago."""
        elapsed_s = (mono_ns - self._rated_at) / _NS
        if self._rated_at == 0 or elapsed_s >= 1.0:
            if self._rated_at:
                self.rate_per_s = round((self.received - self._rated_rows) / elapsed_s, 3)
            self._rated_at, self._rated_rows = mono_ns, self.received
        return self.rate_per_s

    def stats(self, now_ns: int, mono_ns: int) -> dict[str, int | float | str | None]:
        """Return the stream's figures, named `channel.SYMBOL.figure`."""
        name = f"{self.channel}.{self.symbol}"
        low, middle, high = self.lag_ms()
        return {
            f"{name}.received": self.received,
            f"{name}.stored": self.rows,
            f"{name}.shed": self.shed,
            f"{name}.gaps": self.gaps,
            f"{name}.reconnects": self.reconnects,
            f"{name}.lag_min_ms": low,
            f"{name}.lag_p50_ms": middle,
            f"{name}.lag_p99_ms": high,
            f"{name}.rate_per_s": self.rated(mono_ns),
            f"{name}.last_age_s": None if self.last_at is None else round((now_ns - self.last_at) / _NS, 3),
        }
