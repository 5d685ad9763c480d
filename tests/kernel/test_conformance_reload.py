"""C54 and C55 at the group: a changed file meets a running group; and the gates that hold a child back."""

import pytest
from msgspec.structs import replace

from daedalus.kernel import group as g
from tests.kernel.fake_shell import Shell, actor, group

MOVES = ("spawn", "stop")


def reshape(shell: Shell, names: str, restart: tuple[str, ...] = (), **values: object) -> None:
    """Reload with these children; `values` change the specification of the group."""
    spec = replace(shell.groups["root"].spec, **values)
    shell.story()
    shell.feed("root", g.Reshape(spec, tuple(actor(name) for name in names.split()), restart))


def test_c54_an_identical_file_changes_nothing() -> None:
    shell = Shell(group("root", "A B C")).start()
    before = shell.groups["root"]
    reshape(shell, "A B C")
    assert shell.groups["root"] == before
    assert shell.story() == []


def test_c54_what_is_new_is_started_in_order_and_the_others_keep_their_processes() -> None:
    shell = Shell(group("root", "A B C")).start()
    reshape(shell, "X A B Y C")
    assert shell.story(*MOVES) == ["spawn X", "spawn Y"]
    assert shell.live == {"A": 1, "B": 1, "C": 1, "X": 1, "Y": 1}
    assert list(shell.slots()) == ["X", "A", "B", "Y", "C"]


def test_c54_new_flags_are_taken_and_what_the_child_has_been_through_is_kept() -> None:
    shell = Shell(group("root", "A B", intensity=5)).start()
    shell.die("A")
    spec = replace(shell.groups["root"].spec, intensity=1)
    before = shell.child("A")
    shell.feed("root", g.Reshape(spec, (actor("A", restart="transient", significant=False), actor("B"))))
    after = shell.child("A")
    assert after == replace(before, restart="transient")
    assert shell.live == {"A": 2, "B": 1}
    shell.die("B")  # the window is kept, and the new intensity holds for it
    assert shell.exit == 70


def test_c54_another_order_touches_nobody() -> None:
    shell = Shell(group("root", "A B C")).start()
    reshape(shell, "C A B", strategy="rest_for_one")
    assert shell.live == {"A": 1, "B": 1, "C": 1}
    shell.die("A")
    assert shell.story(*MOVES) == ["stop B", "spawn A", "spawn B"]


def test_c54_a_finished_temporary_child_is_not_run_again_by_a_reload() -> None:
    node = group("root", "A", actor("T", restart="temporary"))
    shell = Shell(node)
    children = shell.groups["root"].children
    shell.groups["root"] = g.Group(spec=node.spec, children=children, written=children)
    shell.start().die("T", "normal")
    shell.feed("root", g.Reshape(node.spec, (*children, actor("D"))))
    assert shell.slots() == {"A": "up", "D": "up"}
    shell.feed("root", g.Reshape(node.spec, (*children, actor("D")), ("T",)))  # its program has changed
    assert shell.slots() == {"A": "up", "T": "up", "D": "up"}


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
def test_c55_only_what_changed_is_restarted_once_and_nothing_counts(strategy: str) -> None:
    shell = Shell(group("root", "A B C", strategy=strategy)).start()
    reshape(shell, "A B C", ("B",))
    assert shell.story(*MOVES) == ["stop B", "spawn B"]
    assert shell.live == {"A": 1, "B": 2, "C": 1}
    assert shell.used() == 0


def test_c55_restarts_come_one_after_the_other() -> None:
    shell = Shell(group("root", "A B C"), A="ready hang ready").start()
    reshape(shell, "A B C", ("A", "C"))
    assert shell.story(*MOVES) == ["stop A", "spawn A"]
    shell.ready("A")
    assert shell.story(*MOVES) == ["stop C", "spawn C"]


def test_c55_one_that_does_not_come_up_holds_up_the_others_only_so_long() -> None:
    shell = Shell(group("root", "A B", intensity=100), A="ready fail").start()
    reshape(shell, "A B D", ("A", "B"))
    assert shell.live == {"B": 1}
    shell.advance(20.0)
    assert shell.live == {"B": 2, "D": 1}


def test_c55_what_is_gone_from_the_file_is_stopped_in_reverse_and_forgotten() -> None:
    shell = Shell(group("root", "A B C D")).start()
    shell.tell(g.Stop("C"))
    reshape(shell, "A E")
    assert shell.story("spawn", "stop", "removed") == [
        "removed C", "stop D", "removed D", "stop B", "removed B", "spawn E",
    ]  # fmt: skip
    assert shell.slots() == {"A": "up", "E": "up"}


def test_c55_one_that_leaves_is_not_to_be_started_any_more() -> None:
    shell = Shell(group("root", "A B")).start()
    shell.stubborn = {"B"}
    reshape(shell, "A")
    for event in (g.Start("B"), g.Restart("B"), g.Reset("B"), g.Remove("B")):
        shell.tell(event)
    assert shell.slots() == {"A": "up", "B": "stopping"}
    shell.die("B")
    assert shell.slots() == {"A": "up"}


def test_c55_one_that_leaves_does_not_come_back_with_a_group_restart() -> None:
    shell = Shell(group("root", "A B C", strategy="one_for_all")).start()
    shell.stubborn = {"C"}
    reshape(shell, "A B")
    shell.die("A")
    shell.die("C")
    assert shell.slots() == {"A": "up", "B": "up"}


