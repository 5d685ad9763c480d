# cython: language_level=3
# ruff: noqa: ERA001, PLR0911
# mypy: disallow-untyped-decorators=False, warn-unreachable=False
# mypy: disable-error-code="valid-type,no-any-return,index,assignment,var-annotated,attr-defined"
"""Records in MessagePack, read where they lie: one value and one length per field, and no object.

A blob is an array of records; a record is an array of a tag and that tag's fields, always the same ones. A
`Form` says of what kind they are. Only one spelling of a record is read, the one that its writer uses.
Whatever else is in a blob (a field of another version, a number too large, a text that is no UTF-8, a byte
after the end), it is refused as a whole: somebody slower will know what to say about it.

Every read is checked against the size of the blob before it is done.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import cython

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BYTES", "FLAG", "INTEGER", "NUMBER", "PAIRS", "SHORT", "TEXT", "Form", "Walk"]

INTEGER = 0  # int64
SHORT = 1  # int32
NUMBER = 2  # float64; neither NaN nor infinity is one: null
FLAG = 3  # true | false
TEXT = 4  # UTF-8
BYTES = 5
PAIRS = 6  # packed float64 pairs, little-endian: two numbers per element of a list

_INTEGER = cython.declare(cython.int, 0)
_SHORT = cython.declare(cython.int, 1)
_NUMBER = cython.declare(cython.int, 2)
_FLAG = cython.declare(cython.int, 3)
_TEXT = cython.declare(cython.int, 4)
_PAIRS = cython.declare(cython.int, 6)

_NULL = cython.declare(cython.Py_ssize_t, -1)  # the length of what is missing
_FIELDS_MAX = 64
_VALUES_MAX = cython.declare(cython.Py_ssize_t, 1 << 20)  # of one blob: more is for somebody slower
_SHORT_MAX = cython.declare(cython.longlong, (1 << 31) - 1)
_HIDDEN = cython.declare(cython.longlong, 1 << 52)  # the first bit of a mantissa, which is not written
_EXACT = cython.declare(cython.longlong, 1 << 53)  # every integer up to here is a float64


@cython.final
@cython.cclass
class Form:
    """What the fields of one tag are.

    Args:
        fields: per field, in the record's order: kind, may it be missing, is it stored, and by how much an
            integer is divided (rounding down).
        names: the fields that tell groups apart; texts that are never missing.
        time: the field, an integer that is never missing, whose period tells them apart as well; the first
            stored column made of it shows whether rows came in order.

    Raises:
        ValueError: the form contradicts itself.
    """

    def __init__(
        self, fields: Sequence[tuple[int, bool, bool, int]], names: Sequence[int], time: int
    ) -> None:
        count = len(fields)
        if not 0 < count <= _FIELDS_MAX:
            raise ValueError(f"cannot read records of {count} fields: 1 to {_FIELDS_MAX}")
        if any(fields[name][:2] != (TEXT, False) for name in names) or not names:
            raise ValueError(f"cannot tell groups apart by the fields {names}: not all are texts")
        if fields[time][:2] != (INTEGER, False):
            raise ValueError(f"cannot tell the time by field {time}: it is no integer")
        if any(not 0 <= kind <= PAIRS or divisor < 1 for kind, _, _, divisor in fields):
            raise ValueError("cannot read a field: its kind or its divisor is unknown")
        self.count = count
        self.time = time
        self.kinds = _ints([kind for kind, _, _, _ in fields])
        self.nullable = _ints([int(nullable) for _, nullable, _, _ in fields])
        self.stored = _ints([int(stored) for _, _, stored, _ in fields])
        self.divisors = _longs([divisor for _, _, _, divisor in fields])
        self.names = _ints(list(names))
        self.fixed = sum(9 for field in fields if field[2])


@cython.final
@cython.cclass
class Walk:
    """What `over` found in the blob it was given last.

    Field f of record r has its value in `values[starts[r] + f]`: an integer; the bits of a number; of a text,
    bytes or pairs the offset where they begin. `lengths` has the bytes of the latter, -1 of what is missing.

    Args:
        known: tag -> form.
    """

    def __init__(self, known: dict[int, Form]) -> None:
        self._known = dict(known)
        self.forms = []
        self.tags = []
        self.blob = b""
        self.data = b""
        self._size = self._length = self._value = 0
        self.values = _zeros(64)
        self.lengths = _zeros(64)
        self.starts = _zeros(64)

    @cython.cfunc
    def over(self, blob: bytes) -> cython.bint:
        """Read every field of every record of a blob; True if all of them fit."""
        self.forms.clear()
        self.tags.clear()
        self.blob = blob
        self.data = blob
        self._size = len(blob)
        at: cython.Py_ssize_t = self._array(0)
        if at < 0:
            return False
        count: cython.Py_ssize_t = self._length
        if count > self._size or count > _VALUES_MAX:  # each takes a byte at least
            return False
        if count > self.starts.shape[0]:
            self.starts = _zeros(count)
        used: cython.Py_ssize_t = 0
        row: cython.Py_ssize_t
        last: cython.Py_ssize_t = -1
        form: Form = None
        tag: cython.Py_ssize_t
        for row in range(count):
            at = self._array(at)
            if at < 0 or at >= self._size:
                return False
            tag = self.data[at]
            if tag >= 0x80:
                return False
            at += 1
            if tag != last:
                form = self._known.get(tag)
                if form is None:
                    return False
                last = tag
            if self._length != form.count + 1:
                return False
            if used + form.count > self.values.shape[0] and not self._more(used, form.count):
                return False
            at = self._fields(form, at, used)
            if at < 0:
                return False
            self.starts[row] = used
            used += form.count
            self.forms.append(form)
            self.tags.append(last)
        return at == self._size

    @cython.cfunc
    def _more(self, used: cython.Py_ssize_t, fields: cython.Py_ssize_t) -> cython.bint:
        """Make room for the values of a record; False: they are too many."""
        if used + fields > _VALUES_MAX:
            return False
        new_values: cython.longlong[::1] = _zeros(2 * (used + fields))
        new_lengths: cython.longlong[::1] = _zeros(2 * (used + fields))
        at: cython.Py_ssize_t
        for at in range(used):
            new_values[at] = self.values[at]
            new_lengths[at] = self.lengths[at]
        self.values = new_values
        self.lengths = new_lengths
        return True

    @cython.cfunc
    def _fields(self, form: Form, at: cython.Py_ssize_t, to: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Read the fields of one record; return where it ends, -1 if one does not fit."""
        field: cython.Py_ssize_t
        kind: cython.int
        value: cython.longlong
        divisor: cython.longlong
        for field in range(form.count):
            kind = form.kinds[field]
            if at >= self._size:
                return -1
            if self.data[at] == 0xC0:
                if not form.nullable[field]:
                    return -1
                self.values[to + field] = 0
                self.lengths[to + field] = _NULL
                at += 1
                continue
            if kind <= _SHORT:
                at = self._integer(at)
                value = self._value
                if at >= 0 and kind == _SHORT and (value > _SHORT_MAX or value < -_SHORT_MAX - 1):
                    return -1
                divisor = form.divisors[field]
                if divisor != 1 and field != form.time:  # whose period is not known yet
                    self._value = quotient(value, divisor)
            elif kind == _NUMBER:
                at = self._number(at)
            elif kind == _FLAG:
                if self.data[at] != 0xC2 and self.data[at] != 0xC3:
                    return -1
                self._value = self.data[at] - 0xC2
                self._length = 1
                at += 1
            else:
                at = self._span_of(at, kind)
            if at < 0:
                return -1
            self.values[to + field] = self._value
            self.lengths[to + field] = self._length
        return at

    @cython.cfunc
    @cython.exceptval(check=False)
    def _big(self, at: cython.Py_ssize_t, width: cython.Py_ssize_t) -> cython.ulonglong:
        """Return the big-endian number of `width` bytes; the caller has looked whether they are there."""
        found: cython.ulonglong = 0
        end: cython.Py_ssize_t = at + width
        while at < end:
            found = (found << 8) | self.data[at]
            at += 1
        return found

    @cython.cfunc
    @cython.exceptval(check=False)
    def _array(self, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Read the head of an array, its length to `_length`; return where its first element is, or -1."""
        if at >= self._size:
            return -1
        head: cython.int = self.data[at]
        if 0x90 <= head <= 0x9F:
            self._length = head - 0x90
            return at + 1
        if head != 0xDC and head != 0xDD:  # noqa: PLR1714
            return -1
        width: cython.Py_ssize_t = 2 if head == 0xDC else 4
        if width > self._size - at - 1:
            return -1
        self._length = self._big(at + 1, width)
        return at + 1 + width

    @cython.cfunc
    @cython.exceptval(check=False)
    def _integer(self, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Read an int64 to `_value`; return where it ends, or -1."""
        head: cython.int = self.data[at]
        self._length = 1
        if head < 0x80:
            self._value = head
            return at + 1
        if head >= 0xE0:
            self._value = head - 0x100
            return at + 1
        if not 0xCC <= head <= 0xD3:
            return -1
        width: cython.Py_ssize_t = 1 << (head & 3)
        if width > self._size - at - 1:
            return -1
        bits: cython.ulonglong = self._big(at + 1, width)
        if head < 0xD0:
            if width == 8 and self.data[at + 1] >= 0x80:
                return -1
            self._value = _signed(bits)
        elif width == 8:
            self._value = _signed(bits)
        else:
            self._value = _signed(bits)
            if self.data[at + 1] >= 0x80:
                self._value -= cython.cast(cython.longlong, 1) << (8 * width)
        return at + 1 + width

    @cython.cfunc
    @cython.exceptval(check=False)
    def _number(self, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Read the bits of a float64 to `_value`; return where it ends, or -1. What is not finite is null."""
        if self.data[at] != 0xCB:
            at = self._integer(at)
            if at < 0 or self._value > _EXACT or self._value < -_EXACT:
                return -1
            self._value = _float_bits(self._value)
            return at
        if self._size - at < 9:
            return -1
        self._length = 1
        if (self.data[at + 1] & 0x7F) == 0x7F and self.data[at + 2] >= 0xF0:
            self._length = _NULL
        self._value = _signed(self._big(at + 1, 8))
        return at + 9

    @cython.cfunc
    def _span_of(self, at: cython.Py_ssize_t, kind: cython.int) -> cython.Py_ssize_t:
        """Read where a text or bytes begin, and their length; return where they end, or -1."""
        head: cython.int = self.data[at]
        width: cython.Py_ssize_t
        if kind == _TEXT:
            if 0xA0 <= head <= 0xBF:
                width = 0
                self._length = head - 0xA0
            elif 0xD9 <= head <= 0xDB:
                width = 1 << (head - 0xD9)
            else:
                return -1
        elif 0xC4 <= head <= 0xC6:
            width = 1 << (head - 0xC4)
        else:
            return -1
        if width > self._size - at - 1:
            return -1
        if width > 0:
            self._length = self._big(at + 1, width)
        at += 1 + width
        if self._length > self._size - at:
            return -1
        self._value = at
        if kind == _TEXT and not self._readable(at, self._length):
            return -1
        if kind == _PAIRS and self._length % 16 != 0:
            return -1
        return at + self._length

    @cython.cfunc
    def _readable(self, at: cython.Py_ssize_t, length: cython.Py_ssize_t) -> cython.bint:
        """Whether these bytes are UTF-8."""
        end: cython.Py_ssize_t = at + length
        found: cython.uchar = 0
        place: cython.Py_ssize_t
        data: cython.const[cython.uchar][::1] = self.data
        for place in range(at, end):
            found |= data[place]
        if found < 0x80:
            return True
        try:
            self.blob[at:end].decode()
        except UnicodeDecodeError:
            return False
        return True


_WRAP = 1 << 64


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _signed(bits: cython.ulonglong) -> cython.longlong:
    """Return the same 64 bits as a signed integer."""
    if cython.compiled:
        return cython.cast(cython.longlong, bits)
    return bits - _WRAP if bits >> 63 else bits


@cython.cfunc
@cython.exceptval(check=False)
def _float_bits(value: cython.longlong) -> cython.longlong:
    """Return the bits of a float64 that is this integer of at most 2**53."""
    if value == 0:
        return 0
    exponent: cython.longlong = 52
    mantissa: cython.longlong = -value if value < 0 else value
    while mantissa < _HIDDEN:
        mantissa <<= 1
        exponent -= 1
    if mantissa == _EXACT:
        mantissa >>= 1
        exponent += 1
    mantissa += ((exponent + 1023) << 52) - _HIDDEN
    return mantissa - _EXACT * 512 - _EXACT * 512 if value < 0 else mantissa  # the highest bit is the sign


@cython.ccall
@cython.exceptval(check=False)
def quotient(value: cython.longlong, divisor: cython.longlong) -> cython.longlong:
    """Return value / divisor, rounded down: C rounds towards zero."""
    found: cython.longlong = value // divisor
    if value < 0 and found * divisor > value:
        found -= 1
    return found


def _ints(values: list[int]) -> memoryview[int]:
    return memoryview(array("i", values))


def _longs(values: list[int]) -> memoryview[int]:
    return memoryview(array("q", values))


def _zeros(count: int) -> memoryview[int]:
    return memoryview(bytearray(8 * count)).cast("q")
