"""The published schema of `status --json`: every field, every state, and nothing that is not in it."""

import json
from typing import Any

import pytest

from daedalus.kernel import lifecycle, spec
from tests.cli.ctl_server import actor, document, group, last_exit
from tests.cli.schema import STATUS, faults

# supervision.md 4.3, letter for letter
DESIGNED = {
    "supervisor": "pid version uptime_s config_hash state loop_lag_ms",
    "actor": (
        "name parent type state substate desired pid generation started_at uptime_s ready restarts backoff "
        "cpu_pct mem cpus mailbox beat_age_s last_exit log_dropped spec_hash"
    ),
    "group": "name strategy intensity period window_used parent state substate desired on_limit",
    "exit": "class code signal at message stderr_tail",
}
NESTED = {"restarts": "total window last_1h", "backoff": "k next_in_s", "mem": "anon warn soft hard"}


def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(STATUS.read_text(encoding="utf-8"))
    return loaded


def whole() -> dict[str, Any]:
    return document(
        actor(last_exit=last_exit()), actor(pid=None, state="held"), image=1, op_queue={"store": 1}
    )


def test_a_document_keeps_to_the_schema() -> None:
    assert faults(whole()) == []


@pytest.mark.parametrize("state", lifecycle.STATES)
def test_every_state_is_in_the_schema(state: str) -> None:
    assert faults(whole() | {"actors": [actor(state=state, desired="down", substate="parked")]}) == []


def test_the_words_of_the_schema_are_those_of_the_kernel() -> None:
    parts = schema()["$defs"]
    assert parts["actor"]["properties"]["state"]["enum"] == list(lifecycle.STATES)
    assert parts["exit"]["properties"]["class"]["enum"] == list(lifecycle.Class.__args__)
    assert parts["group"]["properties"]["strategy"]["enum"] == list(spec.Strategy.__args__)
    assert parts["group"]["properties"]["on_limit"]["enum"] == list(spec.OnLimit.__args__)


@pytest.mark.parametrize("part", DESIGNED)
def test_every_designed_field_is_required_and_described(part: str) -> None:
    described = schema()["$defs"][part]
    assert set(DESIGNED[part].split()) <= set(described["required"])
    assert set(described["required"]) == set(described["properties"])


@pytest.mark.parametrize("part", NESTED)
def test_every_designed_nested_field_is_required(part: str) -> None:
    assert schema()["$defs"]["actor"]["properties"][part]["required"] == NESTED[part].split()


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        ({"v": 2}, ".v: 2 is not 1"),
        ({"actors": [actor(pid=0)]}, ".actors[0].pid: 0 is under the minimum 1"),
        ({"actors": [actor(state="zombie")]}, ".actors[0].state: 'zombie' is none of"),
        ({"actors": [actor(ready=1)]}, ".actors[0].ready: 1 is no boolean"),
        ({"actors": [actor(last_exit={})]}, ".actors[0].last_exit: no class"),
        ({"actors": [actor(secret=1)]}, ".actors[0]: secret is not described"),
        ({"groups": [group(period=0)]}, ".groups[0].period: 0 is under the exclusiveMinimum 0"),
        ({"groups": []}, ".groups: 0 items, minItems 1"),
    ],
)
def test_a_document_that_breaks_it_is_found_out(broken: dict[str, Any], fault: str) -> None:
    assert any(found.startswith(fault) for found in faults(whole() | broken)), faults(whole() | broken)
