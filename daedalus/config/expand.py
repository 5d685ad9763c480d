"""The file becomes the tree: groups and actors in start order, every default filled in. Pure.

Expansion never raises: what is wrong goes to Problems, and the tree is built from what is left, so that
one pass finds every fault.
"""

from typing import Any, NamedTuple

import msgspec

from daedalus.config import settings
from daedalus.config.models import Actor, BackoffTable, Defaults, File, Group
from daedalus.config.problems import Problems
from daedalus.config.roles import Role, place, role_of
from daedalus.kernel.spec import ActorSpec, Backoff, GroupSpec

__all__ = ["BUILT_IN", "Machine", "Planned", "actors", "groups", "instance", "order"]

BUILT_IN = ("store", "live", "ingest", "ship", "ops")
_FOREIGN_KEYS = ("command", "args", "env", "cwd", "ready", "drain_signal", "instances")
_SPEC_KEYS = (
    *("restart", "drain_s", "shutdown_s", "start_timeout_s", "heartbeat_interval_s", "heartbeat_timeout_s"),
    *("memory_warn", "memory_soft", "memory_hard", "memory_soft_min_interval_s", "memory_rlimit"),
    *("nice", "ionice", "blocking", "significant", "start_failure", "ready", "drain_signal", "cwd", "env"),
)
_TUPLE_KEYS = ("cpus", "clean_exit_codes", "fatal_exit_codes", "requires", "command", "args")


class Machine(NamedTuple):
    """What expansion must know of the machine and of where things lie."""

    data: str  # absolute
    runtime: str  # absolute
    cores: tuple[int, ...] = (0,)  # those this process may run on
    memory_bytes: int = 0  # MemTotal; 0 = unknown


class Planned(NamedTuple):
    """A built-in actor before overrides."""

    group: str
    name: str  # without the group
    role: str
    settings: dict[str, Any]
    zygote: str = "light"
    adapter: str = ""

    @property
    def full(self) -> str:
        return f"{self.group}/{self.name}"


def planned(file: File, machine: Machine) -> list[Planned]:
    """Return the built-in actors that [exchanges.*] and [sync] ask for, in start order."""
    data, runtime = machine.data, machine.runtime
    found = [
        Planned(
            "store", f"writer-{channel}", "writer", settings.writer(file, channel, data=data, runtime=runtime)
        )
        for channel in settings.channels_in_use(file)
    ]
    if file.exchanges:
        found.append(Planned("live", "gateway", "gateway", settings.gateway(file, runtime=runtime)))
    for exchange, table in file.exchanges.items():
        found += [
            Planned(
                "live",
                f"feature-{exchange}-{settings.stored_name(table, symbol)}",
                "feature",
                settings.feature(file, exchange, symbol, data=data, runtime=runtime),
            )
            for symbol in table.channels.orderbook
        ]
    found += [
        Planned(
            "ingest",
            f"collector-{exchange}",
            "collector",
            settings.collector(file, exchange, data=data, runtime=runtime),
            zygote="ccxt" if table.adapter == "ccxt" else "light",
            adapter=table.adapter,
        )
        for exchange, table in file.exchanges.items()
    ]
    if file.sync.enabled:
        found.append(Planned("ship", "syncer", "syncer", settings.syncer(file, data=data)))
    return found


def groups(file: File, *, demo: bool = False) -> dict[str, GroupSpec]:
    """Return all groups by name: the root, the built-in ones, then the file's own."""
    built_in = ("demo", *BUILT_IN) if demo else BUILT_IN
    tables = {name: file.groups.get(name, Group()) for name in built_in} | file.groups
    tables.pop("root", None)  # refused by check_names
    root = file.supervisor.model_dump(exclude={"stop_timeout_s"})
    found = {"root": GroupSpec(name="root", parent=None, **root)}
    for name, table in tables.items():
        values = table.model_dump(exclude={"backoff", "parent", "on_limit"})
        found[name] = GroupSpec(
            name=name,
            parent=table.parent or "root",
            on_limit=table.on_limit or ("park" if name in built_in else "escalate"),
            backoff=_backoff(table.backoff),
            **values,
        )
    return found


def order(groups: dict[str, GroupSpec]) -> list[str]:
    """Return group names in start order: a group, then its nested groups, each where the file has it."""
    found: list[str] = []

    def visit(name: str) -> None:
        found.append(name)
        for child, spec in groups.items():
            if spec.parent == name and child not in found:
                visit(child)

    visit("root")
    return found


