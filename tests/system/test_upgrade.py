"""Exec in place: the supervisor becomes another program again and again, and nobody notices."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from daedalus.kernel.spec import ActorSpec
from tests.system.probe_tree import ProbeTree, probe

pytestmark = [pytest.mark.system, pytest.mark.slow]

TIMES = 20
SILENT = ActorSpec(
    name="g/silent",
    group="g",
    command=("/bin/sh", "-c", "exec >/dev/null 2>&1; sleep 300"),
    ready="spawn",
    heartbeat_interval_s=0.0,
    heartbeat_timeout_s=0.0,
)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[ProbeTree]:
    running = ProbeTree(tmp_path)
    yield running
    running.close()


def printed(tree: ProbeTree, name: str) -> list[int]:
    """Return the numbers that a probe printed, as far as the supervisor's own output has them."""
    found = []
    for line in tree.stderr.read_text(errors="replace").splitlines():
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "actor_printed" and event.get("actor") == name:
            found.append(int(event["line"].removeprefix("line ")))
    return found


def test_twenty_times_in_a_row_no_pid_changes_and_no_line_is_lost(tree: ProbeTree) -> None:
    quiet = {"heartbeat_timeout_s": 30.0}
    tree.start(
        probe("g/talks", tree.trace, quiet, spam_every_s=0.002),
        probe("g/idle", tree.trace, quiet),
        probe("g/crashes", tree.trace, exit_after_s=0.05, exit_code=1),
        SILENT,
        intensity=1000,
    )
    before = tree.until_running("g/talks", "g/idle", "g/silent")
    pid = tree.status()["supervisor"]["pid"]
    for number in range(2, TIMES + 2):
        done = tree.ctl("reexec", "--json")
        assert done.returncode == 0, (number, done.stderr, tree.stderr.read_text()[-2000:])
        assert json.loads(done.stdout)["image"] == number
    status = tree.status()
    assert status["supervisor"]["pid"] == pid
    after = {item["name"]: item for item in status["actors"]}
    for name in ("g/talks", "g/idle", "g/silent"):
        for key in ("pid", "generation", "started_at"):
            assert after[name][key] == before[name][key], (name, key)
    assert after["g/crashes"]["generation"] > before.get("g/crashes", {}).get("generation", 1)
    seen = printed(tree, "g/talks")
    assert len(seen) > 100
    assert seen == list(range(len(seen)))
    assert after["g/talks"]["log_dropped"] == 0
    numbers = [event["seq"] for event in tree.events()]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    os.kill(after["g/idle"]["pid"], signal.SIGSEGV)  # how it ends reaches its parent, which is the same
    tree.until("generation 2", lambda: tree.actor("g/idle").get("generation") == 2)
    assert tree.actor("g/idle")["last_exit"]["signal"] == "SIGSEGV"
    assert tree.stop() == 0
    assert tree.left() == []


def test_a_program_that_cannot_be_loaded_changes_nothing(tree: ProbeTree, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    (broken / "daedalus").mkdir(parents=True)
    (broken / "daedalus" / "__init__.py").write_text("raise ImportError('half an upgrade')\n")
    tree.start(probe("g/a", tree.trace))
    before = tree.until_running("g/a")
    assert tree.process is not None
    tree.hint.symlink_to(broken)
    done = tree.ctl("reexec")
    assert done.returncode == 1
    assert "half an upgrade" in done.stderr
    tree.hint.unlink()
    assert tree.actor("g/a")["pid"] == before["g/a"]["pid"]
    assert tree.ctl("reexec").returncode == 0
    assert tree.actor("g/a")["pid"] == before["g/a"]["pid"]


def test_a_runtime_directory_that_is_gone_or_full_ends_nobody(tree: ProbeTree) -> None:
    tree.start(probe("g/a", tree.trace), probe("g/b", tree.trace))
    before = tree.until_running("g/a", "g/b")
    (tree.runtime / "state.json.new").mkdir()  # cannot be written any more
    os.kill(before["g/a"]["pid"], signal.SIGKILL)
    tree.until("generation 2", lambda: tree.actor("g/a").get("generation") == 2)
    assert '"event": "state_unwritten"' in tree.stderr.read_text()
    assert tree.actor("g/b")["pid"] == before["g/b"]["pid"]
    assert tree.stop() == 0
