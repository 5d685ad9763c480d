"""Every key about supervision reaches the specification, with what a role, a group and an actor inherit."""

import grp
import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.config.faults import lines_of
from daedalus.config.gates import check_gates
from daedalus.config.problems import Problems
from daedalus.config.tree import Actor, Group, Supervisor
from daedalus.kernel import gates
from daedalus.kernel.errors import ConfigError
from daedalus.kernel.spec import ActorSpec, Backoff, GroupSpec, Tree

X = '[actors."ops/x"]\ncommand = ["/bin/true"]\n'


def actor(tree: Tree, name: str) -> ActorSpec:
    return next(spec for spec in tree.actors if spec.name == name)


def group(tree: Tree, name: str) -> GroupSpec:
    return next(spec for spec in tree.groups if spec.name == name)


def test_every_field_of_the_specification_has_a_key_and_the_other_way_round() -> None:
    own = {"name", "group", "role", "target", "settings", "zygote"}
    assert set(ActorSpec.__struct_fields__) - own == set(Actor.model_fields) - {"instances"}
    assert set(GroupSpec.__struct_fields__) - {"name"} == set(Group.model_fields)
    assert set(Supervisor.model_fields) - {"stop_timeout_s"} <= set(GroupSpec.__struct_fields__)


def test_every_key_of_an_actor_reaches_its_specification(tree_of) -> None:
    values = {
        "restart": "transient",
        "drain_s": 3.5,
        "shutdown_s": "brutal_kill",
        "start_timeout_s": 7.0,
        "heartbeat_interval_s": 1.0,
        "heartbeat_timeout_s": 9.0,
        "memory_warn": 1 << 20,
        "memory_soft": 2 << 20,
        "memory_hard": 3 << 20,
        "memory_soft_min_interval_s": 60.0,
        "memory_rlimit": 4 << 20,
        "cpus": [min(os.sched_getaffinity(0))],
        "nice": 4,
        "ionice": "idle",
        "clean_exit_codes": [3],
        "fatal_exit_codes": [4],
        "requires": ["time-sync"],
        "blocking": True,
        "start_failure": "abort",
        "command": ["/bin/cat"],
        "args": ["-"],
        "cwd": "/",
        "ready": "spawn",
        "drain_signal": "SIGUSR2",
    }
    kept = {"env", "backoff", "significant", "instances"}
    assert set(values) | kept == set(Actor.model_fields)
    lines = [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in values.items()]
    tree = tree_of(
        '[actors."ops/x"]\n' + "\n".join(lines) + '\nenv = { K = "v" }\nbackoff = { base_s = 2 }\n'
    )
    spec = msgspec.to_builtins(actor(tree, "ops/x"))
    got = {key: list(spec[key]) if isinstance(spec[key], tuple) else spec[key] for key in values}
    assert got == values
    assert (spec["env"], spec["backoff"]["base_s"]) == ({"K": "v"}, 2.0)


def test_keys_of_a_role_reach_its_actors_and_their_own_tables_are_over_them(tree_of) -> None:
    text = '[defaults.foreign]\nmemory_rlimit = "1G"\nblocking = true\nmemory_soft_min_interval_s = 5\n'
    text += X + 'requires = ["time-sync"]\n[actors."ops/y"]\ncommand = ["/bin/true"]\nmemory_rlimit = "2G"\n'
    tree = tree_of(text + 'blocking = false\nrequires = ["net:default-route"]\n')
    x, y = actor(tree, "ops/x"), actor(tree, "ops/y")
    assert (x.memory_rlimit, x.blocking, x.memory_soft_min_interval_s) == (1 << 30, True, 5.0)
    assert (y.memory_rlimit, y.blocking, y.memory_soft_min_interval_s) == (2 << 30, False, 5.0)


def test_sizes_and_marks_are_off_by_default(tree_of) -> None:
    spec = actor(tree_of(X), "ops/x")
    assert (spec.memory_rlimit, spec.memory_warn, spec.blocking, spec.requires) == (None, None, False, ())
    assert spec.memory_soft_min_interval_s == 600


def test_the_backoff_of_a_group_is_its_actors_and_its_own(tree_of) -> None:
    tree = tree_of("[groups.ops]\nbackoff = { base_s = 2, cap_s = 50 }\n" + X + "backoff = { factor = 3 }\n")
    assert group(tree, "ops").backoff == Backoff(base_s=2, cap_s=50, reset_after_s=100)
    assert actor(tree, "ops/x").backoff == Backoff(base_s=2, cap_s=50, factor=3, reset_after_s=100)
    assert group(tree, "live").backoff == Backoff()


def test_actors_of_nested_groups_are_addressed_by_their_group_alone(tree_of) -> None:
    tree = tree_of(
        '[groups.outer]\n[groups.inner]\nparent = "outer"\nbackoff = { jitter = 0 }\n'
        '[actors."inner/x"]\ncommand = ["/bin/true"]\nnice = 3\n'
    )
    spec = actor(tree, "inner/x")
    assert (spec.group, spec.nice, spec.backoff.jitter) == ("inner", 3, 0)
    assert group(tree, "inner").parent == "outer"


