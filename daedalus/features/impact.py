# cython: language_level=3
# ruff: noqa: ERA001, ARG002
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""What trading costs: price impact, effective and implied spread, illiquidity.

The seam only: until its part lands it writes nothing, and its columns are not in the layout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from daedalus.features.checkpoint import nothing

if TYPE_CHECKING:
    from daedalus.features.grid import Grid
    from daedalus.features.params import Params

__all__ = ["Impact"]


@cython.final
@cython.cclass
class Impact:
    """Regressions on finished seconds, and what the trades say of the spread."""

    def __init__(self, row: memoryview[float], at: int, params: Params) -> None:
        del params
        self.row = row
        self.at = at

    @cython.cfunc
    def new_session(self) -> cython.int:
        """Another session begins with the event that follows: the mid before it is not its own."""
        return 0

    @cython.cfunc
    def hole(self, start: cython.longlong, end: cython.longlong) -> cython.int:
        """Note that the book was not observed in (start, end]; start 0: not at all before `end`."""
        return 0

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
    def seconds(self, grid: Grid, fresh: cython.Py_ssize_t) -> cython.int:
        """Count the newest `fresh` seconds of the grid."""
        return 0

    @cython.cfunc
    def book(
        self, ts: cython.longlong, valid: cython.bint, mid: cython.double, ofi: cython.double
    ) -> cython.int:
        """Take a book, after the seconds it finished; `ofi` is its ofi_step, NaN for null."""
        return 0

    @cython.cfunc
    def rebase(self) -> cython.int:
        """Sum every window anew, in order."""
        return 0

    @cython.cfunc
    def write(self, ts: cython.longlong, valid: cython.bint) -> cython.int:
        """Write the columns from `at` on."""
        return 0

    def dump(self) -> list[bytes]:
        """Return all state."""
        return []

    def load(self, parts: list[bytes]) -> None:
        """Take over what `dump` returned. Raises ValueError when it is not that."""
        nothing(parts)
