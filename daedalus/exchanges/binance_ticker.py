"""The stream `ticker` of one Binance market: the best bid and ask, merged with the last 24 hours."""

from math import inf

from daedalus.exchanges.adapter import Item, Stream, TickerFact
from daedalus.exchanges.binance_dialect import MS, local_fault
from daedalus.exchanges.binance_messages import Quote, Summary

__all__ = ["TickerChannel"]

_Side = tuple[float | None, float | None]


class TickerChannel:
    """One market's ticker. A price of 0 is how Binance says that there is none: it is missing."""

    def __init__(self, symbol: str) -> None:
        """Begin with neither half."""
        self.symbol = symbol
        self.streams = (Stream(symbol, "ticker"),)
        self.heard = False  # either half, ever
        self.reset()

    def reset(self) -> None:
        """Forget the connection."""
        self._summary: Summary | None = None
        self._bid: _Side = (None, None)
        self._ask: _Side = (None, None)
        self._last = -1  # update id of the quote
        self._told = False

    def quote(self, quote: Quote, info_json: str | None) -> list[Item]:
        """Take a best bid and ask. One that is not newer than the last is a duplicate, or late."""
        if not -inf < quote.bid + quote.bid_size + quote.ask + quote.ask_size < inf:
            return self.damaged(f"a quote of {quote.bid} x {quote.bid_size}, {quote.ask} x {quote.ask_size}")
        if quote.last <= self._last:
            return []
        self._last = quote.last
        self._bid = (quote.bid, quote.bid_size) if quote.bid else (None, None)
        self._ask = (quote.ask, quote.ask_size) if quote.ask else (None, None)
        ts_event = None if quote.ts_ms is None else quote.ts_ms * MS
        return self._merged(ts_event, quote.last, info_json)

    def summary(self, summary: Summary, info_json: str | None) -> list[Item]:
        """Take the last 24 hours; its own quote counts only until a better one was heard."""
        numbers = (
            *(summary.change, summary.percentage, summary.base_volume, summary.quote_volume),
            *(summary.vwap, summary.last, summary.open, summary.high, summary.low),
            *(summary.bid, summary.bid_size, summary.ask, summary.ask_size),
        )
        if not -inf < sum(numbers) < inf:
            return self.damaged(f"a ticker with a number that is none: {numbers}")
        self._summary = summary
        if self._last < 0:
            self._bid = (summary.bid, summary.bid_size) if summary.bid else (None, None)
            self._ask = (summary.ask, summary.ask_size) if summary.ask else (None, None)
        return self._merged(summary.ts_ms * MS, None, info_json)

    def damaged(self, detail: str) -> list[Item]:
        """Take a message that cannot be read or believed."""
        if self._told:
            return []
        self._told = True
        return [local_fault(self.streams, "error", detail)]

    def _merged(self, ts_event: int | None, exch_seq: int | None, info_json: str | None) -> list[Item]:
        self._told = False
        self.heard = True
        bid, bid_volume = self._bid
        ask, ask_volume = self._ask
        day = self._summary
        if day is None:
            return [
                TickerFact(
                    symbol=self.symbol,
                    ts_event=ts_event,
                    bid=bid,
                    ask=ask,
                    bid_volume=bid_volume,
                    ask_volume=ask_volume,
                    exch_seq=exch_seq,
                    info_json=info_json,
                )
            ]
        last = day.last or None
        return [
            TickerFact(
                symbol=self.symbol,
                ts_event=ts_event,
                bid=bid,
                ask=ask,
                bid_volume=bid_volume,
                ask_volume=ask_volume,
                last=last,
                open=day.open or None,
                high=day.high or None,
                low=day.low or None,
                close=last,
                vwap=day.vwap or None,
                base_volume=day.base_volume,
                quote_volume=day.quote_volume,
                change=day.change,
                percentage=day.percentage,
                exch_seq=exch_seq,
                info_json=info_json,
            )
        ]
