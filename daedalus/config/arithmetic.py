"""The two sums a tree must pass: can a restart limit ever be reached, and how long may a stop take. Pure.

A limit that its own backoff keeps out of reach is a child that crashes for ever and is never noticed; a stop
that takes longer than systemd waits is a SIGKILL for all that has not been flushed.
"""

import math

from daedalus.config.problems import Problems
from daedalus.kernel.spec import KILL_GRACE_S, ActorSpec, Backoff, GroupSpec, stop_bound

__all__ = ["check_intensity", "check_stop", "failures_in", "stop_bounds"]

Placed = list[tuple[ActorSpec, tuple[str, ...]]]


def failures_in(backoff: Backoff, period_s: float, most: int, *, life_s: float = 0.0) -> int:
    """Return how many failures in a row fit in a window that begins at the first: at most `most` are counted.

    Args:
        backoff: of the child.
        period_s: the window.
        most: count no further.
        life_s: from each start to the failure; 0 = it dies at once.

    >>> failures_in(Backoff(), 60, 100)
    8
    """
    at = 0.0
    for failures in range(1, most + 1):
        stable = failures == 1 or life_s >= backoff.reset_after_s
        delay = (
            0.0 if stable else min(backoff.cap_s, backoff.base_s * backoff.factor ** min(failures - 2, 99))
        )
        if at + delay + life_s > period_s:
            return failures
        at += delay + life_s
    return most


def check_intensity(actors: Placed, groups: dict[str, GroupSpec], problems: Problems) -> None:
    """Warn about limits that no child can reach, because its backoff is slower than the window."""
    for name, group in groups.items():
        most = max(_failing(group, actors, groups), default=None)
        if most is not None and most <= group.intensity:
            table = ("supervisor",) if group.parent is None else ("groups", name)
            problems.warn(
                (*table, "intensity"),
                f"intensity {group.intensity} of {name} can never be exceeded by one child: "
                f"its backoff allows max {most} failures per {group.period_s:g} s",
                "lower intensity, or raise period_s",
            )


def _failing(group: GroupSpec, actors: Placed, groups: dict[str, GroupSpec]) -> list[int]:
    """Return for each child that could fail for ever how often it does so in the window.

    A child group dies when its own limit is exceeded, which takes its quickest child so long; one that parks
    never dies.
    """
    found = []
    for backoff, restart, life_s in [
        *((spec.backoff, spec.restart, 0.0) for spec, _ in actors if spec.group == group.name),
        *(
            (inner.backoff, inner.restart, _life_s(inner, actors))
            for inner in groups.values()
            # a ring of parents is a fault already told
            if inner.parent == group.name and inner.on_limit == "escalate" and _depth(inner, groups)
        ),
    ]:
        if restart != "temporary" and life_s < math.inf:
            found.append(failures_in(backoff, group.period_s, group.intensity + 1, life_s=life_s))
    return found


def _depth(group: GroupSpec, groups: dict[str, GroupSpec]) -> int:
    """Return how many parents a group has; 0 when they are a ring."""
    at: str | None = group.parent
    for depth in range(1, len(groups) + 1):
        if at is None or at not in groups:
            return depth
        at = groups[at].parent
    return 0


def _life_s(group: GroupSpec, actors: Placed) -> float:
    """Return how long after its start a group dies whose quickest child always fails; infinity: never."""
    if group.restart == "transient":
        return math.inf  # its end by the limit is a normal one: it is not restarted
    lives = []
    for spec, _ in actors:
        if spec.group == group.name and spec.restart != "temporary":
            at = spec.backoff
            steps = [min(at.cap_s, at.base_s * at.factor ** min(k, 99)) for k in range(group.intensity - 1)]
            if failures_in(at, group.period_s, group.intensity + 1) > group.intensity:
                lives.append(sum(steps))
    return min(lives, default=math.inf)


def stop_bounds(actors: Placed, groups: dict[str, GroupSpec]) -> dict[str, float]:
    """Return for each group how long its stop may take, in seconds: infinity where there is no bound.

    Children are stopped in turn, so their bounds add up; with parallel_stop, and for instances of a template,
    the longest counts.
    """
    bounds: dict[str, float] = {}

    def visit(name: str, above: tuple[str, ...]) -> float:
        group = groups[name]
        parts = [stop_bound(spec) for spec, _ in actors if spec.group == name]
        parts += [
            visit(inner.name, (*above, name))
            for inner in groups.values()
            if inner.parent == name and inner.name not in above
        ]
        together = (
            group.parallel_stop and group.strategy == "one_for_one"
        ) or group.strategy == "simple_one_for_one"
        bounds[name] = max(parts, default=0.0) if together else sum(parts)
        return bounds[name]

    visit("root", ())
    return bounds


def check_stop(
    actors: Placed, groups: dict[str, GroupSpec], timeout_s: float, problems: Problems, *, fail: bool
) -> None:
    """Compare how long the tree's stop may take with how long whoever stops it waits.

    Args:
        actors: each with the path of its table.
        groups: by name.
        timeout_s: stop_timeout_s.
        problems: gets a warning, or a fault with `fail`.
        fail: an excess is a fault.
    """
    note = problems.error if fail else problems.warn
    endless = {path: spec for spec, path in actors if spec.shutdown_s == "infinity"}
    for path, spec in endless.items():
        note((*path, "shutdown_s"), f'the stop of {spec.name} has no bound: its shutdown_s is "infinity"')
    bounds = stop_bounds(actors, groups)
    total = bounds["root"]
    if endless or total <= timeout_s:
        return
    largest = sorted(
        (
            (bounds[name], name)
            for name, group in groups.items()
            if group.parent == "root" and bounds.get(name)
        ),
        reverse=True,
    )
    mostly = ", ".join(f"{name} {bound:g} s" for bound, name in largest[:3])
    note(
        ("supervisor", "stop_timeout_s"),
        f"the stop of the tree may take {total:g} s (drain_s, shutdown_s and {KILL_GRACE_S:g} s for its end, "
        f"actor after actor), over stop_timeout_s {timeout_s:g}: mostly {mostly}",
        f"set stop_timeout_s, and TimeoutStopSec of the unit, to {math.ceil(total)} or more; "
        "or parallel_stop on a group of independent actors",
    )
