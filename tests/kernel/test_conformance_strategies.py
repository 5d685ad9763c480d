"""OTP's letter, C18 to C26: who is restarted together with whom, and what a command does in between."""

import pytest

from daedalus.kernel import group as g
from tests.kernel.fake_shell import Shell, actor, group

MOVES = ("spawn", "stop")


def test_c18_one_for_one_restarts_only_the_failed_child() -> None:
    shell = Shell(group("root", "A B")).start()
    shell.die("A")
    assert shell.live == {"A": 2, "B": 1}


def test_c19_one_for_all_stops_the_others_in_reverse_and_starts_all_in_order() -> None:
    shell = Shell(group("root", "A B C", strategy="one_for_all")).start()
    shell.story()
    shell.die("B")
    assert shell.story(*MOVES) == ["stop C", "stop A", "spawn A", "spawn B", "spawn C"]
    assert shell.used() == 1


def test_c19_nobody_starts_while_the_failed_childs_delay_runs() -> None:
    shell = Shell(group("root", "A B", strategy="one_for_all")).start()
    shell.die("B")
    shell.story()
    shell.die("B")
    assert shell.story(*MOVES) == ["stop A"]
    assert shell.slots() == {"A": "down", "B": "waiting"}
    shell.advance(0.1)
    assert shell.story(*MOVES) == ["spawn A", "spawn B"]


def test_c20_rest_for_one_leaves_the_earlier_ones_alone() -> None:
    shell = Shell(group("root", "A B C D E", strategy="rest_for_one")).start()
    shell.story()
    shell.die("C")
    assert shell.story(*MOVES) == ["stop E", "stop D", "spawn C", "spawn D", "spawn E"]
    assert shell.live == {"A": 1, "B": 1, "C": 2, "D": 2, "E": 2}


def test_c20_an_earlier_failure_during_a_pending_delay_merges_and_waits_for_the_longer() -> None:
    slow = actor("B", failures=5)  # its next delay is at the cap, 1 s
    shell = Shell(group("root", "A", slow, "C", strategy="rest_for_one")).start()
    shell.groups["root"] = g.Group(
        spec=shell.groups["root"].spec, children=tuple(shell.groups["root"].children), phase="open"
    )
    for _ in range(3):
        shell.die("B")
        shell.advance(1.0)
    shell.story()
    shell.die("B")  # the fourth in a row: 0.4 s
    shell.advance(0.1)
    shell.die("A")  # its first: no delay of its own
    assert shell.story(*MOVES) == ["stop C"]
    shell.advance(0.29)
    assert shell.story(*MOVES) == []
    shell.advance(0.02)
    assert shell.story(*MOVES) == ["spawn A", "spawn B", "spawn C"]
    assert shell.used() == 5


def test_c21_one_for_all_stops_again_what_it_had_restarted_when_another_fails_its_start() -> None:
    shell = Shell(group("root", "A B", strategy="one_for_all"), B="ready fail ready").start()
    shell.story()
    shell.die("A")
    assert shell.story(*MOVES) == ["stop B", "spawn A", "spawn B", "stop A", "spawn A", "spawn B"]
    assert shell.used() == 2


def test_c22_rest_for_one_keeps_what_it_had_restarted_before_the_one_that_fails() -> None:
    shell = Shell(group("root", "A B C", strategy="rest_for_one"), B="ready fail ready").start()
    shell.story()
    shell.die("A")
    moves = ["stop C", "stop B", "spawn A", "spawn B", "spawn B", "spawn C"]
    assert shell.story(*MOVES) == moves
    assert shell.live == {"A": 2, "B": 3, "C": 2}
    assert shell.used() == 2


def _looping(strategy: str) -> Shell:
    shell = Shell(group("root", "A B C", strategy=strategy, intensity=100), B="ready fail").start()
    shell.die("B")
    shell.advance(3.0)
    assert shell.slots()["B"] == "waiting"
    return shell


def test_c23_a_retry_loop_leaves_earlier_ones_up_and_later_ones_down() -> None:
    assert _looping("rest_for_one").slots() == {"A": "up", "B": "waiting", "C": "down"}


def test_c23_remove_in_a_retry_loop_changes_nothing() -> None:
    shell = _looping("rest_for_one")
    before = shell.groups["root"]
    shell.tell(g.Remove("B"))
    assert shell.groups["root"] == before


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
def test_c23_stop_ends_a_retry_loop_at_once_and_later_ones_stay_down(strategy: str) -> None:
    """Also under one_for_all: those before the failed one are up, as in OTP, those after it are not."""
    shell = _looping(strategy)
    shell.tell(g.Stop("B"))
    shell.advance(1000.0)
    assert shell.slots() == {"A": "up", "B": "down", "C": "down"}
    assert shell.groups["root"].plan == ()


def test_c23_stop_in_the_middle_of_an_attempt_ends_the_loop_too() -> None:
    shell = Shell(group("root", "A B C", strategy="rest_for_one"), B="ready hang").start()
    shell.die("B")
    assert shell.slots() == {"A": "up", "B": "starting", "C": "down"}
    shell.tell(g.Stop("B"))
    shell.advance(1000.0)
    assert shell.slots() == {"A": "up", "B": "down", "C": "down"}


