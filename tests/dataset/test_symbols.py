"""D-10: every symbol has a name of its own on disk, for ever, whoever asks and whatever breaks."""

import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.dataset.layout import Layout
from daedalus.dataset.symbols import Registry, market_of
from daedalus.kernel.errors import FatalError


@pytest.fixture
def layout(tmp_path) -> Layout:
    return Layout(data=str(tmp_path))


def claimed(layout: Layout, *symbols: str, exchange: str = "binance") -> list[str]:
    registry = Registry.load(layout)
    names = [registry.claim(exchange, symbol) for symbol in symbols]
    registry.save()
    return names


@pytest.mark.parametrize(
    ("raw", "name", "market"),
    [
        ("BTC/USDT", "BTC-USDT", ("spot", "BTC", "USDT", None)),
        ("BTC/USDT:USDT", "BTC-USDT-USDT", ("swap", "BTC", "USDT", "USDT")),
        ("BTC/USDT:USDT-251226", "BTC-USDT-USDT-251226", ("future", "BTC", "USDT", "USDT")),
        ("ETH/USD:ETH-251226-4000-C", "ETH-USD-ETH-251226-4000-C", ("option", "ETH", "USD", "ETH")),
        ("1000PEPE/USDC:USDC", "1000PEPE-USDC-USDC", ("swap", "1000PEPE", "USDC", "USDC")),
    ],
)
def test_d10_names_and_markets_of_every_kind_of_symbol(layout, raw, name, market) -> None:
    assert claimed(layout, raw) == [name]
    ((_, _, entry),) = Registry.load(layout).entries()
    assert (entry.type, entry.base, entry.quote, entry.settle) == market
    assert market_of(raw) == dict(zip(("type", "base", "quote", "settle"), market, strict=True))


@pytest.mark.parametrize("second", ["BTC/USDT-USDT", "btc/usdt:usdt", "BTC:USDT/USDT"])
def test_d10_a_second_symbol_of_the_same_name_is_refused_also_after_a_restart(layout, second) -> None:
    claimed(layout, "BTC/USDT:USDT")
    registry = Registry.load(layout)
    with pytest.raises(FatalError, match=r"cannot store .* that is 'BTC/USDT:USDT'; .*\.aliases\] "):
        registry.claim("binance", second)
    assert registry.claim("binance", second, "BTC-USDT-PERP") == "BTC-USDT-PERP"
    assert registry.claim("okx", second) == second.translate(str.maketrans("/:", "--"))  # another exchange


def test_d10_an_alias_is_no_way_round_the_rule(layout) -> None:
    claimed(layout, "BTC/USDT")
    for alias in ("BTC-USDT", "btc-usdt"):
        with pytest.raises(FatalError, match="that is 'BTC/USDT'"):
            Registry.load(layout).claim("binance", "ETH/USDT", alias)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a\nb", "a\0b", "é" * 101, "x" * 201, "a/b"])
def test_d10_what_cannot_be_a_directory_is_refused(layout, name) -> None:
    with pytest.raises(FatalError, match="cannot use"):
        Registry.load(layout).claim("binance", "BTC/USDT", name)


def test_a_name_stays_taken_after_its_symbol_was_given_another(layout) -> None:
    claimed(layout, "A/B:C")
    registry = Registry.load(layout)
    registry.claim("binance", "A/B:C", "PERP")
    registry.save()
    ((_, _, entry),) = Registry.load(layout).entries()
    assert (entry.symbol, entry.former) == ("PERP", ["A-B-C"])
    with pytest.raises(FatalError, match="that is 'A/B:C'"):
        Registry.load(layout).claim("binance", "A/B-C")
    assert claimed(layout, "A/B:C") == ["A-B-C"]  # and back
    ((_, _, entry),) = Registry.load(layout).entries()
    assert (entry.symbol, entry.former) == ("A-B-C", ["PERP"])


