"""What a role means before the file says otherwise: grace, memory, core; and how cores are folded."""

from typing import NamedTuple

__all__ = ["ROLES", "Role", "place", "role_of"]

_M = 1 << 20


class Role(NamedTuple):
    """Defaults of one role. Seconds and bytes."""

    target: str  # module:class; empty for foreign programs
    drain_s: float
    shutdown_s: float
    memory_soft: int
    memory_hard: int
    slot: int  # 0 supervisor, zygotes, syncer, dashboard · 1 collectors · 2 features, gateway · 3 writers
    heartbeat_interval_s: float = 2.0
    heartbeat_timeout_s: float = 6.0


ROLES = {
    "collector": Role("daedalus.actors.collector:Collector", 5, 5, 120 * _M, 160 * _M, 1),
    "collector-ccxt": Role("daedalus.actors.collector:Collector", 5, 5, 240 * _M, 320 * _M, 1),
    "writer": Role("daedalus.actors.writer:Writer", 30, 10, 120 * _M, 160 * _M, 3),
    "feature": Role("daedalus.actors.feature:Feature", 2, 2, 48 * _M, 64 * _M, 2),
    "gateway": Role("daedalus.actors.gateway:Gateway", 2, 2, 64 * _M, 96 * _M, 2),
    "syncer": Role("daedalus.actors.syncer:Syncer", 30, 10, 160 * _M, 220 * _M, 0),
    "dashboard": Role("daedalus.actors.dashboard:Dashboard", 1, 2, 128 * _M, 192 * _M, 0),
    "simulator": Role("daedalus.actors.simulator:Simulator", 1, 2, 128 * _M, 192 * _M, 0),
    # Programs of the user's own need not speak the heartbeat protocol: off unless asked for.
    "foreign": Role("", 1, 2, 128 * _M, 192 * _M, 0, 0, 0),
}


def role_of(role: str, *, adapter: str = "") -> Role:
    """Return the defaults of a role; a collector's depend on its adapter."""
    return ROLES["collector-ccxt" if (role, adapter) == ("collector", "ccxt") else role]


def place(slot: int, cores: tuple[int, ...]) -> tuple[int, ...]:
    """Return the cores for a slot of the four-core plan, folded onto the cores there are.

    One core needs no pinning.

    >>> place(3, (0, 1, 2, 3)), place(3, (0, 1)), place(1, (4,))
    ((3,), (1,), ())
    """
    return (cores[slot % len(cores)],) if len(cores) > 1 else ()
