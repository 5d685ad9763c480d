"""Commands that change the shape of the tree, send signals, look at it and wait for it."""

import asyncio
import os
import signal

import pytest

from daedalus.kernel.commands import COMMANDS, READS, STREAMS
from daedalus.kernel.spec import GroupSpec
from tests.kernel.control_room import FakeOffice, ask, refusal, tree, within

NESTED = (GroupSpec(name="g"), GroupSpec(name="h", parent="g"))


def test_names_mean_actors_groups_bare_names_patterns_and_all_in_start_order() -> None:
    async def work(office: FakeOffice) -> None:
        async def names(*given: str) -> list[str]:
            return [actor["name"] for actor in (await ask(office, "status", *given))["actors"]]

        assert await names() == ["g/a", "g/b", "h/a", "h/c"]
        assert await names("c", "g/a") == ["g/a", "h/c"]
        assert await names("h") == ["h/a", "h/c"]
        assert await names("g") == ["g/a", "g/b", "h/a", "h/c"]  # what is nested in it too
        assert await names("*/a") == ["g/a", "h/a"]
        assert (await refusal(office, "status", "a")).code == "usage"  # there are two
        assert (await refusal(office, "status", "z*")).code == "not_found"

    within(tree("g/a", "g/b", "h/a", "h/c", groups=NESTED), work)


def test_count_counts_direct_children_as_otp_does() -> None:
    async def work(office: FakeOffice) -> None:
        await ask(office, "stop", "b")
        office.cells["g/c"].script = ["fail", "fail"]
        office.cells["g/c"].end("abnormal", "exit 1")
        while office.cells["g/c"].state != "backoff":
            await office.until_change()
        counts = await COMMANDS["count"](office, {"group": "g"})  # type: ignore[arg-type]
        assert counts == {"specs": 4, "active": 2, "supervisors": 1, "workers": 3}
        assert (await refusal(office, "count", group="nobody")).code == "not_found"

    within(tree("g/a", "g/b", "g/c", "h/d", groups=NESTED), work)


def test_spec_gives_toml_names_and_a_group_ends_when_its_actors_have() -> None:
    async def work(office: FakeOffice) -> None:
        actor = await ask(office, "spec", "a")
        assert (actor["restart"], actor["shutdown_s"], "settings" in actor) == ("permanent", 5.0, False)
        group = await ask(office, "spec", "h")
        assert (group["shutdown_s"], group["strategy"], group["parent"]) == ("infinity", "one_for_one", "g")
        assert (await refusal(office, "spec", "all")).code == "usage"

    within(tree("g/a", "h/b", groups=NESTED), work)


def test_remove_forgets_what_is_down_and_add_brings_it_back() -> None:
    async def work(office: FakeOffice) -> None:
        assert (await refusal(office, "remove", "a")).code == "running"
        await ask(office, "stop", "a", "b")
        assert (await refusal(office, "remove", "a", "c")).code == "running"  # all or none
        assert office.told[-1] == "stop g/a"
        assert await ask(office, "remove", "a", "b") == {"removed": ["g/a", "g/b"]}
        assert (await refusal(office, "start", "a")).code == "not_found"
        added = await COMMANDS["add"](office, {"name": "g/a"})  # type: ignore[arg-type]
        assert [(actor["name"], actor["state"]) for actor in added["actors"]] == [("g/a", "running")]
        assert (await refusal(office, "add", name="g/a")).code == "already_present"

    within(tree("g/a", "g/b", "g/c"), work)


def test_an_actor_that_cannot_be_started_is_not_kept() -> None:
    async def work(office: FakeOffice) -> None:
        office.scripts = ["fail", "fail"]
        for spec in ({"script": ["fail"]}, None):  # by hand, and from the file
            error = await refusal(office, "add", name="g/new", spec=spec)
            assert (error.code, str(error)) == ("failed", "cannot add g/new: exit 1")
            assert list(office.cells) == ["g/a"]
            assert [child.name for child in office.groups["g"].children] == ["g/a"]
        faults = await refusal(office, "add", name="g/new", spec={"bad": 1})
        assert (faults.code, len(str(faults).splitlines())) == ("config", 2)
        for wrong in ({"name": ""}, {"name": 5}, {"name": "g/x", "spec": [1]}):
            assert (await refusal(office, "add", **wrong)).code == "usage"

    within(tree("g/a"), work)


def test_reset_forgets_failures_and_starts_at_once_what_waits() -> None:
    async def work(office: FakeOffice) -> None:
        cell = office.cells["g/a"]
        cell.end("abnormal", "exit 1")
        assert cell.state == "backoff"
        await ask(office, "reset", "g")
        await ask(office, "wait", "a", **{"for": "running"})
        child = office.groups["g"].children[0]
        assert (child.slot, child.failures, cell.generation) == ("up", 0, 2)

    within(tree("g/a"), work)


def test_reload_waits_for_all_groups_and_a_dry_run_for_none() -> None:
    async def work(office: FakeOffice) -> None:
        slow = office.cells["g/a"]
        slow.stops_at_once = False
        stopping = asyncio.create_task(ask(office, "stop", "a"))
        while slow.state != "draining":
            await office.until_change()
        reloading = asyncio.create_task(ask(office, "reload"))
        assert (await ask(office, "reload", dry_run=True))["applied"] is False
        assert not reloading.done()
        slow.go()
        await stopping
        assert (await reloading)["applied"] is True
        assert office.told == ["stop g/a", "reload True", "reload False"]

    within(tree("g/a", "h/b"), work)


