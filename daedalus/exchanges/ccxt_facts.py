"""ccxt's unified structures -> facts. Pure: dicts and lists in, frozen facts out; ccxt is not imported.

ccxt's book is live and mutates under the next message, inner lists included. So a fact is packed bytes the
moment it is made; nothing of ccxt's is ever kept.

What is folded before it reaches us is flagged CONFLATED: OKX's `trades` (count > 1) and Binance's aggregate
trades, where a user asks for them (several ids in one). Books are not: every message's result is taken.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from daedalus.exchanges.adapter import BookFact, TickerFact, TradeFact, book_flags
from daedalus.exchanges.sides import Semantics, taker
from daedalus.records import Flag, pack_side

__all__ = ["Contract", "Translator"]

_MS = 1_000_000  # ns


class Contract(NamedTuple):
    """How many contracts of a market are how much of its base currency.

    Linear: contracts x size. Inverse, whose contracts are worth a fixed sum of the quote currency:
    contracts x size / price.
    """

    size: float
    inverse: bool

    def base(self, amount: float, price: float) -> float:
        """Return an amount in base currency.

        >>> Contract(0.01, False).base(250, 60_000.0), Contract(100, True).base(30, 60_000.0)
        (2.5, 0.05)
        """
        return amount * self.size / price if self.inverse else amount * self.size


_NO_CONTRACTS: Mapping[str, Contract] = MappingProxyType({})


def _side_raw(info: Any) -> str | None:
    """Return the exchange's own word for the side, or its flag as text."""
    if not isinstance(info, dict):
        return None
    if isinstance(info.get("m"), bool):  # Binance: the buyer was the maker
        return "m=true" if info["m"] else "m=false"
    for key in ("side", "S", "taker_side"):
        if isinstance(info.get(key), str):
            return str(info[key])
    return None


def _integer(value: object) -> int | None:
    if isinstance(value, str) and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]


def _ns(milliseconds: object) -> int | None:
    return None if milliseconds is None else int(milliseconds) * _MS  # type: ignore[call-overload]


def _folded(info: Any) -> int:
    """Return CONFLATED for several trades told as one."""
    if not isinstance(info, dict):
        return 0
    count, first, last = _integer(info.get("count")), info.get("f"), info.get("l")
    several = (count is not None and count > 1) or (type(first) is int and type(last) is int and last > first)
    return int(Flag.CONFLATED) if several else 0


