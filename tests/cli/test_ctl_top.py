"""`top`: what comes first, what fits, and that its keys work on a real terminal."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from daedalus.cli.ctl.top import frame, ordered
from tests.cli.ctl_server import CTL, Server, actor, ctl, document, environment


def busy(
    name: str, cpu: float | None, anon: int | None, restarts: int, mailbox: int | None
) -> dict[str, Any]:
    counts = {"total": restarts, "window": 0, "last_1h": 0}
    memory = {"anon": anon, "warn": None, "soft": None, "hard": None}
    return actor(name=name, cpu_pct=cpu, mem=memory, restarts=counts, mailbox=mailbox)


ACTORS = [busy("g/a", 1.0, 3 << 20, 0, None), busy("g/b", None, None, 2, 5), busy("g/c", 9.0, 1 << 20, 1, 7)]


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("c", "g/c g/a g/b"),
        ("m", "g/a g/c g/b"),
        ("r", "g/b g/c g/a"),
        ("b", "g/c g/b g/a"),
        ("s", "g/a g/b g/c"),
    ],
)
def test_the_most_comes_first_and_who_has_no_figure_last(sort: str, names: str) -> None:
    assert [item["name"] for item in ordered(document(*ACTORS), sort)["actors"]] == names.split()


def test_a_frame_fits_on_the_screen_and_says_what_it_hides() -> None:
    shown = document(*(busy(f"g/{number:02}", float(number), None, 0, None) for number in range(20)))
    lines = frame(shown, "c", 100, 10, color=False).split("\n")
    assert len(lines) == 10
    assert lines[1].startswith("g/19")
    assert lines[-3] == "… 14 more"
    assert lines[-2].startswith("20 actors")
    assert lines[-1].startswith("by CPU · ")
    assert len(frame(document(*ACTORS), "c", 100, 24, color=False).split("\n")) == 6


def test_without_a_terminal_it_is_one_frame(runtime_dir: Path) -> None:
    with Server(runtime_dir, {"status": document(*ACTORS)}) as server:
        done = ctl(server, "top", "--sort", "m")
    assert done.returncode == 0
    assert [text.split()[0] for text in done.stdout.splitlines()[1:4]] == ["g/a", "g/c", "g/b"]
    assert "\x1b" not in done.stdout
    assert len(server.asked("status")) == 1


class Screen:
    """`top` on a terminal of 100 by 24."""

    def __init__(self, runtime: Path) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        command = [CTL, "top", "--runtime", str(runtime)]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="xterm", NO_COLOR="1")
        )
        self.written = ""

    def until(self, words: str) -> None:
        deadline = time.monotonic() + 30
        while words not in self.written:
            assert time.monotonic() < deadline, self.written
            if select.select([self._ours], [], [], 1.0)[0]:
                self.written += os.read(self._ours, 65536).decode()
        self.written = self.written.rpartition(words)[2]

    def press(self, key: str) -> None:
        os.write(self._ours, key.encode())

    def restored(self) -> bool:
        return termios.tcgetattr(self._theirs)[3] == self.before[3]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


def test_keys_sort_and_quit_and_the_terminal_is_as_it_was(runtime_dir: Path) -> None:
    with Server(runtime_dir, {"status": document(*ACTORS)}) as server:
        screen = Screen(runtime_dir)
        try:
            screen.until("by CPU")
            for key, words in (
                ("m", "by memory"),
                ("R", "by restarts"),
                ("b", "by mailbox"),
                ("s", "by start order"),
            ):
                screen.press(key)
                screen.until(words)
            asked = len(server.asked("status"))
            while len(server.asked("status")) == asked:  # it goes on by itself
                screen.until("by start order")
            screen.press("q")
            assert screen.process.wait(timeout=20) == 0
            assert screen.restored()
        finally:
            screen.close()


def test_top_leaves_with_7_when_the_supervisor_goes(runtime_dir: Path) -> None:
    server = Server(runtime_dir, {"status": document(*ACTORS)})
    screen = Screen(runtime_dir)
    try:
        with server:
            screen.until("by CPU")
        screen.until("daedalus-ctl: cannot")
        assert screen.process.wait(timeout=20) == 7
        assert screen.restored()
    finally:
        screen.close()