def actors(
    file: File, machine: Machine, problems: Problems, extra: tuple[Planned, ...] = ()
) -> list[tuple[ActorSpec, tuple[str, ...]]]:
    """Return every actor and the path of its table in the file, in the file's order.

    Args:
        file: the checked tables.
        machine: cores, memory, directories.
        problems: gets what is wrong.
        extra: further built-in actors (the demo's simulator), first in the order.
    """
    found: list[tuple[ActorSpec, tuple[str, ...]]] = []
    built_in = {plan.full: plan for plan in (*extra, *planned(file, machine))}
    for name, plan in built_in.items():
        table = file.actors.get(name, Actor())
        for key in _FOREIGN_KEYS:
            if getattr(table, key) is not None:
                problems.error(
                    ("actors", name, key), f"{name} is a built-in actor: {key} is for programs of your own"
                )
        layers = (getattr(file.defaults, plan.role), table)
        values = _values(
            role_of(plan.role, adapter=plan.adapter), _backoff_of(file, plan.group, layers), layers, machine
        )
        if plan.role == "collector":  # it judges its growth by the bound it is restarted at
            plan.settings["memory_soft"] = values["memory_soft"] or 0
        spec = ActorSpec(
            name=name,
            group=plan.group,
            role=plan.role,
            target=role_of(plan.role).target,
            settings=msgspec.msgpack.encode(plan.settings),
            zygote=plan.zygote,
            **values,
        )
        found.append((spec, ("actors", name)))
    for name, table in file.actors.items():
        if name not in built_in and table.command is not None:
            found += _foreign(file, name, table, machine)
    return found


def _foreign(
    file: File, name: str, table: Actor, machine: Machine
) -> list[tuple[ActorSpec, tuple[str, ...]]]:
    """Return the instances of a program of the user's own: one, or as many as its template says."""
    spec = instance(file, name, table, machine)
    template = file.groups.get(spec.group, Group()).strategy == "simple_one_for_one"
    count = table.instances if table.instances is not None else 1
    names = [f"{name}@{number}" for number in range(1, count + 1)] if template else [name]
    return [(msgspec.structs.replace(spec, name=one), ("actors", name)) for one in names]


def instance(file: File, name: str, table: Actor, machine: Machine) -> ActorSpec:
    """Return one program of the user's own, by its table's name."""
    group = name.partition("/")[0]
    layers = (file.defaults.foreign, table)
    values = _values(role_of("foreign"), _backoff_of(file, group, layers), layers, machine)
    return ActorSpec(name=name, group=group, role="foreign", **values)


def _values(role: Role, backoff: Backoff, layers: tuple[Defaults, ...], machine: Machine) -> dict[str, Any]:
    """Return the fields of an ActorSpec: the role's, with each layer over the one before."""
    values: dict[str, Any] = {
        "drain_s": role.drain_s,
        "shutdown_s": role.shutdown_s,
        "memory_soft": role.memory_soft,
        "memory_hard": role.memory_hard,
        "heartbeat_interval_s": role.heartbeat_interval_s,
        "heartbeat_timeout_s": role.heartbeat_timeout_s,
        "cpus": place(role.slot, machine.cores),
        "backoff": backoff,
    }
    for layer in layers:
        for key in _SPEC_KEYS:
            if (value := getattr(layer, key, None)) is not None:
                values[key] = (
                    float(value) if isinstance(value, (int, float)) and key.endswith("_s") else value
                )
        for key in _TUPLE_KEYS:
            if (value := getattr(layer, key, None)) is not None:
                values[key] = tuple(value)
    return values


def _backoff_of(file: File, group: str, layers: tuple[Defaults, ...]) -> Backoff:
    return _backoff(file.groups.get(group, Group()).backoff, *(layer.backoff for layer in layers))


def _backoff(*tables: BackoffTable | None) -> Backoff:
    """Return the delays that tables give, each over the one before."""
    values: dict[str, float] = {}
    for table in tables:
        if table is not None:
            values |= {key: float(value) for key, value in table.model_dump(exclude_none=True).items()}
    # A run counts as stable only when it outlasts the longest delay twice over.
    values.setdefault("reset_after_s", max(60.0, 2 * values.get("cap_s", Backoff().cap_s)))
    return Backoff(**values)
