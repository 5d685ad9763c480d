"""The status document: every field of the contract, what each state looks like, and what it costs."""

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from daedalus.kernel import status
from daedalus.kernel.lifecycle import STATES
from daedalus.kernel.spec import GroupSpec
from tests.kernel.control_room import FakeOffice, tree, within

SUPERVISOR = {
    *("pid", "version", "image", "uptime_s", "config_hash", "config_path", "runtime", "data", "state"),
    *("loop_lag_ms", "op_queue", "zygotes", "orphans_reaped", "foreign_datagrams", "log_dropped", "host"),
}
ACTOR = {
    *("name", "parent", "type", "role", "state", "substate", "desired", "pid", "generation", "started_at"),
    *("uptime_s", "ready", "restarts", "flapping", "backoff", "cpu_pct", "mem", "cpus", "mailbox"),
    *("beat_age_s", "fds", "threads", "status_text", "last_exit", "log_lines", "log_dropped", "spec_hash"),
}
GROUP = {
    *("name", "parent", "state", "substate", "desired", "strategy", "intensity", "period", "window_used"),
    "on_limit",
}


def document(office: FakeOffice, op_queue: dict[str, int] | None = None) -> dict[str, Any]:
    return status.document(office, list(office.cells.values()), op_queue or {})  # type: ignore[arg-type]


def actor(office: FakeOffice, name: str = "g/a") -> dict[str, Any]:
    return next(item for item in document(office)["actors"] if item["name"] == name)


def group(office: FakeOffice, name: str = "g") -> tuple[str, str, str]:
    found = next(item for item in document(office)["groups"] if item["name"] == name)
    return found["state"], found["substate"], found["desired"]


def test_the_document_has_the_fields_of_the_contract_and_is_json() -> None:
    async def work(office: FakeOffice) -> None:
        found = document(office, {"g": 3})
        assert set(found) == {"v", "ts", "supervisor", "actors", "groups"}
        assert set(found["supervisor"]) == SUPERVISOR
        assert found["supervisor"]["op_queue"] == {"g": 3}
        assert found["supervisor"]["zygotes"] == [{"name": "light", "pid": 17}]
        assert set(found["supervisor"]["host"]) == {"load_1m", "temperature_c", "clock_synced"}
        assert set(found["actors"][0]) == ACTOR
        assert set(found["actors"][0]["restarts"]) == {"total", "window", "last_1h"}
        assert set(found["actors"][0]["backoff"]) == {"k", "next_in_s"}
        assert set(found["actors"][0]["mem"]) == {"anon", "warn", "soft", "hard"}
        assert set(found["groups"][0]) == GROUP
        assert msgspec.json.decode(msgspec.json.encode(found)) == found

    within(tree("g/a"), work)


@pytest.mark.parametrize("state", STATES)
def test_every_state_can_be_shown(state: str) -> None:
    async def work(office: FakeOffice) -> None:
        office.cells["g/a"].state = state
        office.cells["g/a"].pid = None if state in ("stopped", "held", "backoff", "failed") else os.getpid()
        shown = actor(office)
        assert (shown["state"], set(shown)) == (state, ACTOR)

    within(tree("g/a"), work)


def test_without_a_process_what_is_unknown_is_null_and_not_zero() -> None:
    async def work(office: FakeOffice) -> None:
        office.cells["g/a"].pid = None
        shown = actor(office)
        for key in ("pid", "cpu_pct", "mailbox", "beat_age_s", "fds", "threads", "uptime_s", "started_at"):
            assert shown[key] is None, key
        assert shown["mem"] == {"anon": None, "warn": None, "soft": None, "hard": None}

    within(tree("g/a"), work)


def test_substates_tell_paused_from_stopped_and_name_the_shut_gates() -> None:
    async def work(office: FakeOffice) -> None:
        cell = office.cells["g/a"]
        cell.paused = True
        assert actor(office)["substate"] == "stopped"
        cell.suspended = True
        assert actor(office)["substate"] == "paused"
        cell.suspended = cell.paused = False
        cell.state, cell.shut_gates = "held", ("time-sync", "net:default-route")
        assert actor(office)["substate"] == "gate time-sync, net:default-route"
        cell.state, cell.substate = "degraded", "memory"
        assert actor(office)["substate"] == "memory"

    within(tree("g/a"), work)


