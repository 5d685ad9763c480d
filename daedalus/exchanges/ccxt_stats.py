"""The sizes of what ccxt keeps: caches, books, futures. What grows over days shows here before it hurts."""

from collections.abc import Iterable, Sized
from typing import Any

__all__ = ["sizes"]


def sizes(exchange: Any) -> dict[str, int | float | str | None]:
    """Return how much a ccxt instance holds.

    `backlog` is the longest queue of messages that arrived and were not looked at: we are behind.
    """
    clients = list((exchange.clients or {}).values())
    books = list((exchange.orderbooks or {}).values())
    return {
        "ccxt_clients": len(clients),
        "ccxt_futures": sum(len(client.futures) for client in clients),
        "ccxt_rejections": sum(len(client.rejections) for client in clients),
        "ccxt_subscriptions": sum(len(client.subscriptions) for client in clients),
        "ccxt_books": len(books),
        "ccxt_book_levels": sum(len(book["bids"]) + len(book["asks"]) for book in books),
        "ccxt_book_deltas": sum(len(book.cache) for book in books),
        "ccxt_trades": _total((exchange.trades or {}).values()),
        "ccxt_candles": sum(_total(frames.values()) for frames in (exchange.ohlcvs or {}).values()),
        "ccxt_tickers": len(exchange.tickers or ()) + len(exchange.bidsasks or ()),
        "backlog": max((len(client.buffer or ()) for client in clients), default=0),
    }


def _total(caches: Iterable[Sized]) -> int:
    return sum(len(cache) for cache in caches)