def test_c55_what_an_operator_stopped_stays_stopped_even_if_it_changed() -> None:
    shell = Shell(group("root", "A B")).start()
    shell.tell(g.Stop("A"))
    reshape(shell, "A B", ("A",))
    assert shell.slots() == {"A": "down", "B": "up"}
    assert not shell.child("A").wanted


@pytest.mark.parametrize("script", ["fatal ready", "exit0 ready", "ignore ready", "fail fail ready"])
def test_c55_a_changed_program_gets_its_chance_whatever_became_of_the_old_one(script: str) -> None:
    node = group("root", actor("A", restart="transient"), "B", intensity=1, on_limit="park")
    shell = Shell(node, A=script).start()
    assert shell.slots()["A"] in ("failed", "done", "ignored", "parked")
    shell.feed("root", g.Reshape(node.spec, shell.groups["root"].children, ("A",)))
    assert shell.slots() == {"A": "up", "B": "up"}
    assert shell.child("A").failures == 0


def test_c55_those_that_a_failed_child_kept_down_come_with_its_new_program() -> None:
    shell = Shell(group("root", "A B C", strategy="rest_for_one"), B="fatal ready").start()
    reshape(shell, "A B C", ("B",))
    assert shell.story(*MOVES) == ["spawn B", "spawn C"]


def test_c55_one_in_the_middle_of_a_group_restart_is_absorbed_by_it() -> None:
    shell = Shell(group("root", "A B C", strategy="one_for_all")).start()
    shell.stubborn = {"B"}
    reshape(shell, "A B C", ("B", "C"))
    shell.die("A")
    shell.die("B")
    assert shell.live == {"A": 2, "B": 2, "C": 2}
    assert shell.groups["root"].plan == ()


def test_c55_a_file_that_changes_while_the_group_opens_is_taken_in_order() -> None:
    shell = Shell(group("root", "A B C"), A="hang").start()
    reshape(shell, "A D B")
    shell.ready("A")
    assert shell.story("spawn", "opened") == ["spawn D", "spawn B", "opened root"]


def test_c55_one_added_by_hand_stays_and_stays_last() -> None:
    shell = Shell(group("root", "A B")).start()
    shell.feed("root", g.Add(actor("X", by_hand=True)))
    reshape(shell, "A B C")
    assert list(shell.slots().items()) == [("A", "up"), ("B", "up"), ("C", "up"), ("X", "up")]


def test_c55_instances_come_and_go_together() -> None:
    shell = Shell(group("root", "A B C", strategy="simple_one_for_one")).start()
    shell.stubborn = {"B", "C"}
    reshape(shell, "A D E")
    assert shell.slots() == {"A": "up", "D": "up", "E": "up", "B": "stopping", "C": "stopping"}


def test_a_held_child_does_not_fail_does_not_count_and_holds_up_nobody() -> None:
    shell = Shell(group("root", "A B C"))
    shell.shut = {"B"}
    shell.start().advance(1000.0)
    assert shell.slots() == {"A": "up", "B": "held", "C": "up"}
    assert (shell.used(), shell.child("B").failures) == (0, 0)
    shell.shut = set()
    shell.tell(g.Released("B"))
    assert shell.live == {"A": 1, "B": 1, "C": 1}


def test_a_blocking_one_holds_up_its_later_siblings_and_not_the_later_groups() -> None:
    shell = Shell(group("root", group("g", "A", actor("B", blocking=True), "C"), group("h", "D")))
    shell.shut = {"B"}
    shell.start().advance(1000.0)
    assert shell.slots("g") == {"A": "up", "B": "held", "C": "down"}
    assert shell.slots("h") == {"D": "up"}
    shell.shut = set()
    shell.tell(g.Released("B"))
    assert shell.slots("g") == {"A": "up", "B": "up", "C": "up"}


@pytest.mark.parametrize("blocking", [False, True])
def test_a_held_child_is_stopped_at_once_and_no_gate_starts_it_then(blocking: bool) -> None:
    shell = Shell(group("root", actor("A", blocking=blocking), "B"))
    shell.shut = {"A"}
    shell.start().tell(g.Stop("A"))
    shell.shut = set()
    shell.tell(g.Released("A"))
    assert shell.slots() == {"A": "down", "B": "up"}


def test_a_gate_that_shuts_while_the_child_is_being_told_to_stop_is_its_end() -> None:
    shell = Shell(group("root", "A B"), A="hang")
    shell.start()
    del shell.live["A"]  # the shell was about to say that it is held
    shell.tell(g.Stop("A"))
    assert shell.slots()["A"] == "stopping"
    shell.tell(g.Held("A"))
    assert shell.slots() == {"A": "down", "B": "up"}


def test_a_gate_that_opens_during_a_group_restart_does_not_jump_the_queue() -> None:
    shell = Shell(group("root", "A B", strategy="rest_for_one"), A="ready fail fail ready")
    shell.shut = {"B"}
    shell.start().die("A")
    shell.shut = set()
    shell.tell(g.Released("B"))
    assert shell.live == {}
    shell.advance(1.0)
    assert shell.live == {"A": 4, "B": 1}


def test_c55_one_that_leaves_and_ends_before_its_turn_is_forgotten_and_not_counted() -> None:
    shell = Shell(group("root", "A B C")).start()
    shell.stubborn = {"C"}
    reshape(shell, "A")
    shell.die("B")
    shell.die("C")
    assert shell.slots() == {"A": "up"}
    assert (shell.spawned["B"], shell.used()) == (1, 0)