def test_reexec_waits_for_what_is_under_way_and_shutdown_for_nothing() -> None:
    async def work(office: FakeOffice) -> None:
        slow = office.cells["g/a"]
        slow.stops_at_once = False
        stopping = asyncio.create_task(ask(office, "stop", "a"))
        leaving = asyncio.create_task(ask(office, "reexec"))
        while slow.state != "draining":
            await office.until_change()
        assert await ask(office, "shutdown") == {"pid": os.getpid()}
        assert office.reexeced == 0
        slow.go()
        await stopping
        assert await leaving == {"pid": os.getpid(), "image": 1}
        assert (office.reexeced, office.told_to_leave) == (1, 1)

    within(tree("g/a"), work)


def test_kill_sends_to_all_or_none_and_knows_signals_by_every_name() -> None:
    async def work(office: FakeOffice) -> None:
        for name in ("SIGUSR1", "usr1", "10", 10):
            assert (await ask(office, "kill", "a", signal=name))["actors"][0]["state"] == "running"
        assert office.cells["g/a"].signals == [signal.SIGUSR1] * 4
        for wrong in ("NOPE", "", None, 0, 99, -9, [1]):
            assert (await refusal(office, "kill", "a", signal=wrong)).code == "usage"
        await ask(office, "stop", "b")
        error = await refusal(office, "kill", "all", signal="HUP")
        assert (error.code, str(error)) == ("failed", "cannot signal g/b: it is stopped")
        assert len(office.cells["g/a"].signals) == 4

    within(tree("g/a", "g/b"), work)


def test_pause_and_resume_are_told_apart_from_stop() -> None:
    async def work(office: FakeOffice) -> None:
        await ask(office, "pause", "a")
        shown = (await ask(office, "status"))["actors"][0]
        assert (shown["state"], shown["substate"], shown["desired"]) == ("running", "paused", "up")
        assert (await ask(office, "pause", "a"))["actors"][0]["note"] == "already paused"
        await ask(office, "resume", "a")
        assert (await ask(office, "resume", "a"))["actors"][0]["note"] == "was not paused"
        assert (await ask(office, "status"))["actors"][0]["substate"] == ""
        office.cells["g/a"].become("starting")
        assert (await refusal(office, "pause", "a")).code == "busy"
        office.cells["g/a"].become("running")
        await ask(office, "stop", "a")
        assert (await refusal(office, "pause", "a")).code == "failed"

    within(tree("g/a"), work)


def test_wait_returns_when_all_are_there_and_names_who_is_late() -> None:
    async def work(office: FakeOffice) -> None:
        waiting = asyncio.create_task(ask(office, "wait", "all", **{"for": "stopped"}))
        await ask(office, "stop", "a")
        assert not waiting.done()
        await ask(office, "stop", "b")
        assert [actor["state"] for actor in (await waiting)["actors"]] == ["stopped", "stopped"]
        error = await refusal(office, "wait", "all", timeout=0)
        assert error.code == "timeout"
        assert "cannot wait for running longer than 0 s: g/a is stopped, g/b is stopped" in str(error)
        assert (await refusal(office, "wait", "a", **{"for": "bliss"})).code == "usage"
        removed = asyncio.create_task(refusal(office, "wait", "a"))
        await asyncio.sleep(0)
        await ask(office, "remove", "a")
        assert (await removed).code == "not_found"

    within(tree("g/a", "g/b"), work)


def test_a_degraded_actor_runs() -> None:
    async def work(office: FakeOffice) -> None:
        office.cells["g/a"].become("degraded")
        assert (await ask(office, "wait", "a"))["actors"][0]["state"] == "degraded"

    within(tree("g/a"), work)


def test_stats_are_what_actors_last_told_of_themselves() -> None:
    async def work(office: FakeOffice) -> None:
        cell = office.cells["g/a"]
        cell.stats, cell.stats_at = {"rows": 5}, asyncio.get_running_loop().time() - 3.0
        told, silent = (await COMMANDS["stats"](office, {"select": ["g"]}))["actors"]  # type: ignore[arg-type]
        assert told | {"age_s": None} == {
            "name": "g/a",
            "role": "foreign",
            "age_s": None,
            "stats": {"rows": 5},
        }
        assert 3.0 <= told["age_s"] < 20.0
        assert (silent["age_s"], silent["stats"]) == (None, None)
        judged = await ask(office, "health")
        assert judged["ok"] is True

    within(tree("g/a", "g/b"), work)


def test_every_command_of_the_wire_is_there_and_reads_change_nothing() -> None:
    assert set(COMMANDS) | set(STREAMS) == {
        *("status", "start", "stop", "restart", "drain", "kill", "pause", "resume", "rolling-restart"),
        *("reload", "add", "remove", "reset", "spec", "count", "wait", "shutdown", "reexec", "events"),
        *("logs", "stats", "health"),
    }
    assert {"status", "events", "logs", "count", "spec", "stats", "health", "wait"} == READS


@pytest.mark.parametrize("cmd", sorted(set(COMMANDS) - READS - {"shutdown", "reexec", "reload", "add"}))
def test_every_operation_refuses_to_act_on_nothing(cmd: str) -> None:
    async def work(office: FakeOffice) -> None:
        assert (await refusal(office, cmd, signal="HUP")).code == "usage"

    within(tree("g/a"), work)
