"""What differs between Binance's markets, in one table a market; and what its parts share."""

from array import array
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Literal

import msgspec

from daedalus.exchanges.adapter import Ask, Fault, Item, Stream

__all__ = ["INVALID_SYMBOL", "MS", "Answered", "Dialect", "NewAsk", "local_fault", "market_id", "pack"]

MS = 1_000_000  # ns
INVALID_SYMBOL = -1121
"""The code of a refusal: there is no such market."""

Answered = Callable[[int, bytes], list[Item]]
"""Takes status and body of an answer."""

NewAsk = Callable[[str, Answered, tuple[Stream, ...], float, float], Ask]
"""(path, who takes the answer, who waits, weight, delay in s) -> the request, with a key of its own."""


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """Paths, weights and rules of one market of Binance's."""

    name: str
    depth_path: str
    depth_levels: int  # per side, the most that REST gives
    depth_weight: float
    trades_path: str
    trades_paged: bool  # `fromId` is understood without a key
    trades_weight: float
    info_path: str
    info_by_symbol: bool  # exchangeInfo can be asked for some markets only
    info_weight: float
    quote_path: str  # the best bid and ask of one market
    quote_weight: float
    dense_ids: bool  # depth ids are gapless: an update follows U - 1. Otherwise it names `pu`
    settled: bool  # symbols may name what they settle in: BTC/USDT:USDT
    ticker_streams: tuple[str, ...]
    streams_max: int  # a connection
    contract_size: float | None


def pack(levels: Sequence[tuple[float, float]]) -> bytes:
    """Pack decoded levels: float64 pairs price, size."""
    return array("d", [*chain.from_iterable(levels)]).tobytes()


def local_fault(streams: tuple[Stream, ...], reason: Literal["sequence", "error"], detail: str) -> Fault:
    """Return a fault that ends nothing but these streams' trust."""
    return Fault(streams, reason, detail, local=True)


def market_id(symbol: str, *, settled: bool) -> str:
    """Return Binance's name of a symbol.

    Args:
        symbol: as configured.
        settled: whether the market settles: a futures symbol may end in `:USDT`, and `:USDT-261225`.

    >>> market_id("BTC/USDT", settled=False), market_id("BTC/USDT:USDT-261225", settled=True)
    ('BTCUSDT', 'BTCUSDT_261225')

    Raises:
        ValueError: it is not a symbol of that form.
    """
    base, _, rest = symbol.partition("/")
    quote, colon, settle = rest.partition(":")
    _, dash, expiry = settle.partition("-")
    if not base or not quote or (colon and (not settled or not settle)) or (dash and not expiry):
        form = "BASE/QUOTE:SETTLE" if settled else "BASE/QUOTE"
        raise ValueError(f"cannot use the symbol {symbol!r}: it must have the form {form}")
    return f"{base}{quote}{'_' if dash else ''}{expiry}".upper()
