"""C67: what an actor prints is delivered or counted, to the last line before its end."""

import re
import time

import pytest

from tests.conformance.harness import Tree, probe

pytestmark = pytest.mark.system

LAG_MS = 200.0


def flood(tree: Tree, lines: int) -> None:
    """Print so many lines and die; then compare what arrived with what was printed."""
    tree.start(
        probe(
            "g/a", "--spam", lines, "--last-words", "these were the last words",
            "--exit-after", 0, "--code", 1, "--exit-first", 1,
        ),
        probe("g/b"),
        wait=False,
    )  # fmt: skip
    tree.until("answer", tree.answering)
    lags = []

    def over() -> bool:
        began = time.monotonic()
        document = tree.status()
        lags.append((document["supervisor"]["loop_lag_ms"], time.monotonic() - began))
        return any(
            item["name"] == "g/a" and item["generation"] == 2 and item["ready"] for item in document["actors"]
        )

    tree.until("its next life", over, 90.0)
    left = tree.wait_event("g/a", "exit")
    assert left["code"] == 1
    assert left["stderr_tail"][-1] == "these were the last words"
    shown = tree.actor("g/a")
    assert shown["last_exit"]["stderr_tail"][-1] == "these were the last words"
    assert shown["log_lines"] == lines + 1
    kept = [line["text"] for line in logged(tree)]
    assert f"spam {lines}" in kept
    # Every line was forwarded to our standard error or counted as dropped; none came twice.
    told = [int(number) for number in re.findall(r"spam (\d+)", tree.stderr.read_text())]
    assert len(told) == len(set(told))
    assert len(told) + shown["log_dropped"] == lines
    assert told[-1] == lines
    assert sorted(lag for lag, _ in lags)[len(lags) // 2] < LAG_MS
    assert tree.actor("g/b")["restarts"]["total"] == 0


def logged(tree: Tree) -> list[dict[str, object]]:
    link = tree.link()
    try:
        link.ask("logs", actors=["g/a"], lines=256)
        return list(link.answers())
    finally:
        link.close()


def test_c67_a_flood_of_lines_is_delivered_or_counted_to_the_last(tree: Tree) -> None:
    flood(tree, 5_000)


@pytest.mark.soak
def test_c67_fifty_thousand_lines_are_delivered_or_counted_to_the_last(tree: Tree) -> None:
    flood(tree, 50_000)


def test_c67_logs_of_the_control_program_shows_the_end(tree: Tree) -> None:
    tree.start(probe("g/a", "--tick", 0.05))
    tree.wait_running("g/a")
    tree.until("ticks", lambda: tree.actor("g/a")["log_lines"] >= 5)
    done = tree.ctl("logs", "g/a", "-n", "2")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    assert all("tick 1 " in line for line in done.stdout.splitlines())


def test_c67_half_a_line_at_the_end_is_a_line(tree: Tree) -> None:
    script = "printf whole\\\\nhalf; exec sleep 300"
    tree.start(("g/sh", {"command": ["/bin/sh", "-c", script], "ready": "spawn"}))
    tree.until("a line", lambda: tree.actor("g/sh")["log_lines"] >= 1)
    tree.kill("g/sh")
    tree.wait_running("g/sh", generation=2)
    link = tree.link()
    link.ask("logs", actors=["g/sh"])
    texts = [line["text"] for line in link.answers() if line["generation"] == 1]
    link.close()
    assert texts == ["whole", "half"]
