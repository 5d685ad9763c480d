"""What a reload does: the smallest effect that leads from one tree to the other. Conformance C54 and C55."""

from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.kernel.reload import ACTOR_KEYS, GROUP_KEYS, TREE_KEYS, Change, Plan, children, plan
from daedalus.kernel.spec import ActorSpec, Backoff, GroupSpec, Tree

OTHER: dict[str, Any] = {
    "role": "writer",
    "target": "m:C",
    "settings": b"\x80",
    "zygote": "ccxt",
    "command": ("true",),
    "args": ("-v",),
    "env": {"A": "1"},
    "cwd": "/tmp",
    "restart": "transient",
    "drain_s": 9.0,
    "shutdown_s": "infinity",
    "start_timeout_s": 9.0,
    "heartbeat_interval_s": 9.0,
    "heartbeat_timeout_s": 99.0,
    "ready": "spawn",
    "drain_signal": "SIGUSR2",
    "memory_warn": 1,
    "memory_soft": 2,
    "memory_hard": 3,
    "memory_soft_min_interval_s": 9.0,
    "memory_rlimit": 4,
    "cpus": (1,),
    "nice": 5,
    "ionice": "idle",
    "backoff": Backoff(base_s=9.0),
    "clean_exit_codes": (3,),
    "fatal_exit_codes": (4,),
    "requires": ("time-sync",),
    "blocking": True,
    "significant": True,
    "start_failure": "abort",
    "strategy": "one_for_all",
    "intensity": 99,
    "period_s": 9.0,
    "on_limit": "park",
    "park_retry_s": 9.0,
    "auto_shutdown": "any_significant",
    "parallel_stop": True,
    "runtime": "/other",
    "data": "/other",
    "control_group": "adm",
    "readonly_group": "adm",
    "config_path": "other.toml",
    "config_hash": "ff",
    "preload": {"light": ("zmq",)},
    "supervisor_cpus": (1,),
}
ACTIONS = {"live", "affinity", "restart", "order", "refused"}


def actor(name: str, **keys: Any) -> ActorSpec:
    return ActorSpec(name=name, group=name.partition("/")[0], **keys)


def group(name: str, **keys: Any) -> GroupSpec:
    return GroupSpec(name=name, **keys)


def tree(*items: ActorSpec | GroupSpec, **keys: Any) -> Tree:
    groups = tuple(item for item in items if isinstance(item, GroupSpec))
    actors = tuple(item for item in items if isinstance(item, ActorSpec))
    root = GroupSpec(name="root", parent=None)
    return Tree(**{"runtime": "/r", "data": "/d", "groups": (root, *groups), "actors": actors} | keys)


def said(plan: Plan) -> list[tuple[str, ...]]:
    return [(change.action, change.name, *change.keys) for change in plan.changes]


# --- keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("struct", "classes"), [(ActorSpec, ACTOR_KEYS), (GroupSpec, GROUP_KEYS), (Tree, TREE_KEYS)]
)
def test_every_key_of_a_specification_has_a_class(
    struct: type[msgspec.Struct], classes: dict[str, str]
) -> None:
    assert list(classes) == sorted(classes, key=struct.__struct_fields__.index)
    assert set(classes) == set(struct.__struct_fields__)


@pytest.mark.parametrize("key", [key for key, kind in ACTOR_KEYS.items() if kind in ACTIONS])
def test_an_actor_key_is_handled_as_its_class_says(key: str) -> None:
    old = tree(group("g"), actor("g/a"), actor("g/b"))
    new = tree(group("g"), actor("g/a", **{key: OTHER[key]}), actor("g/b"))
    assert plan(old, new) == Plan((Change("g/a", "actor", ACTOR_KEYS[key], (key,)),), unchanged=1)
    assert plan(new, new) == Plan((), unchanged=2)


@pytest.mark.parametrize("key", [key for key, kind in GROUP_KEYS.items() if kind in ACTIONS])
def test_a_group_key_is_handled_as_its_class_says_and_touches_no_actor(key: str) -> None:
    old = tree(group("g"), actor("g/a"))
    new = tree(group("g", **{key: OTHER[key]}), actor("g/a"))
    assert plan(old, new) == Plan((Change("g", "group", GROUP_KEYS[key], (key,)),), unchanged=1)


