"""OTP's letter, C40, C47 to C50, C52, C53: stopping, what an operator may do, how long a retry waits."""

from itertools import pairwise

import pytest

from daedalus.kernel import group as g
from daedalus.kernel.spec import Backoff
from tests.kernel.fake_shell import SHARP, Shell, actor, group

MOVES = ("spawn", "stop")


def test_c40_shutdown_stops_in_reverse_one_at_a_time() -> None:
    shell = Shell(group("root", "A B C")).start()
    shell.stubborn = {"B"}
    shell.feed("root", g.Close())
    assert shell.slots() == {"A": "up", "B": "stopping", "C": "down"}
    shell.die("B", "normal")
    assert shell.story("stop", "closed") == ["stop C", "stop B", "stop A", "closed root"]
    assert shell.exit == 0


def test_c40_shutdown_of_a_tree_stops_the_last_group_first_and_waits_for_it() -> None:
    shell = Shell(group("root", "A", group("g", "B C"), group("h", "D"))).start()
    shell.stubborn = {"D"}
    shell.feed("root", g.Close())
    assert shell.story("stop") == ["stop D"]
    shell.die("D")
    assert shell.story("stop", "closed") == [
        "closed h", "stop C", "stop B", "closed g", "stop A", "closed root",
    ]  # fmt: skip


def test_c40_no_timer_and_no_gate_starts_anything_while_the_group_closes() -> None:
    shell = Shell(group("root", "A B C"), A="ready fail")
    shell.shut = {"B"}
    shell.start().die("A")
    shell.stubborn = {"C"}
    assert shell.slots() == {"A": "waiting", "B": "held", "C": "up"}
    shell.feed("root", g.Close())
    assert shell.slots() == {"A": "down", "B": "down", "C": "stopping"}
    shell.feed("root", g.Due("A"))  # a timer that could not be cancelled any more
    shell.feed("root", g.Released("B"))
    shell.advance(1000.0)
    shell.die("C")
    assert (shell.exit, shell.live) == (0, {})


def test_c40_an_operators_stop_does_not_break_the_order_of_a_shutdown() -> None:
    shell = Shell(group("root", "A B C")).start()
    shell.stubborn = {"C"}
    shell.feed("root", g.Close())
    shell.tell(g.Stop("A"))
    assert shell.story("stop") == ["stop C"]
    shell.die("C")
    assert shell.story("stop") == ["stop B", "stop A"]


@pytest.mark.parametrize(
    ("strategy", "together"), [("one_for_one", True), ("rest_for_one", False), ("one_for_all", False)]
)
def test_d9_parallel_stop_is_for_siblings_that_do_not_depend_on_one_another(
    strategy: str, together: bool
) -> None:
    shell = Shell(group("root", "A B", strategy=strategy, parallel_stop=True)).start()
    shell.stubborn = {"A", "B"}
    shell.feed("root", g.Close())
    assert shell.slots() == {"A": "stopping" if together else "up", "B": "stopping"}


def test_c47_start_of_what_runs_and_stop_of_what_is_stopped_change_nothing() -> None:
    shell = Shell(group("root", "A B")).start()
    before = shell.groups["root"]
    shell.tell(g.Start("A"))
    assert shell.groups["root"] == before
    shell.tell(g.Stop("A"))
    before = shell.groups["root"]
    shell.tell(g.Stop("A"))
    assert shell.groups["root"] == before
    shell.feed("root", g.Start("nobody"))
    assert shell.groups["root"] == before


def test_c47_a_start_that_overtakes_a_stop_wins() -> None:
    shell = Shell(group("root", "A B")).start()
    shell.stubborn = {"A"}
    shell.tell(g.Stop("A"))
    shell.tell(g.Start("A"))
    assert shell.slots()["A"] == "stopping"
    shell.die("A")
    assert shell.live["A"] == 2


def test_c48_remove_needs_a_child_without_a_process_and_add_brings_it_back() -> None:
    shell = Shell(group("root", "A B")).start()
    shell.tell(g.Remove("B"))
    assert shell.slots()["B"] == "up"
    shell.tell(g.Stop("B"))
    shell.tell(g.Remove("B"))
    assert shell.slots() == {"A": "up"}
    shell.tell(g.Start("B"))
    assert shell.slots() == {"A": "up"}
    shell.feed("root", g.Add(actor("B", by_hand=True)))
    assert shell.slots() == {"A": "up", "B": "up"}
    assert shell.live["B"] == 2


