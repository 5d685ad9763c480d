# cython: language_level=3
# ruff: noqa: ERA001, ARG002
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""The one-second UTC grid of the mid: which seconds were observed, and the return of each.

The seam only: until its part lands no second is ever finished, and no column depends on it.
"""

from __future__ import annotations

import cython

from daedalus.features.checkpoint import nothing
from daedalus.features.window import Ring

__all__ = ["Grid"]


@cython.final
@cython.cclass
class Grid:
    """Finished, observed seconds: a ring of time g (us) and the log return of second g (NaN where none)."""

    def __init__(self) -> None:
        self.seconds = Ring(1)

    @cython.cfunc
    def hole(self, start: cython.longlong, end: cython.longlong) -> cython.int:
        """Note that (start, end] was not observed; start 0: nothing was, before `end`."""
        return 0

    @cython.cfunc
    def book(self, ts: cython.longlong, valid: cython.bint, mid: cython.double) -> cython.Py_ssize_t:
        """Take a book, after its hole. Return how many seconds it finished: the newest of `seconds`."""
        return 0

    def dump(self) -> list[bytes]:
        """Return all state."""
        return []

    def load(self, parts: list[bytes]) -> None:
        """Take over what `dump` returned. Raises ValueError when it is not that."""
        nothing(parts)
