"""Checks against the machine: cores, memory, socket paths. Pure."""

from itertools import pairwise

from daedalus.config.expand import Machine
from daedalus.config.models import Disk
from daedalus.config.problems import Problems
from daedalus.kernel.spec import ActorSpec

__all__ = ["check_cores", "check_disk", "check_memory", "check_paths"]

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
        if spec.memory_rlimit and spec.memory_soft and spec.memory_rlimit < spec.memory_soft:
            problems.warn(
                (*path, "memory_rlimit"),
                f"memory_rlimit of {spec.name} is {spec.memory_rlimit >> 20}M, under its memory_soft of "
                f"{spec.memory_soft >> 20}M: it meets MemoryError before it is drained",
            )
    hard = sum(spec.memory_hard or 0 for spec, _ in actors)
    if machine.memory_bytes and hard > _MEMORY_SHARE * machine.memory_bytes:
        problems.warn(
            (),
            f"memory_hard of all actors adds up to {hard >> 20}M, "
            f"over {_MEMORY_SHARE:.0%} of the machine's {machine.memory_bytes >> 20}M",
        )


def check_disk(disk: Disk, problems: Problems) -> None:
    """Check that the marks of [disk] come one after another as the disk fills."""
    for high, low in (("warn_pct", "evict_pct"), ("evict_pct", "stop_pct")):
        if getattr(disk, high) < getattr(disk, low):
            problems.error(
                ("disk", high),
                f"{high} {getattr(disk, high):g} is under {low} {getattr(disk, low):g} (percent free)",
                "as the disk fills the marks are met in the order warn_pct, evict_pct, stop_pct",
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