@pytest.mark.parametrize("key", [key for key, kind in TREE_KEYS.items() if kind in ACTIONS])
def test_a_key_of_the_tree_is_handled_as_its_class_says(key: str) -> None:
    found = plan(tree(actor("root/a")), tree(actor("root/a"), **{key: OTHER[key]}))
    assert found == Plan((Change("", "tree", TREE_KEYS[key], (key,)),), unchanged=1)
    assert found.refused == ((key,) if TREE_KEYS[key] == "refused" else ())


def test_what_no_operator_may_lose_a_process_for_is_not_in_the_class_restart() -> None:
    live = {"memory_warn", "memory_soft", "memory_hard", "restart", "backoff", "shutdown_s", "drain_s"}
    assert {ACTOR_KEYS[key] for key in live} == {"live"}
    assert {ACTOR_KEYS[key] for key in ("cpus", "nice", "ionice")} == {"affinity"}
    restart = {"command", "args", "env", "cwd", "target", "settings", "requires", "memory_rlimit"}
    assert {ACTOR_KEYS[key] for key in restart} == {"restart"}


def test_live_and_affinity_are_two_changes_and_a_restart_takes_all_keys_with_it() -> None:
    old = tree(actor("root/a"), actor("root/b"))
    keys = {"cpus": (1,), "memory_hard": 7, "nice": 3}
    new = tree(actor("root/a", **keys), actor("root/b", **keys, args=("-v",)))
    assert said(plan(old, new)) == [
        ("live", "root/a", "memory_hard"),
        ("affinity", "root/a", "cpus", "nice"),
        ("restart", "root/b", "args", "memory_hard", "cpus", "nice"),
    ]


# --- children that come, go and move ----------------------------------------------------------------------


def test_c54_a_changed_limit_and_a_new_actor_leave_the_others_alone() -> None:
    old = tree(group("g"), actor("g/a"), actor("g/b"), actor("g/c"))
    new = tree(group("g"), actor("g/a"), actor("g/b", memory_hard=5), actor("g/c"), actor("g/d"))
    found = plan(old, new)
    assert said(found) == [("live", "g/b", "memory_hard"), ("add", "g/d")]
    assert found.unchanged == 2


def test_c54_an_identical_file_changes_nothing_whatever_its_comments() -> None:
    old = tree(group("g"), actor("g/a", env={"A": "1", "B": "2"}), config_hash="1")
    new = tree(group("g"), actor("g/a", env={"B": "2", "A": "1"}), config_hash="2")
    assert plan(old, new) == Plan((), unchanged=1)


def test_c55_other_arguments_restart_one_actor_and_a_missing_one_is_removed() -> None:
    old = tree(group("g"), actor("g/a"), actor("g/b"), actor("g/c"))
    new = tree(group("g"), actor("g/a"), actor("g/b", args=("-v",)))
    found = plan(old, new)
    assert said(found) == [("remove", "g/c"), ("restart", "g/b", "args")]
    assert found.unchanged == 1


def test_removals_run_backwards_and_additions_forwards() -> None:
    old = tree(group("g"), actor("g/a"), actor("g/b"))
    new = tree(group("h"), actor("h/a"), actor("h/b"))
    assert said(plan(old, new)) == [
        ("remove", "g/b"),
        ("remove", "g/a"),
        ("remove", "g"),
        ("add", "h"),
        ("add", "h/a"),
        ("add", "h/b"),
    ]
    assert plan(old, new).unchanged == 0


def test_nested_groups_come_after_their_parents_and_go_before_them() -> None:
    nested = tree(group("in", parent="out"), group("out"), actor("in/a"))
    grown = [entry[1] for entry in said(plan(tree(), nested))]
    felled = [entry[1] for entry in said(plan(nested, tree()))]
    assert (grown, felled) == (["out", "in", "in/a"], ["in/a", "in", "out"])


def test_an_actor_that_moves_to_another_supervisor_ends_and_begins() -> None:
    old = tree(group("g"), group("h"), ActorSpec(name="a", group="g"))
    new = tree(group("g"), group("h"), ActorSpec(name="a", group="h"))
    assert said(plan(old, new)) == [("remove", "a", "group"), ("add", "a", "group")]


def test_a_group_that_moves_takes_all_below_it_along() -> None:
    old = tree(group("g"), group("h"), group("in", parent="g"), actor("in/a"), actor("g/b"))
    new = tree(group("g"), group("h"), group("in", parent="h"), actor("in/a"), actor("g/b"))
    found = plan(old, new)
    assert said(found) == [
        ("remove", "in/a", "group"),
        ("remove", "in", "parent"),
        ("add", "in", "parent"),
        ("add", "in/a", "group"),
    ]
    assert found.unchanged == 1


