# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, warn-unreachable=False
# mypy: disable-error-code="valid-type,no-any-return,index,assignment,var-annotated,attr-defined"
"""A growing column: buffers as Arrow lays them out, filled from what a `Walk` found.

Rows are counted by whoever owns the column, which asks for room before it appends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cython

from daedalus.compiled.walk import Walk, quotient

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Column"]

_INTEGER = cython.declare(cython.int, 0)
_SHORT = cython.declare(cython.int, 1)
_NUMBER = cython.declare(cython.int, 2)
_FLAG = cython.declare(cython.int, 3)
_TEXT = cython.declare(cython.int, 4)
_PAIRS = cython.declare(cython.int, 6)


@cython.final
@cython.cclass
class Column:
    """One growing column. Rows are counted by its group; here is only room."""

    def __init__(
        self,
        kind: cython.int,
        rows: cython.Py_ssize_t,
        more: cython.Py_ssize_t,
        allocate: Callable[[int], Any],
    ) -> None:
        self.kind = kind
        self.nulls = self.room = self.used = self.spare = 0
        self._allocate = allocate
        self._raw = [None, None, None, None, None]
        self.reserve(0, rows)
        if kind >= _TEXT:
            self.ints[0] = 0
            self.reserve_more(more)

    @cython.cfunc
    def reserve(self, rows: cython.Py_ssize_t, more: cython.Py_ssize_t) -> cython.int:
        """Make room for so many more rows."""
        if rows + more <= self.room:
            return 0
        room: cython.Py_ssize_t = max(2 * self.room, rows + more)
        kept: cython.Py_ssize_t = rows
        raw = self._raw
        raw[0] = _moved(raw[0], kept, room, self._allocate)
        self.valid = raw[0]
        if self.kind == _INTEGER or self.kind == _NUMBER:  # noqa: PLR1714  (a tuple would be built in C)
            raw[1] = _moved(raw[1], 8 * kept, 8 * room, self._allocate)
            self.longs = raw[1].cast("q")
        elif self.kind == _FLAG:
            raw[4] = _moved(raw[4], kept, room, self._allocate)
            self.text = raw[4]
        else:
            kept = 0 if raw[3] is None else 4 * (rows + 1)
            raw[3] = _moved(raw[3], kept, 4 * (room + 1), self._allocate)
            self.ints = raw[3].cast("i")
        self.room = room
        return 0

    @cython.cfunc
    def reserve_more(self, more: cython.Py_ssize_t) -> cython.int:
        """Make room for so many more bytes of text, or pairs."""
        if self.used + more <= self.spare:
            return 0
        spare: cython.Py_ssize_t = max(2 * self.spare, self.used + more)
        raw = self._raw
        if self.kind == _PAIRS:
            raw[1] = _moved(raw[1], 8 * self.used, 8 * spare, self._allocate)
            raw[2] = _moved(raw[2], 8 * self.used, 8 * spare, self._allocate)
            self.firsts = raw[1].cast("Q")
            self.seconds = raw[2].cast("Q")
        else:
            raw[4] = _moved(raw[4], self.used, spare, self._allocate)
            self.text = raw[4]
        self.spare = spare
        return 0

    @cython.cfunc
    def buffers(self, rows: cython.Py_ssize_t) -> tuple[Any, ...]:
        """Return (nulls, validity bitmap or None, the others as Arrow orders them)."""
        valid = None if self.nulls == 0 else _bitmap(self.valid, rows)
        raw = self._raw
        if self.kind == _INTEGER or self.kind == _NUMBER:  # noqa: PLR1714
            return (self.nulls, valid, raw[1][: 8 * rows])
        if self.kind == _SHORT:
            return (self.nulls, valid, raw[3][: 4 * rows])
        if self.kind == _FLAG:
            return (self.nulls, valid, _bitmap(self.text, rows))
        offsets = raw[3][: 4 * (rows + 1)]
        if self.kind == _PAIRS:
            return (self.nulls, valid, offsets, raw[1][: 8 * self.used], raw[2][: 8 * self.used])
        return (self.nulls, valid, offsets, raw[4][: self.used])

    @cython.cfunc
    def append(
        self,
        walk: Walk,
        rows: cython.Py_ssize_t,
        begin: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        field: cython.Py_ssize_t,
        divisor: cython.longlong,
    ) -> cython.int:
        """Append values of one size."""
        row: cython.Py_ssize_t
        at: cython.Py_ssize_t
        to: cython.Py_ssize_t = rows
        value: cython.longlong
        for row in range(begin, end):
            at = walk.starts[row] + field
            value = walk.values[at]
            if divisor != 1:
                value = quotient(value, divisor)
            if self.kind == _INTEGER or self.kind == _NUMBER:  # noqa: PLR1714
                self.longs[to] = value
            elif self.kind == _SHORT:
                self.ints[to] = value
            else:
                self.text[to] = value
            if walk.lengths[at] < 0:
                self.valid[to] = 0
                self.nulls += 1
            else:
                self.valid[to] = 1
            to += 1
        return 0

    @cython.cfunc
    def append_long(
        self,
        walk: Walk,
        rows: cython.Py_ssize_t,
        begin: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        field: cython.Py_ssize_t,
    ) -> cython.int:
        """Append texts, bytes or pairs."""
        row: cython.Py_ssize_t
        at: cython.Py_ssize_t
        place: cython.Py_ssize_t
        source: cython.Py_ssize_t
        to: cython.Py_ssize_t
        size: cython.Py_ssize_t = 0
        for row in range(begin, end):
            at = walk.starts[row] + field
            if walk.lengths[at] > 0:
                size += walk.lengths[at]
        self.reserve_more(size // 16 if self.kind == _PAIRS else size)
        if self.kind == _PAIRS:
            self.append_pairs(walk, rows, begin, end, field)
            return 0
        for row in range(begin, end):
            at = walk.starts[row] + field
            size = walk.lengths[at]
            source = walk.values[at]
            to = self.used
            self.valid[rows] = size >= 0
            if size < 0:
                self.nulls += 1
                size = 0
            for place in range(size):
                self.text[to + place] = walk.data[source + place]
            self.used += size
            rows += 1
            self.ints[rows] = self.used
        return 0

    @cython.cfunc
    def append_pairs(
        self,
        walk: Walk,
        rows: cython.Py_ssize_t,
        begin: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        field: cython.Py_ssize_t,
    ) -> cython.int:
        """Append pairs, first and second numbers apart. There is room."""
        row: cython.Py_ssize_t
        at: cython.Py_ssize_t
        _: cython.Py_ssize_t
        size: cython.Py_ssize_t
        to: cython.Py_ssize_t = self.used
        data: cython.const[cython.uchar][::1] = walk.data
        firsts: cython.ulonglong[::1] = self.firsts
        seconds: cython.ulonglong[::1] = self.seconds
        for row in range(begin, end):
            at = walk.starts[row] + field
            size = walk.lengths[at]
            self.valid[rows] = size >= 0
            if size < 0:
                self.nulls += 1
                size = 0
            at = walk.values[at]
            for _ in range(size // 16):
                firsts[to] = _little(data, at)
                seconds[to] = _little(data, at + 8)
                to += 1
                at += 16
            rows += 1
            self.ints[rows] = to
        self.used = to
        return 0


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _little(data: cython.const[cython.uchar][::1], at: cython.Py_ssize_t) -> cython.ulonglong:
    """Return eight bytes, little-endian, as an integer: one load where the compiler sees it."""
    return (
        cython.cast(cython.ulonglong, data[at])
        | cython.cast(cython.ulonglong, data[at + 1]) << 8
        | cython.cast(cython.ulonglong, data[at + 2]) << 16
        | cython.cast(cython.ulonglong, data[at + 3]) << 24
        | cython.cast(cython.ulonglong, data[at + 4]) << 32
        | cython.cast(cython.ulonglong, data[at + 5]) << 40
        | cython.cast(cython.ulonglong, data[at + 6]) << 48
        | cython.cast(cython.ulonglong, data[at + 7]) << 56
    )


@cython.cfunc
def _bitmap(flags: cython.uchar[::1], rows: cython.Py_ssize_t) -> object:
    """Return a bit per row, the first the lowest."""
    made = bytearray((rows + 7) // 8)
    bits: cython.uchar[::1] = made
    row: cython.Py_ssize_t
    for row in range(rows):
        if flags[row]:
            bits[row // 8] |= 1 << (row % 8)
    return made


def _moved(old: Any, kept: int, size: int, allocate: Callable[[int], Any]) -> Any:
    """Return new memory of `size` bytes that begins with the first `kept` of the old."""
    made = memoryview(allocate(size)).cast("B")
    if kept:
        made[:kept] = old[:kept]
    return made
