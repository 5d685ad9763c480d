"""The table of one actor's states."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.kernel.lifecycle import (
    DOWN,
    LIVE,
    STATES,
    TABLE,
    Exit,
    IllegalTransitionError,
    classify,
    diagram,
    step,
    verdict,
)

SETTLED = ("stopped", "backoff", "done", "failed", "ignored")
EVENTS = sorted({event for _, event in TABLE})


def test_every_state_can_be_reached_and_left() -> None:
    assert {target for target, _ in TABLE.values()} == set(STATES)
    assert {state for state, _ in TABLE} == set(STATES)


def test_nothing_but_a_down_state_leads_to_starting() -> None:
    assert {state for (state, _), (target, _) in TABLE.items() if target == "starting"} == set(DOWN)


@pytest.mark.parametrize("state", LIVE)
def test_an_exit_is_possible_in_every_live_state_and_disarms(state: str) -> None:
    for event in ("gone", "back_off", "finish", "fail", "ignore"):
        target, actions = step(state, event)
        assert target in DOWN
        assert actions == ("disarm",)


def test_a_stop_that_is_ignored_walks_to_sigkill_and_then_to_stuck() -> None:
    state, told = "running", []
    for event in ("drain", "drain_timeout", "shutdown_timeout", "kill_timeout"):
        state, actions = step(state, event)
        told += [action for action in actions if action.startswith(("send", "alert"))]
    assert (state, told) == ("stuck", ["send_drain", "send_term", "send_kill", "alert"])


def test_an_illegal_event_raises_with_its_story() -> None:
    with pytest.raises(IllegalTransitionError, match="cannot ready an actor that is stopped"):
        step("stopped", "ready")


@given(st.lists(st.sampled_from(EVENTS), max_size=60))
def test_no_history_spawns_twice_without_an_exit_in_between(history: list[str]) -> None:
    state, alive = "stopped", False
    for event in history:
        try:
            state, actions = step(state, event)
        except IllegalTransitionError:
            continue
        if event in ("gone", "back_off", "finish", "fail", "ignore"):
            alive = False
        if "spawn" in actions:
            assert not alive
            alive = True
        assert alive == (state in LIVE)


@pytest.mark.parametrize(
    ("exit_", "expected"),
    [
        (Exit(state="running", code=0), ("normal", "exit 0")),
        (Exit(state="running", code=3, clean_codes=(3,)), ("normal", "exit 3")),
        (Exit(state="running", code=1), ("abnormal", "exit 1")),
        (Exit(state="running", code=1, reported="no disk"), ("abnormal", "exit 1: no disk")),
        (Exit(state="running", signal="SIGSEGV", core=True), ("abnormal", "SIGSEGV (core)")),
        (Exit(state="running", signal="SIGTERM"), ("abnormal", "SIGTERM")),
        (Exit(state="running", signal="SIGKILL"), ("abnormal", "SIGKILL")),
        (Exit(state="running", code=78), ("fatal", "exit 78")),
        (Exit(state="running", code=9, fatal_codes=(9,)), ("fatal", "exit 9")),
        (Exit(state="running", code=75), ("recycle", "exit 75")),
        (Exit(state="running", code=127, reported="ENOENT: /x"), ("spawn_error", "ENOENT: /x")),
        (Exit(state="draining", code=1, requested=True), ("requested", "exit 1")),
        (
            Exit(
                state="killing", signal="SIGKILL", requested=True, killed_for="shutdown_timeout", detail="1s"
            ),
            ("shutdown_timeout", "shutdown timeout 1s"),
        ),
        (Exit(state="killing", signal="SIGKILL", killed_for="hung", detail="12.0s"), ("hung", "hung 12.0s")),
        (
            Exit(state="killing", signal="SIGKILL", killed_for="start_timeout", detail="20s"),
            ("start_timeout", "start timeout 20s"),
        ),
        (Exit(state="draining", code=0, left_for="memory", detail="soft"), ("memory", "memory soft")),
        (Exit(state="running"), ("abnormal", "exit status unknown")),
        (Exit(state="running", signal="SIGKILL", oom=True), ("oom", "oom")),
        (
            Exit(state="draining", signal="SIGKILL", oom=True, left_for="memory", detail="soft"),
            ("oom", "oom"),
        ),
        (Exit(state="draining", signal="SIGKILL", oom=True, requested=True), ("requested", "SIGKILL")),
        (Exit(state="running", signal="SIGSEGV", oom=True), ("abnormal", "SIGSEGV")),
        (
            Exit(state="killing", signal="SIGKILL", oom=True, killed_for="memory", detail="hard"),
            ("memory", "memory hard"),
        ),
    ],
)
def test_exits_are_classified(exit_: Exit, expected: tuple[str, str]) -> None:
    assert classify(exit_) == expected


@pytest.mark.parametrize(
    ("class_", "message", "planned", "expected"),
    [
        ("normal", "exit 0", None, ("normal", 0.0)),
        ("requested", "exit 1", None, ("normal", 0.0)),
        ("normal", "exit 0", "normal", ("ignored", 0.0)),
        ("abnormal", "exit 1", None, ("abnormal", 0.0)),
        ("hung", "hung 12.0s", None, ("abnormal", 0.0)),
        ("oom", "oom", None, ("abnormal", 0.0)),
        ("memory", "memory hard", None, ("abnormal", 0.0)),
        ("memory", "memory soft", "memory", ("planned", 7.0)),
        ("recycle", "exit 75", None, ("planned", 60.0)),
        ("fatal", "exit 78", None, ("fatal", 0.0)),
        ("spawn_error", "ENOENT: /x", None, ("fatal", 0.0)),
        ("spawn_error", "EAGAIN: fork", None, ("abnormal", 0.0)),
    ],
)
def test_verdicts_follow_the_class_and_memory_has_its_own_interval(
    class_: str, message: str, planned: str | None, expected: tuple[str, float]
) -> None:
    assert verdict(class_, message, planned, memory_spare_s=7.0) == expected


def test_a_gate_that_shuts_again_before_the_start_holds_on() -> None:
    assert step("held", "hold") == ("held", ())


def test_the_page_of_the_table_is_the_one_the_table_makes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "lifecycle.md").read_text(encoding="utf-8")
    assert page.endswith("\n" + diagram())
    assert sum(line.startswith("| ") for line in diagram().splitlines()) == len(TABLE) + 1


def test_every_row_but_exits_is_an_arrow_of_the_picture() -> None:
    arrows = {line.strip() for line in diagram().splitlines() if " --> " in line}
    assert "killing --> stuck: kill_timeout" in arrows
    assert len(arrows) == len({(a, b) for (a, event), (b, _) in TABLE.items() if b not in SETTLED and a != b})
