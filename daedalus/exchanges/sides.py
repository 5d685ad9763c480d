"""Whose side an exchange reports, and the taker's side that follows from it.

`side` of a record is the taker's: the one who crossed the spread. Exchanges differ in whose side they
print, and a wrong sign turns every order-flow feature around, so the table says what each word means and
`SideCheck` compares the outcome with the quotes.
"""

from typing import Literal

__all__ = ["SEMANTICS", "Semantics", "SideCheck", "semantics", "taker"]

Semantics = Literal["taker", "maker", "unknown"]

# Adapters' and ccxt classes' names. ccxt passes the side of Coinbase through as it is: the maker's.
SEMANTICS: dict[str, Semantics] = {
    "binance": "taker",
    "binanceusdm": "taker",
    "coinbase": "maker",
    "coinbaseadvanced": "maker",
    "coinbaseexchange": "maker",
    "coinbaseinternational": "maker",
    "kraken": "taker",
    "okx": "taker",
}
_OTHER: dict[str, str] = {"buy": "sell", "sell": "buy"}
_AGREEMENT_MIN = 0.6
_TRADES_MIN = 100


def semantics(exchange_id: str, configured: str = "auto") -> Semantics:
    """Return whose side `exchange_id` reports; `configured` other than "auto" wins.

    An exchange that is not in the table is taken at ccxt's word: the taker's.
    """
    if configured in ("taker", "maker", "unknown"):
        return configured  # type: ignore[return-value]
    return SEMANTICS.get(exchange_id, "taker")


def taker(side: str | None, meaning: Semantics) -> str | None:
    """Return the taker's side, or None where it cannot be known.

    >>> taker("BUY", "maker"), taker("sell", "taker"), taker("buy", "unknown")
    ('sell', 'sell', None)
    """
    word = side.lower() if side is not None else ""
    if word not in _OTHER or meaning == "unknown":
        return None
    return _OTHER[word] if meaning == "maker" else word


class SideCheck:
    """Compares sides with the quote rule: a trade at or above the ask was bought, at or below the bid sold.

    Trades between the quotes do not count. `agreement` is None before 100 trades that do.
    """

    def __init__(self) -> None:
        """Begin with no trades."""
        self.agreed = 0
        self.compared = 0

    def update(self, side: str | None, price: float, bid: float, ask: float) -> None:
        """Compare one trade with the quotes before it."""
        if side is None or bid >= ask or bid < price < ask:
            return
        self.compared += 1
        self.agreed += side == ("buy" if price >= ask else "sell")

    @property
    def agreement(self) -> float | None:
        """Share of compared trades whose side agrees, 0 to 1."""
        return self.agreed / self.compared if self.compared >= _TRADES_MIN else None

    @property
    def suspicious(self) -> bool:
        """Whether agreement is known and below 0.6: the table is wrong for this exchange."""
        agreement = self.agreement
        return agreement is not None and agreement < _AGREEMENT_MIN
