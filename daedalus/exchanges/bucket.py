"""A token bucket: what an exchange allows from one address, kept over all connections and reconnects.

An exchange counts in windows it does not show. A bucket of `count / 3` that refills at `count / (2 period)`
spends at most 5/6 of the allowance in any window, wherever it begins:

    capacity + rate * period = count / 3 + count / 2

The last sixth is what a new process begins with. Nothing is persisted over a restart, because a file would
have to be written at every request to be true; so a process that begins assumes that the one before it has
just spent all it had. One restart in a window never exceeds the allowance, even after a full burst; a storm
of them needs more than three in one window, and those the supervisor's own intensity and backoff keep apart.
What then still goes over is answered with 429, and `pause` obeys the answer.

Processes that ask one exchange from one address divide the allowance beforehand: each takes 1/share.
"""

import asyncio
import time
from collections.abc import Callable

__all__ = ["Bucket"]

_NS = 1_000_000_000


class Bucket:
    """Tokens that come back with time. Those who wait are served in the order they came.

    >>> bucket = Bucket(2, 1.0, clock=lambda: 0)
    >>> bucket.spend(0, 2), bucket.ready_in(0), bucket.ready_in(500_000_000)
    (None, 1.0, 0.5)
    """

    def __init__(
        self,
        capacity: float,
        per_s: float,
        *,
        fill: float | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Begin with `fill` tokens.

        Args:
            capacity: the largest burst, tokens.
            per_s: tokens that come back each second.
            fill: tokens at the start; None: full.
            clock: monotonic time, ns.

        Raises:
            ValueError: a bucket that could never serve one token.
        """
        if not (capacity >= 1 and per_s > 0):
            raise ValueError(
                f"cannot make a bucket of {capacity} tokens that refills at {per_s} tokens/s: "
                "at least 1 token, more than 0 tokens/s"
            )
        self.capacity = float(capacity)
        self.per_s = float(per_s)
        self._tokens = self.capacity if fill is None else min(float(fill), self.capacity)
        self._clock = clock
        self._at = clock()
        self._paused_until = 0
        self._queue: asyncio.Lock | None = None
        self.waiting = 0  # who stands in the queue now
        self.waited = 0  # how many had to wait, since start

    @classmethod
    def shared(
        cls, limit: tuple[float, float], clock: Callable[[], int] = time.monotonic_ns, *, share: int = 1
    ) -> "Bucket":
        """Return the bucket of an allowance that belongs to our address: see above.

        Args:
            limit: (how many, in s).
            clock: monotonic time, ns.
            share: so many processes divide it; each has 1/share.

        Raises:
            ValueError: a share below 1.
        """
        if share < 1:
            raise ValueError(f"cannot take 1/{share} of an allowance: the share is at least 1")
        count, period_s = limit[0] / share, limit[1]
        return cls(
            max(count / 3, 1.0), count / 2 / period_s, fill=max(count / 6, min(1.0, count)), clock=clock
        )

    @classmethod
    def own(cls, limit: tuple[float, float], clock: Callable[[], int] = time.monotonic_ns) -> "Bucket":
        """Return the bucket of an allowance that begins anew with each connection: it begins full."""
        count, period_s = limit
        return cls(max(count / 2, 1.0), count / 2 / period_s, clock=clock)

    def now(self) -> int:
        """Return the time of the bucket's own clock, ns."""
        return self._clock()

    def ready_in(self, now: int, n: float = 1.0) -> float:
        """Return seconds until `n` tokens may be spent, if nobody else spends before; 0: now.

        More tokens than the bucket holds are served when it is full, on credit: refused for ever would be a
        request that is never made.
        """
        self._refill(now)
        missing = min(n, self.capacity) - self._tokens
        wait_s = missing / self.per_s if missing > 1e-9 else 0.0  # rounding is no reason to wait
        return max(wait_s, (self._paused_until - now) / _NS, 0.0)

    def spend(self, now: int, n: float = 1.0) -> None:
        """Take `n` tokens, ready or not."""
        self._refill(now)
        self._tokens -= n

    def pause(self, now: int, for_s: float) -> None:
        """Serve nobody for `for_s` seconds, and begin empty after them: the exchange said "too many"."""
        self._refill(now)
        self._tokens = min(self._tokens, 0.0)
        self._paused_until = max(self._paused_until, now + round(for_s * _NS))

    async def take(self, n: float = 1.0) -> None:
        """Wait for `n` tokens and take them."""
        if self._queue is None:
            self._queue = asyncio.Lock()
        self.waiting += 1
        try:
            async with self._queue:  # fair: a heavy request is not overtaken for ever by light ones
                late = False
                while (wait_s := self.ready_in(now := self._clock(), n)) > 0:  # a pause may come meanwhile
                    late = True
                    await asyncio.sleep(wait_s)
                self.waited += late
                self.spend(now, n)
        finally:
            self.waiting -= 1

    def _refill(self, now: int) -> None:
        if now <= self._at:
            return
        since = max(self._at, min(self._paused_until, now))  # nothing comes back during a pause
        self._tokens = min(self.capacity, self._tokens + (now - since) / _NS * self.per_s)
        self._at = now
