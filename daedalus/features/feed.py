# cython: language_level=3
# ruff: noqa: ERA001, ARG002
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""What the engine needs of a record, read from its MessagePack without making the record.

The seam only: until its part lands `read` knows no shape, and its callers decode the record.
"""

from __future__ import annotations

import cython

__all__ = ["Head"]


@cython.final
@cython.cclass
class Head:
    """The head of the record read last, and the values the engine takes.

    kind is the tag of `daedalus.records` (1 trade, 2 book, 3 ticker, 5 depth, with `whole` for its
    snapshots); times are ns (ts_event -1: none); side 1 buy, -1 sell, 0 unknown; base_volume NaN: none;
    sides are packed (price, size) pairs, empty for other kinds.
    """

    def __init__(self) -> None:
        self.kind = 0
        self.ts_recv = self.seq = self.flags = 0
        self.ts_event = -1
        self.side = 0
        self.whole = False
        self.session = b""
        self.price = self.amount = self.base_volume = float("nan")
        self.bids = b""
        self.asks = b""

    @cython.ccall
    def read(self, blob: bytes) -> cython.bint:
        """Read a record of `records.encode`. False: it has not that shape; decode it instead."""
        return False
