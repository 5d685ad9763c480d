"""Checks of the tree: groups, names, actors against their groups, who may control it. Pure."""

from collections.abc import Callable

from daedalus.config.expand import BUILT_IN
from daedalus.config.faults import nearest
from daedalus.config.models import Actor, Channels, Control, File, Gateway
from daedalus.config.problems import Problems
from daedalus.config.values import parse_name
from daedalus.kernel.locate import is_loopback
from daedalus.kernel.spec import ActorSpec, GroupSpec
from daedalus.records import FRAMES

__all__ = ["check_actors", "check_control", "check_gateway", "check_groups", "check_names"]

# Built-in actors that another configuration has: a table for one of them is no spelling mistake.
_POSSIBLE = {f"store/writer-{channel}" for channel in (*Channels.model_fields, FRAMES)} | {
    "live/gateway",
    "ship/syncer",
    "ops/dashboard",
}


def check_groups(groups: dict[str, GroupSpec], problems: Problems) -> None:
    """Check that the groups are a tree and that nothing in it dies unheard."""
    for name, spec in groups.items():
        path = ("groups", name)
        if spec.parent is None:
            continue
        if spec.parent not in groups:
            problems.error(
                (*path, "parent"), f"there is no group {spec.parent!r}", nearest(spec.parent, groups)
            )
        elif _circular(name, groups):
            problems.error((*path, "parent"), f"the group {name!r} would be inside itself")
        elif groups[spec.parent].strategy == "simple_one_for_one":
            problems.error(
                (*path, "parent"),
                f"cannot put a group into {spec.parent!r}: a simple_one_for_one group has one template",
            )
        if spec.restart != "permanent" and spec.auto_shutdown == "never":
            problems.warn(
                (*path, "restart"),
                f"a {spec.restart} group that reaches its limit stays down without a word to its parent",
                'keep restart = "permanent" unless auto_shutdown is set',
            )
        if spec.restart == "permanent" and spec.auto_shutdown != "never":
            problems.warn(
                (*path, "auto_shutdown"),
                f"a permanent group is started again after its auto_shutdown {spec.auto_shutdown!r}",
                'set restart = "transient" if it is to stay down',
            )


def _circular(name: str, groups: dict[str, GroupSpec]) -> bool:
    seen: set[str] = set()
    at: str | None = name
    while at is not None and at in groups:
        if at in seen:
            return True
        seen.add(at)
        at = groups[at].parent
    return False


def check_control(control: Control, exists: Callable[[str], bool], problems: Problems) -> None:
    """Check that the Unix groups of [control] are on this machine and differ."""
    for key in ("group", "readonly_group"):
        name = getattr(control, key)
        if name and not exists(name):
            problems.error(
                ("control", key),
                f"cannot use {name!r}: this machine has no such Unix group",
                f"create it with groupadd, or leave {key} empty",
            )
    if control.group and control.group == control.readonly_group:
        problems.error(
            ("control", "readonly_group"),
            f"cannot use {control.group!r}: its members may do everything already, by group",
        )


def check_gateway(gateway: Gateway, problems: Problems) -> None:
    """Check that nobody listens in from another machine without a key."""
    if not is_loopback(gateway.tcp) and not gateway.keys_dir:
        problems.error(
            ("gateway", "tcp"),
            f"cannot use {gateway.tcp!r}: other machines reach it, and there are no keys",
            "set keys_dir and make keys with `daedalus keys make`, or use tcp://127.0.0.1:PORT",
        )


def check_names(file: File, built_in: set[str], groups: dict[str, GroupSpec], problems: Problems) -> None:
    """Check the keys of [groups] and [actors]: reserved words, unknown groups, actors that do not exist."""
    if "root" in file.groups:
        problems.error(("groups", "root"), "the root group is described by [supervisor]")
    if "all" in file.groups:
        problems.error(("groups", "all"), "a group cannot be named all: to daedalus-ctl that is every actor")
    for group, spec in groups.items():
        if spec.strategy == "simple_one_for_one" and group in BUILT_IN:
            problems.error(
                ("groups", group, "strategy"),
                f"{group} has different actors: simple_one_for_one has one template",
            )
    templates: dict[str, str] = {}
    for name, table in file.actors.items():
        if name in built_in or problems.has(("actors", name, "command")):
            continue
        if table.command is None:
            _not_there(name, built_in, problems)
        elif "/" not in name:
            problems.error(
                ("actors", name), f"the actor {name!r} names no group", f'write [actors."ops/{name}"]'
            )
        else:
            _check_foreign(name, table, groups, templates, problems)


def _not_there(name: str, built_in: set[str], problems: Problems) -> None:
    if problems.has(("exchanges",)):
        return  # it may belong to an exchange that has faults of its own
    if name in _POSSIBLE:
        problems.warn(("actors", name), f"{name} is not in this tree: its table has no effect")
    else:
        hint = nearest(name, built_in | _POSSIBLE) or "a program of your own needs command"
        problems.error(("actors", name), f"there is no actor {name!r}, and it has no command", hint)


def _check_foreign(
    name: str, table: Actor, groups: dict[str, GroupSpec], templates: dict[str, str], problems: Problems
) -> None:
    path = ("actors", name)
    group, _, short = name.partition("/")
    try:
        parse_name(short)
    except ValueError as error:
        problems.error(path, f"cannot use the actor name {short!r}: {error}")
    if group not in groups:
        if problems.has(("groups", group)):
            return
        problems.error(
            path, f"there is no group {group!r}", nearest(group, groups) or f"add [groups.{group}]"
        )
        return
    strategy = groups[group].strategy
    if strategy == "simple_one_for_one":
        if (other := templates.setdefault(group, name)) != name:
            problems.error(path, f"a simple_one_for_one group has one template, and {group} has {other}")
    elif table.instances is not None:
        problems.error(
            (*path, "instances"),
            f"instances needs a group of strategy simple_one_for_one, and {group} is {strategy}",
        )


def check_actors(
    actors: list[tuple[ActorSpec, tuple[str, ...]]], groups: dict[str, GroupSpec], problems: Problems
) -> None:
    """Check each actor's effective values against each other and its group."""
    for path, spec in {path: spec for spec, path in actors}.items():  # instances of a template: once
        beat, patience = spec.heartbeat_interval_s, spec.heartbeat_timeout_s
        if beat and patience and patience < 2 * beat:
            problems.error(
                (*path, "heartbeat_timeout_s"),
                f"heartbeat_timeout_s {patience:g} is under twice heartbeat_interval_s {beat:g} (seconds)",
            )
        if spec.blocking and not spec.requires:
            problems.warn((*path, "blocking"), "blocking has no effect without requires")
        group = groups.get(spec.group)
        if spec.significant and group is not None:
            if group.auto_shutdown == "never":
                problems.error(
                    (*path, "significant"), f"significant needs auto_shutdown on the group {group.name}"
                )
            if spec.restart == "permanent":
                problems.error(
                    (*path, "significant"), 'significant needs restart = "transient" or "temporary"'
                )