@pytest.mark.parametrize("slot", ["down", "done", "failed", "ignored", "held", "parked"])
def test_c48_remove_forgets_whatever_has_no_process_and_no_backoff(slot: str) -> None:
    script = {"done": "exit0", "failed": "fatal", "ignored": "ignore", "parked": "fail"}.get(slot, "ready")
    node = group("root", "A", actor("B", restart="transient"), intensity=0, on_limit="park")
    shell = Shell(node, B=script)
    shell.shut = {"B"} if slot == "held" else set()
    shell.start()
    if slot == "down":
        shell.tell(g.Stop("B"))
    assert shell.slots()["B"] == slot
    shell.tell(g.Remove("B"))
    shell.advance(1000.0)
    assert shell.slots() == {"A": "up"}


def test_c48_an_added_child_takes_its_place_and_a_known_name_changes_nothing() -> None:
    shell = Shell(group("root", "A B")).start()
    shell.feed("root", g.Add(actor("X", by_hand=True)))
    shell.feed("root", g.Add(actor("C")))
    shell.feed("root", g.Add(actor("D"), at=1))
    before = shell.groups["root"]
    shell.feed("root", g.Add(actor("A", restart="temporary")))
    assert shell.groups["root"] == before
    assert list(shell.slots()) == ["A", "D", "B", "C", "X"]
    assert set(shell.slots().values()) == {"up"}


@pytest.mark.parametrize("failure", ["fail", "fatal"])
def test_c48_one_added_by_hand_that_cannot_start_is_not_kept(failure: str) -> None:
    shell = Shell(group("root", "A"), X=failure).start()
    shell.feed("root", g.Add(actor("X", by_hand=True)))
    assert shell.slots() == {"A": "up"}
    assert shell.used() == 0


def test_c49_a_start_by_hand_that_fails_leaves_things_as_they_were() -> None:
    shell = Shell(group("root", "A B", strategy="rest_for_one"), A="ready fail").start()
    shell.tell(g.Stop("A"))
    before = shell.groups["root"]
    shell.tell(g.Start("A"))
    shell.advance(1000.0)
    after = shell.groups["root"]
    assert [(c.slot, c.wanted) for c in after.children] == [(c.slot, c.wanted) for c in before.children]
    assert (shell.spawned["A"], shell.used()) == (2, 0)
    assert shell.live == {"B": 1}


def test_c49_a_finished_child_stays_finished_when_its_start_by_hand_fails() -> None:
    shell = Shell(group("root", actor("A", restart="transient")), A="ready fail").start()
    shell.die("A", "normal")
    shell.tell(g.Start("A"))
    child = shell.child("A")
    assert (child.slot, child.wanted) == ("done", True)


def test_c50_the_slots_tell_active_from_the_rest() -> None:
    shell = Shell(group("root", "A B C", group("g")), A="ready fail").start()
    shell.die("A")
    shell.tell(g.Stop("B"))
    assert shell.slots() == {"A": "waiting", "B": "down", "C": "up", "g": "up"}
    assert sum(slot in g.LIVE for slot in shell.slots().values()) == 2


def _gaps(shell: Shell) -> list[float]:
    times = [at for at, word, name in shell.trace if (word, name) == ("spawn", "A")]
    return [round(b - a, 6) for a, b in pairwise(times)]


