"""The whole tree at a set rate: latency from capture to publication, CPU and memory of every actor, restarts.

The simulator runs beside the tree, from its order-flow model, on the same machine. CPU time is read from
/proc around a window of fixed length; memory is PSS, the honest share of pages that processes forked from one
image hold together.
"""

import os
import signal
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

from tests.system import configs
from tests.system.tap import Tap
from tests.system.tree import Simulator, Tree, alive, wait_for

RATE = 200  # book updates per second and symbol; two symbols on each of two exchanges
WINDOW_S = 20.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
RESTARTS = 5
WIDE = "".join(f"[groups.{group}]\nintensity = 1000\n" for group in ("store", "live", "ingest"))
PATIENT = WIDE + "".join(
    f"[defaults.{role}]\nbackoff = {{base_s = 0.001, cap_s = 0.001}}\n"
    for role in ("writer", "collector", "feature", "gateway")
)


def cpu_s(pid: int) -> float:
    """Return user and system seconds of one process, its reaped children included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) * TICK_S


def pss_mb(pid: int) -> float:
    """Return the proportional set size, MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no Pss of {pid}")


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def latencies(tap: Tap) -> dict[str, list[float]]:
    """Return exchange -> milliseconds from capture to publication of each feature row."""
    found: dict[str, list[float]] = defaultdict(list)
    for topic, header, _ in tap.messages:
        fields = msgspec.msgpack.decode(header)
        found[topic.decode().split("/")[1]].append((fields[6] - fields[5]) / 1e6)
    return found


def back_again_ms(tree: Tree, name: str) -> float:
    """SIGKILL one actor; return milliseconds until its successor runs."""
    pid = tree.actors()[name]["pid"]
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)

    def successor() -> bool:
        actor = tree.actors().get(name, {})
        return actor.get("state") == "running" and actor["pid"] != pid

    wait_for(f"{name} to run again", successor)
    return (time.monotonic() - began) * 1000


def run() -> dict[str, Any]:
    """Measure one tree with four symbols on two exchanges."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="dd-", dir="/tmp") as folder:
        base = Path(folder)
        simulator = Simulator(
            *("--model", "--symbols", "binance:BTC/USDT,binance:ETH/USDT,coinbase:BTC/USD,coinbase:ETH/USD"),
            *("--rate", str(RATE), "--seed", "1"),
            log=base / "simulator.log",
        )
        config = (
            PATIENT
            + configs.binance(simulator.addresses, ("BTC/USDT", "ETH/USDT"))
            + configs.coinbase(simulator.addresses, ("BTC/USD", "ETH/USD"))
            + "[features]\nemit_interval_s = 0\n"
        )
        began = time.monotonic()
        tree = Tree(base, config)
        try:
            tree.wait_running(20)
            result["start: supervisor to all running"] = {
                "value": round(time.monotonic() - began, 3), "unit": "s", "target": 5.0,
            }  # fmt: skip
            time.sleep(5)
            measure(tree, result)
            for name in (
                "store/writer-orderbook",
                "live/feature-coinbase-BTC-USD",
                "ingest/collector-coinbase",
            ):
                times = [back_again_ms(tree, name) for _ in range(RESTARTS)]
                role = name.partition("/")[2]
                result[f"{role}: SIGKILL to running again, median"] = {
                    "value": round(statistics.median(times), 1), "unit": "ms",
                }  # fmt: skip
            tree.wait_running()
            pids = [actor["pid"] for actor in tree.actors().values()]
            began = time.monotonic()
            code = tree.stop()
            result["stop: everything drained and sealed"] = {
                "value": round(time.monotonic() - began, 2), "unit": "s",
            }  # fmt: skip
            if code or any(alive(pid) for pid in pids):
                raise RuntimeError(f"the tree did not stop cleanly: exit {code}")
        finally:
            tree.close()
            simulator.close()
    return result


def measure(tree: Tree, result: dict[str, Any]) -> None:
    """Fill in latency, rate, CPU and memory over one window."""
    actors = tree.actors()
    records = Tap([tree.runtime / f"pub-{name}.sock" for name in ("binance", "coinbase")])
    rows = Tap([tree.runtime / "gateway.sock"], b"feature/")
    time.sleep(0.5)
    before = {name: cpu_s(actor["pid"]) for name, actor in actors.items()}
    first, began = len(records.messages), time.monotonic()
    time.sleep(WINDOW_S)
    spent = {name: cpu_s(actor["pid"]) - before[name] for name, actor in actors.items()}
    taken, lasted = len(records.messages) - first, time.monotonic() - began
    by_exchange: dict[str, int] = defaultdict(int)
    for parts in records.messages[first:]:
        by_exchange[parts[0].decode().split("/")[1]] += 1
    records.close()
    rows.close()
    result["records captured"] = {"value": round(taken / lasted), "unit": "1/s"}
    for exchange, values in sorted(latencies(rows).items()):
        native = exchange == "coinbase"
        for label, share, target in (("p50", 0.5, 0.5), ("p99", 0.99, 3.0)):
            figure: dict[str, Any] = {"value": round(quantile(values, share), 3), "unit": "ms"}
            if native:
                figure["target"] = target
            result[f"capture to published, {exchange} ({'native' if native else 'ccxt'}), {label}"] = figure
    supervisor = tree.process.pid
    roles: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for name, actor in actors.items():
        role = name.partition("/")[2]
        role = role if role.startswith(("collector", "writer")) else role.partition("-")[0]
        exchange = next((key for key in by_exchange if key in name), "")
        handled = by_exchange[exchange] if exchange else taken
        if role == "feature":
            handled //= 2  # two symbols an exchange
        roles[role].append((spent[name], pss_mb(actor["pid"]), handled))
    for role, samples in sorted(roles.items()):
        seconds = sum(sample[0] for sample in samples)
        handled = sum(sample[2] for sample in samples)
        if not role.startswith("writer"):
            result[f"{role}: CPU per million records"] = {
                "value": round(seconds / handled * 1e6, 1),
                "unit": "s",
            }
        result[f"{role}: share of a core"] = {
            "value": round(100 * seconds / lasted / len(samples), 1), "unit": "%",
        }  # fmt: skip
        limits = {"feature": 6.0, "writer-orderbook": 25.0, "writer-trades": 25.0, "writer-ticker": 25.0}
        figure = {"value": round(max(sample[1] for sample in samples), 1), "unit": "MB"}
        if role in limits:
            figure["target"] = limits[role]
        result[f"{role}: PSS"] = figure
    result["supervisor: PSS"] = {"value": round(pss_mb(supervisor), 1), "unit": "MB", "target": 30.0}
