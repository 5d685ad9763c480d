"""What Binance sends, as types: the messages of a combined stream and the answers of REST.

Decoding is the check. Numbers arrive as strings and are parsed by the decoder itself, correctly rounded; ids
and times that would not fit an int64 are refused here, so that nothing behind has to ask. What JSON lets
through and a market cannot mean (a price of NaN, a size below zero) is refused where the value is used.

Spot and USD-M futures differ in a few optional fields only, so one set of types serves both.

Source: github.com/binance/binance-spot-api-docs (web-socket-streams.md, rest-api.md) and
developers.binance.com, USDⓈ-M Futures: websocket market streams, market data endpoints.
"""

from typing import Annotated

import msgspec

__all__ = [
    "DAMAGE",
    "ERROR",
    "INFO",
    "REPLY",
    "REST_DEPTH",
    "REST_TRADES",
    "STREAM",
    "DepthUpdate",
    "Depths",
    "ListedMarket",
    "Quote",
    "Quotes",
    "Reply",
    "RestDepth",
    "RestTrade",
    "Summaries",
    "Summary",
    "TradeEvent",
    "Trades",
    "decoder",
]

_Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Ms = Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000_000)]  # ms UTC; in ns it still fits an int64
_Levels = list[tuple[float, float]]

DAMAGE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding hostile bytes can raise; RecursionError: a thousand brackets in a field nobody reads."""


class DepthUpdate(
    msgspec.Struct,
    gc=False,
    rename={
        "ts_ms": "E",
        "market": "s",
        "first": "U",
        "last": "u",
        "previous": "pu",
        "bids": "b",
        "asks": "a",
    },
):
    """`<symbol>@depth@100ms`: the levels that changed."""

    ts_ms: _Ms
    market: str
    first: _Id
    last: _Id
    bids: _Levels
    asks: _Levels
    previous: _Id | None = None  # USD-M only


class TradeEvent(
    msgspec.Struct,
    gc=False,
    rename={
        "market": "s", "trade_id": "t", "price": "p", "amount": "q", "ts_ms": "T", "buyer_is_maker": "m",
        "kind": "X",
    },
):  # fmt: skip
    """`<symbol>@trade`."""

    market: str
    trade_id: _Id
    price: float
    amount: float
    ts_ms: _Ms
    buyer_is_maker: bool
    kind: str = "MARKET"  # USD-M only: MARKET | INSURANCE_FUND | ADL | NA


class Quote(
    msgspec.Struct,
    gc=False,
    rename={
        "last": "u", "market": "s", "bid": "b", "bid_size": "B", "ask": "a", "ask_size": "A", "ts_ms": "E",
    },
):  # fmt: skip
    """`<symbol>@bookTicker`."""

    last: _Id
    market: str
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    ts_ms: _Ms | None = None  # USD-M only


class Summary(
    msgspec.Struct,
    gc=False,
    rename={
        "ts_ms": "E", "market": "s", "change": "p", "percentage": "P", "vwap": "w", "last": "c", "open": "o",
        "high": "h", "low": "l", "base_volume": "v", "quote_volume": "q",
        "bid": "b", "bid_size": "B", "ask": "a", "ask_size": "A",
    },
):  # fmt: skip
    """`<symbol>@ticker`: the last 24 hours."""

    ts_ms: _Ms
    market: str
    change: float
    percentage: float
    vwap: float
    last: float
    open: float
    high: float
    low: float
    base_volume: float
    quote_volume: float
    bid: float = 0.0  # spot only, as the next three
    bid_size: float = 0.0
    ask: float = 0.0
    ask_size: float = 0.0


class Depths(msgspec.Struct, gc=False):
    """The envelope of a combined stream around a DepthUpdate."""

    data: DepthUpdate


class Trades(msgspec.Struct, gc=False):
    """The envelope around a TradeEvent."""

    data: TradeEvent


class Quotes(msgspec.Struct, gc=False):
    """The envelope around a Quote."""

    data: Quote


class Summaries(msgspec.Struct, gc=False):
    """The envelope around a Summary."""

    data: Summary


class _Stream(msgspec.Struct):
    stream: str
    data: msgspec.Raw


class _Refusal(msgspec.Struct):
    code: int = 0
    msg: str = ""


class Reply(msgspec.Struct):
    """What is no stream: the answer to a request of ours, or a word of the exchange's own."""

    id: int | str | None = None
    result: list[str] | None = None
    error: _Refusal | None = None
    code: int | None = None  # an older form of `error`
    msg: str = ""
    e: str = ""  # an event outside of any stream: "serverShutdown"
    stream: str = ""


class RestDepth(msgspec.Struct, rename={"last": "lastUpdateId", "ts_ms": "E"}):
    """GET depth: the best levels of a book, best first."""

    last: _Id
    bids: _Levels
    asks: _Levels
    ts_ms: _Ms | None = None  # USD-M only


class RestTrade(
    msgspec.Struct,
    gc=False,
    rename={"trade_id": "id", "amount": "qty", "ts_ms": "time", "buyer_is_maker": "isBuyerMaker"},
):
    """One of GET trades or historicalTrades. Never one of aggTrades: those have ids of their own."""

    trade_id: _Id
    price: float
    amount: float
    ts_ms: _Ms
    buyer_is_maker: bool


class _Filter(msgspec.Struct, rename="camel"):
    filter_type: str
    tick_size: float | None = None
    step_size: float | None = None
    min_qty: float | None = None
    min_notional: float | None = None
    notional: float | None = None  # USD-M's word for the same


class ListedMarket(msgspec.Struct, rename="camel"):
    """One market of GET exchangeInfo."""

    symbol: str
    base_asset: str | None = None
    quote_asset: str | None = None
    margin_asset: str | None = None  # USD-M only
    contract_type: str | None = None  # USD-M only: PERPETUAL, CURRENT_QUARTER, …
    status: str | None = None
    filters: list[_Filter] = []

    def number(self, kind: str, name: str) -> float | None:
        """Return a number of the filter of this kind, None where the exchange gives none."""
        for one in self.filters:
            if one.filter_type == kind:
                value: float | None = getattr(one, name)
                return value
        return None


class _Info(msgspec.Struct):
    symbols: list[msgspec.Raw]


def decoder(type_: type) -> msgspec.json.Decoder:  # type: ignore[type-arg]
    """Return the decoder of a type; numbers may be strings."""
    return msgspec.json.Decoder(type_, strict=False)


STREAM: msgspec.json.Decoder[_Stream] = msgspec.json.Decoder(_Stream)
REPLY: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)
REST_DEPTH: msgspec.json.Decoder[RestDepth] = msgspec.json.Decoder(RestDepth, strict=False)
REST_TRADES: msgspec.json.Decoder[list[RestTrade]] = msgspec.json.Decoder(list[RestTrade], strict=False)
INFO: msgspec.json.Decoder[_Info] = msgspec.json.Decoder(_Info)
ERROR: msgspec.json.Decoder[_Refusal] = msgspec.json.Decoder(_Refusal)
