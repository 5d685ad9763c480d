"""Coinbase Advanced Trade's public REST answers: recent trades, and what the exchange says of its products.

Source: docs.cdp.coinbase.com, Get Public Market Trades, List Public Products.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from urllib.parse import quote, urlencode

from daedalus.exchanges.adapter import InstrumentFact
from daedalus.exchanges.coinbase_messages import (
    Product,
    TradeRow,
    decode_history,
    decode_product,
    decode_products,
)

__all__ = ["instruments_of", "products_path", "trades_of", "trades_path"]

_ROOT = "/api/v3/brokerage/market/products"
_TRADES = 1000


def products_path(products: Sequence[str]) -> str:
    """Return the request for what the exchange says of products."""
    return f"{_ROOT}?{urlencode([('product_ids', product) for product in products])}"


def trades_path(product: str, end_s: int | None = None) -> str:
    """Return the request for recent trades, up to a time in Unix seconds; None: up to the present."""
    query = {"limit": _TRADES} if end_s is None else {"limit": _TRADES, "end": end_s}
    return f"{_ROOT}/{quote(product, safe='')}/ticker?{urlencode(query)}"


def trades_of(body: bytes) -> list[TradeRow]:
    """Return the trades of an answer. Raises msgspec.DecodeError."""
    return decode_history(body).trades


def instruments_of(body: bytes, symbols: Mapping[str, str]) -> list[InstrumentFact]:
    """Return what an answer says of our symbols.

    Args:
        body: the answer.
        symbols: product -> symbol as configured; other products are left out.

    Raises:
        msgspec.DecodeError: it is no such answer.
    """
    facts = []
    for raw in decode_products(body).products:
        product = decode_product(raw)
        symbol = symbols.get(product.product_id)
        if symbol is not None:
            facts.append(_instrument(symbol, product, bytes(raw)))
    return facts


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def _instrument(symbol: str, product: Product, raw: bytes) -> InstrumentFact:
    details = product.future_product_details
    kind = "spot" if product.product_type == "SPOT" else None
    if product.product_type == "FUTURE":
        perpetual = details is not None and details.contract_expiry_type == "PERPETUAL"
        kind = "swap" if perpetual else "future"
    return InstrumentFact(
        symbol=symbol,
        exchange_symbol=product.product_id,
        kind=kind,
        base=product.base_currency_id or None,
        quote=product.quote_currency_id or None,
        tick_size=_number(product.price_increment) or _number(product.quote_increment),
        lot_size=_number(product.base_increment),
        min_amount=_number(product.base_min_size),
        min_cost=_number(product.quote_min_size),
        contract_size=None if details is None else _number(details.contract_size),
        active=not (product.is_disabled or product.trading_disabled),
        info_json=raw.decode(),
    )
