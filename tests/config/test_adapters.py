"""What a native adapter refuses is told by `check`, all of it, at its key: it ends a collector with 78."""

import subprocess
import sys

import pytest

from daedalus.config import catalogue
from daedalus.exchanges.native import NativeExchange, NativeOptions
from tests.exchanges.fakes import ListSink

CONTRACT = "cannot collect {} from kraken: contracts are another exchange's"
TWINS = "cannot collect {} beside {}: they are one pair of kraken's"


def told(report) -> list[str]:
    return [fault.text("f") for fault in report.faults]


def table(name: str, keys: str = "", **channels: list[str]) -> str:
    lines = "".join(f"{channel} = {symbols!r}\n" for channel, symbols in channels.items())
    return f'[exchanges.{name}]\nadapter = "native"\n{keys}[exchanges.{name}.channels]\n{lines}'


@pytest.mark.parametrize(
    ("name", "levels", "words"),
    [
        ("kraken", 1001, "cannot keep 1001 levels: kraken tells of 1000 at most"),
        ("okx", 401, "cannot keep 401 levels: okx tells of 400"),
    ],
)
@pytest.mark.parametrize("channel", ["orderbook", "depth"])
def test_more_levels_than_the_exchange_tells_of_are_refused(read, name, levels, words, channel) -> None:
    def text(levels: int) -> str:
        return table(name, f"max_orderbook_depth = {levels}\n", **{channel: ["BTC/USDT"]})

    assert told(read(text(levels))) == [f"f:3: exchanges.{name}.max_orderbook_depth: {words}"]
    assert told(read(text(levels - 1))) == []


@pytest.mark.parametrize(
    ("name", "symbols", "words"),
    [
        (
            "binance",
            ["BTC/USDT:USDT"],
            "cannot use the symbol 'BTC/USDT:USDT': it must have the form BASE/QUOTE",
        ),
        ("kraken", ["BTC/USD", "XBT/USD"], TWINS.format("XBT/USD", "BTC/USD")),
        ("kraken", ["ETH/USD:USD"], CONTRACT.format("ETH/USD:USD")),
        (
            "okx",
            ["BTC/USD:BTC-261225-60000-C"],
            "cannot collect BTC/USD:BTC-261225-60000-C from okx: options are not supported",
        ),
        (
            "binanceusdm",
            ["BTC/USDT", "BTC/USDT:USDT"],
            "cannot use both 'BTC/USDT' and 'BTC/USDT:USDT': both are BTCUSDT",
        ),
    ],
)
def test_a_symbol_that_the_exchange_cannot_have_is_refused_at_its_channel(read, name, symbols, words) -> None:
    assert told(read(table(name, trades=symbols))) == [f"f:4: exchanges.{name}.channels.trades: {words}"]


def test_every_fault_is_told_and_not_the_first_alone(read) -> None:
    text = table(
        "kraken",
        "max_orderbook_depth = 5000\n",
        orderbook=["BTC/USD", "ETH/USD:USD", "SOL/USD:USD"],
        trades=["XBT/USD", "ETH/USD:USD", "DOGE/USD", "XDG/USD"],
    )
    assert [line.partition("exchanges.kraken.")[2] for line in told(read(text))] == [
        "max_orderbook_depth: cannot keep 5000 levels: kraken tells of 1000 at most",
        f"channels.orderbook: {CONTRACT.format('ETH/USD:USD')}",
        f"channels.orderbook: {CONTRACT.format('SOL/USD:USD')}",
        f"channels.trades: {CONTRACT.format('ETH/USD:USD')}",
        f"channels.trades: {TWINS.format('XBT/USD', 'BTC/USD')}",
        f"channels.trades: {TWINS.format('XDG/USD', 'DOGE/USD')}",
    ]


def test_more_streams_than_a_connection_may_have_are_told_once_and_divided_they_are_good(read) -> None:
    symbols = [f"C{n}/USDT" for n in range(201)]
    keys = "symbols_per_connection = {}\n"
    (line,) = told(read(table("binanceusdm", keys.format(300), trades=symbols)))
    assert line.startswith(
        "f:3: exchanges.binanceusdm.symbols_per_connection: cannot carry 201 streams on one"
    )
    assert told(read(table("binanceusdm", keys.format(200), trades=symbols))) == []


def test_what_never_shares_a_connection_is_not_refused_together(read) -> None:
    """OKX: trades have a connection of their own, so the collector takes these two; so must the check."""
    one, other = ["BTC/USDT:USDT"], ["BTC/USDT:USDC"]
    channels = {"orderbook": one, "trades": other}
    assert len(NativeExchange(NativeOptions(id="okx", channels=channels), ListSink()).connections) == 2
    assert told(read(table("okx", **channels))) == []
    (line,) = told(read(table("okx", orderbook=one, ticker=other)))
    assert line.endswith("cannot collect BTC/USDT:USDC beside BTC/USDT:USDT: both are BTC-USDT-SWAP")


def test_a_table_that_names_its_adapter_by_id_is_checked_too(read) -> None:
    text = table("mine", 'id = "kraken"\n', trades=["ETH/USD:USD"])
    (line,) = told(read(text))
    assert line.startswith("f:5: exchanges.mine.channels.trades: cannot collect ETH/USD:USD")


@pytest.mark.parametrize("name", catalogue.NATIVE)
def test_an_adapter_takes_no_channels_for_the_question_of_levels(read, name) -> None:
    assert told(read(table(name, ticker=["BTC/USDT"], trades=["BTC/USDT"]))) == []


def test_what_starts_the_supervisor_imports_no_adapter() -> None:
    code = "import sys, daedalus.config.source, daedalus.config.loading, daedalus.cli.supervisor\n"
    code += "print([m for m in sys.modules if m.startswith('daedalus.exchanges')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_rotate_after_h_of_ccxt_is_a_warning(read) -> None:
    text = '[exchanges.binance]\nadapter = "ccxt"\n{}[exchanges.binance.channels]\ntrades = ["BTC/USDT"]\n'
    (warning,) = read(text.format("rotate_after_h = 12\n")).warnings
    assert warning.text("f").startswith("f:3: exchanges.binance.rotate_after_h: rotate_after_h has no effect")
    assert read(text.format("")).warnings == ()
