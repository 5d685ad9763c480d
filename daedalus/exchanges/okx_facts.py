"""Facts from OKX's trades and tickers: contracts become base currency, and the raw object stays beside."""

from daedalus.exchanges.adapter import TickerFact, TradeFact
from daedalus.exchanges.okx_messages import TickerRow, TradeRow, ns_of, number
from daedalus.exchanges.okx_rest import Contract
from daedalus.exchanges.sides import Semantics, taker
from daedalus.records import Flag

__all__ = ["ticker_fact", "trade_fact"]


def trade_fact(
    symbol: str, row: TradeRow, contract: Contract | None, meaning: Semantics, flags: int, info: str | None
) -> TradeFact:
    """Return the fact of a trade; `info`: its object, as JSON.

    Raises:
        ValueError: an inverse contract at the price 0.
    """
    amount = row.sz if contract is None else contract.base_of(row.px, row.sz)
    return TradeFact(
        symbol=symbol,
        trade_id=row.tradeId,
        ts_event=ns_of(row.ts),
        side=taker(row.side, meaning),
        side_raw=row.side,
        price=row.px,
        amount=amount,
        cost=row.px * amount,
        flags=flags | (int(Flag.CONFLATED) if row.trades > 1 else 0),
        info_json=info,
    )


def ticker_fact(symbol: str, row: TickerRow, contract: Contract | None, info: str | None) -> TickerFact:
    """Return the fact of a ticker; `info`: its object, as JSON. Its window is 24 h.

    Raises:
        ValueError: a value is not a number.
    """
    bid, ask, last = number(row.bidPx), number(row.askPx), number(row.last)
    volume, in_currency = number(row.vol24h), number(row.volCcy24h)
    return TickerFact(
        symbol=symbol,
        ts_event=ns_of(row.ts),
        bid=bid,
        ask=ask,
        bid_volume=_amount(bid, number(row.bidSz), contract),
        ask_volume=_amount(ask, number(row.askSz), contract),
        last=last,
        open=number(row.open24h),
        high=number(row.high24h),
        low=number(row.low24h),
        close=last,
        # of spot vol24h is base and volCcy24h quote currency; of contracts they are contracts and base
        base_volume=volume if contract is None else in_currency,
        quote_volume=in_currency if contract is None else None,
        info_json=info,
    )


def _amount(price: float | None, size: float | None, contract: Contract | None) -> float | None:
    if size is None or contract is None:
        return size
    return None if not price else contract.base_of(price, size)
