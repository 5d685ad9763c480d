"""Which exchanges and channels there are: native adapters, ccxt's classes, its ways to watch.

Importing ccxt to ask would cost half a second and 110 MB; tests/config/test_channels.py asks it.
"""

import importlib.util
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

__all__ = ["ACCOUNT", "CCXT_ONLY", "FORMS", "NATIVE", "NATIVE_ONLY", "NO_CHANNEL", "ccxt_ids", "channel_like"]

NATIVE = ("coinbase", "binance", "binanceusdm", "kraken", "okx")
"""The ids of the native adapters."""

NATIVE_ONLY = ("depth",)
"""Channels that ccxt has nothing of: it gives states of a book, never the exchange's own changes."""

ACCOUNT = ("my_trades", "orders", "positions", "my_liquidations")
"""Channels of an account: they need a key."""

CCXT_ONLY = ("bidask", "ohlcv", "funding_rate", "mark_price", "liquidations", *ACCOUNT)
"""Channels that no native adapter has. Those without a name of ours are ccxt's `watch_NAME`."""

FORMS = {
    "order_book": "orderbook",
    "order_book_for_symbols": "orderbook",
    "level2": "orderbook",
    "market_trades": "trades",
    "trades_for_symbols": "trades",
    "tickers": "ticker",
    "bids_asks": "bidask",
    "ohlcv_for_symbols": "ohlcv",
    "funding_rates": "funding_rate",
    "funding_rates_for_symbols": "funding_rate",
    "mark_prices": "mark_price",
    "liquidations_for_symbols": "liquidations",
    "my_trades_for_symbols": "my_trades",
    "my_liquidations_for_symbols": "my_liquidations",
    "orders_for_symbols": "orders",
    "position": "positions",
    "position_for_symbols": "positions",
}
"""Other words for a channel, most of them ccxt's forms for many symbols -> the channel."""

NO_CHANNEL = ("balance", "status", "index_price")
"""What ccxt watches and no channel can be: of no symbol, or named by an exchange and not built there."""


@cache
def ccxt_ids() -> frozenset[str]:
    """Return the ids of the exchanges ccxt.pro has a class for; empty when ccxt is not installed."""
    spec = importlib.util.find_spec("ccxt")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    folder = Path(spec.submodule_search_locations[0]) / "pro"
    return frozenset(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def channel_like(word: str, channels: Iterable[str]) -> str:
    """Return the channel that `word` stands for in ccxt or elsewhere, or ''.

    >>> channel_like("watchOrderBook", ["orderbook"]), channel_like("watch_funding_rate", ["funding_rate"])
    ('orderbook', 'funding_rate')
    """
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", word).lower().removeprefix("watch_")
    found = FORMS.get(snake, snake)
    return found if found in channels else ""
