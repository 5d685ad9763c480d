# cython: language_level=3
# ruff: noqa: ERA001, ARG002
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""The engine's own book, kept from the exchange's deltas: the other source of books.

The seam only: until its part lands a delta is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython

from daedalus.features.checkpoint import nothing

if TYPE_CHECKING:
    from daedalus.features.levels import Levels
    from daedalus.features.params import Params

__all__ = ["DepthBook"]


@cython.final
@cython.cclass
class DepthBook:
    """The full book within the range of the exchange's last snapshot."""

    def __init__(self, params: Params) -> None:
        del params

    @cython.cfunc
    def take(self, kind: cython.int, flags: cython.longlong, bids: bytes, asks: bytes) -> cython.int:
        """Take a record: kind 0 the changed levels, 1 the whole book; sides of packed (price, size) pairs.

        The first record of another session comes with bit 2, whatever its own flags. The engine remembers
        a bit 2 that led to no update.

        Returns:
            0: it is nothing to this book. 1: an update. 2: taken, and no update.
        """
        raise TypeError("cannot update with Depth: no book is kept from deltas yet")

    @cython.cfunc
    def fill(self, levels: Levels) -> cython.int:
        """Copy the book into `levels`, best first, as far as any column reads."""
        return 0

    def dump(self) -> list[bytes]:
        """Return all state."""
        return []

    def load(self, parts: list[bytes]) -> None:
        """Take over what `dump` returned. Raises ValueError when it is not that."""
        nothing(parts)