def test_a_refusal_comes_first_and_the_rest_is_still_shown() -> None:
    found = plan(tree(), tree(actor("root/a"), runtime="/other", data="/other"))
    assert said(found) == [("refused", "", "runtime", "data"), ("add", "root/a")]
    assert found.refused == ("runtime", "data")


# --- order ------------------------------------------------------------------------------------------------


def test_an_actor_that_changes_places_moves_without_a_restart() -> None:
    old = tree(*(actor(f"root/{name}") for name in "abcd"))
    new = tree(*(actor(f"root/{name}") for name in "dabc"))
    found = plan(old, new)
    assert said(found) == [("order", "root/d", "position")]
    assert (found.unchanged, children(new, "root")) == (3, ("root/d", "root/a", "root/b", "root/c"))


def test_a_group_that_changes_places_moves_and_its_actors_do_not() -> None:
    old = tree(group("g"), group("h"), actor("g/a"), actor("h/a"))
    new = tree(group("h"), group("g"), actor("h/a"), actor("g/a"))
    found = plan(old, new)
    assert [change.kind for change in found.changes] == ["group"]
    assert (found.changes[0].action, found.unchanged) == ("order", 2)


def test_an_addition_in_the_middle_moves_nobody() -> None:
    old = tree(actor("root/a"), actor("root/c"))
    new = tree(actor("root/a"), actor("root/b"), actor("root/c"))
    assert said(plan(old, new)) == [("add", "root/b")]


def test_children_are_actors_then_groups_in_start_order() -> None:
    found = tree(group("g"), group("h"), actor("root/z"), actor("root/y"), actor("g/a"))
    assert children(found, "root") == ("root/z", "root/y", "g", "h")


@pytest.mark.parametrize("order", list(permutations("abcd")))
def test_moving_those_named_gives_the_new_order_and_fewer_would_not_do(order: tuple[str, ...]) -> None:
    old, new = tree(*(actor(f"root/{n}") for n in "abcd")), tree(*(actor(f"root/{n}") for n in order))
    moved = {change.name for change in plan(old, new).changes}
    left = [name for name in children(new, "root") if name not in moved]
    assert left == sorted(left)
    rises = [
        n
        for n in range(5)
        for some in permutations(order, n)
        if list(some) == sorted(some, key=order.index) and list(some) == sorted(some)
    ]
    assert len(left) == max(rises)


# --- property ---------------------------------------------------------------------------------------------


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    names = draw(st.permutations(["g", "h", "i"]))[: draw(st.integers(0, 3))]
    groups = []
    for at, name in enumerate(names):
        groups.append(
            group(
                name, parent=draw(st.sampled_from(["root", *names[:at]])), intensity=draw(st.integers(0, 1))
            )
        )
    homes = ["root", *names]
    actors = [
        ActorSpec(
            name=name,
            group=draw(st.sampled_from(homes)),
            args=draw(st.sampled_from([(), ("-v",)])),
            nice=draw(st.integers(0, 1)),
            drain_s=draw(st.sampled_from([1.0, 2.0])),
        )
        for name in draw(st.permutations("abcde"))[: draw(st.integers(0, 5))]
    ]
    return tree(*groups, *actors)


@given(trees(), trees())
def test_carrying_out_a_plan_gives_the_new_tree_and_nobody_is_in_a_group_that_is_not_there(
    old: Tree, new: Tree
) -> None:
    found = plan(old, new)
    groups = {spec.name: spec for spec in old.groups}
    actors = {spec.name: spec for spec in old.actors}
    wanted_groups = {spec.name: spec for spec in new.groups}
    wanted_actors = {spec.name: spec for spec in new.actors}
    touched = set()
    for change in found.changes:
        mine, wanted = (actors, wanted_actors) if change.kind == "actor" else (groups, wanted_groups)
        touched |= {change.name} if change.kind == "actor" else set()
        match change.action:
            case "remove":
                del mine[change.name]
            case "add":
                assert change.name not in mine
                mine[change.name] = wanted[change.name]
            case _:
                keys = {key: getattr(wanted[change.name], key) for key in change.keys if key != "position"}
                mine[change.name] = msgspec.structs.replace(mine[change.name], **keys)
        assert {spec.group for spec in actors.values()} <= set(groups)
        assert {spec.parent for spec in groups.values()} <= {*groups, None}
    assert (groups, actors) == (wanted_groups, wanted_actors)
    assert found.unchanged == len(wanted_actors.keys() - touched)
    assert plan(new, new).changes == ()
