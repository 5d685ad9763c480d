"""What Binance says of its markets: GET exchangeInfo -> instruments. Pure."""

from collections.abc import Mapping

import msgspec

from daedalus.exchanges.adapter import InstrumentFact
from daedalus.exchanges.binance_dialect import INVALID_SYMBOL, Dialect
from daedalus.exchanges.binance_messages import DAMAGE, ERROR, INFO, ListedMarket, decoder

__all__ = ["instruments", "is_unknown"]

_LISTED = decoder(ListedMarket)
_KINDS = {None: "spot", "PERPETUAL": "swap"}  # any other contract type expires


def instruments(body: bytes, symbols: Mapping[str, str], dialect: Dialect) -> list[InstrumentFact]:
    """Return what is said of the wanted markets.

    Args:
        body: the answer.
        symbols: Binance's name -> the symbol as configured.
        dialect: of the market.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: it cannot be read.
    """
    facts = []
    for raw in INFO.decode(body).symbols:
        market: ListedMarket = _LISTED.decode(raw)
        symbol = symbols.get(market.symbol)
        if symbol is not None:
            facts.append(_instrument(symbol, market, raw, dialect))
    return facts


def is_unknown(status: int, body: bytes) -> bool:
    """Return whether an answer says that there is no such market, or that one of several is none."""
    if status == 200:
        return False
    try:
        return bool(ERROR.decode(body).code == INVALID_SYMBOL)
    except DAMAGE:
        return False


def _instrument(symbol: str, market: ListedMarket, raw: msgspec.Raw, dialect: Dialect) -> InstrumentFact:
    least = market.number("NOTIONAL", "min_notional")
    if least is None:
        least = market.number("MIN_NOTIONAL", "min_notional")
    if least is None:
        least = market.number("MIN_NOTIONAL", "notional")
    return InstrumentFact(
        symbol=symbol,
        exchange_symbol=market.symbol,
        kind=_KINDS.get(market.contract_type, "future"),
        base=market.base_asset,
        quote=market.quote_asset,
        settle=market.margin_asset,
        tick_size=market.number("PRICE_FILTER", "tick_size"),
        lot_size=market.number("LOT_SIZE", "step_size"),
        min_amount=market.number("LOT_SIZE", "min_qty"),
        min_cost=least,
        contract_size=dialect.contract_size,
        active=None if market.status is None else market.status == "TRADING",
        info_json=bytes(raw).decode(),
    )
