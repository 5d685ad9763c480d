"""`daedalus simulate` as a process: its line of JSON, its end, its words for bad input, and the real ccxt."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulator.makings import binance_lines, depth, truth_lines, write
from tests.system.tree import BIN, Simulator

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]


def _run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "daedalus"), "simulate", *args], capture_output=True, text=True, timeout=20, check=False
    )


@contextlib.contextmanager
def _simulator(folder: Path, *args: str) -> Iterator[Simulator]:
    simulator = Simulator(*args, log=folder / "simulator.log")
    try:
        yield simulator
    finally:
        simulator.close()


def test_it_prints_its_addresses_and_leaves_at_ctrl_c(short_tmp: Path) -> None:
    with _simulator(short_tmp, "--model", "--symbols", "binance:BTC/USDT,coinbase:BTC/USD") as simulator:
        assert simulator.addresses["symbols"] == {"binance": ["BTC/USDT"], "coinbase": ["BTC/USD"]}
        assert set(simulator.addresses) == {"binance", "coinbase", "ctl", "symbols"}
        assert simulator.ask()["state"] == "playing"
        simulator.process.send_signal(signal.SIGINT)
        assert simulator.process.wait(10) == 0
        assert (short_tmp / "simulator.log").read_text() == ""


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "cannot simulate nothing"),
        (["--model"], "--model and --symbols A,B go together"),
        (["--symbols", "A/B"], "--model and --symbols A,B go together"),
        (["--recording", "/nowhere/x.gz:BTC/USDT"], "/nowhere/x.gz: no such file"),
        (["--recording", "x.gz"], "write FILE:SYMBOL"),
        (["--model", "--symbols", "btcusdt"], "cannot use the symbol 'btcusdt'"),
        (["--model", "--symbols", "A/B", "--speed", "0"], "speed 0 is not above 0"),
        (["--model", "--symbols", "A/B", "--port", "notaport"], "not a valid integer"),
        (["--model", "--symbols", "A/B", "--faults", "/nowhere/f"], "cannot read the faults /nowhere/f"),
        (["--model", "--symbols", "A/B", "--faults", "seed=x"], "cannot use 'seed=x' of the faults"),
        (["--model", "--symbols", "A/B", "--truth", "/nowhere/t"], "cannot write the truth log /nowhere/t"),
    ],
)
def test_bad_input_is_one_clear_message_and_exit_2(args: list[str], words: str) -> None:
    done = _run(*args)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_truth_log_that_cannot_be_written_is_one_clear_message_and_exit_1() -> None:
    done = _run("--model", "--symbols", "A/B", "--rate", "200", "--truth", "/dev/full")
    assert done.returncode == 1
    assert done.stderr == "daedalus simulate: cannot write the truth log /dev/full: No space left on device\n"


def test_a_port_in_use_is_one_clear_message_and_exit_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = _run("--model", "--symbols", "A/B", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr == f"daedalus simulate: cannot listen on 127.0.0.1:{port}: the port is in use\n"


def test_damage_further_on_ends_it_in_words(short_tmp: Path) -> None:
    lines = binance_lines()
    lines.insert(4, depth(0, 0, [], [], 155)[:-4])
    path = write(short_tmp / "damaged", lines)
    done = _run("--recording", f"{path}:BTC/USDT", "--start", "immediately", "--speed", "50")
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


def test_help_teaches() -> None:
    done = _run("--help")
    assert done.returncode == 0
    for word in (
        "--recording",
        "--model",
        "--speed",
        "--loop",
        "--truth",
        "/ctl",
        "on-subscribe",
        "stale_snapshot",
        "handshake_refused",
        "seed=N",
        "Exit codes",
    ):
        assert word in done.stdout


def _ctl(addresses: dict[str, Any], **command: str) -> dict[str, Any]:
    request = urllib.request.Request(addresses["ctl"], json.dumps(command).encode())
    with urllib.request.urlopen(request, timeout=5) as reply:
        answer: dict[str, Any] = json.load(reply)
    return answer


def _first_seconds(source: Path, target: Path, seconds: float) -> Path:
    import gzip

    kept: list[str] = []
    with gzip.open(source, "rt") as file:
        for line in file:
            if kept and int(line[:19]) - int(kept[0][:19]) > seconds * 1e9:
                break
            kept.append(line.rstrip("\n"))
    return write(target, kept)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_real_ccxt_class_sees_every_trade_and_every_book(short_tmp: Path, recordings: Path) -> None:
    names = {"BTC/USDT": "btcusdt", "ETH/USDT": "ethusdt"}
    arguments = []
    for symbol, name in names.items():
        source = recordings / "binance_spot" / f"{name}_20240808.gz"
        arguments += ["--recording", f"{_first_seconds(source, short_tmp / name, 12)}:{symbol}"]
    log = short_tmp / "truth"
    with _simulator(short_tmp, *arguments, "--speed", "6", "--truth", str(log)) as simulator:
        books, trades = asyncio.run(_watch(simulator.addresses, tuple(names)))
    truth = truth_lines(log)
    told = {(entry["symbol"], entry["u"]): (entry["bids"], entry["asks"]) for entry in truth["book"]}
    assert len(told) > 200
    assert books == {key: told[key] for key in books}
    # ccxt applies no update that the snapshot contains already: one state may go unseen per symbol
    assert len(books) >= len(told) - len(names)
    heard = [(t["symbol"], t["id"], t["side"], t["price"], t["amount"]) for t in truth["trade"]]
    assert {entry["sockets"] for entry in truth["trade"]} == {1}
    assert sorted(trades) == sorted(heard)
    assert len(heard) > 100


async def _watch(addresses: dict[str, Any], symbols: tuple[str, ...]) -> tuple[dict[Any, Any], list[Any]]:
    """Watch until the end of the recording; return what hooks saw: books by (symbol, u), and trades."""
    import ccxt.pro

    exchange = ccxt.pro.binance(
        {"options": {"fetchMarkets": {"types": ["spot"]}, "tradesLimit": 5000, "watchOrderBookLimit": 5000}}
    )
    exchange.has["fetchCurrencies"] = False
    exchange.urls["api"]["public"] = addresses["binance"]["rest"]
    exchange.urls["api"]["ws"]["spot"] = addresses["binance"]["ws"]
    books: dict[Any, Any] = {}
    trades: list[Any] = []
    apply_book, apply_trade = exchange.handle_order_book_message, exchange.handle_trade

    def on_book(client: Any, message: Any, book: Any) -> Any:
        result = apply_book(client, message, book)
        top = [[list(level[:2]) for level in book[side][:20]] for side in ("bids", "asks")]
        books[exchange.safe_symbol(message["s"]), message["u"]] = tuple(top)
        return result

    def on_trade(client: Any, message: Any) -> Any:
        side = "sell" if message["m"] else "buy"
        symbol = exchange.safe_symbol(message["s"])
        trades.append((symbol, str(message["t"]), side, float(message["p"]), float(message["q"])))
        return apply_trade(client, message)

    exchange.handle_order_book_message, exchange.handle_trade = on_book, on_trade

    async def repeat(watch: Any, symbol: str) -> None:
        while True:
            await watch(symbol)

    watching = [
        asyncio.create_task(repeat(watch, symbol))
        for symbol in symbols
        for watch in (exchange.watch_order_book, exchange.watch_trades)
    ]
    try:
        async with asyncio.timeout(40):
            while await asyncio.to_thread(_state, addresses) != "ended":
                assert not any(task.done() for task in watching), [task for task in watching if task.done()]
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.3)  # what was sent last is still on its way
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await exchange.close()
    return books, trades


def _state(addresses: dict[str, Any]) -> str:
    with urllib.request.urlopen(addresses["ctl"], timeout=5) as reply:
        return str(json.load(reply)["state"])
