"""OKX's public REST answers: trades of the past, and what the exchange says of its instruments.

Contracts are counted in contracts: `base_of` says how much of the base currency they are; it depends on the
price where the contract is worth a sum of the quote currency (inverse).

Source: www.okx.com/docs-v5, GET /market/history-trades, GET /public/instruments.
"""

from collections.abc import Mapping
from math import isfinite
from urllib.parse import urlencode

import msgspec

from daedalus.exchanges.adapter import InstrumentFact
from daedalus.exchanges.okx_messages import TradeRow

__all__ = [
    "TIME_PATH",
    "Contract",
    "instrument_id",
    "instrument_type",
    "instruments_of",
    "instruments_path",
    "trades_of",
    "trades_path",
]

TIME_PATH = "/api/v5/public/time"
PAGE = 100
_KINDS = {"SPOT": "spot", "SWAP": "swap", "FUTURES": "future"}


class Contract(msgspec.Struct, frozen=True):
    """What one contract is worth."""

    value: float  # base currency; of an inverse one quote currency
    inverse: bool = False

    def base_of(self, price: float, contracts: float) -> float:
        """Return the amount in base currency.

        Raises:
            ValueError: an inverse contract at the price 0.
        """
        if not self.inverse:
            return contracts * self.value
        if not price:
            raise ValueError("an inverse contract has no amount at the price 0")
        return contracts * self.value / price


class _Answer(msgspec.Struct):
    code: str
    msg: str = ""
    data: list[msgspec.Raw] = []


class _Instrument(msgspec.Struct):
    instId: str  # noqa: N815  (the exchange's spelling)
    instType: str = ""  # noqa: N815
    baseCcy: str = ""  # noqa: N815
    quoteCcy: str = ""  # noqa: N815
    settleCcy: str = ""  # noqa: N815
    uly: str = ""
    ctType: str = ""  # noqa: N815
    ctVal: str = ""  # noqa: N815
    ctMult: str = ""  # noqa: N815
    tickSz: str = ""  # noqa: N815
    lotSz: str = ""  # noqa: N815
    minSz: str = ""  # noqa: N815
    state: str = ""


_answer: msgspec.json.Decoder[_Answer] = msgspec.json.Decoder(_Answer)
_instrument: msgspec.json.Decoder[_Instrument] = msgspec.json.Decoder(_Instrument)
_trade: msgspec.json.Decoder[TradeRow] = msgspec.json.Decoder(TradeRow, strict=False)


def instrument_id(symbol: str) -> str:
    """Return OKX's name of a symbol.

    >>> instrument_id("BTC/USDT"), instrument_id("BTC/USDT:USDT"), instrument_id("BTC/USD:BTC-261225")
    ('BTC-USDT', 'BTC-USDT-SWAP', 'BTC-USD-261225')
    """
    pair, colon, rest = symbol.partition(":")
    name = pair.replace("/", "-")
    if not colon:
        return name
    _, dash, expiry = rest.partition("-")
    return f"{name}-{expiry}" if dash else f"{name}-SWAP"


def instrument_type(symbol: str) -> str:
    """Return OKX's type of a symbol.

    >>> instrument_type("BTC/USDT"), instrument_type("BTC/USDT:USDT"), instrument_type("BTC/USD:BTC-261225")
    ('SPOT', 'SWAP', 'FUTURES')

    Raises:
        ValueError: an option: they are not collected.
    """
    _, colon, rest = symbol.partition(":")
    if not colon:
        return "SPOT"
    dashes = rest.count("-")
    if dashes > 1:
        raise ValueError(f"cannot collect {symbol} from okx: options are not supported")
    return "FUTURES" if dashes else "SWAP"


def instruments_path(kind: str) -> str:
    """Return the request for all instruments of a type."""
    return f"/api/v5/public/instruments?{urlencode({'instType': kind})}"


def trades_path(instrument: str, before: int | None) -> str:
    """Return the request for a page of trades, newest first, before an id; None: the last page."""
    query: dict[str, str | int] = {"instId": instrument, "type": 1, "limit": PAGE}
    if before is not None:
        query["after"] = before  # their word for what comes after it on the way back
    return f"/api/v5/market/history-trades?{urlencode(query)}"


def trades_of(body: bytes) -> tuple[list[TradeRow], list[msgspec.Raw]]:
    """Return the trades of an answer, newest first, and their texts.

    Raises:
        ValueError: a refusal, or no such answer.
    """
    texts = _data(body)
    return [_trade.decode(text) for text in texts], texts


def instruments_of(
    body: bytes, symbols: Mapping[str, str]
) -> tuple[list[InstrumentFact], dict[str, Contract]]:
    """Return what an answer says of our symbols, and what their contracts are worth.

    Args:
        body: the answer.
        symbols: instrument -> symbol as configured; others are left out.

    Raises:
        ValueError: a refusal, or no such answer.
    """
    facts, contracts = [], {}
    for raw in _data(body):
        row = _instrument.decode(raw)
        symbol = symbols.get(row.instId)
        if symbol is None:
            continue
        contract = _contract(row)
        if contract is not None:
            contracts[row.instId] = contract
        facts.append(_fact(symbol, row, contract, bytes(raw)))
    return facts, contracts


def _data(body: bytes) -> list[msgspec.Raw]:
    answer = _answer.decode(body)
    if answer.code != "0":
        raise ValueError(f"the exchange says: {answer.code} {answer.msg}")
    return answer.data


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def _contract(row: _Instrument) -> Contract | None:
    value, multiplier = _number(row.ctVal), _number(row.ctMult) or 1.0
    if row.instType == "SPOT" or value is None or value <= 0 or multiplier <= 0:
        return None
    return Contract(value * multiplier, row.ctType == "inverse")


def _fact(symbol: str, row: _Instrument, contract: Contract | None, raw: bytes) -> InstrumentFact:
    base, _, quote = row.uly.partition("-")
    return InstrumentFact(
        symbol=symbol,
        exchange_symbol=row.instId,
        kind=_KINDS.get(row.instType),
        base=row.baseCcy or base or None,
        quote=row.quoteCcy or quote or None,
        settle=row.settleCcy or None,
        tick_size=_number(row.tickSz),
        lot_size=_number(row.lotSz),
        min_amount=_number(row.minSz),
        # of an inverse contract it is a sum of the quote currency: what it is in base depends on the price
        contract_size=None if contract is None or contract.inverse else contract.value,
        active=row.state == "live" if row.state else None,
        info_json=raw.decode(),
    )
