# cython: language_level=3
# ruff: noqa: ERA001
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""The one-second UTC grid of the mid: which seconds were observed, and the return of each.

The value at second g is the last valid mid at or before g. It is known when a book after g comes, and not if
g lies in a hole, or no valid book came since one. A return needs both its ends, and no hole between them.
"""

from __future__ import annotations

import cython

from daedalus.features.checkpoint import block, part
from daedalus.features.elementary import ln
from daedalus.features.levels import floats, integers
from daedalus.features.window import Ring

__all__ = ["Grid"]

_NAN = cython.declare(cython.double, float("nan"))
_SECOND_US = cython.declare(cython.longlong, 1_000_000)
# A silence that is no hole is never longer than a day (`max_state_staleness_s`); a damaged state may say so.
_LONGEST = cython.declare(cython.longlong, 86_402)
_LATEST = cython.declare(cython.longlong, 1 << 34)  # beyond any time of an event
# What `whole` holds.
_DONE = cython.declare(cython.Py_ssize_t, 0)  # the last finished second
_BROKEN = cython.declare(cython.Py_ssize_t, 1)  # the last second that a hole has touched
# What `state` holds; NaN: none.
_MID = cython.declare(cython.Py_ssize_t, 0)  # the last valid mid since the last hole
_VALUE = cython.declare(cython.Py_ssize_t, 1)  # at the last finished second


@cython.final
@cython.cclass
class Grid:
    """Finished, observed seconds: a ring of time g (us) and the log return of second g (NaN where none).

    The ring holds what the last book finished, for the parts that count seconds; older ones are gone.
    """

    def __init__(self) -> None:
        self.seconds = Ring(1)
        self.fresh = 0  # finished by a hole, not yet told
        self.whole = integers(2)
        self.whole[_DONE] = -1
        self.whole[_BROKEN] = -1
        self.state = floats(2)
        self.state[_MID] = _NAN
        self.state[_VALUE] = _NAN

    @cython.cfunc
    def hole(self, start: cython.longlong, end: cython.longlong) -> cython.int:
        """Note that (start, end] was not observed; start 0: nothing was, before `end`."""
        last: cython.longlong = (end + _SECOND_US - 1) // _SECOND_US
        if end > start > 0 and start % _SECOND_US == 0:  # this second was still watched
            self.finish(start // _SECOND_US)
        self.state[_MID] = _NAN
        if start // _SECOND_US < last and last > self.whole[_BROKEN]:
            self.whole[_BROKEN] = last
        return 0

    @cython.cfunc
    def book(self, ts: cython.longlong, valid: cython.bint, mid: cython.double) -> cython.Py_ssize_t:
        """Take a book, after its hole. Return how many seconds it finished: the newest of `seconds`."""
        fresh: cython.Py_ssize_t
        if ts > 0:
            self.finish((ts - 1) // _SECOND_US)
        if valid and mid - mid == 0.0:  # a mid beyond what a float holds is none
            self.state[_MID] = mid
        fresh = self.fresh
        self.fresh = 0
        return fresh

    @cython.cfunc
    def finish(self, last: cython.longlong) -> cython.int:
        """Finish all seconds up to `last`; the mid has not changed since."""
        g: cython.longlong = self.whole[_DONE]
        slot: cython.Py_ssize_t
        if last <= g:
            return 0
        if self.fresh == 0:
            self.seconds.tail = self.seconds.head
        if self.state[_MID] == self.state[_MID] and last - g <= _LONGEST:
            while g < last:
                g += 1
                slot = self.seconds.push(g * _SECOND_US)
                self.seconds.value[slot] = self.log_return(g)
                self.state[_VALUE] = self.state[_MID]
                self.fresh += 1
        else:
            self.state[_VALUE] = _NAN
        self.whole[_DONE] = last
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def log_return(self, g: cython.longlong) -> cython.double:
        """Return the log return of second g, the next to finish; NaN if there is none."""
        if g <= self.whole[_BROKEN] or self.state[_VALUE] != self.state[_VALUE]:
            return _NAN
        if self.state[_MID] == self.state[_VALUE]:
            return 0.0
        return ln(self.state[_MID] / self.state[_VALUE])

    @cython.cfunc
    @cython.exceptval(check=False)
    def standing(self, ts: cython.longlong) -> cython.double:
        """Return the return of the second that ends at `ts`, the time of the last book; NaN if none does.

        That second counts in a window up to `ts`, but another book may yet come at the same time: so it is
        counted for a row without being finished.
        """
        if ts % _SECOND_US != 0 or ts // _SECOND_US != self.whole[_DONE] + 1:
            return _NAN
        return self.log_return(ts // _SECOND_US)

    def dump(self) -> list[bytes]:
        """Return all state."""
        return [bytes(self.whole), bytes(self.state)]

    def load(self, parts: object) -> None:
        """Take over what `dump` returned, into a new object.

        Raises:
            ValueError: it is not that.
        """
        state = part(parts, 2)
        whole = block(state[0], "q", 2)
        if not -1 <= min(whole) <= max(whole) <= _LATEST:
            raise ValueError(f"cannot restore the engine: its grid is at the seconds {list(whole)}")
        self.state = block(state[1], "d", 2)
        self.whole = whole
