"""Coinbase Advanced Trade's public REST endpoints, as far as market data needs them. Pure answers."""

from typing import Any

import msgspec

from daedalus.simulator.coinbase import format_time, maker
from daedalus.simulator.market import Market

__all__ = ["answer"]

_encode = msgspec.json.encode
Answer = tuple[int, bytes]


def answer(markets: dict[str, Market], path: str, query: dict[str, str], now_ns: int) -> Answer:
    """Return status and body for a path below /api/v3/brokerage/; `markets` by product id."""
    if path == "time":
        seconds = str(now_ns // 1_000_000_000)
        body = {"iso": format_time(now_ns), "epochSeconds": seconds, "epochMillis": str(now_ns // 1_000_000)}
        return 200, _encode(body)
    if path == "market/products":
        products = [_product(market) for market in markets.values()]
        return 200, _encode({"products": products, "num_products": len(products)})
    if path == "market/product_book":
        market = markets.get(query.get("product_id", ""))
        return _unknown() if market is None else (200, _encode(_book(market, query)))
    product, _, rest = path.removeprefix("market/products/").partition("/")
    market = markets.get(product)
    if market is None or rest not in ("", "ticker"):
        return _unknown()
    return 200, _encode(_product(market) if not rest else _history(market, query))


def _unknown() -> Answer:
    return 404, _encode({"error": "NOT_FOUND", "message": "valid product_id is required"})


def _limit(query: dict[str, str], default: int) -> int:
    text = query.get("limit", "")
    return int(text) if text.isdecimal() and int(text) > 0 else default


def _book(market: Market, query: dict[str, str]) -> dict[str, Any]:
    count = _limit(query, 100)
    return {
        "pricebook": {
            "product_id": market.id,
            "bids": [{"price": price, "size": size} for price, size in market.book.bids(count)],
            "asks": [{"price": price, "size": size} for price, size in market.book.asks(count)],
            "time": format_time(market.ts_ns),
        }
    }


def _history(market: Market, query: dict[str, str]) -> dict[str, Any]:
    """Recent trades, newest first; `start` and `end` are Unix seconds, both included."""
    start, end = query.get("start", ""), query.get("end", "")
    first_ns = int(start) * 1_000_000_000 if start.isdecimal() else 0
    last_ns = (int(end) + 1) * 1_000_000_000 if end.isdecimal() else 1 << 63
    trades = [trade for trade in reversed(market.recent) if first_ns <= trade.ts_ns < last_ns]
    (bid, _), (ask, _) = market.best()
    return {
        "trades": [
            {
                "trade_id": str(trade.trade_id),
                "product_id": market.id,
                "price": trade.price,
                "size": trade.size,
                "time": format_time(trade.ts_ns),
                "side": maker(trade),
                "exchange": "coinbase",
            }
            for trade in trades[: _limit(query, 100)]
        ],
        "best_bid": bid,
        "best_ask": ask,
    }


def _product(market: Market) -> dict[str, Any]:
    (bid, _), (ask, _) = market.best()
    return {
        "product_id": market.id,
        "price": market.day.last or bid,
        "volume_24h": f"{market.day.volume:.8f}",
        "base_increment": market.size_step,
        "quote_increment": market.price_step,
        "price_increment": market.price_step,
        "base_min_size": market.size_step,
        "base_max_size": "3400",
        "quote_min_size": "1",
        "quote_max_size": "150000000",
        "base_name": market.base,
        "quote_name": market.quote,
        "is_disabled": False,
        "status": "online",
        "cancel_only": False,
        "limit_only": False,
        "post_only": False,
        "trading_disabled": False,
        "auction_mode": False,
        "product_type": "SPOT",
        "base_currency_id": market.base,
        "quote_currency_id": market.quote,
        "mid_market_price": f"{(float(bid) + float(ask)) / 2}",
        "alias": "",
        "alias_to": [],
        "display_name": market.id,
        "product_venue": "CBE",
    }
