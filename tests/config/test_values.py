"""The small grammars of supervisor.toml: sizes, symbols, names."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.config.values import (
    parse_http_url,
    parse_name,
    parse_size,
    parse_symbol,
    parse_ws_url,
    suggest_symbol,
)


@given(st.integers(1, 10**6), st.sampled_from([("", 1), ("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)]))
def test_sizes_are_1024_based(number: int, unit: tuple[str, int]) -> None:
    assert parse_size(f"{number}{unit[0]}") == number * unit[1]


@pytest.mark.parametrize("value", ["", "M", "-1M", "1m", "1 KB", "0", 0, -5, 1.5, True, None, "\uff11M"])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(value)


@pytest.mark.parametrize(
    "symbol", ["BTC/USDT", "BTC/USDT:USDT", "1000PEPE/USDT", "kPEPE/USDC:USDC", "BTC/USD:BTC-241227"]
)
def test_unified_symbols_are_taken(symbol: str) -> None:
    assert parse_symbol(symbol) == symbol


@pytest.mark.parametrize(
    ("symbol", "guess"),
    [
        ("BTCUSDT", "BTC/USDT"),
        ("btc-usd", "BTC/USD"),
        ("btc/usdt", "BTC/USDT"),
        ("XBT_EUR", "XBT/EUR"),
        ("BTC", None),
    ],
)
def test_other_spellings_are_refused_with_a_guess(symbol: str, guess: str | None) -> None:
    assert suggest_symbol(symbol) == guess
    with pytest.raises(ValueError, match=f'"{guess or "BTC/USDT"}"'):
        parse_symbol(symbol)


@pytest.mark.parametrize("parse", [parse_http_url, parse_ws_url])
def test_d29_an_address_with_a_password_is_refused(parse: Callable[[str], str]) -> None:
    scheme = "https" if parse is parse_http_url else "wss"
    assert parse(f"{scheme}://api.example.com/path@v2") == f"{scheme}://api.example.com/path@v2"
    with pytest.raises(ValueError, match="password does not belong"):
        parse(f"{scheme}://me:secret@api.example.com")


@pytest.mark.parametrize("name", ["", "a/b", "a b", ".a", "-a", "a@1", "x" * 61, "ä"])
def test_names_that_cannot_be_paths_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name begins"):
        parse_name(name)
