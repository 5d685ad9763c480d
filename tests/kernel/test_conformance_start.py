"""OTP's letter, C01 to C17: how a group starts, and what the end of a child means to its restart type."""

import pytest

from daedalus.kernel import group as g
from tests.kernel.fake_shell import Shell, actor, group

ENDS = ("normal", "abnormal")  # exit 0; exit 1, SIGSEGV and all else


def test_c01_children_start_in_order_each_after_the_ready_of_the_last() -> None:
    shell = Shell(group("root", "A B C")).start()
    assert shell.story() == ["spawn A", "ready A", "spawn B", "ready B", "spawn C", "ready C", "opened root"]


def test_c01_a_nested_group_is_up_when_its_children_are() -> None:
    shell = Shell(group("root", "A", group("g", "B C"), group("h", "D")), B="hang").start()
    assert shell.story("spawn", "opened") == ["spawn A", "spawn B"]
    shell.ready("B")
    assert shell.story("spawn", "opened") == ["spawn C", "opened g", "spawn D", "opened h", "opened root"]


def test_c02_an_empty_supervisor_opens_at_once_and_closes_at_once() -> None:
    shell = Shell(group("root")).start()
    assert shell.story() == ["opened root"]
    shell.feed("root", g.Close())
    assert shell.story() == ["closed root"]
    assert shell.exit == 0


@pytest.mark.parametrize("failure", ["fail", "fatal"])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_c08_a_strict_group_ends_when_a_first_start_fails(failure: str, restart: str) -> None:
    """OTP's supervisor fails to start whatever the restart type of the child that failed."""
    strict = actor("B", abort=True, restart=restart)
    shell = Shell(group("root", "A", strict, "C"), B=failure).start()
    assert shell.story("spawn", "stop", "closed") == ["spawn A", "spawn B", "stop A", "closed root"]
    assert shell.exit == 70


def test_c08_a_strict_group_under_a_strict_root_ends_the_tree_and_starts_nothing_later() -> None:
    inner = group("g", "A", actor("B", abort=True), "C", start_failure="abort")
    shell = Shell(group("root", inner, group("h", "D"), start_failure="abort"), B="fail").start()
    assert shell.story("spawn", "stop") == ["spawn A", "spawn B", "stop A"]
    assert shell.exit == 70


def test_c08_a_strict_group_is_strict_only_at_its_first_start() -> None:
    shell = Shell(group("root", "A", actor("B", abort=True)), B="ready fail ready").start()
    shell.die("B")
    shell.advance(0.1)
    assert shell.exit is None
    assert shell.slots() == {"A": "up", "B": "up"}
    assert shell.used() == 2


def test_c09_a_first_start_that_fails_is_retried_before_the_next_child() -> None:
    shell = Shell(group("root", "A B C"), B="fail ready").start()
    assert shell.story("spawn") == ["spawn A", "spawn B", "spawn B", "spawn C"]
    assert shell.live == {"A": 1, "B": 2, "C": 1}
    assert shell.used() == 1


def test_c09_one_that_keeps_failing_holds_up_its_siblings_only_so_long() -> None:
    shell = Shell(group("root", actor("A", hold_s=2.0), "B", intensity=100), A="fail", B="fail ready").start()
    shell.advance(1.99)
    assert shell.story("spawn", "opened").count("spawn B") == 0
    shell.advance(0.02)
    assert shell.story("opened") == ["opened root"]
    assert shell.slots()["B"] == "up"


def test_c09_a_second_one_that_keeps_failing_holds_up_the_third_only_so_long() -> None:
    kids = (actor("A", hold_s=2.0), actor("B", hold_s=3.0), actor("C"))
    shell = Shell(group("root", *kids, intensity=100), A="fail", B="fail").start()
    shell.advance(5.1)
    assert shell.slots()["C"] == "up"


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_c10_a_child_that_ignores_its_start_holds_up_nobody(restart: str) -> None:
    shell = Shell(group("root", "A", actor("B", restart=restart), "C"), B="ignore").start()
    gone = {"A": "up", "C": "up"}
    assert shell.slots() == (gone if restart == "temporary" else {"A": "up", "B": "ignored", "C": "up"})
    assert shell.used() == 0
    shell.advance(1000.0)
    assert shell.spawned["B"] == 1