def test_c24_a_retry_loop_is_no_obstacle_to_commands_nor_to_the_end() -> None:
    shell = _looping("rest_for_one")
    shell.tell(g.Restart("A"))
    assert shell.live["A"] == 2
    spawned = dict(shell.spawned)
    shell.feed("root", g.Close())
    assert shell.exit == 0
    shell.advance(1000.0)
    assert shell.spawned == spawned


def test_c24_what_was_started_by_hand_meanwhile_is_restarted_with_its_set() -> None:
    """OTP's retry is a whole rest_for_one again: the later child depends on the one that was away."""
    shell = Shell(group("root", "A B C", strategy="rest_for_one"), A="ready fail fail fail ready").start()
    shell.die("A")
    assert shell.slots() == {"A": "waiting", "B": "down", "C": "down"}
    shell.tell(g.Start("C"))
    assert shell.slots()["C"] == "up"
    shell.story()
    shell.advance(1.0)
    assert shell.story(*MOVES) == ["stop C", *["spawn A"] * 3, "spawn B", "spawn C"]
    assert shell.slots() == {"A": "up", "B": "up", "C": "up"}
    assert shell.live["C"] == 3


def test_c25_a_group_restart_leaves_down_what_an_operator_stopped() -> None:
    shell = Shell(group("root", "A B C", strategy="one_for_all")).start()
    shell.tell(g.Stop("C"))
    shell.die("A")
    assert shell.slots() == {"A": "up", "B": "up", "C": "down"}


def test_c25_a_group_restart_revives_a_transient_child_that_had_finished() -> None:
    late = actor("C", restart="transient")
    shell = Shell(group("root", "A B", late, strategy="one_for_all")).start()
    shell.die("C", "normal")
    assert shell.slots()["C"] == "done"
    shell.die("A")
    assert shell.slots() == {"A": "up", "B": "up", "C": "up"}


def _pool(**values: object) -> Shell:
    names = " ".join(f"w{number}" for number in range(1, 21))
    return Shell(group("root", names, strategy="simple_one_for_one", **values), w1="hang").start()


def test_c26_instances_start_without_waiting_for_one_another() -> None:
    shell = _pool()
    assert len(shell.live) == 20
    assert list(shell.slots().values()) == ["starting"] + ["up"] * 19
    assert shell.groups["root"].phase == "opening"
    shell.advance(20.0)
    assert shell.groups["root"].phase == "open"


def test_c26_instances_stop_in_parallel() -> None:
    shell = _pool()
    shell.stubborn |= set(shell.live)
    shell.feed("root", g.Close())
    assert list(shell.slots().values()) == ["stopping"] * 20
    for name in list(shell.live):
        shell.die(name)
    assert shell.exit == 0


def test_c26_an_instance_restarts_stops_and_starts_alone() -> None:
    shell = _pool()
    shell.die("w7")
    shell.tell(g.Stop("w8"))
    assert shell.live["w7"] == 2
    assert "w8" not in shell.live
    shell.tell(g.Start("w8"))
    assert shell.live["w8"] == 2
    assert sum(shell.spawned.values()) == 22


def test_c22_one_started_by_hand_that_fails_joins_the_restart_that_is_already_waiting() -> None:
    shell = Shell(group("root", "A B C", strategy="rest_for_one"), A="ready fail ready").start()
    shell.die("A")
    shell.tell(g.Start("C"))
    shell.story()
    shell.die("C")
    shell.advance(1.0)
    assert shell.story(*MOVES) == ["spawn A", "spawn B", "spawn C"]


def test_c09_the_hold_of_an_ordered_group_runs_from_the_first_start_and_not_from_each_retry() -> None:
    shell = Shell(group("root", "A B", strategy="rest_for_one", intensity=100), A="fail").start()
    shell.advance(19.9)
    assert shell.story("opened") == []
    shell.advance(0.2)
    assert shell.story("opened") == ["opened root"]
    assert shell.slots() == {"A": "waiting", "B": "down"}  # the order within is kept


def test_c17_a_group_restart_stops_at_one_that_failed_for_good() -> None:
    shell = Shell(group("root", "A B C", strategy="rest_for_one")).start()
    shell.die("B", "fatal")
    assert shell.slots() == {"A": "up", "B": "failed", "C": "down"}
    shell.die("A")
    assert shell.slots() == {"A": "up", "B": "failed", "C": "down"}


@pytest.mark.parametrize("order", [g.Start, g.Restart])
def test_c24_an_order_does_not_overtake_a_group_restart_that_has_only_to_stop_the_others(order: type) -> None:
    shell = Shell(group("root", "A B", strategy="one_for_all")).start()
    shell.stubborn = {"A"}
    shell.die("B")
    shell.story()
    shell.tell(order("B"))
    assert shell.story("spawn") == []
    shell.die("A")
    assert shell.story("spawn") == ["spawn A", "spawn B"]


def test_c24_a_start_that_propagates_takes_over_the_group_restart_that_was_waiting() -> None:
    shell = Shell(group("root", "A B C", strategy="one_for_all")).start()
    shell.stubborn = {"C"}
    shell.die("B")
    shell.tell(g.Start("A", propagate=True))
    shell.die("C")
    shell.advance(1.0)
    assert shell.slots() == {"A": "up", "B": "up", "C": "up"}
    assert shell.live == {"A": 1, "B": 2, "C": 2}
    assert shell.groups["root"].plan == ()
