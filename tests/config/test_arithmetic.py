"""The two sums: how often one child can fail in a window, and how long the stop of a tree may take."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus import config
from daedalus.config import Report
from daedalus.config.arithmetic import failures_in, stop_bounds
from daedalus.kernel.spec import ActorSpec, Backoff, GroupSpec, stop_bound

SCRIPT = '[actors."{name}"]\ncommand = ["/bin/true"]\n'


def warned(report: Report) -> list[str]:
    assert report.faults == ()
    return [fault.message for fault in report.warnings if "adds up to" not in fault.message]


def script(name: str) -> str:
    return SCRIPT.format(name=name)


# --- can the limit be reached? ----------------------------------------------------------------------------


@pytest.mark.parametrize(("intensity", "said"), [(7, False), (8, True)])
def test_c07_an_intensity_that_one_child_can_never_exceed_is_warned_of(
    read, intensity: int, said: bool
) -> None:
    report = read(f"[groups.ops]\nintensity = {intensity}\n" + script("ops/x"))
    assert [("max 8 failures per 60 s" in one) for one in warned(report)] == [True] * said
    assert [(one.line, one.path) for one in report.warnings] == [(2, "groups.ops.intensity")] * said


def test_failures_of_a_child_that_lives_for_a_while_count_its_life() -> None:
    backoff = Backoff(base_s=1, factor=2, cap_s=8, reset_after_s=20)
    assert failures_in(backoff, 60, 100) == 11  # at 0 0 1 3 7 15 23 31 39 47 55
    assert failures_in(backoff, 60, 100, life_s=10) == 5  # at 0 10 21 33 47
    assert failures_in(backoff, 60, 100, life_s=20) == 4  # at 0 20 40 60: each run is stable, no delay
    assert failures_in(backoff, 60, 3, life_s=10) == 3


@given(
    st.floats(0.01, 10),
    st.floats(1, 4),
    st.floats(0.01, 60),
    st.floats(0.1, 600),
    st.integers(1, 40),
)
def test_failures_in_a_window_are_what_a_simulation_counts(
    base_s: float, factor: float, cap_s: float, period_s: float, most: int
) -> None:
    backoff = Backoff(base_s=base_s, factor=factor, cap_s=cap_s)
    times = [0.0, 0.0]
    for k in range(2, most + 1):
        times.append(times[-1] + min(cap_s, base_s * factor ** (k - 2)))
    assert failures_in(backoff, period_s, most) == sum(at <= period_s for at in times[:most])


def test_a_root_that_its_groups_can_never_exceed_is_warned_of(read) -> None:
    # The group dies 7.5 s after each start (0 + 0.5 + 1 + 2 + 4), and its own delays grow alike:
    # at 0, 7.5, 15.5, 24, 33.5, 45, and no more in 60 s.
    text = "[groups.mine]\n" + script("mine/x")
    assert warned(read(text)) == []
    assert warned(read("[supervisor]\nintensity = 6\nperiod_s = 60\n" + text)) != []
    assert warned(read("[supervisor]\nintensity = 5\nperiod_s = 60\n" + text)) == []


def test_groups_that_park_never_reach_their_parent_and_are_no_reason_to_warn(read) -> None:
    assert warned(read("[supervisor]\nintensity = 50\nperiod_s = 60\n" + script("ops/x"))) == []


def test_temporary_children_are_never_restarted_and_do_not_count(read) -> None:
    text = "[groups.ops]\nintensity = 9\n" + script("ops/x")
    assert len(warned(read(text))) == 1
    assert warned(read(text + 'restart = "temporary"\n')) == []


# --- how long may a stop take? ----------------------------------------------------------------------------


def placed(*specs: ActorSpec) -> list[tuple[ActorSpec, tuple[str, ...]]]:
    return [(spec, ("actors", spec.name)) for spec in specs]


def one(
    name: str, shutdown_s: Any = 5.0, *, drain_s: float = 2.0, target: str = "x:Y", signal: str = ""
) -> ActorSpec:
    return ActorSpec(
        name=name,
        group=name.partition("/")[0],
        target=target,
        drain_s=drain_s,
        shutdown_s=shutdown_s,
        drain_signal=signal,
    )


def groups(*specs: GroupSpec) -> dict[str, GroupSpec]:
    return {spec.name: spec for spec in (GroupSpec(name="root", parent=None), *specs)}


@pytest.mark.parametrize(
    ("spec", "bound_s"),
    [
        (one("a/x"), 12),
        (one("a/x", "brutal_kill"), 5),
        (one("a/x", "infinity"), math.inf),
        (one("a/x", target="", drain_s=30), 10),  # a program without a drain signal is not drained
        (one("a/x", target="", signal="SIGUSR2", drain_s=30), 40),
    ],
)
def test_the_stop_of_an_actor_is_drain_then_shutdown_then_its_end(spec: ActorSpec, bound_s: float) -> None:
    assert stop_bound(spec) == bound_s


def test_stops_add_up_but_where_children_stop_at_once() -> None:
    actors = placed(one("a/x"), one("a/y", 20.0), one("b/x", 1.0), one("pool/w@1"), one("pool/w@2"))
    tree = groups(
        GroupSpec(name="a"),
        GroupSpec(name="b", parent="a", parallel_stop=True),
        GroupSpec(name="pool", strategy="simple_one_for_one"),
    )
    assert stop_bounds(actors, tree) == {"root": 12 + 27 + 8 + 12, "a": 12 + 27 + 8, "b": 8, "pool": 12}
    together = groups(GroupSpec(name="a", parallel_stop=True), GroupSpec(name="b", parent="a"), tree["pool"])
    assert stop_bounds(actors, together)["a"] == 27


def test_the_shipped_tree_and_the_demo_fit_the_default() -> None:
    root = Path(__file__).resolve().parent.parent.parent
    for report in (
        config.report(root / "supervisor.toml", runtime="/tmp/dd-test"),
        config.report(None, demo=True, port=1, runtime="/tmp/dd-test"),
    ):
        assert warned(report) == []
        assert report.tree is not None
        bounds = stop_bounds(placed(*report.tree.actors), {spec.name: spec for spec in report.tree.groups})
        # store 3 x 45, ingest 2 x 15, live (1 + 4) x 9, the demo's simulator 8
        assert bounds["root"] in (210, 218)


def test_a_stop_over_the_timeout_is_a_warning_or_a_fault_with_the_largest_parts(read) -> None:
    text = (
        "[supervisor]\nstop_timeout_s = 20\n[groups.mine]\n"
        + script("ops/x")
        + script("mine/x")
        + "shutdown_s = 60\n"
    )
    message = (
        "the stop of the tree may take 72 s (drain_s, shutdown_s and 5 s for its end, actor after actor), "
        "over stop_timeout_s 20: mostly mine 65 s, ops 7 s"
    )
    assert warned(read(text)) == [message]
    failed = read(text, wanted=config.Wanted(stop_fails=True))
    assert [(one.line, one.path, one.message) for one in failed.faults] == [
        (2, "supervisor.stop_timeout_s", message)
    ]
    assert "TimeoutStopSec of the unit, to 72 or more" in failed.faults[0].hint
    assert warned(read(text.replace("= 20", "= 72"))) == []


def test_a_stop_without_a_bound_names_the_actor(read) -> None:
    report = read("[groups.ops]\nparallel_stop = true\n" + script("ops/x") + 'shutdown_s = "infinity"\n')
    assert warned(report) == ['the stop of ops/x has no bound: its shutdown_s is "infinity"']
    assert (report.warnings[0].line, report.warnings[0].path) == (5, 'actors."ops/x".shutdown_s')
