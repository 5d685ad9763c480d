"""The true book of a simulated exchange: every level, as the decimal strings it was told in.

Deliberately not the compiled book of the features: this one is the witness that one is held against.
"""

from bisect import bisect_left
from collections.abc import Iterable

__all__ = ["Book", "Level", "Side"]

Level = tuple[str, str]  # price, size; decimal strings


class Side:
    """One side: prices ascending, the strings of each price beside them."""

    def __init__(self) -> None:
        self._prices: list[float] = []
        self._levels: dict[float, Level] = {}

    def __len__(self) -> int:
        return len(self._prices)

    def set(self, level: Level) -> None:
        """Set or, with size zero, remove one level."""
        price = float(level[0])
        if float(level[1]) == 0.0:
            if self._levels.pop(price, None) is not None:
                del self._prices[bisect_left(self._prices, price)]
            return
        if price not in self._levels:
            self._prices.insert(bisect_left(self._prices, price), price)
        self._levels[price] = level

    def lowest(self, count: int) -> list[Level]:
        """Return up to `count` levels, lowest price first."""
        levels = self._levels
        return [levels[price] for price in self._prices[:count]]

    def highest(self, count: int) -> list[Level]:
        """Return up to `count` levels, highest price first."""
        levels = self._levels
        return [levels[price] for price in self._prices[: -count - 1 : -1]]

    def all(self) -> dict[float, Level]:
        """Return every level by its price. Not to be changed."""
        return self._levels

    def difference(self, other: "Side") -> list[Level]:
        """Return the changes that turn this side into `other`, prices ascending."""
        mine, theirs = self.all(), other.all()
        changes = [(level[0], "0") for price, level in mine.items() if price not in theirs]
        changes += [level for price, level in theirs.items() if mine.get(price) != level]
        return sorted(changes, key=lambda level: float(level[0]))


class Book:
    """Both sides and the id of the last update they contain."""

    def __init__(self) -> None:
        self.last_id = 0
        self._bids = Side()
        self._asks = Side()

    def replace(self, last_id: int, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Become this book."""
        self.last_id = last_id
        self._bids, self._asks = _side(bids), _side(asks)

    def apply(self, last_id: int, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Set every given level; size zero removes it."""
        for level in bids:
            self._bids.set(level)
        for level in asks:
            self._asks.set(level)
        self.last_id = last_id

    def difference(self, bids: Iterable[Level], asks: Iterable[Level]) -> tuple[list[Level], list[Level]]:
        """Return the changes that turn this book into the given one."""
        return self._bids.difference(_side(bids)), self._asks.difference(_side(asks))

    def bids(self, count: int) -> list[Level]:
        """Return up to `count` bids, best first."""
        return self._bids.highest(count)

    def asks(self, count: int) -> list[Level]:
        """Return up to `count` asks, best first."""
        return self._asks.lowest(count)

    def depth(self) -> tuple[int, int]:
        """Return the number of bid and ask levels."""
        return len(self._bids), len(self._asks)


def _side(levels: Iterable[Level]) -> Side:
    side = Side()
    for level in levels:
        side.set(level)
    return side
