"""What a user gets wrong: one clear message each, the right exit code, and nothing lost."""

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.system import configs
from tests.system.tree import BIN, Simulator, Tree, rows, wait_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

ADDRESSES = {
    "binance": {"rest": "http://127.0.0.1:9/api/v3", "ws": "ws://127.0.0.1:9/stream/ws"},
    "coinbase": {"ws": "ws://127.0.0.1:9/"},
}
COINBASE = configs.coinbase(ADDRESSES, ("BTC/USD",), "trades")


def start(base: Path, config: str | None, *args: str) -> subprocess.CompletedProcess[str]:
    """Run `daedalus-supervisor start` to its end."""
    file = base / "supervisor.toml"
    if config is not None:
        file.write_text(config)
    return subprocess.run(
        [
            *(str(BIN / "daedalus-supervisor"), "start", "--config", str(file)),
            *("--data", str(base / "d"), "--runtime", str(base / "r"), "--duration", "20", *args),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (COINBASE.replace("adapter", "adaptor"), ("adaptor", "adapter")),
        (COINBASE.replace('"native"', '"ntive"'), ("ntive", "native")),
        (COINBASE.replace("[exchanges.coinbase]", '[exchanges.coinbase]\nid = "coinbsae"'), ("coinbsae",)),
        (COINBASE.replace("trades", "traeds"), ("traeds", "trades")),
        (COINBASE.replace("BTC/USD", "BTCUSD"), ("BTCUSD",)),
        (
            '[exchanges.nowhere]\nadapter = "ccxt"\n[exchanges.nowhere.channels]\ntrades = ["A/B"]\n',
            ("nowhere",),
        ),
        ("[writer\n", ("supervisor.toml",)),
        (None, ("supervisor.toml",)),
    ],
)
def test_a_bad_file_exits_78_and_names_the_fault(
    short_tmp: Path, config: str | None, words: tuple[str, ...]
) -> None:
    done = start(short_tmp, config)
    assert done.returncode == 78, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert not (short_tmp / "d").exists()


def test_a_data_directory_that_cannot_be_made_is_one_clear_message(short_tmp: Path) -> None:
    (short_tmp / "plain").write_text("a file")
    done = start(short_tmp, COINBASE, "--data", str(short_tmp / "plain" / "below"))
    assert done.returncode in (1, 78), done.stderr
    assert str(short_tmp / "plain") in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_start_exits_6_names_the_first_and_harms_nothing(short_tmp: Path) -> None:
    simulator = Simulator("--model", "--symbols", "coinbase:BTC/USD", log=short_tmp / "simulator.log")
    tree = Tree(short_tmp, configs.coinbase(simulator.addresses, ("BTC/USD",)))
    try:
        before = {name: actor["pid"] for name, actor in tree.wait_running().items()}
        done = start(short_tmp, None)
        assert done.returncode == 6, done.stderr
        assert str(tree.process.pid) in done.stderr
        assert {name: actor["pid"] for name, actor in tree.actors().items()} == before
        assert tree.stop() == 0
    finally:
        tree.close()
        simulator.close()


def _last_error(tree: Tree, name: str) -> dict[str, Any] | None:
    actor = tree.actors().get(name, {})
    return actor if actor.get("state") == "failed" else None


def test_an_unknown_symbol_fails_its_collector_alone_and_says_what_there_is(short_tmp: Path) -> None:
    simulator = Simulator("--model", "--symbols", "BTC/USDT,BTC/USD", log=short_tmp / "simulator.log")
    config = configs.binance(simulator.addresses, ("BTC/USTD",)) + configs.coinbase(
        simulator.addresses, ("BTC/USD",)
    )
    tree = Tree(short_tmp, config)
    try:
        failed = wait_for("the failure", lambda: _last_error(tree, "ingest/collector-binance"), 20)
        told = json.dumps(failed["last_exit"]) + tree.tail(20000)
        assert "BTC/USTD" in told
        assert "BTC/USDT" in told
        others = [a for name, a in tree.actors().items() if name != "ingest/collector-binance"]
        assert all(actor["state"] == "running" for actor in others)
        status = subprocess.run(
            [str(BIN / "daedalus-ctl"), "--runtime", str(tree.runtime), "status"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert status.returncode == 3
        assert "failed" in status.stdout
    finally:
        tree.close()
        simulator.close()


def test_a_port_in_use_fails_the_gateway_and_names_the_port(short_tmp: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = COINBASE.replace("trades =", "orderbook =") + f'[gateway]\ntcp = "tcp://127.0.0.1:{port}"\n'
        tree = Tree(short_tmp, config)
        try:
            wait_for("the failure", lambda: _last_error(tree, "live/gateway"), 20)
            assert str(port) in tree.tail(20000)
        finally:
            tree.close()


def test_a_damaged_journal_costs_its_frames_and_nothing_else(short_tmp: Path) -> None:
    simulator = Simulator(
        "--model", "--symbols", "coinbase:BTC/USD", "--rate", "200", log=short_tmp / "sim.log"
    )
    tree = Tree(short_tmp, configs.coinbase(simulator.addresses, ("BTC/USD",), "trades"))
    try:
        tree.wait_running()

        def journal() -> Path | None:
            found = [path for path in tree.active() if path.suffix == ".open"]
            return next((path for path in found if len(path.read_bytes().rstrip(b"\0")) > 20000), None)

        path = wait_for("a journal with data", journal, 30)
        tree.kill("store/writer-trades")
        whole = path.read_bytes()
        middle = len(whole.rstrip(b"\0")) // 2
        path.write_bytes(
            whole[:middle] + bytes(b ^ 0xFF for b in whole[middle : middle + 64]) + whole[middle + 64 :]
        )
        tree.start()
        tree.wait_running()
        assert tree.stop() == 0, tree.tail()
        assert tree.active() == []
        stored = list(rows(tree, "trades"))
        assert len({(row["session_id"], row["seq"]) for row in stored}) == len(stored)
        assert len(stored) > 50
        assert list((tree.data / "raw" / "quarantine").rglob("*.reason")), "the damage is kept and explained"
        assert '"journal_damaged"' in tree.log.read_text(), "and said"
        gaps = [gap for gap in rows(tree, "gaps") if gap["reason"] == "error"]
        assert gaps, "the loss is a row"
    finally:
        tree.close()
        simulator.close()
