"""Our own actors under supervision: from spawn to ready, from SIGKILL to ready again, and what idling costs.

Twelve real actors (three writers, a gateway, seven feature actors, a collector) of a slow simulated exchange,
and a foreign program beside them. Once with the zygote and once without: then each actor is a fresh
interpreter. Times are those of the supervisor's own events and of the signal, on the monotonic clock.
`exit -> ready` begins when the supervisor has buried the last process of the actor.
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.figure import figure
from bench.managers import own_cpu_s
from bench.tree import pss_mb
from tests.system import configs
from tests.system.tree import Simulator, Tree, wait_for

HERE = Path(__file__).resolve().parent
COINS = ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "LTC")
RATE = 5  # book updates per second and symbol
KILLS = 15
WINDOW_S = 20.0
SETTLE_S = 5.0
FEATURE = "live/feature-coinbase-ETH-USD"
CASES = (("feature actor", FEATURE), ("writer", "store/writer-ticker"), ("foreign program", "ops/idle"))
IN_TABLE = ("exit -> ready", "SIGKILL -> ready again")
QUICK = "backoff = {base_s = 0.001, cap_s = 0.001, factor = 1}\n"


class Bare(Tree):
    """A tree whose supervisor has no zygote."""

    def start(self) -> None:
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "bench.no_zygote", "start", "--config", str(self.file)),
                    *("--data", str(self.data), "--runtime", str(self.runtime), *self.args),
                ],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=HERE.parent,
            )  # fmt: skip


def events(tree: Tree) -> list[dict[str, Any]]:
    """Return all retained events."""
    found = []
    with socket.socket(socket.AF_UNIX) as conn:
        conn.settimeout(20)
        conn.connect(str(tree.runtime / "control.sock"))
        conn.sendall(b'{"v":1,"id":1,"cmd":"events","args":{}}\n')
        with conn.makefile("rb") as file:
            for line in file:
                reply = json.loads(line)
                if not reply.get("more"):
                    break
                found.append(reply["result"])
    return found


def again(tree: Tree, name: str) -> dict[str, float]:
    """SIGKILL one actor; return the milliseconds from there, and from its end, to its successor's steps."""
    actor = tree.actors()[name]
    began = time.monotonic()
    os.kill(actor["pid"], signal.SIGKILL)

    def ready() -> dict[str, float] | None:
        at = {
            event["type"]: event["mono"]
            for event in events(tree)
            if event["actor"] == name
            and event["generation"] == actor["generation"] + (event["type"] != "exit")
        }
        return at if "ready" in at else None

    at = wait_for(f"{name} to be ready again", ready, 60)
    return {
        "SIGKILL -> exit seen": (at["exit"] - began) * 1e3,
        "exit -> ready": (at["ready"] - at["exit"]) * 1e3,
        "spawn -> ready": (at["ready"] - at["spawn"]) * 1e3,
        "SIGKILL -> ready again": (at["ready"] - began) * 1e3,
    }


def measured(tree: Tree, way: str) -> dict[str, Any]:
    """Return the figures of one running tree."""
    result: dict[str, Any] = {}
    for label, name in CASES:
        if label == "foreign program" and way != "zygote":
            continue  # has no zygote either way
        means = "" if label == "foreign program" else f", {way}"
        found = []
        for _ in range(KILLS):
            found.append(again(tree, name))
            time.sleep(0.3)
        for what in found[0]:
            middle = statistics.median(item[what] for item in found)
            wanted = 20.0 if (label, way, what) == ("feature actor", "zygote", "exit -> ready") else None
            result[f"{label}{means}: {what}, p50"] = figure(middle, "ms", wanted, table=what in IN_TABLE)
        worst = max(item["SIGKILL -> ready again"] for item in found)
        result[f"{label}{means}: SIGKILL -> ready again, worst of {KILLS}"] = figure(worst, "ms", table=False)
    return result


def idle(tree: Tree) -> dict[str, Any]:
    """Return what the supervisor and its zygotes take while nothing happens."""
    time.sleep(SETTLE_S)
    pid = tree.process.pid
    before, began = own_cpu_s(pid), time.monotonic()
    time.sleep(WINDOW_S)
    share = 100 * (own_cpu_s(pid) - before) / (time.monotonic() - began)
    zygotes = [item["pid"] for item in tree.status()["supervisor"]["zygotes"]]
    return {
        "supervisor, 12 actors with heartbeats: CPU": figure(share, "% of a core", 0.5),
        "supervisor, 12 actors with heartbeats: PSS": figure(pss_mb(pid), "MB", 30.0),
        "its zygotes: PSS": figure(sum(pss_mb(item) for item in zygotes), "MB"),
    }


def configuration(base: Path, addresses: dict[str, Any], *, foreign: bool) -> str:
    """Return the file of a tree of twelve, with or without the foreign program."""
    parts = [f"[groups.{group}]\nintensity = 1000\n" for group in ("store", "live", "ingest", "ops")]
    parts += [f"[defaults.{role}]\n{QUICK}" for role in ("writer", "feature", "foreign")]
    parts.append(configs.coinbase(addresses, tuple(f"{coin}/USD" for coin in COINS)))
    parts.append('[dashboard]\nlisten = ""\n')
    if foreign:
        words = [sys.executable, "-I", "-S", str(HERE / "idle.py"), str(base / "stamps"), "idle"]
        parts.append(f'[actors."ops/idle"]\ncommand = {json.dumps(words)}\n')
    return "".join(parts)


def run() -> dict[str, Any]:
    """Measure the tree idle, then killed, with the zygote and without."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="dd-", dir="/tmp") as folder:
        model = ("--model", "--symbols", ",".join(f"coinbase:{coin}/USD" for coin in COINS))
        simulator = Simulator(*model, "--rate", str(RATE), "--seed", "1", log=Path(folder) / "simulator.log")
        stamps = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            for way, kind in (("zygote", Tree), ("exec", Bare)):
                base = Path(folder) / way
                base.mkdir()
                stamps.close()
                stamps = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                stamps.bind(str(base / "stamps"))
                if way == "zygote":
                    result |= one(kind, base / "i", configuration(base, simulator.addresses, foreign=False))
                result |= one(kind, base / "k", configuration(base, simulator.addresses, foreign=True), way)
        finally:
            stamps.close()
            simulator.close()
    return result


def one(kind: type[Tree], base: Path, config: str, way: str = "") -> dict[str, Any]:
    """Run one tree: idle without a `way`, killing with one."""
    base.mkdir()
    tree = kind(base, config)
    try:
        actors = tree.wait_running(60)
        result = measured(tree, way) if way else {**idle(tree), "actors": [*actors]}
        tree.stop()
    finally:
        tree.close()
    return result
