"""What a new configuration changes in a running tree, with the smallest possible effect. Pure.

Two normalised trees go in, a list of changes comes out; an actor that no change names keeps its process, its
generation and its start time. Every key of the specification belongs to one class, and the class is all that
decides:

    live      taken over at once, same process
    affinity  set on every thread of the running process
    restart   the actor is drained and started again: a planned restart, which counts nowhere
    order     the list of children is arranged anew, nobody is touched
    refused   only a restart of the service can do it; then nothing else may be done either
    identity  another name is another actor; another supervisor is an end and a beginning
    ignored   says nothing about what runs

The changes are in the order in which they can be carried out: refusals, removals in reverse start order, new
groups with parents first, keys of groups and actors, then restarts and new actors in start order.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from daedalus.kernel.spec import ActorSpec, GroupSpec, Tree

__all__ = ["ACTOR_KEYS", "GROUP_KEYS", "REFUSAL", "TREE_KEYS", "Change", "Plan", "children", "plan"]

Action = Literal["add", "remove", "restart", "live", "affinity", "order", "refused"]
Kind = Literal["actor", "group", "tree"]
Class = Literal["live", "affinity", "restart", "order", "refused", "identity", "ignored"]

ACTOR_KEYS: Mapping[str, Class] = {
    "name": "identity",
    "group": "identity",
    "role": "restart",
    "target": "restart",
    "settings": "restart",
    "zygote": "restart",
    "command": "restart",
    "args": "restart",
    "env": "restart",
    "cwd": "restart",
    "restart": "live",
    "drain_s": "live",
    "shutdown_s": "live",
    "start_timeout_s": "live",
    "heartbeat_interval_s": "restart",
    "heartbeat_timeout_s": "live",
    "ready": "restart",
    "drain_signal": "restart",
    "memory_warn": "live",
    "memory_soft": "live",
    "memory_hard": "live",
    "memory_soft_min_interval_s": "live",
    "memory_rlimit": "restart",
    "cpus": "affinity",
    "nice": "affinity",
    "ionice": "affinity",
    "backoff": "live",
    "clean_exit_codes": "live",
    "fatal_exit_codes": "live",
    "requires": "restart",
    "blocking": "restart",
    "significant": "live",
    "start_failure": "live",
}
GROUP_KEYS: Mapping[str, Class] = {
    "name": "identity",
    "parent": "identity",
    "strategy": "order",
    "intensity": "live",
    "period_s": "live",
    "on_limit": "live",
    "park_retry_s": "live",
    "restart": "live",
    "auto_shutdown": "live",
    "start_failure": "live",
    "parallel_stop": "live",
    "backoff": "live",
}
TREE_KEYS: Mapping[str, Class] = {
    "runtime": "refused",
    "data": "refused",
    "groups": "identity",  # compared one by one
    "actors": "identity",
    "config_path": "ignored",
    "config_hash": "ignored",
    "preload": "live",  # for zygotes started from now on
    "supervisor_cpus": "affinity",
    "control_group": "refused",
    "readonly_group": "refused",
}
REFUSAL = "needs a restart of the service"

_Spec = ActorSpec | GroupSpec | Tree
_Place = tuple[Kind, str]  # actors and groups may bear the same name


class Change(msgspec.Struct, frozen=True):
    """One thing to do.

    `keys` are those that changed, in the order of the specification: the ones of the action's own class, and
    for a restart all of them, since it takes the others with it. `add` and `remove` have none, or ("group",)
    and ("parent",) when the same name moves to another supervisor; a place among siblings is ("position",).
    """

    name: str  # of the actor or group; "" for the tree
    kind: Kind
    action: Action
    keys: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True):
    """All there is to do. A plan that refuses anything must not be carried out in part."""

    changes: tuple[Change, ...]
    unchanged: int  # actors that no change names

    @property
    def refused(self) -> tuple[str, ...]:
        """Return the keys of the tree that a running supervisor cannot change."""
        return tuple(key for change in self.changes if change.action == "refused" for key in change.keys)


def plan(old: Tree, new: Tree) -> Plan:
    """Return what leads from the running tree to the new one.

    Args:
        old: what runs, as it was normalised when it was read.
        new: what shall run; already validated.
    """
    was, becomes = _places(old), _places(new)
    stays = {place for place, path in was.items() if becomes.get(place) == path}
    removed = [place for place in reversed(was) if place not in stays]
    added = [place for place in becomes if place not in stays]
    specs_old, specs_new = _specs(old), _specs(new)
    moved = {place for name in _group_names(new) for place in _moved(old, new, name, stays)}

    changes = _of_keys("", "tree", old, new, TREE_KEYS, ("refused",))
    # Members go before their group, and come after it.
    removed.sort(key=lambda place: (place[0] == "group", -len(was[place]) if place[0] == "group" else 0))
    changes += [Change(name, kind, "remove", _why((kind, name), becomes)) for kind, name in removed]
    changes += _added(added, was, "group")
    changes += _of_keys("", "tree", old, new, TREE_KEYS, ("live", "affinity"))
    last: list[Change] = []
    for place, spec in specs_new.items():
        kind, name = place
        if place not in stays:
            last += _added([place], was, "actor")
            continue
        classes = ACTOR_KEYS if kind == "actor" else GROUP_KEYS
        changed = _changed(specs_old[place], spec)
        if any(classes[key] == "restart" for key in changed):
            last.append(Change(name, kind, "restart", changed))
        else:
            changes += _of_keys(name, kind, specs_old[place], spec, classes, ("live", "affinity"))
        order = tuple(key for key in changed if classes[key] == "order")
        order += ("position",) if place in moved else ()
        if order:
            changes.append(Change(name, kind, "order", order))
    changes += last
    touched = {change.name for change in changes if change.kind == "actor"}
    return Plan(tuple(changes), sum(spec.name not in touched for spec in new.actors))


def children(tree: Tree, group: str) -> tuple[str, ...]:
    """Return the names of a group's children in start order: its actors, then its groups."""
    return tuple(name for _, name in _children(tree, group))


