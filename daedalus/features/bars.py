# cython: language_level=3
# ruff: noqa: ERA001, ARG002
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""Time bars of the book and its trades.

The seam only: until its part lands no bar is ever closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from daedalus.features.checkpoint import nothing

if TYPE_CHECKING:
    from daedalus.features.grid import Grid
    from daedalus.features.params import Params

__all__ = ["Bars"]


@cython.final
@cython.cclass
class Bars:
    """The open bar of each duration, and the closed ones nobody has taken yet."""

    def __init__(self, params: Params) -> None:
        del params

    @cython.cfunc
    def hole(self, start: cython.longlong, end: cython.longlong) -> cython.int:
        """Note that the book was not observed in (start, end]; start 0: not at all before `end`."""
        return 0

    @cython.cfunc
    def trade(
        self, ts: cython.longlong, price: cython.double, amount: cython.double, side: cython.int
    ) -> cython.int:
        """Take a trade: side 1 buy, -1 sell, 0 unknown."""
        return 0

    @cython.cfunc
    def book(
        self,
        ts: cython.longlong,
        valid: cython.bint,
        mid: cython.double,
        spread: cython.double,
        imbalance: cython.double,
        ofi: cython.double,
        grid: Grid,
        fresh: cython.Py_ssize_t,
    ) -> cython.int:
        """Take a book, after the seconds it finished; null values are NaN."""
        return 0

    @cython.ccall
    def pop(self) -> object:
        """Return the oldest closed bar that nobody has taken yet, None without."""
        return None

    def dump(self) -> list[bytes]:
        """Return all state."""
        return []

    def load(self, parts: list[bytes]) -> None:
        """Take over what `dump` returned. Raises ValueError when it is not that."""
        nothing(parts)
