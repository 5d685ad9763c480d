"""Which exchange times can be: one hostile or broken message moves no figure and hides no trade. Pure.

There are two questions. Whether a time is one at all does not depend on our clock, which may be wrong for
years (a Raspberry Pi has none of its own): what is no time of our age is stored as missing. Whether a time
fits the moment in which its message was captured decides whether it counts in the lag, and as the time of the
last trade; there our clock is the measure, as far as it can be trusted.
"""

__all__ = ["is_believable", "is_time"]

_SECOND = 1_000_000_000
_TIMES = range(1, 4_102_444_800 * _SECOND)  # 1970 to 2100, ns UTC
_AHEAD_NS = 60 * _SECOND  # our clock is synchronised, and may still be behind the exchange's
_DAY_NS = 86_400 * _SECOND


def is_time(ts_event: int) -> bool:
    """Return whether an exchange time, ns UTC, can be one.

    >>> is_time(1_700_000_000_000_000_000), is_time(-1), is_time(16_725_225_600 * 10**9)
    (True, False, False)
    """
    return ts_event in _TIMES


def is_believable(ts_event: int, ts_recv: int, *, clock_ok: bool) -> bool:
    """Return whether a live message of an exchange time can have come at a capture time, both ns UTC.

    At most a day late; early by 60 s at most, by a day where our clock is not synchronised.
    """
    lag = ts_recv - ts_event
    return -(_AHEAD_NS if clock_ok else _DAY_NS) <= lag <= _DAY_NS
