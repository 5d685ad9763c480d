# cython: language_level=3
# ruff: noqa: ERA001, ARG002
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""Windows of the book: realized volatility on the grid, means and deviations, the spread's regime.

The seam only: until its part lands it writes nothing, and its columns are not in the layout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from daedalus.features.checkpoint import nothing

if TYPE_CHECKING:
    from daedalus.features.grid import Grid
    from daedalus.features.measure import Measure
    from daedalus.features.params import Params
    from daedalus.features.rolling import Rolling

__all__ = ["WindowsOfBook"]


@cython.final
@cython.cclass
class WindowsOfBook:
    """Fixed windows over valid updates, and the windows of finished seconds."""

    def __init__(self, row: memoryview[float], at: int, params: Params) -> None:
        del params
        self.row = row
        self.at = at

    @cython.cfunc
    def hole(self, start: cython.longlong, end: cython.longlong) -> cython.int:
        """Note that (start, end] was not observed; start 0: nothing was, before `end`."""
        return 0

    @cython.cfunc
    def seconds(self, grid: Grid, fresh: cython.Py_ssize_t) -> cython.int:
        """Count the newest `fresh` seconds of the grid."""
        return 0

    @cython.cfunc
    def step(self, ts: cython.longlong, valid: cython.bint, measure: Measure) -> cython.int:
        """Take what `Measure` found in this update, emitted or not."""
        return 0

    @cython.cfunc
    def rebase(self) -> cython.int:
        """Sum every window anew, in order."""
        return 0

    @cython.cfunc
    def write(self, ts: cython.longlong, valid: cython.bint, grid: Grid, rolling: Rolling) -> cython.int:
        """Write the columns from `at` on."""
        return 0

    def dump(self) -> list[bytes]:
        """Return all state."""
        return []

    def load(self, parts: list[bytes]) -> None:
        """Take over what `dump` returned. Raises ValueError when it is not that."""
        nothing(parts)
