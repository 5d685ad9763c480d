"""The gates of `requires`: their grammar, the actors they name, and that none waits for itself. Pure."""

import re

import msgspec

from daedalus.config.faults import nearest
from daedalus.config.problems import Problems
from daedalus.kernel.spec import ActorSpec

__all__ = ["check_gates"]

_GATE = re.compile(r"time-sync|net:default-route|path:/[^\0]*|actor:.+=running", re.DOTALL)
_KNOWN = "time-sync, net:default-route, path:/…, actor:NAME=running"

Placed = list[tuple[ActorSpec, tuple[str, ...]]]


def check_gates(actors: Placed, order: list[str], problems: Problems) -> Placed:
    """Check every gate, and return the actors with the whole names of those they wait for.

    Args:
        actors: each with the path of its table.
        order: the groups in start order.
        problems: gets what is wrong.
    """
    names = [spec.name for spec, _ in actors]
    found: Placed = []
    for spec, path in actors:
        gates = tuple(_resolved(gate, spec, (*path, "requires"), names, problems) for gate in spec.requires)
        found.append(
            (msgspec.structs.replace(spec, requires=gates) if gates != spec.requires else spec, path)
        )
    _check_rings(found, problems)
    _check_order(found, order, problems)
    return found


def _resolved(gate: str, spec: ActorSpec, path: tuple[str, ...], names: list[str], problems: Problems) -> str:
    if not _GATE.fullmatch(gate):
        words = _KNOWN.replace("path:/…", "path:/").replace("actor:NAME=running", "actor:").split(", ")
        problems.error(path, f"unknown gate {gate!r}", nearest(gate, words) or _KNOWN)
        return gate
    wanted = _actor_of(gate)
    if wanted is None or wanted in names:
        return gate
    same = [name for name in names if name.partition("/")[2] == wanted]
    if len(same) == 1:
        return f"actor:{same[0]}=running"
    if same:
        problems.error(path, f"{spec.name} waits for {wanted!r}: which of {', '.join(same)}?")
    elif not problems.has(("exchanges",)):
        problems.error(
            path, f"{spec.name} waits for {wanted!r}: there is no such actor", nearest(wanted, names)
        )
    return gate


def _actor_of(gate: str) -> str | None:
    return gate.removeprefix("actor:").removesuffix("=running") if gate.startswith("actor:") else None


def _waits(actors: Placed) -> dict[str, list[str]]:
    return {
        spec.name: [name for gate in spec.requires if (name := _actor_of(gate)) is not None]
        for spec, _ in actors
    }


def _check_rings(actors: Placed, problems: Problems) -> None:
    waits = _waits(actors)
    told: set[str] = set()
    for spec, path in actors:
        ring = _ring(spec.name, waits)
        if ring and not told & set(ring):
            told |= set(ring)
            way = " waits for ".join((*ring, ring[0]))
            problems.error((*path, "requires"), f"{way}: none would ever start")


def _ring(start: str, waits: dict[str, list[str]]) -> tuple[str, ...]:
    """Return a way from an actor back to itself, or nothing."""
    ways: list[tuple[str, ...]] = [(start,)]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for name in waits.get(way[-1], ()):
            if name == start:
                return way
            if name not in seen:
                seen.add(name)
                ways.append((*way, name))
    return ()


def _check_order(actors: Placed, order: list[str], problems: Problems) -> None:
    """Refuse an actor that holds up those after it while it waits for one of them."""
    rank = {name: number for number, name in enumerate(order)}
    sequence = sorted((spec for spec, _ in actors), key=lambda spec: rank.get(spec.group, 0))
    place = {spec.name: number for number, spec in enumerate(sequence)}
    waits = _waits(actors)
    for spec, path in actors:
        later = [name for name in waits[spec.name] if place.get(name, -1) > place[spec.name]]
        if spec.blocking and later:
            problems.error(
                (*path, "blocking"),
                f"{spec.name} is blocking and waits for {later[0]}, which starts after it: neither would",
                "leave blocking out, or move it behind",
            )
