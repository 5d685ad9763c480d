"""How often is too often, and how long until the next attempt. Pure arithmetic of one group's restarts.

The window holds the times of restarts that were decided on, each counted before its delay. It is closed at
both ends and in exact monotonic seconds, where OTP truncates to whole ones. Delays are those of one child.
"""

from daedalus.kernel.spec import Backoff

__all__ = ["delay_s", "park_delay_s", "recent", "used"]

PARK_JITTER = 0.1


def delay_s(backoff: Backoff, failures: int, luck: float = 0.0) -> float:
    """Return the delay before the restart after the `failures`-th failure in a row, seconds.

    0, base, base*factor … capped; then up to `jitter` of it more, as `luck` in [0, 1) says.
    """
    if failures <= 1:
        return 0.0
    exponent = min(failures - 2, 1000)
    try:
        delay = backoff.base_s * backoff.factor**exponent
    except OverflowError:
        delay = backoff.cap_s
    return min(backoff.cap_s, delay) * (1.0 + backoff.jitter * luck)


def park_delay_s(retry_s: float, luck: float = 0.0) -> float:
    """Return how long a child stays parked, seconds: `retry_s` and up to a tenth more."""
    return retry_s * (1.0 + PARK_JITTER * luck)


def recent(window: tuple[float, ...], now: float, period_s: float) -> tuple[float, ...]:
    """Return the times that the window still holds at `now`; one exactly `period_s` old is held."""
    return tuple(at for at in window if now - at <= period_s)


def used(window: tuple[float, ...], now: float, period_s: float) -> int:
    """Return how many restarts the window holds at `now`."""
    return len(recent(window, now, period_s))
