"""Live equals batch: the rows a subscriber got are the rows computed from the bronze of the same run."""

import math
from pathlib import Path
from struct import unpack
from typing import Any

import msgspec
import pytest

from tests.system import configs
from tests.system.tap import Tap
from tests.system.tree import Simulator, Tree, wait_for

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(180)]


def _bits(values: tuple[float, ...]) -> list[Any]:
    """Return values in a form in which two NaN are equal and everything else is compared by its bits."""
    return [None if math.isnan(value) else value.hex() for value in values]


def test_live_rows_equal_the_rows_computed_from_bronze(short_tmp: Path, recordings: Path) -> None:
    import polars as pl

    import daedalus
    from daedalus import features

    file = recordings / "binance_spot" / "btcusdt_20240808.gz"
    simulator = Simulator("--recording", f"{file}:BTC/USDT", "--speed", "20", log=short_tmp / "simulator.log")
    config = configs.binance(simulator.addresses, ("BTC/USDT",)) + "[features]\nemit_interval_s = 0\n"
    tree = Tree(short_tmp, config)
    tap = None
    try:
        wait_for("the gateway", (tree.runtime / "gateway.sock").exists, 20)
        tap = Tap([tree.runtime / "gateway.sock"], b"feature/binance/BTC-USDT/")
        tree.wait_running()
        wait_for("the end of the recording", lambda: simulator.ask()["state"] == "ended", 60)
        assert tree.stop() == 0, tree.tail()
        tap.close()
        live = []
        for _, header, payload in tap.messages:
            fields = msgspec.msgpack.decode(header)
            live.append((fields[2], fields[5] // 1000, _bits(unpack(f"<{len(payload) // 8}d", payload))))
        assert [seq for seq, _, _ in live] == list(range(1, len(live) + 1)), "the tap lost rows"
        tables = {
            channel: daedalus.scan(str(tree.data), channel, symbol="BTC/USDT").sort("capture_ts").collect()
            for channel in ("orderbook", "trades", "ticker")
        }
        batch = features.compute(**tables, params={"emit_interval_s": 0})
        names = list(features.FeatureEngine({"emit_interval_s": 0}).schema.names)
        expected = [
            (int(row[0]), _bits(tuple(math.nan if value is None else value for value in row[1:])))
            for row in batch.select(pl.col("capture_ts").dt.epoch("us"), *names).iter_rows()
        ]
        assert len(expected) > 500  # of 3,449: what was played while the tree still started is not there
        assert [(ts, bits) for _, ts, bits in live] == expected
    finally:
        if tap is not None and not tap._stop.is_set():
            tap.close()
        tree.close()
        simulator.close()