def test_a_template_hands_every_key_to_its_instances(tree_of) -> None:
    tree = tree_of(
        '[groups.pool]\nstrategy = "simple_one_for_one"\n[actors."pool/w"]\ncommand = ["/bin/cat"]\n'
        'instances = 2\nmemory_rlimit = "1G"\nrequires = ["time-sync"]\n'
    )
    found = {(spec.name, spec.memory_rlimit, spec.requires) for spec in tree.actors}
    assert found == {("pool/w@1", 1 << 30, ("time-sync",)), ("pool/w@2", 1 << 30, ("time-sync",))}


# --- who may control --------------------------------------------------------------------------------------


def test_control_groups_of_this_machine_reach_the_tree_and_its_hash(tree_of) -> None:
    name, other = (found.gr_name for found in grp.getgrall()[:2])
    tree = tree_of(f'[control]\ngroup = "{name}"\nreadonly_group = "{other}"\n')
    assert (tree.control_group, tree.readonly_group) == (name, other)
    assert tree.config_hash != tree_of("").config_hash
    assert (tree_of("").control_group, tree_of("").readonly_group) == ("", "")


def test_one_group_cannot_both_do_everything_and_only_look(read) -> None:
    name = grp.getgrall()[0].gr_name
    faults = read(f'[control]\ngroup = "{name}"\nreadonly_group = "{name}"\n').faults
    assert [(fault.line, fault.path) for fault in faults] == [(3, "control.readonly_group")]


# --- gates ------------------------------------------------------------------------------------------------


def test_a_gate_by_a_bare_name_is_given_the_whole_one(tree_of) -> None:
    tree = tree_of(
        X + '[actors."ops/y"]\ncommand = ["/bin/true"]\nrequires = ["actor:x=running", "path:/a b"]\n'
    )
    assert actor(tree, "ops/y").requires == ("actor:ops/x=running", "path:/a b")


def test_a_bare_name_that_two_actors_have_is_a_fault_that_names_both(read) -> None:
    text = X + '[actors."live/x"]\ncommand = ["/bin/true"]\n[actors."ops/y"]\ncommand = ["/bin/true"]\n'
    report = read(text + 'requires = ["actor:x=running"]\n')
    assert [fault.message for fault in report.faults] == ["ops/y waits for 'x': which of ops/x, live/x?"]


def test_blocking_on_what_starts_before_is_fine_and_without_gates_is_useless(read) -> None:
    y = '[actors."ops/y"]\ncommand = ["/bin/true"]\nblocking = true\n'
    assert read(X + y + 'requires = ["actor:x=running"]\n').faults == ()
    warnings = [fault.message for fault in read(X + y).warnings]
    assert warnings == ["blocking has no effect without requires"]


@given(
    st.sampled_from(["", "time-sync", "net:default-route", "path:", "path:/", "actor:", "actor:a=", "net:"]),
    st.text("a/= \0:-", max_size=4),
    st.sampled_from(["", "=running", "=up"]),
)
def test_what_check_takes_for_a_gate_the_kernel_takes_too(start: str, middle: str, end: str) -> None:
    gate = start + middle + end
    spec = ActorSpec(name="a/a", group="a", requires=(gate,))
    problems = Problems()
    check_gates([(spec, ("actors", "a/a"))], ["a"], problems)
    if not any("unknown gate" in fault.message for fault in problems.of("error")):
        gates.parse(gate)
    else:
        with pytest.raises(ConfigError):
            gates.parse(gate)


# --- warnings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (
            X + 'memory_rlimit = "64M"\n',
            'actors."ops/x".memory_rlimit',
            "it meets MemoryError before it is drained",
        ),
        ('[groups.a]\nrestart = "transient"\n', "groups.a.restart", "stays down without a word"),
        (
            '[groups.a]\nauto_shutdown = "all_significant"\n',
            "groups.a.auto_shutdown",
            "a permanent group is started again after its auto_shutdown",
        ),
    ],
)
def test_what_works_and_is_hardly_meant_is_warned_of(read, text: str, path: str, words: str) -> None:
    report = read(text)
    assert report.faults == ()
    assert [(fault.path, words in fault.message) for fault in report.warnings] == [(path, True)]


# --- positions --------------------------------------------------------------------------------------------


def test_keys_within_long_strings_and_after_odd_line_ends_keep_their_lines() -> None:
    text = 'a = """\nb = 1\n[c]\n"""\nd = \'\'\'x\'\'\'\ne = "\x0c\u2028"\nf = 1\r\ng = 2\n'
    assert lines_of(text) == {("a",): 1, ("d",): 5, ("e",): 6, ("f",): 7, ("g",): 8}