def test_d11_quotes_are_never_folded_into_one_name(layout) -> None:
    names = claimed(layout, "BTC/USD", "BTC/USDT", "BTC/USDC", "BTC/UST", exchange="coinbase")
    assert len(set(names)) == 4
    assert [entry.quote for _, _, entry in Registry.load(layout).entries()] == ["USD", "USDC", "USDT", "UST"]


def test_c15_the_requested_symbol_is_the_key_and_what_the_exchange_says_is_added(layout) -> None:
    registry = Registry.load(layout)
    registry.claim("binanceusdm", "BTC/USDT")
    registry.claim("binanceusdm", "BTC/USDT", type="swap", settle="USDT", base=None)
    registry.save()
    ((exchange, raw, entry),) = Registry.load(layout).entries()
    assert (exchange, raw, entry.symbol) == ("binanceusdm", "BTC/USDT", "BTC-USDT")
    assert (entry.type, entry.base, entry.settle) == ("swap", "BTC", "USDT")
    with pytest.raises(TypeError, match="unexpected keyword argument 'kind'"):
        registry.claim("binanceusdm", "BTC/USDT", kind="swap")


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[]", b'{"exchanges": {"binance": 3}}'])
def test_a_damaged_registry_is_moved_aside_and_its_copy_used(layout, damage) -> None:
    claimed(layout, "A/B:C")
    path = layout.state() / "symbols.json"
    path.write_bytes(damage)
    registry = Registry.load(layout)
    assert path.with_name("symbols.json.damaged-1").read_bytes() == damage
    with pytest.raises(FatalError, match="that is 'A/B:C'"):
        registry.claim("binance", "A/B-C")
    registry.save()
    assert json.loads(path.read_bytes())["exchanges"]["binance"]["A/B:C"]["symbol"] == "A-B-C"


def test_a_registry_damaged_twice_over_begins_anew(layout) -> None:
    claimed(layout, "A/B")
    for name in ("symbols.json", "symbols.copy.json"):
        (layout.state() / name).write_bytes(b"?")
    assert Registry.load(layout).entries() == []
    assert claimed(layout, "C/D") == ["C-D"]
    assert len(list(layout.state().glob("*.damaged-*"))) == 2


def test_a_registry_of_a_later_version_is_refused_and_not_touched(layout) -> None:
    claimed(layout, "A/B")
    path = layout.state() / "symbols.json"
    path.write_text('{"version": 9, "exchanges": {}}')
    with pytest.raises(FatalError, match="its version is 9, this one knows 1"):
        Registry.load(layout)
    assert "9" in path.read_text()


def test_collectors_that_save_at_the_same_time_lose_nothing(layout) -> None:
    def collector(exchange: str) -> None:
        registry = Registry.load(layout)
        for number in range(5):
            registry.claim(exchange, f"S{number}/USD")
            registry.save()

    threads = [threading.Thread(target=collector, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Registry.load(layout).entries()) == 20


def test_a_name_given_away_since_the_load_is_refused_at_the_save(layout) -> None:
    first, second = Registry.load(layout), Registry.load(layout)
    first.claim("binance", "A/B:C")
    second.claim("binance", "A/B-C")
    first.save()
    with pytest.raises(FatalError, match="that is 'A/B:C'"):
        second.save()


def test_saving_what_is_known_writes_nothing(layout) -> None:
    claimed(layout, "A/B")
    before = (layout.state() / "symbols.json").stat().st_ino
    claimed(layout, "A/B")
    assert (layout.state() / "symbols.json").stat().st_ino == before


@given(st.lists(st.text(alphabet="aAbB/:-", min_size=1, max_size=6), max_size=12))
def test_no_two_symbols_ever_share_a_name(symbols) -> None:
    registry = Registry(Layout(data="nowhere"))
    for symbol in symbols:
        try:
            registry.claim("x", symbol)
        except FatalError:
            continue
    names = [entry.symbol.casefold() for _, _, entry in registry.entries()]
    assert len(names) == len(set(names))
