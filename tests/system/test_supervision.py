"""The supervisor as a black box: real processes, seen through daedalus-ctl, a trace file and /proc."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daedalus.kernel.spec import ActorSpec
from tests.system.probe_tree import ProbeTree, alive, probe

pytestmark = pytest.mark.system


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[ProbeTree]:
    running = ProbeTree(tmp_path)
    yield running
    running.close()


def test_actors_start_in_order_and_stop_in_reverse(tree: ProbeTree) -> None:
    tree.start(
        probe("g/a", tree.trace, ready_after_s=0.2), probe("g/b", tree.trace), probe("g/c", tree.trace)
    )
    tree.until_running("g/a", "g/b", "g/c")
    assert tree.stop() == 0
    story = [(name, event) for _, name, _, _, event in tree.traced()]
    assert story[:6] == [(f"g/{name}", event) for name in "abc" for event in ("start", "ready")]
    assert [name for name, event in story if event == "drain"] == ["g/c", "g/b", "g/a"]
    assert tree.left() == []
    assert sorted(path.name for path in tree.runtime.iterdir()) == ["lock"]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_what_dies_is_started_again_and_its_sibling_is_left_alone(
    tree: ProbeTree, number: signal.Signals
) -> None:
    tree.start(probe("g/a", tree.trace), probe("g/b", tree.trace))
    before = tree.until_running("g/a", "g/b")
    os.kill(before["g/a"]["pid"], number)
    tree.until("generation 2", lambda: tree.actor("g/a").get("generation") == 2)
    after = tree.until_running("g/a", "g/b")
    assert after["g/b"]["pid"] == before["g/b"]["pid"]
    last = after["g/a"]["last_exit"]
    # Told to go by SIGTERM a probe leaves with 0: nobody asked the supervisor, so it comes back.
    assert last["signal"] == (None if number == signal.SIGTERM else number.name)
    assert after["g/a"]["restarts"]["total"] == 1
    kinds = [event["type"] for event in tree.events("exit", "restart_scheduled", "spawn", "ready")]
    assert kinds[-4:] == ["exit", "restart_scheduled", "spawn", "ready"]
    numbers = [event["seq"] for event in tree.events()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_zygotes_killed_at_any_time_cost_no_actor_and_no_start(tree: ProbeTree) -> None:
    names = [f"g/p{number}" for number in range(4)]
    tree.start(*(probe(name, tree.trace) for name in names), intensity=100)
    before = tree.until_running(*names)
    for round_ in range(4):
        for victim in names[:2]:
            pid = tree.until(f"a process of {victim}", lambda name=victim: tree.actor(name).get("pid"))
            os.kill(pid, signal.SIGKILL)
            for zygote in tree.status()["supervisor"]["zygotes"]:
                if zygote["pid"]:
                    os.kill(zygote["pid"], signal.SIGKILL)
            time.sleep(0.01 * round_)
    after = tree.until("all back", lambda: _all_back(tree, names))
    for name in names[2:]:
        assert after[name]["pid"] == before[name]["pid"]
    # One killed before it could note anything leaves no trace, but no generation ever has two processes.
    born = {(name, generation, pid) for _, name, generation, pid, _ in tree.traced()}
    assert len(born) == len({(name, generation) for name, generation, _ in born})
    tree.until("zygote back", lambda: all(item["pid"] for item in tree.status()["supervisor"]["zygotes"]))
    assert tree.stop() == 0
    assert tree.left() == []


def _all_back(tree: ProbeTree, names: list[str]) -> dict[str, dict[str, object]] | None:
    found = {item["name"]: item for item in tree.status()["actors"]}
    ready = all(found.get(name, {}).get("state") == "running" for name in names)
    return found if ready and all(found[name]["generation"] == 5 for name in names[:2]) else None


def test_nothing_outlives_a_killed_supervisor_by_3_s_and_the_next_start_is_clean(tree: ProbeTree) -> None:
    quiet = {"heartbeat_timeout_s": 0.0, "drain_s": 60.0}
    tree.start(
        probe("g/drains", tree.trace, quiet, drain_takes_s=60.0, fork="plain"),
        probe("g/closes", tree.trace, quiet, stop_takes_s=60.0),
        probe("g/hangs", tree.trace, quiet, hang_after_s=0.0, fork="plain"),
        probe("g/deaf", tree.trace, quiet, ignore_term=True),
        probe("g/stopped", tree.trace, quiet),
    )
    names = [f"g/{name}" for name in ("drains", "closes", "hangs", "deaf", "stopped")]
    first = tree.until_running(*names)
    os.kill(first["g/stopped"]["pid"], signal.SIGSTOP)
    zygotes = [item["pid"] for item in tree.status()["supervisor"]["zygotes"]]
    assert len(tree.left()) == 7  # with two grandchildren
    assert tree.process is not None
    tree.process.kill()
    tree.process.wait()
    tree.until("all gone", lambda: not tree.left() and not any(map(alive, zygotes)), 3.0)
    story = [(name, event) for _, name, _, _, event in tree.traced()]
    assert ("g/stopped", "drain") in story  # the kernel woke it, and it left in good order
    assert ("g/hangs", "drain") not in story
    tree.start(probe("g/drains", tree.trace))
    tree.until_running("g/drains")
    assert tree.stop() == 0
    assert tree.left() == []


def test_a_second_start_leaves_with_6_and_names_the_first(tree: ProbeTree) -> None:
    tree.start(probe("g/a", tree.trace))
    before = tree.until_running("g/a")
    first, pid = tree.process, tree.status()["supervisor"]["pid"]
    tree.run(tree.directory / "tree.json")
    assert tree.process is not None
    assert tree.process.wait(timeout=20) == 6
    assert f"pid {pid}" in tree.stderr.read_text()
    tree.process = first
    assert tree.until_running("g/a")["g/a"]["pid"] == before["g/a"]["pid"]


def test_a_hung_actor_is_killed_and_started_again(tree: ProbeTree) -> None:
    tree.start(probe("g/a", tree.trace, {"heartbeat_timeout_s": 0.6}, hang_after_s=0.3))
    tree.until("hang verdict", lambda: (tree.actor("g/a").get("last_exit") or {}).get("class") == "hung")
    assert tree.events("hang")[0]["beat_age_s"] >= 0.6


def test_a_supervisor_that_was_away_blames_no_actor(tree: ProbeTree) -> None:
    tree.start(probe("g/a", tree.trace, {"heartbeat_timeout_s": 0.8}))
    before = tree.until_running("g/a")
    assert tree.process is not None
    tree.process.send_signal(signal.SIGSTOP)
    time.sleep(2.4)
    tree.process.send_signal(signal.SIGCONT)
    time.sleep(0.6)
    assert tree.until_running("g/a")["g/a"]["pid"] == before["g/a"]["pid"]


def test_a_stopped_process_shows_as_such_and_still_stops(tree: ProbeTree) -> None:
    tree.start(probe("g/a", tree.trace, {"heartbeat_timeout_s": 30.0}))
    pid = tree.until_running("g/a")["g/a"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    tree.until("substate", lambda: tree.actor("g/a")["substate"] == "stopped", 2.0)
    started = time.monotonic()
    assert tree.ctl("stop", "a").returncode == 0
    assert time.monotonic() - started < 3.0
    assert tree.actor("g/a")["state"] == "stopped"
    assert tree.ctl("status").returncode == 0  # on purpose


def test_one_that_ignores_sigterm_is_killed_within_its_bound(tree: ProbeTree) -> None:
    tree.start(probe("g/a", tree.trace), probe("g/b", tree.trace, ignore_term=True))
    tree.until_running("g/a", "g/b")
    started = time.monotonic()
    assert tree.stop() == 0
    assert 1.4 < time.monotonic() - started < 4.0
    assert '"event": "actor_shutdown_error"' in tree.stderr.read_text()
    assert tree.left() == []


def test_a_crash_loop_is_parked_and_its_sibling_lives(tree: ProbeTree) -> None:
    tree.start(
        probe("g/a", tree.trace, exit_after_s=0.0, exit_code=3),
        probe("g/b", tree.trace),
        intensity=2, period_s=60, on_limit="park", park_retry_s=300,
    )  # fmt: skip
    tree.until("parked", lambda: tree.actor("g/a").get("substate") == "parked")
    shown = tree.actor("g/a")
    assert (shown["state"], shown["generation"], shown["last_exit"]["message"]) == ("failed", 3, "exit 3")
    assert tree.until_running("g/b")
    assert tree.ctl("status").returncode == 3
    assert tree.stop() == 0


def test_a_failed_first_start_is_retried_and_holds_up_the_next(tree: ProbeTree) -> None:
    tree.start(probe("g/a", tree.trace, fail_starts=1), probe("g/b", tree.trace))
    tree.until_running("g/a", "g/b")
    story = [(name, generation, event) for _, name, generation, _, event in tree.traced()]
    expected = [
        ("g/a", 1, "start"),
        ("g/a", 1, "stop"),
        ("g/a", 2, "start"),
        ("g/a", 2, "ready"),
        ("g/b", 1, "start"),
    ]
    assert story[:5] == expected
    assert "told to fail" in tree.actor("g/a")["last_exit"]["stderr_tail"][0]


def test_a_start_that_keeps_failing_never_darkens_the_device(tree: ProbeTree) -> None:
    tree.start(
        probe("g/a", tree.trace, {"start_timeout_s": 0.5}, fail_starts=1000),
        probe("g/b", tree.trace),
        intensity=1000,
    )
    tree.until_running("g/b")


def test_a_strict_group_whose_start_fails_names_the_child_and_is_gone_when_temporary(tree: ProbeTree) -> None:
    tree.start(probe("g/a", tree.trace), probe("g/b", tree.trace, fail_starts=9), start_failure="abort",
               restart="temporary")  # fmt: skip
    tree.until("the words", lambda: '"event": "actor_failed_to_start_child"' in tree.stderr.read_text())
    assert [event["actor"] for event in tree.events("failed_to_start_child")] == ["g/b"]
    tree.until("the end of the group", lambda: [item["name"] for item in tree.status()["groups"]] == ["root"])
    assert tree.actor("g/a") == {}
    assert tree.stop() == 0


@pytest.mark.parametrize("fork", ["plain", "setsid"])
def test_grandchildren_go_before_the_next_generation_comes(tree: ProbeTree, fork: str) -> None:
    tree.start(probe("g/a", tree.trace, fork=fork))
    pid = tree.until_running("g/a")["g/a"]["pid"]
    grandchild = next(int(event.split()[1]) for *_, event in tree.traced() if event.startswith("forked"))
    os.kill(pid, signal.SIGKILL)
    tree.until("generation 2", lambda: tree.actor("g/a").get("generation") == 2)
    assert not Path(f"/proc/{grandchild}").exists()
    tree.until_running("g/a")
    assert tree.stop() == 0
    assert tree.left() == []


def test_a_foreign_program_runs_and_a_missing_one_fails_for_good(tree: ProbeTree) -> None:
    options = {"ready": "spawn", "heartbeat_timeout_s": 0.0, "group": "g"}
    script = 'echo "$DAEDALUS_ACTOR $DAEDALUS_GENERATION"; exec sleep 300'
    tree.start(
        ActorSpec(name="g/sh", command=("/bin/sh", "-c", script), cwd="/", cpus=(0,), **options),
        ActorSpec(name="g/none", command=("/no/such/program",), **options),
        ActorSpec(name="g/after", command=("/bin/sleep", "300"), **options),
    )
    tree.until("failed", lambda: tree.actor("g/none").get("state") == "failed")
    shown = tree.until_running("g/sh", "g/after")
    assert shown["g/none"]["last_exit"]["message"] == "ENOENT: /no/such/program"
    assert Path(f"/proc/{shown['g/sh']['pid']}/cwd").readlink() == Path("/")
    assert os.sched_getaffinity(shown["g/sh"]["pid"]) == {min(os.sched_getaffinity(0))}
    assert "g/sh 1" in tree.until("a line", lambda: tree.ctl("logs", "sh").stdout)
    assert tree.stop() == 0
    assert not Path(f"/proc/{shown['g/sh']['pid']}").exists()


def test_memory_over_the_hard_limit_is_killed_over_the_soft_one_drained(tree: ProbeTree) -> None:
    hard = {"memory_soft": 200 << 20, "memory_hard": 100 << 20}
    soft = {"memory_soft": 100 << 20, "memory_hard": 900 << 20}
    tree.start(
        probe("g/hard", tree.trace, hard, alloc_mib=120), probe("g/soft", tree.trace, soft, alloc_mib=120)
    )
    tree.until_running("g/hard", "g/soft")
    tree.until(
        "soft", lambda: (tree.actor("g/soft").get("last_exit") or {}).get("message") == "memory soft", 20.0
    )
    assert tree.actor("g/soft")["last_exit"]["class"] == "memory"
    assert tree.actor("g/hard")["last_exit"]["message"] == "memory hard"
    scheduled = {event["actor"] for event in tree.events("restart_scheduled")}
    assert scheduled == {"g/hard"}  # the soft one is planned and not counted


def test_ctl_restarts_starts_and_counts(tree: ProbeTree) -> None:
    tree.start(probe("g/a", tree.trace), probe("g/b", tree.trace))
    before = tree.until_running("g/a", "g/b")
    assert tree.ctl("restart", "g/a").returncode == 0
    after = tree.status()["actors"][0]
    assert (after["generation"], after["state"], after["restarts"]["window"]) == (2, "running", 0)
    assert after["pid"] != before["g/a"]["pid"]
    assert tree.ctl("start", "a").returncode == 0
    assert tree.ctl("start", "a", "--strict").returncode == 6
    assert tree.ctl("restart", "nobody").returncode == 4
    assert tree.ctl("count", "g").stdout == "specs=2 active=2 supervisors=0 workers=2\n"
    assert tree.ctl("--json", "stop", "nobody").stderr.startswith(
        '{"ok": false, "error": {"code": "not_found"'
    )
    assert tree.ctl("shutdown").returncode == 0
    assert tree.process is not None
    assert tree.process.wait(timeout=10) == 0
    assert tree.ctl("status").returncode == 7


def test_duration_ends_the_tree_in_good_order(tree: ProbeTree) -> None:
    tree.start(probe("g/a", tree.trace), duration_s=1.0)
    assert tree.process is not None
    assert tree.process.wait(timeout=15) == 0
    assert [event for *_, event in tree.traced()] == ["start", "ready", "drain", "stop"]


def test_a_third_sigterm_kills_all_restarts_nothing_and_exits_1(tree: ProbeTree) -> None:
    slow = {"drain_s": 30.0, "shutdown_s": 30.0}
    tree.start(
        probe("g/a", tree.trace, slow, drain_takes_s=60.0),
        probe("g/b", tree.trace),
        probe("g/c", tree.trace, slow, drain_takes_s=60.0),
    )
    for name in ("g/a", "g/b", "g/c"):
        tree.until_running(name)
    assert tree.process is not None
    tree.process.send_signal(signal.SIGTERM)
    tree.until("draining", lambda: tree.actor("g/c").get("state") == "draining")
    tree.process.send_signal(signal.SIGTERM)
    tree.process.send_signal(signal.SIGTERM)
    time.sleep(0.05)  # two pending signals of one number are one: the third has to come after the second
    tree.process.send_signal(signal.SIGTERM)
    assert tree.process.wait(timeout=4) == 1
    assert tree.left() == []
    assert [event for *_, event in tree.traced()].count("start") == 3


def test_a_second_sigterm_hurries(tree: ProbeTree) -> None:
    tree.start(probe("g/a", tree.trace, {"drain_s": 30.0, "shutdown_s": 30.0}, drain_takes_s=60.0))
    tree.until_running("g/a")
    assert tree.process is not None
    tree.process.send_signal(signal.SIGTERM)
    tree.until("draining", lambda: tree.actor("g/a").get("state") == "draining")
    tree.process.send_signal(signal.SIGTERM)
    assert tree.process.wait(timeout=4) == 0
    assert tree.left() == []


def test_a_group_that_begins_again_has_its_temporary_children_again(tree: ProbeTree) -> None:
    tree.start(
        probe("g/a", tree.trace),
        probe("g/t", tree.trace, {"restart": "temporary"}, exit_after_s=0.1),
        intensity=0,
    )
    first = tree.until_running("g/a")
    tree.until("the end of t", lambda: "g/t" not in {item["name"] for item in tree.status()["actors"]})
    os.kill(first["g/a"]["pid"], signal.SIGKILL)
    tree.until(
        "t again",
        lambda: [name for _, name, _, _, event in tree.traced() if event == "ready"].count("g/t") == 2,
    )
    assert next(item["name"] for item in tree.status()["actors"]) == "g/a"
    tree.until("the end of t", lambda: "g/t" not in {item["name"] for item in tree.status()["actors"]})
    assert tree.stop() == 0
