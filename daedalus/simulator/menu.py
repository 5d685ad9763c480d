"""The menu of faults: what can be ordered, with which arguments, and how an order is read and refused.

An order says what is to happen to whom. Faults of connections and of their messages befall the connections
that are open at that moment; who connects anew is spared. Faults of requests befall the requests, handshakes
and subscriptions to come: `count` of them, or all within `for_s`. Faults of markets change the market itself,
for everybody.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from daedalus.kernel.errors import ConfigError

__all__ = ["MENU", "STREAMS", "Dish", "Order", "read_order"]

FOR_S_MAX = 3600.0
COUNT_MAX = 1_000_000


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One fault, ordered. What its dish does not know stays unset."""

    fault: str
    exchange: str = ""  # empty: every one
    symbol: str = ""  # BASE/QUOTE; empty: every one
    stream: str = ""  # orderbook | trades | ticker | bidask | heartbeats; empty: every one
    pick: int | None = None  # of the open connections it could befall only this one, counted round
    for_s: float | None = None
    count: int | None = None
    how: str = ""
    status: int | None = None
    retry_after_s: float | None = None
    delay_s: float | None = None
    code: int | None = None
    size: int | None = None
    ticks: int | None = None
    path: str = ""  # of REST requests: those with this in their path


class Dish(NamedTuple):
    """One fault of the menu: what it befalls, its own arguments with defaults, and what it is."""

    befalls: Literal["connections", "messages", "requests", "market"]
    arguments: Mapping[str, float | str | None]
    words: str
    hows: tuple[str, ...] = ()


MENU: dict[str, Dish] = {
    "close": Dish("connections", {"code": 1001}, "a closing handshake, with this code"),
    "abort": Dish("connections", {}, "the TCP connection is reset"),
    "freeze": Dish(
        "connections", {"for_s": 10.0}, "nothing is sent or read, pings included; then it goes on, late"
    ),
    "silence": Dish("connections", {"for_s": 10.0}, "pings are answered, no data; then it is sent, late"),
    "stream_silence": Dish(
        "connections", {"for_s": 10.0}, "as silence, but only of one stream or symbol: others go on"
    ),
    "oversize": Dish(
        "connections", {"size": 1 << 30}, "the head of a frame of `size` bytes; what follows is its payload"
    ),
    "garbage": Dish(
        "messages",
        {"count": 1, "how": "json"},
        "in place of a message: half of it, a binary frame, bytes that are no UTF-8, JSON of no known shape",
        ("json", "binary", "utf8", "shape"),
    ),
    "gap": Dish("messages", {"count": 5}, "messages are lost: holes in sequence_num, in U…u, in trade ids"),
    "duplicate": Dish("messages", {"count": 5}, "messages of trades are sent twice"),
    "reorder": Dish("messages", {"count": 1}, "a message comes after the next of its stream"),
    "subscribe_error": Dish("requests", {"count": 1, "for_s": None}, "a subscription is refused"),
    "rest_error": Dish(
        "requests",
        {"count": 1, "for_s": None, "status": 500, "retry_after_s": None},
        "REST answers with this status: 5xx, 429 or 418; with a Retry-After if one is given",
    ),
    "rest_slow": Dish("requests", {"count": 1, "for_s": None, "delay_s": 5.0}, "REST answers late"),
    "rest_body": Dish(
        "requests",
        {"count": 1, "for_s": None, "how": "html"},
        "REST answers 200 with a page, half of the body, JSON of another shape, or nothing",
        ("html", "truncated", "shape", "empty"),
    ),
    "handshake_slow": Dish(
        "requests", {"count": 1, "for_s": None, "delay_s": 5.0}, "a websocket is accepted late"
    ),
    "handshake_refused": Dish(
        "requests",
        {"count": 1, "for_s": None, "status": 403},
        "a websocket is refused with this status: 403, 429",
    ),
    "stale_snapshot": Dish(
        "requests",
        {"count": None, "for_s": 10.0},
        "REST books stay those of the moment of the order",
    ),
    "crossed": Dish(
        "market",
        {"count": 1, "ticks": 1},
        "a bid above the best ask by `ticks`, taken back after `count` updates; 0 ticks: locked",
    ),
}