def test_descriptors_and_threads_are_counted_for_the_process_there_is() -> None:
    async def work(office: FakeOffice) -> None:
        office.cells["g/a"].pid = os.getpid()
        before = actor(office)
        assert before["fds"] >= len({0, 1, 2})
        assert before["threads"] >= 1
        office.cells["g/a"].pid = None
        assert actor(office)["fds"] is None

    within(tree("g/a"), work)


def test_where_the_kernel_does_not_count_descriptors_they_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = len(os.listdir(f"/proc/{os.getpid()}/fd"))  # noqa: PTH208
    old = SimpleNamespace(stat=lambda _: os.stat_result([0] * 10), listdir=os.listdir)
    monkeypatch.setattr(status, "os", old)
    assert status._fds(os.getpid()) in (listed, listed + 1)  # the listing itself is one
    monkeypatch.undo()
    assert status._fds(1 << 30) is None
    assert status._threads(1 << 30) is None


def test_asking_often_reads_proc_once_in_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(office: FakeOffice) -> None:
        asked: list[str] = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(status, "_fds", lambda _: asked.append("fds"))
        monkeypatch.setattr(status, "_threads", lambda _: asked.append("threads"))
        monkeypatch.setattr(status.timesync, "is_synchronized", lambda: asked.append("clock"))
        monkeypatch.setattr(status, "_HOST", status._Host())
        now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: now)
        for _ in range(100):
            document(office)
        assert sorted(asked) == ["clock", "fds", "fds", "threads", "threads"]
        now += 2.0
        document(office)
        assert len(asked) == 10
        office.cells["g/a"].pid = 77  # another process
        document(office)
        assert sorted(asked[10:]) == ["fds", "threads"]

    within(tree("g/a", "g/b"), work)


def test_the_hash_changes_with_the_specification_alone() -> None:
    async def work(office: FakeOffice) -> None:
        before = actor(office)["spec_hash"]
        cell = office.cells["g/a"]
        cell.state = "failed"
        assert actor(office)["spec_hash"] == before
        cell.spec = replace(cell.spec, shutdown_s=6.0)
        assert actor(office)["spec_hash"] != before
        cell.spec = replace(cell.spec, shutdown_s=5.0)
        assert actor(office)["spec_hash"] == before

    within(tree("g/a"), work)


def test_groups_show_failed_with_its_reason_parked_backoff_and_done() -> None:
    transient = GroupSpec(name="g", intensity=0, restart="transient")

    async def given_up(office: FakeOffice) -> None:
        assert group(office) == ("running", "", "up")
        office.cells["g/a"].end("abnormal", "exit 1")
        assert group(office) == ("failed", "intensity", "up")
        assert actor(office)["state"] == "stopped"

    async def done(office: FakeOffice) -> None:
        office.cells["g/a"].end("normal", "exit 0")
        assert group(office) == ("done", "", "up")

    async def parked(office: FakeOffice) -> None:
        office.cells["g/a"].end("abnormal", "exit 1")
        assert group(office) == ("failed", "parked", "up")

    async def waiting(office: FakeOffice) -> None:
        office.cells["g/a"].end("abnormal", "exit 1")
        assert group(office) == ("backoff", "", "up")

    within(tree("g/a", groups=(transient,)), given_up)
    over = GroupSpec(name="g", auto_shutdown="any_significant", restart="transient")
    within(tree("g/a", groups=(over,), restart="transient", significant=True), done)
    gives_up = GroupSpec(name="g", intensity=0)
    root = GroupSpec(name="root", parent=None, intensity=0, on_limit="park")
    within(tree("g/a", groups=(root, gives_up)), parked)
    within(tree("g/a", groups=(gives_up,)), waiting)


def test_an_actor_that_restarts_ten_times_an_hour_is_flapping() -> None:
    async def work(office: FakeOffice) -> None:
        office.cells["g/a"].restarts = 9
        assert actor(office)["flapping"] is False
        office.cells["g/a"].restarts = 10
        assert actor(office)["flapping"] is True

    within(tree("g/a"), work)
