"""The service manager's watchdog: how often it wants a sign of life, and whether we may give one. Pure.

systemd restarts a service that falls silent, which is right only when the silence means something: a ping
from a loop that turns but decides nothing would hide exactly the fault the watchdog is for. So the ping is
withheld while the supervisor does not do its work, and what it does not do has a name for the log.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["LAG_MAX_S", "PING_MAX_S", "Step", "doubts", "interval_s"]

PING_MAX_S = 10.0
LAG_MAX_S = 2.0
_USEC_MAX = 2**63  # more is no duration: systemd's own "infinity" is 2**64 - 1


class Step(NamedTuple):
    """The oldest unfinished step of a group's operations: a child being started or stopped."""

    group: str
    age_s: float  # since it was begun, monotonic
    bound_s: float  # what it may take at most, everything included; inf: without a bound


def interval_s(environ: Mapping[str, str], pid: int) -> float | None:
    """Return how often the service manager is to be pinged; None when it does not watch us.

    Half of what it waits for, as sd_watchdog_enabled(3) advises, and at most PING_MAX_S. The variables are
    inherited, so they hold only for the process that WATCHDOG_PID names.

    Args:
        environ: the environment of this process.
        pid: the pid of this process.
    """
    if (owner := environ.get("WATCHDOG_PID")) is not None and owner != str(pid):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    if not (text.isascii() and text.isdecimal()):
        return None
    usec = int(text) if len(text) <= len(str(_USEC_MAX)) else _USEC_MAX
    return min(usec / 2e6, PING_MAX_S) if 0 < usec < _USEC_MAX else None


def doubts(*, loop_lag_s: float, steps: Iterable[Step] = (), accepting: bool) -> tuple[str, ...]:
    """Return what speaks against a ping, one text each; nothing when all is well.

    Args:
        loop_lag_s: how late the loop's last turn was.
        steps: of each group the oldest unfinished step, if it has one.
        accepting: the control socket takes connections.
    """
    found = []
    if not loop_lag_s < LAG_MAX_S:
        found.append(f"the loop is {loop_lag_s:.1f} s late, must be below {LAG_MAX_S:g} s")
    found += [
        f"group {step.group}: a step is unfinished after {step.age_s:.1f} s, bound {step.bound_s:g} s"
        for step in steps
        if not step.age_s <= step.bound_s
    ]
    if not accepting:
        found.append("the control socket does not accept connections")
    return tuple(found)
