"""How long to wait before the next attempt to connect: exponential with full jitter."""

from collections.abc import Callable

__all__ = ["full_jitter"]

_DOUBLINGS_MAX = 30


def full_jitter(attempt: int, base_s: float, cap_s: float, uniform: Callable[[float, float], float]) -> float:
    """Return seconds to wait before attempt `attempt` (0 = the first after a failure).

    U(0, min(cap, base * 2^attempt)): the waits of many clients that failed together spread over the whole
    interval instead of coming back as one wave.

    Args:
        attempt: failures in a row before this one.
        base_s: bound of the first wait, s.
        cap_s: bound of every wait, s.
        uniform: `random.uniform`, or a test's own.
    """
    return uniform(0.0, min(cap_s, base_s * 2 ** min(attempt, _DOUBLINGS_MAX)))
