"""Facts from Coinbase's trades and tickers."""

from math import isfinite

from daedalus.exchanges.adapter import TickerFact, TradeFact
from daedalus.exchanges.coinbase_messages import TickerRow, TradeRow, ns_of
from daedalus.exchanges.sides import Semantics, taker

__all__ = ["ticker_fact", "trade_fact"]


def trade_fact(
    symbol: str, trade: TradeRow, meaning: Semantics, number: int | None, flags: int, info: str | None
) -> TradeFact:
    """Return the fact of a trade; `info`: its object, as JSON."""
    return TradeFact(
        symbol=symbol,
        trade_id=trade.trade_id,
        ts_event=ns_of(trade.time),
        side=taker(trade.side, meaning),
        side_raw=trade.side,
        price=trade.price,
        amount=trade.size,
        cost=trade.price * trade.size,
        exch_seq=number,
        flags=flags,
        info_json=info,
    )


def ticker_fact(
    symbol: str, ticker: TickerRow, ts_event: int | None, number: int, info: str | None
) -> TickerFact:
    """Return the fact of a ticker; `info`: its object, as JSON. Its window is 24 h.

    Raises:
        ValueError: a value is not a finite number.
    """
    last = _number(ticker.price)
    return TickerFact(
        symbol=symbol,
        ts_event=ts_event,
        bid=_number(ticker.best_bid),
        ask=_number(ticker.best_ask),
        bid_volume=_number(ticker.best_bid_quantity),
        ask_volume=_number(ticker.best_ask_quantity),
        last=last,
        high=_number(ticker.high_24_h),
        low=_number(ticker.low_24_h),
        close=last,
        base_volume=_number(ticker.volume_24_h),
        percentage=_number(ticker.price_percent_chg_24_h),
        exch_seq=number,
        info_json=info,
    )


def _number(text: str) -> float | None:
    if not text:
        return None
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text[:40]!r} is not a finite number")
    return value
