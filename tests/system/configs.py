"""Configurations of the system tests, as a user would write them."""

from typing import Any


def binance(
    addresses: dict[str, Any], symbols: tuple[str, ...], channels: str = "orderbook trades ticker"
) -> str:
    """The real ccxt class, pointed at the simulator the way a user points it at a proxy."""
    lines = "\n".join(f"{channel} = {list(symbols)!r}" for channel in channels.split())
    return f"""
[exchanges.binance]
adapter = "ccxt"
[exchanges.binance.ccxt.urls.api]
public = "{addresses["binance"]["rest"]}"
[exchanges.binance.ccxt.urls.api.ws]
spot = "{addresses["binance"]["ws"]}"
[exchanges.binance.ccxt.options.fetchMarkets]
types = ["spot"]
[exchanges.binance.ccxt.has]
fetchCurrencies = false
[exchanges.binance.channels]
{lines}
""".replace("'", '"')


def coinbase(
    addresses: dict[str, Any], symbols: tuple[str, ...], channels: str = "orderbook trades ticker"
) -> str:
    """The native adapter."""
    lines = "\n".join(f"{channel} = {list(symbols)!r}" for channel in channels.split())
    return f"""
[exchanges.coinbase]
adapter = "native"
ws_url = "{addresses["coinbase"]["ws"]}"
[exchanges.coinbase.channels]
{lines}
""".replace("'", '"')
