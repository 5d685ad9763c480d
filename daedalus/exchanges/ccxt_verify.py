"""A silent stream: is the market quiet, or is the stream frozen? The exchange itself is asked, by REST.

A connection is not given up because nobody trades. One request tells: a trade after the last one we have, a
best price other than ours, and still nothing on the stream after a moment of grace, mean that it is frozen.
Whatever cannot be asked, or is not answered, counts as frozen: a needless reconnection costs a second.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from daedalus.exchanges.adapter import BookFact, EventFact, Stream, TickerFact
from daedalus.exchanges.ccxt_backfill import recent_trades
from daedalus.exchanges.ccxt_results import Results
from daedalus.records import unpack_side

__all__ = ["is_quiet"]

_GRACE_S = 2.0  # what REST knows may be on its way to us
_LIMIT_S = 10.0
_LEVELS = 5


async def is_quiet(
    exchange: Any, results: Results, stream: Stream, unified: str, failures: tuple[type[Exception], ...]
) -> bool:
    """Return whether a silent stream has missed nothing.

    Args:
        exchange: the ccxt instance.
        results: what the stream said last.
        stream: the suspect.
        unified: ccxt's spelling of its symbol.
        failures: what it raises when the exchange does not answer, TimeoutError among it.
    """
    before = _state(results, stream)
    try:
        async with asyncio.timeout(_LIMIT_S):
            if await _agrees(exchange, results, stream, unified):
                return True
    except failures:
        return False
    await asyncio.sleep(_GRACE_S)
    return _state(results, stream) != before  # it has spoken meanwhile


def _state(results: Results, stream: Stream) -> object:
    if stream.channel == "trades":
        memory = results.memory(stream.symbol)
        return memory.last_id, memory.last_ts
    return results.last.get(stream)


async def _agrees(exchange: Any, results: Results, stream: Stream, unified: str) -> bool:
    if stream.channel == "trades":
        memory = results.memory(stream.symbol)
        trades = await recent_trades(exchange, unified, _LEVELS)
        facts = results.translator.trades(stream.symbol, trades)
        return not any(memory.newer(fact) for fact in facts)
    last = results.last.get(stream)
    if isinstance(last, BookFact):
        return _best(await exchange.fetch_order_book(unified, _LEVELS)) == (_top(last.bids), _top(last.asks))
    if isinstance(last, TickerFact):
        ticker = await exchange.fetch_ticker(unified)
        return all(
            theirs is None or ours is None or theirs == ours
            for theirs, ours in ((ticker.get("bid"), last.bid), (ticker.get("ask"), last.ask))
        )
    if isinstance(last, EventFact) and stream.channel == "ohlcv":
        candles = await exchange.fetch_ohlcv(unified, "1m", None, 2)
        return bool(candles) and msgspec.json.encode(candles[-1]) == last.data_json.encode()
    if isinstance(last, EventFact) and stream.channel == "bidask":
        ticker, told = await exchange.fetch_ticker(unified), msgspec.json.decode(last.data_json)
        return (ticker.get("bid"), ticker.get("ask")) == (told.get("bid"), told.get("ask"))
    return False


def _best(book: Mapping[str, Any]) -> tuple[float | None, float | None]:
    bids, asks = book.get("bids") or (), book.get("asks") or ()
    return (bids[0][0] if bids else None, asks[0][0] if asks else None)


def _top(side: bytes) -> float | None:
    return unpack_side(side[:16])[0][0] if side else None
