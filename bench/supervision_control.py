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
        result[f"{name}: wall, p50"] = {
            "value": round(statistics.median(item.wall_ms for item in asked), 1), "unit": "ms",
        }  # fmt: skip
        result[f"{name}: CPU, p50"] = {
            "value": round(statistics.median(item.cpu_ms for item in asked), 1), "unit": "ms", "target": 80.0,
        }  # fmt: skip
    interpreter = [spend([sys.executable, "-I", "-c", "import click"]) for _ in range(ASKS)]
    result[f"import click alone, {label}: CPU, p50"] = {
        "value": round(statistics.median(item.cpu_ms for item in interpreter), 1), "unit": "ms",
    }  # fmt: skip
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
    return {
        f"socket, {label}: status, p50": {
            "value": round(statistics.median(times), 2), "unit": "ms", "target": ROUND_TRIP_MS,
        },
        f"socket, {label}: status, p99": {
            "value": round(times[int(len(times) * 0.99)], 2), "unit": "ms", "target": ROUND_TRIP_MS,
        },
        f"socket, {label}: status, worst of {len(times)}": {"value": round(times[-1], 2), "unit": "ms"},
        f"socket, {label}: size of the answer": {"value": round(size / 1024, 1), "unit": "KB"},
        f"supervisor, {label}, asked {len(times) / seconds:.0f} times a second: CPU": {
            "value": round(share, 1), "unit": "% of a core",
        },
    }  # fmt: skip


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
            result[f"socket, {label}: restarts"] = {
                "value": round((restarts(tree) - first) / (time.monotonic() - began), 1), "unit": "1/s",
            }  # fmt: skip
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
            result[f"reload of {RELOADED}, {what}"] = {
                "value": round(statistics.median(values), 1), "unit": "ms",
            }  # fmt: skip
        tree.stop()
    finally:
        tree.close()
        stamps.close()
    return result


def run() -> dict[str, Any]:
    """Measure status and reload."""
    with tempfile.TemporaryDirectory(prefix="dd-", dir="/tmp") as folder:
        return storm(Path(folder)) | reload(Path(folder))
