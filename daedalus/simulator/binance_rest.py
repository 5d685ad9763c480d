"""Binance spot, the way it answers over REST, from the true book at the playhead.

Every answer is a pure function of the markets: a depth snapshot carries the id of the last update applied, so
that a client which buffers the stream can join on it at any moment.
"""

from typing import Any

import msgspec

from daedalus.simulator.market import Market

__all__ = ["answer"]

DEPTH_LIMIT = 5000  # levels a side, as at the real one
_MS = 1_000_000
_encode = msgspec.json.encode
Answer = tuple[int, bytes]


def answer(markets: dict[str, Market], path: str, query: dict[str, str], now_ns: int) -> Answer:
    """Return status and body for a path below /api/v3/; `markets` by their id (BTCUSDT)."""
    if path in ("ping", "time"):
        return 200, _encode({"serverTime": now_ns // _MS} if path == "time" else {})
    if path == "exchangeInfo":
        return _info(markets, query.get("symbol"), now_ns)
    endpoint = _ENDPOINTS.get(path)
    if endpoint is None:
        return 404, _encode({"code": -1, "msg": f"no such endpoint: {path}"})
    market = markets.get(query.get("symbol", ""))
    if market is None:
        return 400, _encode({"code": -1121, "msg": "Invalid symbol."})
    limit = query.get("limit", "100" if path == "depth" else "500")
    if not limit.isdecimal() or int(limit) < 1:
        return 400, _encode({"code": -1100, "msg": "Illegal characters found in parameter 'limit'"})
    return 200, _encode(endpoint(market, int(limit), query.get("fromId", "")))


def _info(markets: dict[str, Market], wanted: str | None, now_ns: int) -> Answer:
    if wanted is not None and wanted not in markets:
        return 400, _encode({"code": -1121, "msg": "Invalid symbol."})
    body = {
        "timezone": "UTC",
        "serverTime": now_ns // _MS,
        "rateLimits": [],
        "exchangeFilters": [],
        "symbols": [_listing(market) for market in markets.values() if wanted in (None, market.id)],
    }
    return 200, _encode(body)


def _depth(market: Market, limit: int, _: str) -> dict[str, Any]:
    book, count = market.book, min(limit, DEPTH_LIMIT)
    return {"lastUpdateId": book.last_id, "bids": book.bids(count), "asks": book.asks(count)}


def _day(market: Market, _: int, __: str) -> dict[str, Any]:
    day, quote = market.day, _best(market, 0, "")
    change = float(day.last) - float(day.open) if day.count else 0.0
    return quote | {
        "priceChange": f"{change:.8f}",
        "priceChangePercent": f"{100 * change / float(day.open):.3f}" if day.count else "0",
        "weightedAvgPrice": f"{day.turnover / day.volume:.8f}" if day.count else "0",
        "lastPrice": day.last or "0",
        "lastQty": day.last_size or "0",
        "openPrice": day.open or "0",
        "highPrice": day.high or "0",
        "lowPrice": day.low or "0",
        "volume": f"{day.volume:.8f}",
        "quoteVolume": f"{day.turnover:.8f}",
        "openTime": day.opened_ns // _MS,
        "closeTime": market.ts_ns // _MS,
        "firstId": day.first_id,
        "lastId": day.last_id,
        "count": day.count,
    }


def _best(market: Market, _: int, __: str) -> dict[str, Any]:
    (bid, bid_size), (ask, ask_size) = market.best()
    return {"symbol": market.id, "bidPrice": bid, "bidQty": bid_size, "askPrice": ask, "askQty": ask_size}


def _history(market: Market, limit: int, from_id: str) -> list[dict[str, Any]]:
    trades = list(market.recent)
    if from_id.isdecimal():
        trades = [trade for trade in trades if trade.trade_id >= int(from_id)][:limit]
    else:
        trades = trades[-limit:]
    return [
        {
            "id": trade.trade_id,
            "price": trade.price,
            "qty": trade.size,
            "quoteQty": f"{float(trade.price) * float(trade.size):.8f}",
            "time": trade.ts_ns // _MS,
            "isBuyerMaker": trade.taker == "sell",
            "isBestMatch": True,
        }
        for trade in trades
    ]


_ENDPOINTS = {
    "depth": _depth,
    "trades": _history,
    "historicalTrades": _history,
    "ticker/24hr": _day,
    "ticker/bookTicker": _best,
}


def _listing(market: Market) -> dict[str, Any]:
    return {
        "symbol": market.id,
        "status": "TRADING",
        "baseAsset": market.base,
        "baseAssetPrecision": 8,
        "quoteAsset": market.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": market.price_step,
                "maxPrice": "1000000.00000000",
                "tickSize": market.price_step,
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": market.size_step,
                "maxQty": "9000.00000000",
                "stepSize": market.size_step,
            },
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True},
        ],
        "permissions": ["SPOT"],
        "permissionSets": [["SPOT"]],
    }