STREAMS: dict[str, dict[str, tuple[str, ...]]] = {
    "orderbook": {"binance": ("depth",), "coinbase": ("level2",)},
    "trades": {"binance": ("trade",), "coinbase": ("market_trades",)},
    "ticker": {"binance": ("ticker", "miniTicker"), "coinbase": ("ticker",)},
    "bidask": {"binance": ("bookTicker",), "coinbase": ()},
    "heartbeats": {"binance": (), "coinbase": ("heartbeats",)},
}

_BOUNDS: dict[str, tuple[float, float, str]] = {
    "for_s": (0, FOR_S_MAX, "s"),
    "count": (1, COUNT_MAX, ""),
    "delay_s": (0, FOR_S_MAX, "s"),
    "retry_after_s": (0, FOR_S_MAX, "s"),
    "status": (400, 599, ""),
    "code": (1000, 4999, ""),
    "size": (1, 1 << 62, "bytes"),
    "ticks": (0, 1_000_000, ""),
    "pick": (0, 1 << 62, ""),
}
# Whom an order may name, by what its dish befalls.
_NAMES = {
    "connections": ("exchange", "symbol", "pick"),
    "messages": ("exchange", "symbol", "pick"),
    "requests": ("exchange",),
    "market": ("exchange", "symbol"),
}
_MORE = {
    "stream_silence": ("stream",), "garbage": ("stream",), "gap": ("stream",), "reorder": ("stream",),
    "stale_snapshot": ("symbol",), "rest_error": ("path",), "rest_slow": ("path",), "rest_body": ("path",),
}  # fmt: skip


def read_order(what: Mapping[str, Any], markets: Collection[tuple[str, str]]) -> Order:
    """Return the order in `what`, with the defaults of its dish.

    Args:
        what: as decoded from JSON or TOML.
        markets: the (exchange, symbol) pairs there are.

    Raises:
        ConfigError: it cannot be carried out, and why.
    """
    name = what.get("fault")
    dish = MENU.get(name) if isinstance(name, str) else None
    if not isinstance(name, str) or dish is None:
        raise ConfigError(f"cannot order the fault {name!r}: there are {', '.join(MENU)}")
    allowed = [*_NAMES[dish.befalls], *_MORE.get(name, ()), *dish.arguments]
    unknown = sorted(set(what) - {*allowed, "fault"})
    if unknown:
        raise ConfigError(f"cannot order {name} with {', '.join(unknown)}: it knows {', '.join(allowed)}")
    given = {key: value for key, value in what.items() if value is not None}
    defaults = {key: value for key, value in dish.arguments.items() if value is not None}
    if "for_s" in given and "for_s" in dish.arguments:
        defaults.pop("count", None)  # all within that time
    try:
        order = msgspec.convert({**defaults, **given}, Order)
    except msgspec.ValidationError as error:
        raise ConfigError(f"cannot order {name}: {error}") from None
    _check(order, dish, markets)
    return order


def _check(order: Order, dish: Dish, markets: Collection[tuple[str, str]]) -> None:
    exchanges = dict.fromkeys(exchange for exchange, _ in markets)
    symbols = dict.fromkeys(symbol for exchange, symbol in markets if order.exchange in ("", exchange))
    chosen: dict[str, tuple[str, Collection[str]]] = {
        "exchange": (order.exchange, exchanges),
        "symbol": (order.symbol, symbols),
        "stream": (order.stream, STREAMS),
        "how": (order.how, dish.hows),
    }
    for key, (value, choices) in chosen.items():
        if value and value not in choices:
            raise ConfigError(f"cannot order {order.fault} with {key} {value!r}: there are {_list(choices)}")
    for key, (low, high, unit) in _BOUNDS.items():
        value = getattr(order, key)
        if value is not None and not (low <= value <= high and math.isfinite(value)):
            raise ConfigError(
                f"cannot order {order.fault} with {key} {value:g}: {low:g} to {high:g} {unit}".rstrip()
            )
    if order.fault == "stream_silence" and not order.stream and not order.symbol:
        raise ConfigError("cannot order stream_silence without a stream or a symbol: that would be silence")


def _list(choices: Collection[str]) -> str:
    return ", ".join(choices)
