"""Start, stop, restart and drain: OTP's results, in order, and whatever was asked once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from daedalus.kernel import spec
from daedalus.kernel.commands import COMMANDS
from daedalus.kernel.commands import operate as module
from daedalus.kernel.errors import ControlError
from daedalus.kernel.spec import GroupSpec
from tests.kernel.control_room import FakeOffice, ask, refusal, tree, within

Work = Callable[[FakeOffice], Awaitable[Any]]


def test_stop_goes_last_started_first_and_start_the_other_way() -> None:
    async def work(office: FakeOffice) -> None:
        stopped = await ask(office, "stop", "all")
        assert [actor["name"] for actor in stopped["actors"]] == ["h/c", "g/b", "g/a"]
        assert office.told == ["stop h/c", "stop g/b", "stop g/a"]
        assert {actor["state"] for actor in stopped["actors"]} == {"stopped"}
        office.told.clear()
        started = await ask(office, "start", "all")
        assert office.told == ["start g/a", "start g/b", "start h/c"]
        assert [(actor["state"], actor["generation"]) for actor in started["actors"]] == [("running", 2)] * 3

    within(tree("g/a", "g/b", "h/c"), work)


def test_stop_of_what_is_down_is_no_error_and_start_of_what_is_up_only_when_strict() -> None:
    async def work(office: FakeOffice) -> None:
        assert (await ask(office, "start", "a"))["actors"][0]["note"] == "already running"
        assert (await refusal(office, "start", "a", strict=True)).code == "running"
        await ask(office, "stop", "a")
        assert (await ask(office, "stop", "a"))["actors"][0]["note"] == "already stopped"
        assert (await refusal(office, "start", "nobody")).code == "not_found"
        assert (await refusal(office, "stop")).code == "usage"

    within(tree("g/a"), work)


def test_a_start_that_fails_leaves_the_actor_as_it_was_and_is_not_retried() -> None:
    async def work(office: FakeOffice) -> None:
        await ask(office, "stop", "a")
        office.cells["g/a"].script = ["fail"]
        error = await refusal(office, "start", "a")
        assert (error.code, str(error), error.actor) == ("failed", "cannot start g/a: exit 1", "g/a")
        assert office.cells["g/a"].state == "stopped"
        assert office.groups["g"].window == ()

    within(tree("g/a"), work)


def test_an_actor_in_a_retry_loop_refuses_start_and_remove_and_obeys_stop() -> None:
    async def work(office: FakeOffice) -> None:
        office.cells["g/b"].script = ["fail", "fail"]
        office.cells["g/b"].end("abnormal", "exit 1")
        while office.cells["g/b"].state != "backoff":
            await office.until_change()
        assert (await refusal(office, "start", "b")).code == "restarting"
        assert (await refusal(office, "remove", "b")).code == "restarting"
        stopped = await ask(office, "stop", "b")
        assert stopped["actors"] == [{"name": "g/b", "state": "stopped", "pid": None, "generation": 1}]
        assert office.cells["g/a"].generation == 1

    within(tree("g/a", "g/b", "g/c", groups=(GroupSpec(name="g", strategy="rest_for_one"),)), work)


def test_restart_is_a_stop_and_a_start_and_starts_what_is_down() -> None:
    async def work(office: FakeOffice) -> None:
        await ask(office, "stop", "b")
        office.told.clear()
        done = await ask(office, "restart", "a", "b")
        assert office.told == ["stop g/a", "start g/a", "start g/b"]
        assert [(actor["state"], actor["generation"]) for actor in done["actors"]] == [("running", 2)] * 2
        assert office.groups["g"].window == ()

    within(tree("g/a", "g/b"), work)


def test_a_restart_that_fails_leaves_backoff_and_says_why() -> None:
    async def work(office: FakeOffice) -> None:
        office.cells["g/a"].script = ["fail", "fail", "fail"]
        error = await refusal(office, "restart", "a")
        assert (error.code, str(error)) == ("failed", "cannot start g/a: exit 1")
        assert office.cells["g/a"].state == "backoff"

    within(tree("g/a"), work)


def test_a_held_actor_answers_at_once_with_its_gate() -> None:
    async def work(office: FakeOffice) -> None:
        await ask(office, "stop", "a")
        office.cells["g/a"].script = ["gate", "gate"]
        assert (await ask(office, "start", "a"))["actors"][0]["note"] == "waits for time-sync"
        assert (await ask(office, "start", "a"))["actors"][0]["state"] == "held"

    within(tree("g/a"), work)


def test_drain_tells_what_was_left_and_what_was_brought_home() -> None:
    async def work(office: FakeOffice) -> None:
        office.cells["g/a"].drains = None
        done = await ask(office, "drain", "a", "b")
        assert [(actor["in_flight"], actor["flushed"]) for actor in done["actors"]] == [(0, 7), (None, None)]
        again = await ask(office, "drain", "b")
        assert (again["actors"][0]["note"], again["actors"][0]["flushed"]) == ("already stopped", None)

    within(tree("g/a", "g/b"), work)


def test_what_does_not_drain_in_time_fails_and_the_others_are_drained_all_the_same() -> None:
    async def work(office: FakeOffice) -> None:
        slow = office.cells["g/b"]
        slow.stops_at_once = False
        draining = asyncio.create_task(refusal(office, "drain", "all"))
        while slow.state != "draining":
            await office.until_change()
        slow.drain_timed_out, slow.drains = True, None
        slow.go()
        error = await draining
        assert error.code == "failed"
        assert str(error) == "cannot drain g/b within 1 s: it was stopped all the same"
        assert [cell.state for cell in office.cells.values()] == ["stopped", "stopped"]

    within(tree("g/a", "g/b"), work)


def test_a_stop_waits_for_as_long_as_the_specification_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(office: FakeOffice) -> None:
        cell = office.cells["g/a"]
        monkeypatch.setattr(spec, "KILL_GRACE_S", 0.0)
        monkeypatch.setattr(module, "_MARGIN_S", 0.01)
        cell.stops_at_once = False
        error = await refusal(office, "stop", "a")
        assert (error.code, str(error)) == (
            *("timeout",),
            "cannot wait for g/a any longer: draining after 0.01 s",
        )

    within(tree("g/a", drain_s=0.0, shutdown_s="brutal_kill"), work)
    within(tree("g/a", shutdown_s="infinity"), _is_never_cut_short)


async def _is_never_cut_short(office: FakeOffice) -> None:
    assert module.stop_bound_s(office.cells["g/a"]) == float("inf")  # type: ignore[arg-type]
    assert (await ask(office, "stop", "a"))["actors"][0]["state"] == "stopped"


def test_operations_on_one_group_are_done_one_after_the_other_in_the_order_they_came() -> None:
    async def work(office: FakeOffice) -> None:
        slow = office.cells["g/a"]
        slow.stops_at_once = False
        first = asyncio.create_task(ask(office, "stop", "a"))
        while slow.state != "draining":
            await office.until_change()
        second = asyncio.create_task(ask(office, "start", "a"))
        third = asyncio.create_task(ask(office, "stop", "b"))
        elsewhere = await ask(office, "stop", "c")
        assert elsewhere["actors"][0]["state"] == "stopped"
        assert office.told == ["stop g/a", "stop h/c"]
        slow.go()
        await asyncio.gather(first, second, third)
        assert office.told == ["stop g/a", "stop h/c", "start g/a", "stop g/b"]

    within(tree("g/a", "g/b", "h/c"), work)


def test_the_queue_of_a_group_is_bounded_and_reads_never_wait_in_it() -> None:
    async def work(office: FakeOffice) -> None:
        slow = office.cells["g/a"]
        slow.stops_at_once = False
        tasks = [asyncio.create_task(ask(office, "stop", "a")) for _ in range(65)]
        await asyncio.sleep(0)
        error = await refusal(office, "stop", "all")
        assert error.code == "busy"
        assert str(error) == "cannot queue another operation on group g: 64 are waiting"
        document = await ask(office, "status")
        assert document["supervisor"]["op_queue"] == {"g": 65}  # nothing of the refused one is left in h
        assert (await ask(office, "kill", "a", signal="USR1"))["actors"][0]["state"] == "draining"
        slow.go()
        await asyncio.gather(*tasks)
        assert (await ask(office, "status"))["supervisor"]["op_queue"] == {}

    within(tree("g/a", "h/b"), work)


def test_propagation_lets_the_strategy_follow_and_is_not_the_default() -> None:
    of = tree("g/a", "g/b", "g/c", groups=(GroupSpec(name="g", strategy="one_for_all"),))

    async def alone(office: FakeOffice) -> None:
        await ask(office, "restart", "b")
        assert [cell.generation for cell in office.cells.values()] == [1, 2, 1]

    async def together(office: FakeOffice) -> None:
        await ask(office, "restart", "b", propagate=True)
        assert [cell.generation for cell in office.cells.values()] == [2, 2, 2]
        assert {cell.state for cell in office.cells.values()} == {"running"}

    within(of, alone)
    within(of, together)


def test_a_rolling_restart_goes_backwards_and_waits_for_each_to_prove_itself() -> None:
    async def work(office: FakeOffice) -> None:
        await ask(office, "stop", "b")
        office.told.clear()
        done = await ask(office, "rolling-restart", "g", min_healthy_s=0.01)
        assert office.told == ["stop g/c", "start g/c", "stop g/a", "start g/a"]
        notes = {actor["name"]: actor.get("note") for actor in done["actors"]}
        assert notes == {"g/c": None, "g/b": "down on purpose: left alone", "g/a": None}

    within(tree("g/a", "g/b", "g/c"), work)


def test_a_rolling_restart_ends_at_the_first_failure() -> None:
    async def work(office: FakeOffice) -> None:
        office.cells["g/b"].script = ["fail"]
        error = await refusal(office, "rolling-restart", "g", min_healthy_s=0.0)
        assert (error.code, str(error)) == ("failed", "cannot start g/b: exit 1; 1 actors left untouched")
        assert [cell.generation for cell in office.cells.values()] == [1, 2, 2]

    within(tree("g/a", "g/b", "g/c"), work)


def test_a_rolling_restart_does_not_go_on_from_one_that_dies_young() -> None:
    async def work(office: FakeOffice) -> None:
        rolling = asyncio.create_task(refusal(office, "rolling-restart", "g", min_healthy_s=60.0))
        young = office.cells["g/b"]
        while not (young.generation == 2 and young.state == "running"):
            await office.until_change()
        young.end("abnormal", "exit 3")
        error = await rolling
        assert error.code == "failed"
        assert "cannot roll on: g/b did not run for 60 s: exit 3" in str(error)
        assert office.cells["g/a"].generation == 1

    within(tree("g/a", "g/b"), work)


def test_the_instances_of_a_template_stop_together() -> None:
    async def work(office: FakeOffice) -> None:
        for cell in office.cells.values():
            cell.stops_at_once = False
        stopping = asyncio.create_task(ask(office, "stop", "pool/w"))
        while office.told != ["stop pool/w@2", "stop pool/w@1"]:
            await office.until_change()
        for cell in office.cells.values():
            cell.go()
        await stopping
        assert (await ask(office, "start", "w@1"))["actors"][0]["state"] == "running"
        for name in ("pool/w", "w", "pool", "w@2"):
            assert (await refusal(office, "remove", name)).code == "usage"

    within(
        tree("pool/w@1", "pool/w@2", groups=(GroupSpec(name="pool", strategy="simple_one_for_one"),)), work
    )


def test_a_group_that_is_down_is_started_by_its_name() -> None:
    of = tree("g/a", "g/b", groups=(GroupSpec(name="g", intensity=0, restart="transient"),))

    async def work(office: FakeOffice) -> None:
        office.cells["g/a"].end("abnormal", "exit 1")
        while office.groups["g"].phase != "down":
            await office.until_change()
        error = await refusal(office, "start", "a")
        assert (error.code, str(error)) == ("busy", "cannot start g/a: its group g is down")
        office.told.clear()
        done = await ask(office, "start", "g")
        assert office.told == ["start g/a", "start g/b"]
        assert [actor["state"] for actor in done["actors"]] == ["running", "running"]

    within(of, work)


def test_nothing_is_started_in_a_tree_that_is_being_stopped() -> None:
    async def work(office: FakeOffice) -> None:
        office.state = "stopping"
        for cmd in ("start", "restart", "rolling-restart", "reset", "reload", "reexec"):
            assert (await refusal(office, cmd, "a")).code == "busy"

    within(tree("g/a"), work)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"actors": "a"}, "'a' is not a list of names"),
        ({"actors": [1]}, "is not a list of names"),
        ({"actors": ["x" * 300]}, "a name of 300 characters, at most 255"),
        ({"actors": ["a"], "min_healthy_s": -1}, "min_healthy_s -1"),
        ({"actors": ["a"], "min_healthy_s": "soon"}, "min_healthy_s 'soon'"),
    ],
)
def test_arguments_of_another_kind_are_usage_errors(args: dict[str, Any], words: str) -> None:
    async def work(office: FakeOffice) -> None:
        with pytest.raises(ControlError, match=words) as caught:
            await COMMANDS["rolling-restart"](office, args)  # type: ignore[arg-type]
        assert caught.value.code == "usage"

    within(tree("g/a"), work)