class Translator:
    """Makes facts of one exchange's structures. The only state is the other half of a split ticker."""

    def __init__(
        self,
        *,
        levels: int,
        side: Semantics,
        raw_info: bool = False,
        contracts: Mapping[str, Contract] = _NO_CONTRACTS,
    ) -> None:
        """Prepare.

        Args:
            levels: levels per side of a book.
            side: whose side the exchange prints.
            raw_info: keep `info` as JSON.
            contracts: symbol as configured -> its contract, where amounts are counted in contracts.
        """
        self.contracts = contracts
        self._levels = levels
        self._side = side
        self._raw_info = raw_info
        self._summaries: dict[str, TickerFact] = {}
        self._quotes: dict[str, TickerFact] = {}

    def forget(self, symbol: str) -> None:
        """Drop the halves of a symbol's ticker: their connection is gone."""
        self._summaries.pop(symbol, None)
        self._quotes.pop(symbol, None)

    def book(self, symbol: str, book: Mapping[str, Any], flags: int = 0) -> BookFact:
        """Freeze the top of a live book."""
        bids = self._packed(symbol, book["bids"][: self._levels])
        asks = self._packed(symbol, book["asks"][: self._levels])
        nonce = _integer(book.get("nonce"))
        return BookFact(
            symbol=symbol,
            ts_event=_ns(book.get("timestamp")),
            nonce=nonce,
            bids=bids,
            asks=asks,
            exch_seq=nonce,
            flags=flags | book_flags(bids, asks),
        )

    def _packed(self, symbol: str, levels: Sequence[Sequence[float]]) -> bytes:
        contract = self.contracts.get(symbol)
        if contract is None:
            return pack_side(levels)
        return pack_side([(level[0], contract.base(level[1], level[0])) for level in levels])

    def trades(self, symbol: str, trades: Sequence[Mapping[str, Any]], flags: int = 0) -> list[TradeFact]:
        """Freeze trades, oldest first. A trade without price or amount is no trade."""
        facts = []
        contract = self.contracts.get(symbol)
        for trade in trades:
            price, amount = trade.get("price"), trade.get("amount")
            if price is None or amount is None:
                continue
            price, amount, cost = float(price), float(amount), _number(trade.get("cost"))
            if contract is not None:  # ccxt's cost of an inverse contract is in its base currency
                amount = contract.base(amount, price)
                cost = price * amount
            info = trade.get("info")
            trade_id = trade.get("id")
            facts.append(
                TradeFact(
                    symbol=symbol,
                    trade_id=None if trade_id is None else str(trade_id),
                    ts_event=_ns(trade.get("timestamp")),
                    side=taker(trade.get("side"), self._side),
                    side_raw=_side_raw(info) or trade.get("side"),
                    price=price,
                    amount=amount,
                    cost=cost,
                    flags=flags | _folded(info),
                    info_json=self._info(info),
                )
            )
        return facts

    def summary(self, symbol: str, ticker: Mapping[str, Any]) -> TickerFact:
        """Freeze a ticker. Where quotes come by their own stream (`quote`), they are merged in."""
        summary = self._summaries[symbol] = self._ticker(symbol, ticker)
        quote = self._quotes.get(symbol)
        return summary if quote is None else _merged(summary, quote, summary)

    def quote(self, symbol: str, ticker: Mapping[str, Any]) -> TickerFact:
        """Freeze a best bid and ask, merged with the last summary."""
        quote = self._quotes[symbol] = self._ticker(symbol, ticker)
        summary = self._summaries.get(symbol)
        return quote if summary is None else _merged(summary, quote, quote)

    def _size(self, symbol: str, size: object, price: object) -> float | None:
        contract = self.contracts.get(symbol)
        if contract is None or size is None or not price:
            return _number(size)
        return contract.base(float(size), float(price))  # type: ignore[arg-type]

    def _ticker(self, symbol: str, ticker: Mapping[str, Any]) -> TickerFact:
        info = ticker.get("info")
        return TickerFact(
            symbol=symbol,
            ts_event=_ns(ticker.get("timestamp")),
            bid=_number(ticker.get("bid")),
            ask=_number(ticker.get("ask")),
            bid_volume=self._size(symbol, ticker.get("bidVolume"), ticker.get("bid")),
            ask_volume=self._size(symbol, ticker.get("askVolume"), ticker.get("ask")),
            last=_number(ticker.get("last")),
            open=_number(ticker.get("open")),
            high=_number(ticker.get("high")),
            low=_number(ticker.get("low")),
            close=_number(ticker.get("close")),
            vwap=_number(ticker.get("vwap")),
            base_volume=_number(ticker.get("baseVolume")),
            quote_volume=_number(ticker.get("quoteVolume")),
            change=_number(ticker.get("change")),
            percentage=_number(ticker.get("percentage")),
            exch_seq=_integer(info.get("u")) if isinstance(info, dict) else None,
            info_json=self._info(info),
        )

    def _info(self, info: object) -> str | None:
        return msgspec.json.encode(info).decode() if self._raw_info and info is not None else None


def _merged(summary: TickerFact, quote: TickerFact, trigger: TickerFact) -> TickerFact:
    """Return the summary with the quote's best prices; time and number are those of what has just arrived."""
    return msgspec.structs.replace(
        summary,
        bid=quote.bid,
        ask=quote.ask,
        bid_volume=quote.bid_volume,
        ask_volume=quote.ask_volume,
        ts_event=trigger.ts_event,
        exch_seq=trigger.exch_seq,
        info_json=trigger.info_json,
    )
