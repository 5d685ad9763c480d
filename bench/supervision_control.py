"""What asking costs: the status command, the control socket in a storm, and a reload of fifty actors.

The command is measured as a whole process. The socket is asked from one open connection while thirty actors
idle and twenty crash as often as their backoff lets them (once a second each), which is what a person looks
into when he types `status`. A reload is that of `daedalus-ctl`: command to answer.
"""

import json
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.figure import figure
from bench.managers import BIN, CHILD, Spent, Stamps, own_cpu_s, spend
from bench.supervision import say
from tests.system.tree import Tree

IDLE = 30
CRASHING = 20
RELOADED = 50
ASKS = 15
STORM_S = 15.0
ASK_EVERY_S = 0.02
RELOADS = 5
ROUND_TRIP_MS = 20.0
CRASH = ["/bin/sh", "-c", "exit 3"]


def configuration(idle: int, crashing: int, stamps: Path, notes: dict[int, str] | None = None) -> str:
    """Return a file with so many actors; `notes` give some of the idle ones another argument."""
    parts = ['[dashboard]\nlisten = ""\n[groups.g]\nintensity = 1000\nperiod_s = 1\n']
    for number in range(idle):
        words = [sys.executable, "-I", "-S", str(CHILD), str(stamps), f"a{number}"]
        words += [notes[number]] if notes and number in notes else []
        parts.append(f'[actors."g/a{number:02}"]\ncommand = {json.dumps(words)}\n')
    keys = (
        f'command = {json.dumps(CRASH)}\nready = "spawn"\n'
        "backoff = {base_s = 1.0, cap_s = 1.0, factor = 1, jitter = 0.1}\n"
    )
    parts += [f'[actors."g/c{number:02}"]\n{keys}' for number in range(crashing)]
    return "".join(parts)


class Line:
    """One open connection to the control socket."""

    def __init__(self, tree: Tree) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(tree.runtime / "control.sock"))
        self.file = self.socket.makefile("rb")

    def status_ms(self) -> tuple[float, int]:
        """Return the round trip of one `status`, ms, and the size of the answer, bytes."""
        began = time.monotonic()
        self.socket.sendall(b'{"v":1,"id":1,"cmd":"status","args":{}}\n')
        answer = self.file.readline()
        return (time.monotonic() - began) * 1e3, len(answer)

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def ctl(tree: Tree, *words: str) -> Spent:
    """Run the real command."""
    return spend([str(BIN / "daedalus-ctl"), "--runtime", str(tree.runtime), *words])


def command(tree: Tree, label: str) -> dict[str, Any]:
    """Return what `daedalus-ctl status` takes as a process."""
    result: dict[str, Any] = {}
    for words in (("status",), ("status", "--json")):
        asked = [ctl(tree, *words) for _ in range(ASKS)]
        name = f"daedalus-ctl {' '.join(words)}, {label}"
        walls, cpus = ([getattr(item, kind) for item in asked] for kind in ("wall_ms", "cpu_ms"))
        result[f"{name}: wall, p50"] = figure(statistics.median(walls), "ms", table=False)
        result[f"{name}: CPU, p50"] = figure(statistics.median(cpus), "ms", 80.0)
    alone = [spend([sys.executable, "-I", "-c", "import click"]).cpu_ms for _ in range(ASKS)]
    result[f"import click alone, {label}: CPU, p50"] = figure(statistics.median(alone), "ms", table=False)
    return result


def socket_ms(tree: Tree, label: str, seconds: float) -> dict[str, Any]:
    """Return the round trips of `status` on an open connection, and what the supervisor takes meanwhile."""
    line, times, size = Line(tree), [], 0
    before, began = own_cpu_s(tree.process.pid), time.monotonic()
    while time.monotonic() - began < seconds:
        taken, size = line.status_ms()
        times.append(taken)
        time.sleep(ASK_EVERY_S)
    share = 100 * (own_cpu_s(tree.process.pid) - before) / (time.monotonic() - began)
    line.close()
    times.sort()
    rate = len(times) / seconds
    return {
        f"socket, {label}: status, p50": figure(statistics.median(times), "ms", ROUND_TRIP_MS),
        f"socket, {label}: status, p99": figure(times[int(len(times) * 0.99)], "ms", ROUND_TRIP_MS),
        f"socket, {label}: status, worst": figure(times[-1], "ms", table=False),
        f"socket, {label}: size of the answer": figure(size / 1024, "KB", table=False),
        f"socket, {label}: asked": figure(rate, "1/s", table=False),
        f"supervisor, {label}, asked: CPU": figure(share, "% of a core", table=False),
    }


def storm(base: Path) -> dict[str, Any]:
    """Measure idle actors alone, then with crashing ones beside them."""
    result: dict[str, Any] = {}
    stamps = Stamps(base / "s")
    for label, crashing in ((f"{IDLE} idle", 0), (f"{IDLE} idle and {CRASHING} in a crash loop", CRASHING)):
        place = base / f"storm{crashing}"
        place.mkdir()
        tree = Tree(place, configuration(IDLE, crashing, stamps.path))
        try:
            stamps.take(IDLE, 60)
            time.sleep(3.0)
            first = restarts(tree)
            began = time.monotonic()
            result |= socket_ms(tree, label, STORM_S)
            rate = (restarts(tree) - first) / (time.monotonic() - began)
            result[f"socket, {label}: restarts"] = figure(rate, "1/s", table=False)
            result |= command(tree, label)
            tree.stop()
        finally:
            tree.close()
    stamps.close()
    return result


def restarts(tree: Tree) -> int:
    """Return how many restarts there have been in all."""
    return sum(actor["restarts"]["total"] for actor in tree.actors().values())


def reload(base: Path) -> dict[str, Any]:
    """Measure reloads of a tree of fifty: of the same file, and of one with one other argument."""
    stamps = Stamps(base / "t")
    place = base / "reload"
    place.mkdir()
    tree = Tree(place, configuration(RELOADED, 0, stamps.path))
    times: dict[str, list[float]] = {}
    result: dict[str, Any] = {}
    try:
        stamps.take(RELOADED, 60)
        tree.wait_running()
        for turn in range(RELOADS):
            for what in ("nothing changed", "one changed"):
                if what == "one changed":
                    notes = {7: f"note{turn}"}
                    tree.file.write_text(configuration(RELOADED, 0, stamps.path, notes))
                spent = ctl(tree, "reload", "--json")
                if spent.code:
                    say(f"reload: exit {spent.code}: {spent.output.strip()[-200:]}")
                    return {"reload": "not there"}
                ups = stamps.until_quiet(1.5)
                wanted = ["a7"] if what == "one changed" else []
                if [up.name for up in ups] != wanted:
                    raise RuntimeError(f"{what}: started again: {[up.name for up in ups]}: {spent.output}")
                times.setdefault(f"{what}: command, wall, p50", []).append(spent.wall_ms)
                times.setdefault(f"{what}: command, CPU, p50", []).append(spent.cpu_ms)
        for what, values in times.items():
            result[f"reload of {RELOADED}, {what}"] = figure(statistics.median(values), "ms")
        tree.stop()
    finally:
        tree.close()
        stamps.close()
    return result


def run() -> dict[str, Any]:
    """Measure status and reload."""
    with tempfile.TemporaryDirectory(prefix="dd-", dir="/tmp") as folder:
        return storm(Path(folder)) | reload(Path(folder))
