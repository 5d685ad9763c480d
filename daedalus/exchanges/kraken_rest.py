"""Kraken's public REST answers: trades since a time, and what the exchange says of its pairs.

An answer of status 200 may be a refusal: `error` says so. Assets have older names there (XBT, XDG).

Source: docs.kraken.com, Spot REST: Get Recent Trades, Get Tradable Asset Pairs; rate limits.
"""

from collections.abc import Mapping
from typing import Annotated, NamedTuple
from urllib.parse import urlencode

import msgspec

from daedalus.exchanges.adapter import InstrumentFact

__all__ = [
    "BUSY",
    "PAIRS_PATH",
    "TIME_PATH",
    "Past",
    "RefusalError",
    "instruments_of",
    "trades_of",
    "trades_path",
]

PAIRS_PATH = "/0/public/AssetPairs"
TIME_PATH = "/0/public/Time"
PAGE = 1000
BUSY = ("EAPI:Rate", "EGeneral:Too many", "EService")  # come back later
_OLD_NAMES = {"XBT": "BTC", "XDG": "DOGE"}
_SIDES = {"b": "buy", "s": "sell"}

Size = Annotated[float, msgspec.Meta(ge=0, le=1e300)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=9.2e9)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class RefusalError(ValueError):
    """The exchange answers, and its answer is an error."""


class Past(NamedTuple):
    """A trade of the past."""

    trade_id: int
    ts_event: int  # ns UTC
    price: float
    amount: float
    side: str  # buy | sell, or what else it said
    raw: list[object]


class _Answer(msgspec.Struct):
    error: list[str] = []
    result: dict[str, msgspec.Raw] = {}


class _Pair(msgspec.Struct):
    wsname: str = ""
    altname: str = ""
    pair_decimals: int | None = None
    lot_decimals: int | None = None
    tick_size: str = ""
    ordermin: str = ""
    costmin: str = ""
    status: str = ""


# price, volume, time, side, type, miscellaneous, id
_Row = tuple[Size, Size, Seconds, str, str, str, Number]
_answer: msgspec.json.Decoder[_Answer] = msgspec.json.Decoder(_Answer)
_rows: msgspec.json.Decoder[list[_Row]] = msgspec.json.Decoder(list[_Row], strict=False)
_pair: msgspec.json.Decoder[_Pair] = msgspec.json.Decoder(_Pair)


def trades_path(pair: str, since_ns: int | None) -> str:
    """Return the request for a page of trades, oldest first, after a time; None: the last page."""
    query: dict[str, str | int] = {"pair": pair.replace("/", "")}
    if since_ns is not None:
        query["since"] = max(since_ns, 0)
    return f"/0/public/Trades?{urlencode(query)}"


def trades_of(body: bytes) -> list[Past]:
    """Return the trades of an answer, oldest first.

    Raises:
        RefusalError: the exchange refuses.
        msgspec.DecodeError: it is no such answer.
    """
    rows = [row for key, raw in _results(body).items() if key != "last" for row in _rows.decode(raw)]
    trades = [
        Past(row[6], round(row[2] * 1e6) * 1000, row[0], row[1], _SIDES.get(row[3], row[3]), list(row))
        for row in rows
    ]
    return sorted(trades)


def instruments_of(body: bytes, symbols: Mapping[str, str]) -> list[InstrumentFact]:
    """Return what an answer says of our symbols.

    Args:
        body: the answer.
        symbols: name of v2, "BTC/USD" -> symbol as configured; other pairs are left out.

    Raises:
        RefusalError: the exchange refuses.
        msgspec.DecodeError: it is no such answer.
    """
    facts = []
    for key, raw in _results(body).items():
        pair = _pair.decode(raw)
        base, _, quote = pair.wsname.partition("/")
        base, quote = _OLD_NAMES.get(base, base), _OLD_NAMES.get(quote, quote)
        symbol = symbols.get(f"{base}/{quote}")
        if symbol is not None:
            facts.append(_instrument(symbol, key, base, quote, pair, bytes(raw)))
    return facts


def _results(body: bytes) -> dict[str, msgspec.Raw]:
    answer = _answer.decode(body)
    if answer.error:
        raise RefusalError("; ".join(answer.error))
    return answer.result


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _step(decimals: int | None) -> float | None:
    return None if decimals is None or not 0 <= decimals <= 30 else float(f"1e-{decimals}")


def _instrument(symbol: str, key: str, base: str, quote: str, pair: _Pair, raw: bytes) -> InstrumentFact:
    return InstrumentFact(
        symbol=symbol,
        exchange_symbol=key,
        kind="spot",
        base=base,
        quote=quote,
        tick_size=_number(pair.tick_size) or _step(pair.pair_decimals),
        lot_size=_step(pair.lot_decimals),
        min_amount=_number(pair.ordermin),
        min_cost=_number(pair.costmin),
        active=pair.status == "online" if pair.status else None,
        info_json=raw.decode(),
    )
