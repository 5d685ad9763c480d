"""What ccxt says of collected markets: instruments for the record, contracts for the amounts. Pure.

Exchanges change tick sizes and contract sizes, so both are taken anew with every load of the markets.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from daedalus.exchanges.adapter import InstrumentFact
from daedalus.exchanges.ccxt_facts import Contract

__all__ = ["contracts", "instruments"]

_DECIMAL_PLACES = 2  # ccxt's precision modes
_TICK_SIZE = 4


def contracts(exchange: Any, unified: Mapping[str, str]) -> dict[str, Contract]:
    """Return symbol as configured -> contract, for markets whose amounts are not in base currency.

    Args:
        exchange: its `markets` are read.
        unified: symbol as configured -> ccxt's.
    """
    out = {}
    for symbol, name in unified.items():
        market = exchange.markets[name]
        size = _number(market.get("contractSize"))
        inverse = bool(market.get("inverse"))
        if market.get("contract") and size and (inverse or size != 1):
            out[symbol] = Contract(size, inverse)
    return out


def instruments(exchange: Any, unified: Mapping[str, str]) -> list[InstrumentFact]:
    """Return what the exchange says of each collected market.

    Args:
        exchange: its `markets` and `precisionMode` are read.
        unified: symbol as configured -> ccxt's.
    """
    return [_instrument(exchange, symbol, exchange.markets[name]) for symbol, name in unified.items()]


def _instrument(exchange: Any, symbol: str, market: Mapping[str, Any]) -> InstrumentFact:
    precision = market.get("precision") or {}
    limits = market.get("limits") or {}
    info = market.get("info")
    return InstrumentFact(
        symbol=symbol,
        exchange_symbol=_text(market.get("id")),
        kind=_text(market.get("type")),
        base=_text(market.get("base")),
        quote=_text(market.get("quote")),
        settle=_text(market.get("settle")),
        tick_size=_step(exchange.precisionMode, precision.get("price")),
        lot_size=_step(exchange.precisionMode, precision.get("amount")),
        min_amount=_number((limits.get("amount") or {}).get("min")),
        min_cost=_number((limits.get("cost") or {}).get("min")),
        contract_size=_number(market.get("contractSize")) if market.get("contract") else None,
        active=market.get("active") if isinstance(market.get("active"), bool) else None,
        info_json=msgspec.json.encode(info, enc_hook=str).decode() if info else None,
    )


def _step(mode: int, precision: object) -> float | None:
    """Return the smallest step: ccxt gives it as it is, or as decimal places; digits have no fixed step."""
    value = _number(precision)
    if value is None or mode not in (_DECIMAL_PLACES, _TICK_SIZE):
        return None
    return float(f"1e{-int(value)}") if mode == _DECIMAL_PLACES else value


def _number(value: object) -> float | None:
    try:
        return None if value is None else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
