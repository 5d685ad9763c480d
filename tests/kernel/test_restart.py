"""Restart decisions against a table of cases and, with random histories, against what must always hold."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daedalus.kernel import group as g
from daedalus.kernel.restart import delay_s, step, validate, window_used
from daedalus.kernel.spec import Backoff, GroupSpec

SHARP = Backoff(base_s=0.1, factor=2.0, cap_s=1.0, jitter=0.0, reset_after_s=60.0)


class Driver:
    """A group and the news it is given; children come up and go down as they are told."""

    def __init__(
        self, names: str = "ABC", *, children: dict[str, dict] | None = None, **spec: object
    ) -> None:
        values = {"intensity": 5, "period_s": 60.0} | spec
        made = [g.Child(name=n, backoff=SHARP, **(children or {}).get(n, {})) for n in names]
        self.group = g.Group(spec=GroupSpec(name="grp", **values), children=tuple(made))
        self.now = 100.0
        self.story: list[g.Instruction] = []

    def feed(self, event: g.Event) -> list[g.Instruction]:
        self.group, out = step(self.group, event, self.now)
        validate(self.group)
        self.story += out
        return list(out)

    def open(self) -> "Driver":
        """Begin, and answer every start with READY."""
        pending = self.feed(g.Begin())
        while pending:
            started = [item.child for item in pending if isinstance(item, g.StartChild)]
            pending = [more for name in started for more in self.feed(g.Ready(name))]
        assert self.group.phase == "open"
        self.story.clear()
        return self

    def slots(self) -> dict[str, str]:
        return {child.name: child.slot for child in self.group.children}


def kinds(instructions: list[g.Instruction]) -> list[str]:
    return [f"{type(item).__name__} {getattr(item, 'child', '')}".strip() for item in instructions]


def test_children_start_in_order_each_after_the_ready_of_the_last() -> None:
    d = Driver()
    assert kinds(d.feed(g.Begin())) == ["StartChild A", "Hold A"]
    assert kinds(d.feed(g.Ready("A"))) == ["StartChild B", "Hold B"]
    assert kinds(d.feed(g.Ready("B"))) == ["StartChild C", "Hold C"]
    assert kinds(d.feed(g.Ready("C"))) == ["Opened"]


def test_an_empty_group_opens_at_once_and_closes_at_once() -> None:
    d = Driver("")
    assert kinds(d.feed(g.Begin())) == ["Opened"]
    assert d.feed(g.Close()) == [g.Closed("requested")]


def test_closing_stops_in_reverse_one_at_a_time() -> None:
    d = Driver().open()
    assert kinds(d.feed(g.Close())) == ["StopChild C"]
    assert kinds(d.feed(g.Ended("C", "normal"))) == ["Settle C", "StopChild B"]
    assert kinds(d.feed(g.Ended("B", "normal"))) == ["Settle B", "StopChild A"]
    assert kinds(d.feed(g.Ended("A", "normal"))) == ["Settle A", "Closed"]


@pytest.mark.parametrize(
    ("restart", "verdict", "instructions"),
    [
        ("permanent", "normal", ["Wait A"]),
        ("permanent", "abnormal", ["Wait A"]),
        ("transient", "normal", ["Settle A"]),
        ("transient", "abnormal", ["Wait A"]),
        ("temporary", "normal", ["Settle A"]),
        ("temporary", "abnormal", ["Settle A"]),
        ("permanent", "fatal", ["Settle A"]),
        ("permanent", "planned", ["StartChild A"]),
    ],
)
def test_restart_types_decide_as_in_otp(restart: str, verdict: str, instructions: list[str]) -> None:
    d = Driver(children={"A": {"restart": restart}}).open()
    assert kinds(d.feed(g.Ended("A", verdict))) == instructions
    assert ("A" in d.slots()) == (restart != "temporary")


def test_one_for_one_restarts_only_the_failed_child() -> None:
    d = Driver().open()
    assert d.feed(g.Ended("B")) == [g.Wait("B", 0.0, 1)]
    assert kinds(d.feed(g.Due("B"))) == ["StartChild B"]
    assert d.feed(g.Ready("B")) == []
    assert d.slots() == {"A": "up", "B": "up", "C": "up"}


def test_one_for_all_stops_the_others_in_reverse_then_starts_all_in_order() -> None:
    d = Driver(strategy="one_for_all").open()
    assert kinds(d.feed(g.Ended("B"))) == ["Wait B", "StopChild C"]
    assert kinds(d.feed(g.Ended("C", "normal"))) == ["Settle C", "StopChild A"]
    assert kinds(d.feed(g.Due("B"))) == []
    assert kinds(d.feed(g.Ended("A", "normal"))) == ["Settle A", "StartChild A"]
    assert kinds(d.feed(g.Ready("A"))) == ["StartChild B"]
    assert kinds(d.feed(g.Ready("B"))) == ["StartChild C"]
    assert d.feed(g.Ready("C")) == []
    assert window_used(d.group, d.now) == 1


def test_rest_for_one_leaves_the_earlier_ones_alone() -> None:
    d = Driver("ABCDE", strategy="rest_for_one").open()
    d.feed(g.Ended("C"))
    d.feed(g.Ended("E", "normal"))
    d.feed(g.Ended("D", "normal"))
    d.feed(g.Due("C"))
    d.feed(g.Ready("C"))
    d.feed(g.Ready("D"))
    d.feed(g.Ready("E"))
    order = [entry for entry in kinds(d.story) if entry.startswith(("Stop", "Start"))]
    assert order == ["StopChild E", "StopChild D", "StartChild C", "StartChild D", "StartChild E"]


@pytest.mark.parametrize(
    ("strategy", "stopped"),
    [("rest_for_one", ["StopChild C", "StopChild B"]), ("one_for_one", []), ("one_for_all", [])],
)
def test_a_fatal_failure_takes_the_later_ones_down_only_where_they_need_it(
    strategy: str, stopped: list[str]
) -> None:
    d = Driver("ABC", strategy=strategy).open()
    out = kinds(d.feed(g.Ended("A", "fatal")))
    while orders := [name for name, slot in d.slots().items() if slot == "stopping"]:
        out += kinds(d.feed(g.Ended(orders[0], "normal")))
    assert [item for item in out if item.startswith("StopChild")] == stopped
    assert not [item for item in out if item.startswith("StartChild")]
    up = "down" if stopped else "up"
    assert d.slots() == {"A": "failed", "B": up, "C": up}


def test_a_fatal_first_start_starts_no_later_one_under_rest_for_one() -> None:
    d = Driver("ABC", strategy="rest_for_one")
    d.feed(g.Begin())
    d.feed(g.Ready("A"))
    assert kinds(d.feed(g.Ended("B", "fatal"))) == ["Settle B", "Opened"]
    assert d.slots() == {"A": "up", "B": "failed", "C": "down"}


def test_a_failed_group_start_keeps_earlier_ones_under_rest_for_one() -> None:
    d = Driver(strategy="rest_for_one").open()
    d.feed(g.Ended("A"))
    d.feed(g.Ended("C", "normal"))
    d.feed(g.Ended("B", "normal"))
    d.feed(g.Due("A"))
    d.feed(g.Ready("A"))
    d.feed(g.Ended("B"))
    d.feed(g.Due("B"))
    d.feed(g.Ready("B"))
    d.feed(g.Ready("C"))
    assert d.slots() == {"A": "up", "B": "up", "C": "up"}
    assert kinds(d.story).count("StartChild A") == 1


def test_restart_beyond_intensity_escalates() -> None:
    d = Driver("AB", intensity=2).open()
    for _ in range(2):
        d.feed(g.Ended("A"))
        d.feed(g.Due("A"))
        d.feed(g.Ready("A"))
    assert kinds(d.feed(g.Ended("A"))) == ["Settle A", "StopChild B"]
    assert d.feed(g.Ended("B", "normal"))[-1] == g.Closed("intensity")


def test_intensity_zero_ends_the_group_at_the_first_failure() -> None:
    d = Driver("A", intensity=0).open()
    assert d.feed(g.Ended("A"))[-1] == g.Closed("intensity")


def test_the_window_is_shared_and_its_edge_belongs_to_it() -> None:
    d = Driver("AB", intensity=1, period_s=10.0).open()
    d.feed(g.Ended("A"))
    d.now += 10.0
    assert d.feed(g.Ended("B"))[-1] == g.Closed("intensity")
    d = Driver("AB", intensity=1, period_s=10.0).open()
    d.feed(g.Ended("A"))
    d.now += 10.001
    assert kinds(d.feed(g.Ended("B"))) == ["Wait B"]


def test_parking_keeps_the_siblings_and_clears_the_window_at_the_retry() -> None:
    d = Driver("AB", intensity=0, on_limit="park", park_retry_s=300.0).open()
    assert d.feed(g.Ended("A", luck=0.5)) == [g.Park("A", 315.0)]
    assert d.slots() == {"A": "parked", "B": "up"}
    assert kinds(d.feed(g.Due("A"))) == ["StartChild A"]
    assert d.group.window == ()


def test_a_first_start_that_keeps_failing_holds_up_siblings_only_so_long() -> None:
    d = Driver("AB", intensity=100)
    d.feed(g.Begin())
    assert kinds(d.feed(g.Ended("A"))) == ["Wait A"]
    assert kinds(d.feed(g.Expired("A"))) == ["Opened", "StartChild B", "Hold B"]  # B may fail too
    d = Driver("AB", intensity=100, strategy="rest_for_one")
    d.feed(g.Begin())
    d.feed(g.Ended("A"))
    assert kinds(d.feed(g.Expired("A"))) == ["Opened"]  # later groups go on, order within is kept


def test_a_strict_group_ends_when_a_first_start_fails() -> None:
    d = Driver("AB", children={"B": {"abort": True}})
    d.feed(g.Begin())
    d.feed(g.Ready("A"))
    assert kinds(d.feed(g.Ended("B"))) == ["Settle B", "StopChild A"]
    assert d.feed(g.Ended("A"))[-1] == g.Closed("abort")


def test_a_stop_during_backoff_is_at_once_and_a_late_timer_starts_nothing() -> None:
    d = Driver().open()
    d.feed(g.Ended("B"))
    assert d.feed(g.Stop("B")) == [g.Settle("B", "down")]
    assert d.feed(g.Due("B")) == []


def test_what_an_operator_stopped_stays_down_in_a_group_restart() -> None:
    d = Driver(strategy="one_for_all").open()
    d.feed(g.Stop("C"))
    d.feed(g.Ended("C", "normal"))
    d.feed(g.Ended("A"))
    d.feed(g.Ended("B", "normal"))
    d.feed(g.Due("A"))
    d.feed(g.Ready("A"))
    d.feed(g.Ready("B"))
    assert d.slots() == {"A": "up", "B": "up", "C": "down"}


def test_a_start_by_hand_that_fails_is_not_retried_nor_counted() -> None:
    d = Driver().open()
    d.feed(g.Stop("B"))
    d.feed(g.Ended("B", "normal"))
    assert kinds(d.feed(g.Start("B"))) == ["StartChild B"]
    assert kinds(d.feed(g.Ended("B"))) == ["Settle B"]
    assert d.group.window == ()


def test_a_restart_by_hand_is_not_counted() -> None:
    d = Driver().open()
    assert kinds(d.feed(g.Restart("B"))) == ["StopChild B"]
    assert kinds(d.feed(g.Ended("B", "normal"))) == ["StartChild B"]
    assert d.group.window == ()


def test_a_planned_restart_counts_when_it_comes_too_often() -> None:
    d = Driver().open()
    assert kinds(d.feed(g.Ended("A", "planned", spare_s=60.0))) == ["StartChild A"]
    d.feed(g.Ready("A"))
    d.now += 59.0
    assert kinds(d.feed(g.Ended("A", "planned", spare_s=60.0))) == ["Wait A"]


@pytest.mark.parametrize(
    ("auto", "first", "second"), [("any_significant", True, True), ("all_significant", False, True)]
)
def test_auto_shutdown_follows_the_significant_children(auto: str, first: bool, second: bool) -> None:
    child = {"significant": True, "restart": "transient"}
    d = Driver(children={"A": child, "B": child}, auto_shutdown=auto).open()
    d.feed(g.Ended("A", "normal"))
    assert (d.group.phase == "closing") == first
    d.feed(g.Ended("B", "normal"))
    assert (d.group.phase == "closing") == second


def test_delays_are_zero_then_grow_to_the_cap_and_jitter_only_lengthens() -> None:
    assert [delay_s(SHARP, k) for k in range(1, 8)] == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    rough = Backoff(base_s=0.1, factor=2.0, cap_s=1.0, jitter=0.1)
    assert delay_s(rough, 3, 0.5) == pytest.approx(0.21)
    assert delay_s(Backoff(factor=1e300), 5000) == 30.0


def test_a_stable_run_forgets_the_failures_before_it() -> None:
    d = Driver(intensity=100).open()
    d.feed(g.Ended("A"))
    d.feed(g.Due("A"))
    d.feed(g.Ready("A"))
    d.now += 1.0
    assert d.feed(g.Ended("A")) == [g.Wait("A", pytest.approx(0.1), 2)]
    d.feed(g.Due("A"))
    d.feed(g.Ready("A"))
    d.now += 60.0
    assert d.feed(g.Ended("A")) == [g.Wait("A", 0.0, 1)]


NEWS = st.sampled_from(
    ["ready", "end", "fatal", "normal", "planned", "due", "expired", "start", "stop", "restart"]
)


@settings(max_examples=300, deadline=None)
@given(
    strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
    on_limit=st.sampled_from(["park", "escalate"]),
    restarts=st.lists(st.sampled_from(["permanent", "transient", "temporary"]), min_size=3, max_size=3),
    history=st.lists(st.tuples(NEWS, st.sampled_from("ABC"), st.floats(0.0, 30.0)), max_size=40),
)
def test_any_history_keeps_the_books_and_ends_with_nothing_alive(
    strategy: str, on_limit: str, restarts: list[str], history: list[tuple[str, str, float]]
) -> None:
    children = {name: {"restart": restart} for name, restart in zip("ABC", restarts, strict=True)}
    d = Driver(strategy=strategy, on_limit=on_limit, intensity=3, children=children)
    live: set[str] = set()  # by what the shell was told and has answered: an independent account

    def feed(event: g.Event) -> None:
        for item in d.feed(event):
            if isinstance(item, g.StartChild):
                assert item.child not in live, "a second process of one child"
                live.add(item.child)
            if isinstance(item, g.StopChild):
                assert item.child in live, "a stop for a child that is not there"
            if isinstance(item, g.Closed):
                assert not live, f"closed with {live} alive"

    feed(g.Begin())
    verdicts = {"end": "abnormal", "fatal": "fatal", "normal": "normal", "planned": "planned"}
    others = {"due": g.Due, "expired": g.Expired, "start": g.Start, "stop": g.Stop, "restart": g.Restart}
    for kind, name, seconds in history:
        d.now += seconds
        if kind in others:
            feed(others[kind](name))
        elif name in live:
            if kind == "ready":
                feed(g.Ready(name))
            else:
                live.discard(name)
                feed(g.Ended(name, verdicts[kind]))
    feed(g.Close())
    for _ in range(10):
        for name in [child.name for child in d.group.children if child.slot == "stopping"]:
            live.discard(name)
            feed(g.Ended(name, "normal"))
    assert d.group.phase == "down"
    assert not live


def test_a_blocking_gate_holds_up_later_siblings_and_never_later_groups() -> None:
    d = Driver(children={"A": {"blocking": True}})
    assert kinds(d.feed(g.Begin())) == ["StartChild A", "Hold A"]
    assert kinds(d.feed(g.Held("A"))) == ["Opened"]
    assert d.slots() == {"A": "held", "B": "down", "C": "down"}
    assert kinds(d.feed(g.Released("A")))[:1] == ["StartChild A"]
    assert kinds(d.feed(g.Ready("A")))[:1] == ["StartChild B"]


def test_parking_a_first_start_does_not_open_the_group_before_its_time() -> None:
    d = Driver(intensity=0, on_limit="park")
    d.feed(g.Begin())
    assert kinds(d.feed(g.Ended("A"))) == ["Park A", "StartChild B", "Hold B"]
    d.feed(g.Ready("B"))
    assert kinds(d.feed(g.Ready("C"))) == ["Opened"]
