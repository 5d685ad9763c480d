"""What is wanted of a ccxt exchange, and the configuration of its instance that follows from it. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from daedalus.exchanges.credentials import Credentials

__all__ = ["BULK", "CcxtOptions", "book_limit", "instance_config", "merged"]

BULK = {"trades": 10, "ticker": 10}
"""Symbols in one subscription, where the exchange has such: books stay single, so that one fails alone."""

_TRADES_LIMIT_MIN = 1000
_SPOT_DEEP = ("binance", "binanceus")
_SPOT_SNAPSHOT = 5000  # levels: the most that Binance spot gives
# The depths an exchange lets one ask for, where asking is needed and safe. Never Binance: a limit there gives
# a wrong top of the book. Kraken's default is 10 levels; it truncates to the depth that was subscribed.
_DEPTHS = {"kraken": (10, 25, 100, 500, 1000)}


class CcxtOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of the exchange. Durations in seconds unless the name says otherwise."""

    id: str  # the ccxt class
    channels: dict[str, list[str]]  # our channel -> symbols as configured
    name: str = ""  # of the [exchanges.X] table: the environment's credentials are named after it
    levels: int = 50
    overrides: dict[str, Any] = {}  # merged deeply into the instance
    side: str = "auto"
    raw_info: bool = False
    raw_frames: bool = False
    api_key_file: str = ""
    api_secret_file: str = ""
    keepalive_s: float = 12.0
    stale_min_s: float = 10.0
    stale_max_s: float = 120.0
    stagger_ms: float = 100.0
    max_concurrent: int = 5
    reconnect_base_s: float = 0.5
    reconnect_cap_s: float = 300.0
    # channel -> symbols in one subscription; 0 or 1: one each
    bulk: dict[str, int] = msgspec.field(default_factory=BULK.copy)
    streams_per_connection: int = 0  # where ccxt lets one choose (Binance); 0: one connection each
    backfill: bool = True
    backfill_pages: int = 50  # for each hole: of 1000 trades, of as many as the exchange likes elsewhere
    markets_reload_s: float = 86_400.0
    share: int = 1  # of the exchange's limits for one address: 1/share is ours
    allowed: tuple[float, float] | None = None  # subscriptions (how many, in s); None: what is known


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on it, tables into tables.

    >>> merged({"urls": {"a": 1, "b": 2}}, {"urls": {"b": 3}})
    {'urls': {'a': 1, 'b': 3}}
    """
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        out[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return out


def instance_config(options: CcxtOptions, credentials: Credentials | None) -> dict[str, Any]:
    """Return what the ccxt class is made with: ours, then the key, then what the user says."""
    base: dict[str, Any] = {
        "enableRateLimit": True,
        "newUpdates": True,
        "streaming": {"keepAlive": int(options.keepalive_s * 1000)},
        "options": _deepest(options) | _connections(options),
    }
    if credentials is not None:
        base |= {"apiKey": credentials.key, "secret": credentials.secret}
    config = merged(base, options.overrides)
    # a table of one trade keeps one of a message's five: never fewer than this, whoever asks
    wanted = config["options"].get("tradesLimit")
    limit = wanted if isinstance(wanted, int) else 0
    config["options"]["tradesLimit"] = max(limit, _TRADES_LIMIT_MIN)
    return config


def _deepest(options: CcxtOptions) -> dict[str, Any]:
    """Return the option for the deepest first snapshot there is.

    ccxt asks Binance for 1000 levels and keeps no more. Deltas beyond them pass unseen, and when the price
    has moved there, the top of the book is wrong: 3 of 6,881 recorded states; none with 5000 levels. Its
    derivatives refuse more than 1000.
    """
    spot = not any(":" in symbol for symbol in options.channels.get("orderbook", ()))
    return {"watchOrderBookLimit": _SPOT_SNAPSHOT} if spot and options.id in _SPOT_DEEP else {}


def _connections(options: CcxtOptions) -> dict[str, Any]:
    """Return the option for how many sockets Binance's subscriptions are spread over."""
    if not options.streams_per_connection or not options.id.startswith("binance"):
        return {}
    streams = sum(len(symbols) for symbols in options.channels.values())
    sockets = max(-(-streams // options.streams_per_connection), 1)
    kinds = ("spot", "margin", "linear", "inverse", "option")
    return {"streamLimits": dict.fromkeys(kinds, sockets)}


def book_limit(exchange_id: str, levels: int) -> int | None:
    """Return the limit to pass to `watch_order_book`; None, nearly always: no limit.

    >>> book_limit("kraken", 50), book_limit("binance", 50)
    (100, None)
    """
    depths = _DEPTHS.get(exchange_id)
    if depths is None:
        return None
    return next((depth for depth in depths if depth >= levels), depths[-1])
