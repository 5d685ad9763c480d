"""Feature actors killed at will: what a subscriber received is what bronze of the same run gives, once."""

import time
from pathlib import Path

import pytest

from tests.system import configs
from tests.system.resuming import batch, caught_up, compare, damage, kill, received
from tests.system.tap import Tap
from tests.system.tree import Simulator, Tree, wait_for

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(180)]
ACTOR = "live/feature-binance-BTC-USDT"
KILLS = 4
BETWEEN_S = 0.7


def test_killed_feature_actors_publish_every_row_of_bronze_exactly_once(
    short_tmp: Path, recordings: Path
) -> None:
    file = recordings / "binance_spot" / "btcusdt_20240808.gz"
    simulator = Simulator("--recording", f"{file}:BTC/USDT", "--speed", "10", log=short_tmp / "simulator.log")
    params = {"emit_interval_s": 0, "checkpoint_interval_s": 1}
    told = "".join(f"{key} = {value}\n" for key, value in params.items())
    more = (
        f"[features]\n{told}[groups.live]\nintensity = 100\n"
        "[defaults.feature]\nbackoff = {base_s = 0.2, cap_s = 0.2}\n"
    )
    tree = Tree(short_tmp, configs.binance(simulator.addresses, ("BTC/USDT",)) + more)
    tap = None
    try:
        wait_for("the gateway", (tree.runtime / "gateway.sock").exists, 20)
        tap = Tap([tree.runtime / "gateway.sock"], b"feature/")
        tree.wait_running()
        wait_for("rows", lambda: len(tap.messages) > 50, 20)
        kill(tree, ACTOR)  # before its first regular checkpoint
        for number in range(KILLS):
            seen = len(tap.messages)
            wait_for("more rows", lambda seen=seen: len(tap.messages) > seen + 20, 30)
            if number == 1:
                damaged = damage(tree, "binance", "BTC/USDT")
            elif number == 2:
                kill(tree, "ingest/collector-binance")
                kill(tree, ACTOR)
            else:
                kill(tree, ACTOR)
            time.sleep(BETWEEN_S)
        caught_up(tap)
        assert tree.stop() == 0, tree.tail()
        tap.close()
        log = tree.log.read_text()
        assert f"{damaged.name}" in next(line for line in log.splitlines() if "checkpoint_refused" in line)
        expected = batch(tree, "binance", "BTC/USDT", params)
        assert len(expected) > 100
        compare(received(tap, "binance", "BTC/USDT"), expected)
    finally:
        if tap is not None and not tap._stop.is_set():
            tap.close()
        tree.close()
        simulator.close()