def _children(tree: Tree, group: str) -> list[_Place]:
    actors: list[_Place] = [("actor", spec.name) for spec in tree.actors if spec.group == group]
    return actors + [("group", spec.name) for spec in tree.groups if spec.parent == group]


def _group_names(tree: Tree) -> list[str]:
    return [spec.name for spec in tree.groups]


def _specs(tree: Tree) -> dict[_Place, ActorSpec | GroupSpec]:
    groups: dict[_Place, ActorSpec | GroupSpec] = {("group", spec.name): spec for spec in tree.groups}
    return groups | {("actor", spec.name): spec for spec in tree.actors}


def _places(tree: Tree) -> dict[_Place, tuple[str, ...]]:
    """Return everybody in start order, groups with parents first, each with its supervisors from the root."""
    parents = {spec.name: spec.parent for spec in tree.groups}

    def path(name: str | None) -> tuple[str, ...]:
        found: list[str] = []
        while name is not None and name not in found:
            found.append(name)
            name = parents.get(name)
        return tuple(reversed(found))

    groups = sorted(((path(spec.parent), spec.name) for spec in tree.groups), key=lambda item: len(item[0]))
    places: dict[_Place, tuple[str, ...]] = {("group", name): above for above, name in groups}
    return places | {("actor", spec.name): path(spec.group) for spec in tree.actors}


def _why(place: _Place, elsewhere: Mapping[_Place, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the key behind a removal or an addition of a name that the other tree has too."""
    if place not in elsewhere:
        return ()
    return ("group",) if place[0] == "actor" else ("parent",)


def _added(places: Iterable[_Place], was: Mapping[_Place, tuple[str, ...]], which: Kind) -> list[Change]:
    return [Change(name, kind, "add", _why((kind, name), was)) for kind, name in places if kind == which]


def _changed(old: _Spec, new: _Spec) -> tuple[str, ...]:
    return tuple(key for key in new.__struct_fields__ if getattr(old, key) != getattr(new, key))


def _of_keys(
    name: str, kind: Kind, old: _Spec, new: _Spec, classes: Mapping[str, Class], actions: Sequence[Action]
) -> list[Change]:
    """Return one change for each of the actions that some changed key asks for."""
    changed = _changed(old, new)
    found = [(action, tuple(key for key in changed if classes[key] == action)) for action in actions]
    return [Change(name, kind, action, keys) for action, keys in found if keys]


def _moved(old: Tree, new: Tree, group: str, stays: set[_Place]) -> set[_Place]:
    """Return the fewest surviving children of a group that must move to give the new order."""
    before = {
        place: at for at, place in enumerate(place for place in _children(old, group) if place in stays)
    }
    now = [place for place in _children(new, group) if place in before]
    kept = _longest_rise([before[place] for place in now])
    return {place for at, place in enumerate(now) if at not in kept}


def _longest_rise(values: Sequence[int]) -> set[int]:
    """Return the indexes of a longest increasing subsequence of distinct values."""
    tails: list[int] = []  # the smallest last value of a rise of each length
    ends: list[int] = []  # its index
    previous: list[int] = []
    for at, value in enumerate(values):
        length = bisect_left(tails, value)
        tails[length : length + 1] = [value]
        ends[length : length + 1] = [at]
        previous.append(ends[length - 1] if length else -1)
    found: set[int] = set()
    at = ends[-1] if ends else -1
    while at >= 0:
        found.add(at)
        at = previous[at]
    return found
