"""`./run soak features [--seed N] [--duration S]`: feature actors killed ten times, no row the worse.

Twice: a recording at 10x through ccxt, every update a row, and the demo's market, four symbols of two
exchanges at the shipped interval. In each run feature actors are killed at times of the seed, collectors now
and then, and one checkpoint is damaged. Then the rows a subscriber received are compared with those that
bronze of the same run gives, every value by its bits. A failed run leaves its directory behind.
"""

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import recordings_path
from tests.system import configs
from tests.system.resuming import batch, caught_up, compare, damage, kill, received
from tests.system.tap import Tap
from tests.system.tree import Simulator, Tree, wait_for

KILLS = 10
_MORE = (
    "[groups.live]\nintensity = 1000\n[groups.ingest]\nintensity = 1000\n"
    "[defaults.feature]\nbackoff = {base_s = 0.2, cap_s = 1.0}\n"
)

Symbols = tuple[tuple[str, str], ...]


def soak(seed: int, duration_s: float) -> int:
    """Run both. Returns 0: every row was received once and as bronze has it, 1: not, 2: nothing was tried."""
    recordings = recordings_path()
    if not recordings.is_dir():
        print(f"soak features: no recordings at {recordings}: set DAEDALUS_RECORDINGS")
        return 2
    print(f"soak features: seed {seed}", flush=True)
    kills = max(KILLS, round(KILLS * duration_s / 1800))
    good = _recording(random.Random(seed), recordings, kills)
    return 0 if _demo(random.Random(seed + 1), kills) and good else 1


def _recording(choice: random.Random, recordings: Path, kills: int) -> bool:
    def run(base: Path) -> None:
        file = recordings / "binance_spot" / "btcusdt_20240808.gz"
        simulator = Simulator("--recording", f"{file}:BTC/USDT", "--speed", "10", log=base / "simulator.log")
        params = {"emit_interval_s": 0, "checkpoint_interval_s": 2}
        told = "[features]\n" + "".join(f"{key} = {value}\n" for key, value in params.items())
        try:
            tree = Tree(base, configs.binance(simulator.addresses, ("BTC/USDT",)) + told + _MORE)
            _rage(tree, (("binance", "BTC/USDT"),), params, kills, choice)
        finally:
            simulator.close()

    return _tried("recording at 10x", run)


def _demo(choice: random.Random, kills: int) -> bool:
    """The demo's market in a tree whose groups do not park what is killed so often."""

    def run(base: Path) -> None:
        binance, coinbase = ("BTC/USDT", "ETH/USDT"), ("BTC/USD", "ETH/USD")
        symbols = (*(("binance", one) for one in binance), *(("coinbase", one) for one in coinbase))
        names = ",".join(f"{exchange}:{symbol}" for exchange, symbol in symbols)
        simulator = Simulator("--model", "--symbols", names, log=base / "simulator.log")
        try:
            parts = (
                configs.binance(simulator.addresses, binance),
                configs.coinbase(simulator.addresses, coinbase),
            )
            _rage(Tree(base, "".join(parts) + _MORE), symbols, {}, kills, choice)
        finally:
            simulator.close()

    return _tried("demo", run)


def _rage(tree: Tree, symbols: Symbols, params: dict[str, Any], kills: int, choice: random.Random) -> None:
    """Kill, stop, compare.

    Raises:
        AssertionError: a row is missing, differs, or came twice.
    """
    tap = None
    try:
        wait_for("the gateway", (tree.runtime / "gateway.sock").exists, 60)
        tap = Tap([tree.runtime / "gateway.sock"], b"feature/")
        tree.wait_running(60)
        damaged = False
        for number in range(kills):
            time.sleep(choice.uniform(0.2, 4.0))
            exchange, symbol = choice.choice(symbols)
            name = f"live/feature-{exchange}-{symbol.replace('/', '-')}"
            if number >= kills // 2 and not damaged:
                print(f"damaged: {damage(tree, exchange, symbol).name}", flush=True)
                damaged = True
            elif number % 4 == 3:
                kill(tree, f"ingest/collector-{exchange}")
                kill(tree, name)
            else:
                kill(tree, name)
            print(f"{number + 1}: {name}", flush=True)
        caught_up(tap)
        code = tree.stop()
        assert code == 0, tree.tail()
        tap.close()
        for exchange, symbol in symbols:
            live, expected = received(tap, exchange, symbol), batch(tree, exchange, symbol, params)
            compare(live, expected)
            print(f"{exchange}:{symbol}: {len(live)} rows, each once, each as bronze has it", flush=True)
        assert not damaged or "checkpoint_refused" in tree.log.read_text()
    finally:
        if tap is not None and not tap._stop.is_set():  # noqa: SLF001 - it has no other word for it
            tap.close()
        tree.close()


def _tried(what: str, run: Callable[[Path], None]) -> bool:
    base = Path(tempfile.mkdtemp(prefix="dd-", dir=os.environ.get("DAEDALUS_SOAK_DIR", "/tmp")))
    print(f"{what}, in {base}", flush=True)
    try:
        run(base)
    except AssertionError as error:
        print(f"BROKEN: {what}: {error}", flush=True)
        return False
    shutil.rmtree(base, ignore_errors=True)
    return True
