# cython: language_level=3
# ruff: noqa: ERA001, SLF001
# mypy: disallow-untyped-decorators=False, warn-unreachable=False
# mypy: disable-error-code="valid-type,no-any-return,index,assignment,var-annotated,attr-defined"
"""Records shared out to columns without becoming objects, as a sorter of mail never reads a letter.

Records with the same names and in the same period of time are a group: one buffer per stored field, which is
what Arrow calls a column. A blob is taken whole or not at all, so all of it is looked at before any of it is
stored:

    walk   blob ─▶ values          every bound, kind and range checked
    group  record ─▶ group         mostly the one that came after this one last time
    store  runs of one group, column by column
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import cython

from daedalus.compiled.column import Column
from daedalus.compiled.walk import Form, Walk, quotient

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMPILED", "Group", "Shredder", "Stream"]

COMPILED: bool = cython.compiled

_TEXT = cython.declare(cython.int, 4)
_PAIRS = cython.declare(cython.int, 6)
_FIRST_ROWS = cython.declare(cython.Py_ssize_t, 64)


@cython.final
@cython.cclass
class Stream:
    """How far one stream of groups has come."""

    def __init__(self) -> None:
        self._period = 0
        self._begun = False

    def meet(self, period: cython.longlong) -> bool:
        """Take note of a record of `period`; return whether a later period was met before."""
        return self._meet(period)

    @cython.cfunc
    @cython.exceptval(check=False)
    def _meet(self, period: cython.longlong) -> cython.bint:
        if self._begun and period < self._period:
            return True
        self._period = period
        self._begun = True
        return False


@cython.final
@cython.cclass
class Group:
    """The records with the same names in one period, as columns.

    Args:
        form: theirs.
        stream: what this group is a period of.
        period: the number of the period.
        owner: whatever the caller wants to find here again.
    """

    def __init__(self, form: Form, stream: Stream, period: cython.longlong, owner: object) -> None:
        self._form = form
        self._stream = stream
        self._period = period
        self.owner = owner
        self.kept = True
        self.overtaken = False
        self.rows = self.held = 0
        self._columns = []
        self._sorted = True
        self._latest = 0
        self._tag = -1
        self._context = None
        self._names = b""
        self._sizes = memoryview(array("q"))
        self._after = self
        self._taken = 0
        self._used = []

    @cython.cfunc
    def _take(self) -> tuple[Any, ...]:
        column: Column  # noqa: F842  (of the loop in the list: Cython types it by this)
        found = (self.rows, self._sorted, [column.buffers(self.rows) for column in self._columns])
        self._taken = self.rows
        self._used = [column.used for column in self._columns]
        self._columns = []
        self.rows = self.held = 0
        self._sorted = True
        return found


@cython.final
@cython.cclass
class Shredder:
    """Takes blobs, keeps groups.

    Args:
        forms: tag -> form.
        open_group: called as (context, tag, names, period); returns the group, the same one for the same
            arguments, or raises ValueError, and then the blob is not taken.
        span: of a period, in the unit of the records' time.
        ripe_rows: a group with so many rows is put on `ripe`.
        allocate: returns so many bytes of writable memory.
    """

    def __init__(
        self,
        forms: dict[int, Form],
        open_group: Callable[[Any, int, tuple[str, ...], int], Group],
        span: cython.longlong,
        ripe_rows: cython.Py_ssize_t,
        allocate: Callable[[int], Any] = bytearray,
    ) -> None:
        if span < 1 or ripe_rows < 1:
            raise ValueError(f"cannot shred by a span of {span} and {ripe_rows} rows: at least 1 of each")
        self._walk = Walk(forms)
        self._open = open_group
        self._allocate = allocate
        self._span = span
        self._ripe_rows = ripe_rows
        self._known = {}
        self._contexts = {}
        self._last = None
        self.ripe = []
        self.rows = self.held = 0

    def take(self, context: object, blob: bytes, skip: cython.Py_ssize_t) -> bool:
        """Store the records of a blob but for the first `skip`; False: it is not taken, not one of them.

        Args:
            context: hashable; records of different contexts are in different groups.
            blob: a MessagePack array of records.
            skip: records left out at the beginning; they are looked at like the others.
        """
        context = self._contexts.setdefault(context, context)  # one object of those that are equal
        walk: Walk = self._walk
        if not walk.over(blob):
            return False
        groups: list[Group] = []
        row: cython.Py_ssize_t
        count: cython.Py_ssize_t = len(walk.forms)
        for row in range(max(skip, 0), count):
            group: Group = self._group(context, walk.forms[row], walk.tags[row], row)
            if group is None:
                return False
            groups.append(group)
        self._share(groups, max(skip, 0))
        return True

    def release(self, group: Group) -> tuple[int, bool, list[tuple[Any, ...]]]:
        """Return (rows, are they in order of time, buffers of each stored field); the group is empty again.

        Buffers: number of nulls, bitmap of validity or None, and then as Arrow lays out the kind: values;
        offsets and bytes; for pairs offsets, first and second numbers.
        """
        self.rows -= group.rows
        self.held -= group.held
        return group._take()

    @cython.cfunc
    def _group(self, context: object, form: Form, tag: cython.longlong, row: cython.Py_ssize_t) -> Group:
        """Return the group of a record; None: there can be none."""
        start: cython.Py_ssize_t = self._walk.starts[row]
        time: cython.longlong = self._walk.values[start + form.time]
        period: cython.longlong = quotient(time, self._span)
        group: Group = self._last
        if group is not None:
            group = group._after
            if not self._is_of(group, context, tag, period, form, start):
                group = self._last
                if not self._is_of(group, context, tag, period, form, start):
                    group = None
        if group is None:
            names = self._names_at(form, start)
            key = (tag, context, period, names)
            group = self._known.get(key)
            if group is None:
                try:
                    group = self._open(context, tag, tuple([name.decode() for name in names]), period)
                except ValueError:
                    return None
                group._tag = tag
                group._context = context
                group._names = b"".join(names)
                group._sizes = memoryview(array("q", [len(name) for name in names]))
                self._known[key] = group
        if self._last is not None:
            self._last._after = group
        self._last = group
        return group

    @cython.cfunc
    def _names_at(self, form: Form, start: cython.Py_ssize_t) -> tuple[Any, ...]:
        names = []
        number: cython.Py_ssize_t
        at: cython.Py_ssize_t
        for number in range(form.names.shape[0]):
            at = start + form.names[number]
            names.append(
                self._walk.blob[self._walk.values[at] : self._walk.values[at] + self._walk.lengths[at]]
            )
        return tuple(names)

    @cython.cfunc
    def _is_of(
        self,
        group: Group,
        context: object,
        tag: cython.longlong,
        period: cython.longlong,
        form: Form,
        start: cython.Py_ssize_t,
    ) -> cython.bint:
        """Whether a record belongs to this group, without making an object of its names."""
        if group._period != period or group._tag != tag or group._context is not context:
            return False
        walk: Walk = self._walk
        done: cython.Py_ssize_t = 0
        number: cython.Py_ssize_t
        place: cython.Py_ssize_t
        begin: cython.Py_ssize_t
        at: cython.Py_ssize_t
        for number in range(form.names.shape[0]):
            at = start + form.names[number]
            if walk.lengths[at] != group._sizes[number]:
                return False
            begin = walk.values[at]
            for place in range(group._sizes[number]):
                if walk.data[begin + place] != group._names[done + place]:
                    return False
            done += group._sizes[number]
        return True

    @cython.cfunc
    def _share(self, groups: list[Any], first: cython.Py_ssize_t) -> cython.int:
        """Store what was walked, runs of one group at a time."""
        begin: cython.Py_ssize_t = 0
        end: cython.Py_ssize_t
        count: cython.Py_ssize_t = len(groups)
        group: Group
        while begin < count:
            group = groups[begin]
            end = begin + 1
            while end < count and groups[end] is group:
                end += 1
            if group._stream._meet(group._period):
                group.overtaken = True
            if group.kept:
                self._store(group, first + begin, first + end)
                if group.rows >= self._ripe_rows and group not in self.ripe:
                    self.ripe.append(group)
            begin = end
        return 0

    @cython.cfunc
    def _store(self, group: Group, begin: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Append the records from `begin` to `end`."""
        form: Form = group._form
        column: Column
        field: cython.Py_ssize_t
        number: cython.Py_ssize_t = 0
        before: cython.Py_ssize_t
        size: cython.Py_ssize_t = (end - begin) * form.fixed  # bytes
        divisor: cython.longlong
        if not group._columns:
            group._columns = self._columns(group, form)
        for field in range(form.count):
            if field == form.time:
                self._order(group, begin, end, field)
            if form.stored[field]:
                column = group._columns[number]
                number += 1
                column.reserve(group.rows, end - begin)
                if column.kind < _TEXT:
                    divisor = form.divisors[field] if field == form.time else 1
                    column.append(self._walk, group.rows, begin, end, field, divisor)
                else:
                    before = column.used
                    column.append_long(self._walk, group.rows, begin, end, field)
                    size += (column.used - before) * (16 if column.kind == _PAIRS else 1)
        group.rows += end - begin
        self.rows += end - begin
        self.held += size
        group.held += size
        return 0

    @cython.cfunc
    def _columns(self, group: Group, form: Form) -> list[Any]:
        """Return empty columns with room for what the group held last time, and an eighth."""
        columns: list[Any] = []
        field: cython.Py_ssize_t
        rows: cython.Py_ssize_t = group._taken
        more: cython.Py_ssize_t
        for field in range(form.count):
            if form.stored[field]:
                more = group._used[len(columns)] if rows else 0
                more += more // 8 + _FIRST_ROWS
                columns.append(
                    Column(form.kinds[field], rows + rows // 8 + _FIRST_ROWS, more, self._allocate)
                )
        return columns

    @cython.cfunc
    def _order(
        self, group: Group, begin: cython.Py_ssize_t, end: cython.Py_ssize_t, field: cython.Py_ssize_t
    ) -> cython.int:
        """Look whether these records are later than those before."""
        row: cython.Py_ssize_t
        latest: cython.longlong = group._latest
        time: cython.longlong
        for row in range(begin, end):
            time = self._walk.values[self._walk.starts[row] + field]
            if time < latest and (row > begin or group.rows > 0):
                group._sorted = False
            latest = time
        group._latest = latest
        return 0
