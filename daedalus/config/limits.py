"""Checks against the machine and against time: cores, memory, socket paths, restart limits. Pure."""

from itertools import pairwise

from daedalus.config.expand import Machine
from daedalus.config.problems import Problems
from daedalus.kernel.spec import ActorSpec, Backoff, GroupSpec

__all__ = ["check_cores", "check_intensity", "check_memory", "check_paths", "failures_in"]

_SUN_PATH_MAX = 107
_MEMORY_SHARE = 0.85

Placed = list[tuple[ActorSpec, tuple[str, ...]]]


def check_cores(actors: Placed, machine: Machine, problems: Problems) -> None:
    """Check that every core that is named is there."""
    there = ", ".join(map(str, machine.cores))
    for spec, path in actors:
        for core in spec.cpus:
            if core not in machine.cores:
                problems.error((*path, "cpus"), f"cannot run on core {core}: there are {there}")


def check_memory(actors: Placed, machine: Machine, problems: Problems) -> None:
    """Check warn <= soft <= hard for each actor, and the sum against what the machine has."""
    for spec, path in actors:
        marks = [
            (key, value)
            for key in ("memory_warn", "memory_soft", "memory_hard")
            if (value := getattr(spec, key))
        ]
        for (low, small), (high, large) in pairwise(marks):
            if small > large:
                problems.error(
                    (*path, low), f"{low} of {spec.name} is {small >> 20}M, over its {high} of {large >> 20}M"
                )
    hard = sum(spec.memory_hard or 0 for spec, _ in actors)
    if machine.memory_bytes and hard > _MEMORY_SHARE * machine.memory_bytes:
        problems.warn(
            (),
            f"memory_hard of all actors adds up to {hard >> 20}M, "
            f"over {_MEMORY_SHARE:.0%} of the machine's {machine.memory_bytes >> 20}M",
        )


def failures_in(backoff: Backoff, period_s: float, most: int) -> int:
    """Return how many failures of a child that dies at once fit in a window: at most `most` are counted.

    >>> failures_in(Backoff(), 60, 100)
    8
    """
    at = 0.0
    for failures in range(1, most + 1):
        delay = (
            0.0 if failures == 1 else min(backoff.cap_s, backoff.base_s * backoff.factor ** (failures - 2))
        )
        if at + delay > period_s:
            return failures
        at += delay
    return most


def check_intensity(actors: Placed, groups: dict[str, GroupSpec], problems: Problems) -> None:
    """Warn about limits that no child can reach, because its backoff is slower than the window."""
    for name, group in groups.items():
        most = max(
            (
                failures_in(spec.backoff, group.period_s, group.intensity + 1)
                for spec, _ in actors
                if spec.group == name and spec.restart != "temporary"
            ),
            default=None,
        )
        if most is not None and most <= group.intensity:
            problems.warn(
                ("groups", name, "intensity"),
                f"intensity {group.intensity} of {name} can never be exceeded by one child: "
                f"its backoff allows max {most} failures per {group.period_s:g} s",
                "lower intensity, or raise period_s",
            )


def check_paths(actors: Placed, machine: Machine, problems: Problems, *, volatile: bool) -> None:
    """Check that every socket path fits, and warn when a logout would delete the spools."""
    exchanges = [
        spec.name.removeprefix("ingest/collector-") for spec, _ in actors if spec.role == "collector"
    ]
    sockets = ["gateway.sock.req", *(f"replay-{exchange}.sock" for exchange in exchanges)]
    longest = max(sockets, key=len)
    size = len(f"{machine.runtime}/{longest}".encode())
    if size > _SUN_PATH_MAX:
        problems.error(
            ("paths", "runtime"),
            f"cannot use the runtime directory {machine.runtime}: "
            f"the path of {longest} in it has {size} bytes, at most {_SUN_PATH_MAX} fit a socket",
            "choose a shorter one with --runtime",
        )
    if volatile and exchanges:
        problems.warn(
            ("paths", "runtime"),
            f"the spools lie in {machine.runtime}, which a logout deletes",
            "set runtime, or run under systemd with RuntimeDirectory",
        )
