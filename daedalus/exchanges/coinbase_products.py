"""Coinbase's product names, and which symbols a product's messages are for.

Markets against USDC are markets against USD to the exchange, and their messages say USD (except for two
bases): "-USDC product IDs other than USDT-USDC and EURC-USDC return the same data as the matching -USD
product". The symbol that was asked for is the one that is told.

Source: docs.cdp.coinbase.com, Advanced Trade WebSocket endpoints.
"""

import re
from collections.abc import Collection, Sequence

from daedalus.exchanges.adapter import Stream

__all__ = ["CHANNELS", "THEIRS", "Routes", "product_id"]

CHANNELS = {"orderbook": "level2", "depth": "level2", "trades": "market_trades", "ticker": "ticker"}
"""Our channel -> the exchange's."""

THEIRS = {"level2": "level2", "l2_data": "level2", "market_trades": "market_trades", "ticker": "ticker"}
"""What messages call a channel -> what subscriptions call it."""

_OWN_USDC = ("USDT", "EURC")  # the only bases whose USDC market is a market of its own
_product = re.compile(r"[A-Za-z0-9.:_-]+[A-Za-z0-9]")


def product_id(symbol: str) -> str:
    """Return Coinbase's name of a symbol.

    >>> product_id("BTC/USD")
    'BTC-USD'
    """
    return symbol.replace("/", "-")


def twin(product: str) -> str | None:
    """Return the USD product that the exchange tells of where a USDC product is asked for.

    >>> twin("BTC-USDC"), twin("USDT-USDC"), twin("BTC-USD")
    ('BTC-USD', None, None)
    """
    base, _, quote = product.rpartition("-")
    return f"{base}-USD" if quote == "USDC" and base not in _OWN_USDC else None


class Routes:
    """The streams of one connection, by the exchange's channel and product."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        """Find what is to be subscribed, and whom its messages serve."""
        self._streams = streams
        self._serves: dict[tuple[str, str], list[str]] = {}
        self.wanted: dict[str, list[str]] = {}  # their channel -> products to subscribe to
        direct = {(product_id(symbol), CHANNELS[channel]) for symbol, channel in streams}
        for symbol, channel in streams:
            theirs, product = CHANNELS[channel], product_id(symbol)
            other = twin(product)
            for name in (product, other):
                if name is not None and symbol not in (to := self._serves.setdefault((name, theirs), [])):
                    to.append(symbol)
            products = self.wanted.setdefault(theirs, [])
            if (other, theirs) not in direct and product not in products:  # else one subscription tells both
                products.append(product)

    def symbols(self, product: str, theirs: str) -> Sequence[str]:
        """Return the symbols that a product's messages are for."""
        return self._serves.get((product, theirs), ())

    def of(self, symbol: str, theirs: str) -> list[Stream]:
        """Return the streams of a symbol that one of the exchange's channels feeds."""
        return [s for s in self._streams if s.symbol == symbol and CHANNELS[s.channel] == theirs]

    def subscribed(self, product: str, theirs: str) -> list[Stream]:
        """Return the streams that a subscription feeds, ours of each symbol it serves."""
        return [stream for symbol in self.symbols(product, theirs) for stream in self.of(symbol, theirs)]

    def streams(self, products: Collection[str]) -> tuple[Stream, ...]:
        """Return all our streams of products that were subscribed."""
        wanted = {(product, theirs) for theirs, names in self.wanted.items() for product in names}
        found = [
            stream
            for product, theirs in sorted(wanted)
            if product in products
            for stream in self.subscribed(product, theirs)
        ]
        return tuple(dict.fromkeys(found))

    def named(self, words: str) -> set[str]:
        """Return the products of ours that an error of the exchange names."""
        ours = {product for names in self.wanted.values() for product in names}
        return ours.intersection(_product.findall(words))

    def level2(self, symbol: str) -> str:
        """Return the product under which the book of a symbol was subscribed."""
        product = product_id(symbol)
        return product if product in self.wanted["level2"] else twin(product) or product
