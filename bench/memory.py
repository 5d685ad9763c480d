"""The memory of one feature actor where 20 of them run: PSS, and what of it nobody shares.

PSS divides a shared page by the processes that hold it, so it falls with the number of actors; what an actor
really adds is its private part. The windows are not full yet: at 10 books a second the longest adds 0.8 MB.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.system import configs
from tests.system.tree import Simulator, Tree

COINS = ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "LTC", "DOT", "LINK", "AVAX")
RATE = 10  # book updates per second and symbol
SETTLE_S = 20.0


def memory_mb(pid: int) -> dict[str, float]:
    """Return Pss, Private_Dirty and the other sums of one process, MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.partition(":")[0]: int(line.split()[1]) / 1024 for line in lines}


def run() -> dict[str, Any]:
    """Measure a tree with ten symbols on each of two exchanges."""
    binance = tuple(f"{coin}/USDT" for coin in COINS)
    coinbase = tuple(f"{coin}/USD" for coin in COINS)
    symbols = [*(f"binance:{symbol}" for symbol in binance), *(f"coinbase:{symbol}" for symbol in coinbase)]
    with tempfile.TemporaryDirectory(prefix="dd-", dir="/tmp") as folder:
        base = Path(folder)
        model = ("--model", "--symbols", ",".join(symbols), "--rate", str(RATE), "--seed", "1")
        simulator = Simulator(*model, log=base / "simulator.log")
        try:
            parts = (
                configs.binance(simulator.addresses, binance),
                configs.coinbase(simulator.addresses, coinbase),
            )
            tree = Tree(base, "".join(parts))
            try:
                actors = tree.wait_running(40)
                time.sleep(SETTLE_S)
                pids = [actor["pid"] for name, actor in actors.items() if "/feature-" in name]
                found = [memory_mb(pid) for pid in pids]
                tree.stop()
            finally:
                tree.close()
        finally:
            simulator.close()

    def median(key: str) -> dict[str, Any]:
        return {"value": round(statistics.median(one[key] for one in found), 2), "unit": "MB"}

    return {
        f"feature actor PSS, {len(found)} running": median("Pss") | {"target": 6.0},
        "of it private": median("Private_Dirty"),
        "resident, shared pages counted whole": median("Rss"),
    }
