"""The README from its first page, as a newcomer types it: demo, status, subscribe, query; nothing is left."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.system.tree import BIN, alive, descendants, marked, wait_for

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(120)]

ACTORS = {
    "demo/simulator",
    *(f"store/writer-{channel}" for channel in ("orderbook", "trades", "ticker")),
    "live/gateway",
    *(f"live/feature-binance-{symbol}" for symbol in ("BTC-USDT", "ETH-USDT")),
    *(f"live/feature-coinbase-{symbol}" for symbol in ("BTC-USD", "ETH-USD")),
    *(f"ingest/collector-{exchange}" for exchange in ("binance", "coinbase")),
}


def tool(runtime: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one of the programs against the demo's runtime directory, found through the environment."""
    return subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "DAEDALUS_RUNTIME": str(runtime)},
    )


def test_the_demo_runs_answers_and_leaves_nothing_behind(short_tmp: Path) -> None:
    runtime, data, log = short_tmp / "r", short_tmp / "demo-data", short_tmp / "log"
    with log.open("wb") as file:
        demo = subprocess.Popen(
            [
                *(str(BIN / "daedalus-supervisor"), "start", "--demo"),
                *("--data", str(data), "--runtime", str(runtime)),
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    try:
        wait_for(
            "status with exit code 0", lambda: tool(runtime, "daedalus-ctl", "status").returncode == 0, 30
        )
        status = json.loads(tool(runtime, "daedalus-ctl", "status", "--json").stdout)
        assert {actor["name"] for actor in status["actors"]} == ACTORS
        assert {actor["state"] for actor in status["actors"]} == {"running"}
        everything = descendants(demo.pid)
        table = tool(runtime, "daedalus", "subscribe", "binance", "BTC/USDT", "--count", "3")
        assert table.returncode == 0, table.stderr
        assert len(table.stdout.splitlines()) >= 4
        lines = tool(runtime, "daedalus", "subscribe", "coinbase", "ETH/USD", "--count", "2", "--json")
        rows = [json.loads(line) for line in lines.stdout.splitlines()]
        assert [row["gap"] for row in rows] == [0, 0]
        assert rows[0]["features"]["mid_price"] > 0
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0, log.read_text()[-3000:]
        assert not [pid for pid in everything if alive(pid)]
        assert not [path for path in (data / "raw" / "active").rglob("*") if path.is_file()]
        asked = tool(
            runtime, "daedalus", "query", "--data", str(data), "--json",
            "select exchange, symbol, count(*) as n from trades group by exchange, symbol",
        )  # fmt: skip
        assert asked.returncode == 0, asked.stderr
        counts = [json.loads(line) for line in asked.stdout.splitlines()]
        assert {(row["exchange"], row["symbol"]) for row in counts} == {
            *(("binance", symbol) for symbol in ("BTC-USDT", "ETH-USDT")),
            *(("coinbase", symbol) for symbol in ("BTC-USD", "ETH-USD")),
        }
        assert all(row["n"] > 0 for row in counts)
    finally:
        if demo.poll() is None:
            demo.terminate()
            demo.wait(60)


def test_a_demo_with_a_duration_stops_by_itself_wherever_it_is_by_then(short_tmp: Path) -> None:
    demo = subprocess.Popen(
        [
            *(str(BIN / "daedalus-supervisor"), "start", "--demo", "--duration", "3"),
            *("--data", str(short_tmp / "d"), "--runtime", str(short_tmp / "r")),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        assert demo.wait(60) == 0
        wait_for("nobody to be left", lambda: not marked(short_tmp))
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()