def test_c10_one_that_ignored_its_start_is_asked_again_by_a_group_restart() -> None:
    shell = Shell(group("root", "A B C", strategy="one_for_all"), B="ignore ready").start()
    shell.die("C")
    assert shell.slots() == {"A": "up", "B": "up", "C": "up"}


def test_c11_a_start_that_never_answers_is_a_failure_that_counts_once() -> None:
    shell = Shell(group("root", "A B C"), B="hang ready").start()
    assert shell.slots() == {"A": "up", "B": "starting", "C": "down"}
    shell.die("B")  # the shell kills it at its start timeout
    assert shell.slots() == {"A": "up", "B": "up", "C": "up"}
    assert shell.used() == 1


def test_c12_a_program_that_does_not_exist_fails_for_good_and_alone() -> None:
    shell = Shell(group("root", "A B C"), B="fatal").start()
    assert shell.slots() == {"A": "up", "B": "failed", "C": "up"}
    shell.advance(1000.0)
    assert shell.spawned["B"] == 1
    assert shell.used() == 0


@pytest.mark.parametrize("end", ENDS)
def test_c13_permanent_is_restarted_whatever_the_end(end: str) -> None:
    shell = Shell(group("root", "A")).start()
    shell.die("A", end)
    assert shell.live == {"A": 2}
    assert shell.used() == 1


@pytest.mark.parametrize("end", ENDS)
def test_c14_transient_is_restarted_only_after_a_failure(end: str) -> None:
    shell = Shell(group("root", actor("A", restart="transient"))).start()
    shell.die("A", end)
    assert shell.slots() == {"A": "done" if end == "normal" else "up"}
    assert shell.used() == (end == "abnormal")


def test_c14_one_that_ends_clean_before_it_was_ready_is_done_and_not_started_over() -> None:
    shell = Shell(group("root", actor("A", restart="transient"), "B"), A="exit0").start()
    assert shell.slots() == {"A": "done", "B": "up"}
    assert shell.spawned["A"] == 1


@pytest.mark.parametrize("end", [*ENDS, "fatal"])
def test_c15_temporary_is_never_restarted_and_its_specification_is_gone(end: str) -> None:
    shell = Shell(group("root", actor("A", restart="temporary"))).start()
    shell.die("A", end)
    assert shell.slots() == {}
    assert shell.used() == 0
    assert shell.story()[-1] == "removed A"


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_c16_a_temporary_bystander_of_a_group_restart_never_comes_back(strategy: str) -> None:
    shell = Shell(group("root", "A", actor("B", restart="temporary"), "C", strategy=strategy)).start()
    shell.die("A")
    assert shell.slots() == {"A": "up", "C": "up"}
    assert shell.live == {"A": 2, "C": 2}
    assert shell.used() == 1


def test_c17_a_permanent_failure_is_not_restarted_and_not_counted() -> None:
    shell = Shell(group("root", "A B")).start()
    shell.die("A", "fatal")
    assert shell.slots() == {"A": "failed", "B": "up"}
    assert shell.used() == 0


def test_c17_a_planned_recycle_is_immediate_and_counts_only_when_it_comes_too_often() -> None:
    shell = Shell(group("root", "A")).start()
    shell.die("A", "planned")
    assert (shell.live["A"], shell.used()) == (2, 0)
    shell.advance(59.0)
    shell.die("A", "planned")
    assert (shell.live["A"], shell.used()) == (3, 1)
    shell.advance(61.0)
    shell.die("A", "planned")
    assert (shell.live["A"], shell.used()) == (4, 0)
