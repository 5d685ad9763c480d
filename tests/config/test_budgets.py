"""What an exchange allows an address is divided among the collectors that ask it, and `check` says so."""

import msgspec
import pytest

SPOT, USDM = '["BTC/USDT"]', '["BTC/USDT:USDT"]'


def table(name: str, adapter: str, keys: str = "", trades: str = SPOT) -> str:
    return (
        f'[exchanges.{name}]\nadapter = "{adapter}"\n{keys}[exchanges.{name}.channels]\ntrades = {trades}\n'
    )


def shares(read, *tables: str) -> dict[str, int]:
    report = read("".join(tables))
    assert report.tree is not None, [fault.text("f") for fault in report.faults]
    settings = [msgspec.msgpack.decode(one.settings) for one in report.tree.actors if one.role == "collector"]
    return {one["exchange"]: one["share"] for one in settings}


CCXT = table("binance", "ccxt")
RAW = table("raw", "native", 'id = "binance"\n')
MORE = table("more", "native", 'id = "binance"\n', '["ETH/USDT"]')
SWAPS = table("swaps", "native", 'id = "binanceusdm"\n', USDM)
MIXED = table("mixed", "ccxt", 'id = "binance"\n', '["BTC/USDT", "ETH/USDT:USDT"]')
INVERSE = table("inverse", "ccxt", 'id = "binance"\n', '["BTC/USD:BTC"]')


def test_d28_one_collector_of_an_exchange_has_all_of_its_allowance(read) -> None:
    assert shares(read, CCXT, table("kraken", "native", trades='["BTC/USD"]')) == {"binance": 1, "kraken": 1}
    assert read(CCXT).notes == ()


def test_d28_tables_of_one_exchange_divide_it_whatever_their_adapter(read) -> None:
    assert shares(read, CCXT, RAW, MORE) == {"binance": 3, "raw": 3, "more": 3}
    (note,) = read(CCXT + RAW).notes
    assert note == (
        "2 collectors share what binance spot allows one address: "
        "binance keeps to 1/2 of it, raw keeps to 1/2 of it"
    )


def test_binances_markets_are_counted_apart_and_who_asks_several_keeps_to_the_fullest(read) -> None:
    assert shares(read, CCXT, SWAPS, INVERSE) == {"binance": 1, "swaps": 1, "inverse": 1}
    assert shares(read, CCXT, RAW, SWAPS, MIXED) == {"binance": 3, "raw": 3, "swaps": 2, "mixed": 3}


@pytest.mark.parametrize(
    ("keys", "share"),
    [
        ('rest_url = "https://testnet.example"\nws_url = "wss://testnet.example"\n', 1),
        ('rest_url = "http://127.0.0.1:7000"\nws_url = "ws://127.0.0.1:7000"\n', 1),
        ('rest_url = ""\n', 2),
        ('rest_url = "https://api.binance.com"\n', 2),
    ],
)
def test_another_address_is_another_allowance_and_a_simulator_has_none(read, keys: str, share: int) -> None:
    other = table("other", "native", f'id = "binance"\n{keys}')
    assert shares(read, RAW, other) == {"raw": share, "other": share}


@pytest.mark.parametrize(
    ("keys", "share"),
    [
        ("timeout = 5000\n", 2),
        ("sandbox = true\n", 1),
        ('httpsProxy = "http://proxy.example:3128"\n', 1),
        (
            'urls = { api = { public = "http://127.0.0.1:1/api/v3", ws = { spot = "ws://127.0.0.1:1" } } }\n',
            1,
        ),
    ],
)
def test_ccxt_elsewhere_or_through_a_proxy_is_another_address(read, keys: str, share: int) -> None:
    other = table("other", "ccxt", 'id = "binance"\n') + f"[exchanges.other.ccxt]\n{keys}"
    assert shares(read, RAW, other) == {"raw": share, "other": share}


def test_two_tables_at_one_simulator_divide_nothing(read) -> None:
    keys = 'id = "binance"\nrest_url = "http://127.0.0.1:7000"\nws_url = "ws://127.0.0.1:7000"\n'
    assert shares(read, table("a", "native", keys), table("b", "native", keys)) == {"a": 1, "b": 1}
