"""OTP's letter, C27 to C39: how often is too often, who hears of it, and when a group has done its work."""

import pytest

from daedalus.kernel import group as g
from tests.kernel.fake_shell import Shell, actor, group

MOVES = ("spawn", "stop")


def test_c27_the_restart_beyond_intensity_stops_the_rest_in_reverse_and_ends_the_group() -> None:
    shell = Shell(group("root", "A B C", intensity=2)).start()
    for _ in range(2):
        shell.die("A")
        shell.advance(1.0)
    shell.story()
    shell.die("A")
    assert shell.story("spawn", "stop", "closed") == ["stop C", "stop B", "closed root"]
    assert shell.spawned["A"] == 3
    assert shell.exit == 70


def test_c28_intensity_zero_ends_the_group_at_the_first_failure() -> None:
    shell = Shell(group("root", "A B", intensity=0)).start()
    shell.die("A")
    assert shell.exit == 70
    assert shell.spawned == {"A": 1, "B": 1}


def test_c29_failures_further_apart_than_the_period_never_add_up() -> None:
    shell = Shell(group("root", "A", intensity=1, period_s=2.0)).start()
    for restarts in range(1, 5):
        shell.advance(3.5)
        shell.die("A")
        shell.advance(1.0)
        assert shell.live == {"A": restarts + 1}


def test_c29_the_edge_of_the_window_belongs_to_it() -> None:
    for apart_s, alive in ((2.0, False), (2.001, True)):
        shell = Shell(group("root", "A B", intensity=1, period_s=2.0)).start()
        shell.die("A")
        shell.advance(apart_s)
        shell.die("B")
        assert (shell.exit is None) == alive


def test_c30_all_children_share_one_window() -> None:
    shell = Shell(group("root", "A B", intensity=2)).start()
    shell.die("A")
    shell.die("B")
    assert shell.exit is None
    shell.die("A")
    assert shell.exit == 70


def test_c31_failed_attempts_count_and_the_healthy_sibling_goes_with_the_group() -> None:
    """One initial start and as many more as the intensity allows."""
    shell = Shell(group("root", "A B", intensity=4), B="fail").start()
    shell.advance(60.0)
    assert shell.spawned == {"A": 1, "B": 5}
    assert shell.exit == 70


@pytest.mark.parametrize(("outer", "inner", "starts"), [(1, 2, 6), (3, 5, 24), (0, 0, 1)])
def test_c32_a_leaf_that_always_fails_is_started_as_often_as_the_product_says(
    outer: int, inner: int, starts: int
) -> None:
    shell = Shell(group("root", group("g", "A", intensity=inner), intensity=outer, period_s=600.0), A="fail")
    shell.start().advance(60.0)
    assert shell.spawned["A"] == starts
    assert shell.exit == 70


def test_c33_a_group_that_hit_its_limit_is_restarted_alone_and_with_an_empty_window() -> None:
    shell = Shell(group("root", group("g", "A B", intensity=1), group("h", "C"), intensity=3)).start()
    shell.die("A")
    assert shell.used("g") == 1
    shell.die("A")
    assert shell.live == {"A": 3, "B": 2, "C": 1}
    assert (shell.used("g"), shell.used("root")) == (0, 1)


def test_c33_a_childs_backoff_starts_anew_when_its_group_restarts() -> None:
    shell = Shell(group("root", group("g", "A", intensity=2), intensity=3), A="fail").start()
    waits = [item for item in shell.instructions if isinstance(item, g.Wait) and item.child == "A"]
    shell.advance(0.2)
    waits = [item for item in shell.instructions if isinstance(item, g.Wait) and item.child == "A"]
    assert [(item.failures, item.delay_s) for item in waits[:4]] == [(1, 0.0), (2, 0.1), (1, 0.0), (2, 0.1)]


def _parking() -> Shell:
    broken = group("g", "A", intensity=0)
    root = group("root", broken, group("h", "C"), intensity=0, on_limit="park", park_retry_s=2.0)
    return Shell(root, A="fail").start()


def test_c33_at_the_parents_limit_the_group_is_parked_and_nobody_else() -> None:
    shell = _parking()
    assert shell.slots() == {"g": "parked", "h": "up"}
    assert shell.groups["root"].phase == "open"
    for tries in range(1, 50):
        assert shell.spawned == {"A": tries, "C": 1}
        shell.advance(2.0)
    assert shell.exit is None


def test_c33_what_is_parked_comes_back_when_it_can() -> None:
    shell = _parking()
    shell.scripts["A"].append("ready")
    shell.scripts["A"].popleft()
    shell.advance(2.0)
    assert shell.slots() == {"g": "up", "h": "up"}


def test_c33_the_retry_of_what_is_parked_is_spread_by_a_tenth() -> None:
    shell = Shell(group("root", "A", intensity=0, on_limit="park", park_retry_s=300.0)).start()
    shell.luck = 0.5
    shell.die("A")
    assert shell.instructions[-1] == g.Park("A", pytest.approx(315.0))


def test_c33_a_sibling_is_not_parked_for_failures_that_were_not_its_own() -> None:
    shell = Shell(group("root", "A B", intensity=1, on_limit="park"), A="ready fail").start()
    shell.die("A")
    assert shell.slots() == {"A": "parked", "B": "up"}
    shell.die("B")
    assert shell.slots() == {"A": "parked", "B": "up"}


