"""Facts from Kraken's trades and tickers."""

import msgspec

from daedalus.exchanges.adapter import TickerFact, TradeFact
from daedalus.exchanges.kraken_messages import TickerRow, TradeRow, ns_of
from daedalus.exchanges.kraken_rest import Past
from daedalus.exchanges.sides import Semantics, taker
from daedalus.records import Flag

__all__ = ["past_fact", "ticker_fact", "trade_fact"]


def trade_fact(
    symbol: str, trade: TradeRow, ts_event: int | None, meaning: Semantics, flags: int, info: str | None
) -> TradeFact:
    """Return the fact of a trade that was streamed; `info`: its object, as JSON."""
    return TradeFact(
        symbol=symbol,
        trade_id=str(trade.trade_id),
        ts_event=ts_event,
        side=taker(trade.side, meaning),
        side_raw=trade.side,
        price=trade.price,
        amount=trade.qty,
        cost=trade.price * trade.qty,
        flags=flags,
        info_json=info,
    )


def past_fact(symbol: str, past: Past, meaning: Semantics, *, raw: bool) -> TradeFact:
    """Return the fact of a trade that was asked for; `raw`: with its row."""
    return TradeFact(
        symbol=symbol,
        trade_id=str(past.trade_id),
        ts_event=past.ts_event,
        side=taker(past.side, meaning),
        side_raw=past.side,
        price=past.price,
        amount=past.amount,
        cost=past.price * past.amount,
        flags=int(Flag.BACKFILLED),
        info_json=msgspec.json.encode(past.raw).decode() if raw else None,
    )


def ticker_fact(symbol: str, row: TickerRow, info: str | None) -> TickerFact:
    """Return the fact of a ticker; `info`: its object, as JSON. Its window is 24 h."""
    return TickerFact(
        symbol=symbol,
        ts_event=ns_of(row.timestamp),
        bid=row.bid,
        ask=row.ask,
        bid_volume=row.bid_qty,
        ask_volume=row.ask_qty,
        last=row.last,
        high=row.high,
        low=row.low,
        close=row.last,
        vwap=row.vwap,
        base_volume=row.volume,
        change=row.change,
        percentage=row.change_pct,
        info_json=info,
    )