def test_c52_gaps_grow_to_the_cap_and_a_stable_run_forgets_them() -> None:
    shell = Shell(group("root", "A", intensity=100), A="fail fail fail fail fail fail fail ready").start()
    shell.advance(10.0)
    assert _gaps(shell) == [0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    shell.advance(60.0)
    shell.trace.clear()
    shell.die("A")
    assert shell.story("wait", "spawn") == ["wait A", "spawn A"]


def test_c52_a_run_that_was_not_stable_goes_on_with_the_delays() -> None:
    shell = Shell(group("root", "A", intensity=100)).start()
    for _ in range(4):
        shell.advance(5.0)
        shell.die("A")
    assert shell.instructions[-1] == g.Wait("A", pytest.approx(0.4), 4)


@pytest.mark.parametrize("luck", [0.0, 0.5, 0.999])
def test_c52_jitter_only_lengthens_and_by_no_more_than_it_says(luck: float) -> None:
    rough = Backoff(base_s=0.1, factor=2.0, cap_s=1.0, jitter=0.1)
    shell = Shell(group("root", actor("A", backoff=rough), intensity=100), A="fail")
    shell.luck = luck
    shell.start().advance(20.0)
    for gap, plain in zip(_gaps(shell), [0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0], strict=False):
        assert plain <= gap <= 1.1 * plain + 1e-6


def test_c52_a_group_waits_by_its_own_backoff() -> None:
    slow = Backoff(base_s=3.0, factor=2.0, cap_s=10.0, jitter=0.0)
    inner = group("g", "A", intensity=0, backoff=slow)
    shell = Shell(group("root", inner, intensity=5, period_s=600.0), A="fail").start()
    shell.advance(30.0)
    waits = [item.delay_s for item in shell.instructions if isinstance(item, g.Wait) and item.child == "g"]
    assert waits[:4] == [0.0, 3.0, 6.0, 10.0]
    assert SHARP.base_s not in waits


def test_c53_a_stop_during_backoff_is_at_once_and_nothing_comes_after_it() -> None:
    shell = Shell(group("root", "A B"), A="ready fail").start()
    shell.die("A")
    shell.story()
    shell.tell(g.Stop("A"))
    assert shell.story() == ["down A"]
    shell.feed("root", g.Due("A"))
    shell.advance(1000.0)
    assert shell.story("spawn") == []


def test_a_reset_forgets_failures_and_starts_at_once_what_had_given_up() -> None:
    park = {"intensity": 1, "on_limit": "park", "park_retry_s": 300.0}
    shell = Shell(group("root", "A B C", **park), A="fail fail ready", B="fatal ready").start()
    assert shell.slots() == {"A": "parked", "B": "failed", "C": "up"}
    shell.tell(g.Reset("A"))
    shell.tell(g.Reset("B"))
    assert shell.slots() == {"A": "up", "B": "up", "C": "up"}
    assert (shell.child("A").failures, shell.used()) == (0, 0)


def test_a_reset_leaves_down_what_an_operator_stopped() -> None:
    shell = Shell(group("root", "A"), A="fatal ready").start()
    shell.tell(g.Stop("A"))
    shell.tell(g.Reset("A"))
    assert shell.slots() == {"A": "down"}


def test_those_that_need_a_child_that_failed_for_good_come_back_with_it() -> None:
    shell = Shell(group("root", "A B C", strategy="rest_for_one"), B="fatal fatal ready").start()
    assert shell.slots() == {"A": "up", "B": "failed", "C": "down"}
    shell.tell(g.Start("B"))
    assert shell.slots() == {"A": "up", "B": "failed", "C": "down"}
    shell.tell(g.Start("B"))
    assert shell.slots() == {"A": "up", "B": "up", "C": "up"}


def test_a_restart_by_hand_leaves_the_siblings_alone_unless_it_propagates() -> None:
    shell = Shell(group("root", "A B C", strategy="rest_for_one")).start()
    shell.tell(g.Stop("C"))
    shell.tell(g.Restart("A"))
    assert shell.live == {"A": 2, "B": 1}
    shell.story()
    shell.tell(g.Restart("A", propagate=True))
    assert shell.story(*MOVES) == ["stop B", "stop A", "spawn A", "spawn B"]
    assert shell.used() == 0


def test_a_stop_that_propagates_takes_the_set_down_in_reverse_and_a_start_brings_it_back() -> None:
    shell = Shell(group("root", "A B C", strategy="rest_for_one")).start()
    shell.story()
    shell.tell(g.Stop("B", propagate=True))
    assert shell.story(*MOVES) == ["stop C", "stop B"]
    assert [child.wanted for child in shell.groups["root"].children] == [True, False, False]
    shell.tell(g.Start("B", propagate=True))
    assert shell.story(*MOVES) == ["spawn B", "spawn C"]


def test_a_restart_by_hand_that_cannot_start_is_retried() -> None:
    shell = Shell(group("root", "A"), A="ready fail ready").start()
    shell.tell(g.Restart("A"))
    assert shell.live == {"A": 3}
    assert shell.used() == 1