def test_c33_under_a_group_strategy_the_whole_restart_set_is_parked() -> None:
    root = group("root", "A B C", strategy="rest_for_one", intensity=0, on_limit="park", park_retry_s=5.0)
    shell = Shell(root).start()
    shell.die("B")
    assert shell.slots() == {"A": "up", "B": "parked", "C": "parked"}
    shell.story()
    shell.advance(5.0)
    assert shell.story(*MOVES) == ["spawn B", "spawn C"]
    assert shell.live == {"A": 1, "B": 2, "C": 2}


def test_c34_a_transient_group_at_its_limit_stays_down_and_says_why() -> None:
    shell = Shell(group("root", group("g", "A", intensity=0, restart="transient"), group("h", "B"))).start()
    shell.die("A")
    shell.advance(1000.0)
    assert shell.slots() == {"g": "done", "h": "up"}
    assert (shell.groups["g"].phase, shell.groups["g"].reason) == ("down", "intensity")
    assert shell.used() == 0


def test_c35_what_was_added_by_hand_is_lost_when_its_parent_restarts_the_group() -> None:
    shell = Shell(group("root", group("g", "A", intensity=0), group("h", "B"), intensity=5)).start()
    shell.feed("g", g.Add(actor("X", by_hand=True)))
    shell.feed("h", g.Add(actor("Y", by_hand=True)))
    shell.die("A")
    assert shell.slots("g") == {"A": "up"}
    assert shell.slots("h") == {"B": "up", "Y": "up"}
    assert "removed X" in shell.story()


def test_c35_what_is_in_the_file_is_there_again_if_the_shell_can_make_it() -> None:
    """OTP's restarted supervisor asks its init: a temporary child that had ended is started once more."""
    node = group("g", "A", actor("T", restart="temporary"), intensity=0)
    shell = Shell(group("root", node, intensity=5))
    shell.groups["g"] = g.Group(
        spec=node.spec, children=shell.groups["g"].children, written=shell.groups["g"].children
    )
    shell.start().die("T", "normal")
    assert shell.slots("g") == {"A": "up"}
    shell.die("A")
    assert shell.slots("g") == {"A": "up", "T": "up"}


@pytest.mark.parametrize("end", ["normal", "abnormal", "fatal"])
def test_c36_any_significant_temporary_child_ends_the_group_however_it_ends(end: str) -> None:
    chief = actor("A", significant=True, restart="temporary")
    inner = group("g", chief, "B C", auto_shutdown="any_significant", restart="transient")
    shell = Shell(group("root", inner, "D")).start()
    shell.story()
    shell.die("A", end)
    assert shell.story(*MOVES) == ["stop C", "stop B"]
    assert shell.groups["g"].reason == "auto_shutdown"
    assert shell.slots() == {"g": "done", "D": "up"}


def test_c37_any_significant_transient_child_ends_the_group_only_when_it_ends_clean() -> None:
    chief = actor("A", significant=True, restart="transient")
    shell = Shell(group("root", chief, "B", auto_shutdown="any_significant")).start()
    shell.die("A", "abnormal")
    assert shell.live == {"A": 2, "B": 1}
    shell.die("A", "normal")
    assert shell.exit == 0


def _two_chiefs(**values: object) -> Shell:
    chiefs = [actor(name, significant=True, restart="transient") for name in "AB"]
    return Shell(group("root", *chiefs, "C", **{"auto_shutdown": "all_significant", **values})).start()


def test_c38_all_significant_waits_for_the_last_of_them() -> None:
    shell = _two_chiefs()
    shell.die("A", "normal")
    assert shell.live == {"B": 1, "C": 1}
    shell.story()
    shell.die("B", "normal")
    assert shell.story(*MOVES) == ["stop C"]
    assert shell.exit == 0


def test_c38_one_that_waits_for_its_restart_still_counts_as_active() -> None:
    shell = _two_chiefs()
    shell.die("B")
    shell.die("B")
    assert shell.slots()["B"] == "waiting"
    shell.die("A", "normal")
    assert shell.exit is None


def test_c38_one_whose_first_start_is_still_to_come_counts_as_active() -> None:
    chiefs = [actor(name, significant=True, restart="transient") for name in "AB"]
    shell = Shell(group("root", chiefs[0], "X", chiefs[1], auto_shutdown="all_significant"), X="hang").start()
    shell.die("A", "normal")
    assert shell.exit is None
    shell.ready("X")
    assert shell.slots() == {"A": "done", "X": "up", "B": "up"}


def test_c39_no_auto_shutdown_when_an_operator_stops_a_significant_child() -> None:
    shell = _two_chiefs(auto_shutdown="any_significant")
    shell.tell(g.Stop("A"))
    assert shell.exit is None
    assert shell.live == {"B": 1, "C": 1}


@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_c39_no_auto_shutdown_when_a_significant_child_goes_with_its_sibling(restart: str) -> None:
    chief = actor("B", significant=True, restart=restart)
    root = group("root", "A", chief, strategy="one_for_all", auto_shutdown="any_significant")
    shell = Shell(root).start()
    shell.die("A")
    assert shell.exit is None
    assert shell.slots() == ({"A": "up", "B": "up"} if restart == "transient" else {"A": "up"})


def test_c35_a_temporary_child_that_lived_when_its_group_ended_comes_back_with_it() -> None:
    inner = group("g", "A", actor("T", restart="temporary"), intensity=0)
    shell = Shell(group("root", inner, intensity=5)).start()
    shell.die("A")
    assert shell.slots("g") == {"A": "up", "T": "up"}
    assert shell.live["T"] == 2
