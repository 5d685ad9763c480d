# cython: language_level=3
# ruff: noqa: ERA001, ARG002
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""How one-sided trading was, over buckets of equal volume (VPIN).

The seam only: until its part lands it writes nothing, and its column is not in the layout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from daedalus.features.checkpoint import nothing

if TYPE_CHECKING:
    from daedalus.features.params import Params

__all__ = ["Vpin"]


@cython.final
@cython.cclass
class Vpin:
    """The open bucket and the completed ones."""

    def __init__(self, row: memoryview[float], at: int, params: Params) -> None:
        del params
        self.row = row
        self.at = at

    @cython.cfunc
    def trades_gap(self, start: cython.longlong, end: cython.longlong) -> cython.int:
        """Note that trades were lost in (start, end], a trade at either end; start 0: there was none."""
        return 0

    @cython.cfunc
    def trade(
        self, ts: cython.longlong, price: cython.double, amount: cython.double, side: cython.int
    ) -> cython.int:
        """Take a trade, after its gap: side 1 buy, -1 sell, 0 unknown."""
        return 0

    @cython.cfunc
    def ticker(self, ts: cython.longlong, base_volume: cython.double) -> cython.int:
        """Take a ticker; its 24 h volume is NaN where the exchange tells none."""
        return 0

    @cython.cfunc
    def write(self) -> cython.int:
        """Write the column at `at`."""
        return 0

    def dump(self) -> list[bytes]:
        """Return all state."""
        return []

    def load(self, parts: list[bytes]) -> None:
        """Take over what `dump` returned. Raises ValueError when it is not that."""
        nothing(parts)
