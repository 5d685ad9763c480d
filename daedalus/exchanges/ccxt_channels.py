"""Our channels and ccxt's watch methods: what an exchange has, and what it is asked for. Pure.

    orderbook   watchOrderBook                       trades      watchTrades / watchTradesForSymbols
    ticker      watchTicker / watchTickers           bidask      watchBidsAsks
    ohlcv       watchOHLCV, one minute               any other N watchN, delivered as events

`depth`, the exchange's own changes of its full book, is what ccxt hides: native adapters have it.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from daedalus.exchanges.adapter import Stream
from daedalus.kernel.errors import FatalError

__all__ = ["Subscription", "check_symbols", "method_of", "plan"]

_METHODS = {
    "orderbook": "watchOrderBook",
    "trades": "watchTrades",
    "ticker": "watchTicker",
    "bidask": "watchBidsAsks",
    "ohlcv": "watchOHLCV",
}
_BULK = {"orderbook": "watchOrderBookForSymbols", "trades": "watchTradesForSymbols", "ticker": "watchTickers"}
# Coinbase's watchTickers is `ticker_batch`: a message every five seconds instead of at every change.
_BULK_WORSE = {("coinbase", "ticker"), ("coinbaseadvanced", "ticker")}

_NO_DEPTH = (
    "depth is the exchange's own changes of its full book, which ccxt folds away: "
    'only native adapters have it (adapter = "native"); through ccxt there is orderbook'
)


class Subscription(NamedTuple):
    """One watch call and the streams it brings."""

    streams: tuple[Stream, ...]  # all of one channel
    symbols: tuple[str, ...]  # ccxt's unified spelling, in the same order
    bulk: bool

    @property
    def channel(self) -> str:
        """Return the channel of its streams."""
        return self.streams[0].channel


def method_of(channel: str) -> str:
    """Return ccxt's name of the method that watches a channel.

    >>> method_of("bidask"), method_of("ohlcv"), method_of("mark_price")
    ('watchBidsAsks', 'watchOHLCV', 'watchMarkPrice')
    """
    known = _METHODS.get(channel)
    return known or "watch" + "".join(part[:1].upper() + part[1:] for part in channel.split("_"))


def _has(has: Mapping[str, Any], method: str) -> bool:
    """Return whether the exchange has a method, if only through its form for several symbols."""
    return any(has.get(method + form) for form in ("", "ForSymbols", "s"))


def check_symbols(exchange: Any, channels: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Return symbol as configured -> ccxt's unified one, once the markets are known.

    Raises:
        FatalError: a symbol or a channel the exchange does not have; every fault is named.
    """
    faults = [fault for channel in channels for fault in _channel_faults(exchange, channel)]
    unified: dict[str, str] = {}
    for symbol in dict.fromkeys(symbol for symbols in channels.values() for symbol in symbols):
        if symbol in exchange.markets:
            unified[symbol] = exchange.markets[symbol]["symbol"]
        else:
            near = get_close_matches(symbol, list(exchange.markets), 3)
            hint = f"; near matches: {', '.join(near)}" if near else ""
            faults.append(f"{exchange.id} has no symbol {symbol!r} among {len(exchange.markets)}{hint}")
    if faults:
        raise FatalError(f"cannot subscribe: {'; '.join(faults)}")
    return unified


def _channel_faults(exchange: Any, channel: str) -> list[str]:
    if channel == "depth":
        return [_NO_DEPTH]
    method = method_of(channel)
    if _has(exchange.has, method):
        return []
    there = sorted(
        name
        for name, there in exchange.has.items()
        if there and name.startswith("watch") and not name.endswith("ForSymbols")
    )
    return [f"{exchange.id} has no {method} for the channel {channel!r}: it has {', '.join(there)}"]


def plan(
    exchange: Any, channels: Mapping[str, Iterable[str]], unified: Mapping[str, str], bulk: Mapping[str, int]
) -> list[Subscription]:
    """Return the watch calls: one for each stream, or one for several where that is wanted and there is one.

    Args:
        exchange: its `id` and `has` are read, and which symbols are of one kind.
        channels: channel -> symbols as configured.
        unified: symbol as configured -> ccxt's.
        bulk: channel -> most symbols of one call.
    """
    out = []
    for channel, names in channels.items():
        size = bulk.get(channel, 0) if _in_bulk(exchange, channel) else 0
        for group in _groups(exchange, [(name, unified[name]) for name in names], max(size, 1)):
            streams = tuple(Stream(name, channel) for name, _ in group)
            out.append(Subscription(streams, tuple(symbol for _, symbol in group), len(group) > 1))
    return out


def _in_bulk(exchange: Any, channel: str) -> bool:
    method = _BULK.get(channel)
    return method is not None and bool(exchange.has.get(method)) and (exchange.id, channel) not in _BULK_WORSE


def _groups(exchange: Any, pairs: list[tuple[str, str]], size: int) -> list[list[tuple[str, str]]]:
    """Return the symbols in groups of one kind of market: ccxt refuses spot and swaps in one call."""
    kinds: dict[object, list[tuple[str, str]]] = {}
    for pair in pairs:
        market = exchange.markets[pair[1]]
        kind = (market.get("type"), market.get("linear"), market.get("settle"))
        kinds.setdefault(kind, []).append(pair)
    return [some[at : at + size] for some in kinds.values() for at in range(0, len(some), size)]
