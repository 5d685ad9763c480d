"""Which trades of one Binance market have come, and which are missing. Pure.

Binance numbers the trades of a market without a hole (spot: documented nowhere, true in every recording;
USD-M: true over all kinds of trade, those that are no trades included). So the next live trade must have the
next number; a jump is a hole, on a connection that looks perfectly healthy.

What is missing is kept as ranges of ids until REST has given it, or has shown that it has none:

    live:  … 5 6 · · 9 …    missing [7, 8]
    after a reconnect:      missing [last stored + 1, …) until the first live trade closes it

A trade that comes late, alive, is taken if it is still missing. A second copy is not.

One id far from all others says nothing of the next: the trade is taken, the id is not the one that must be
followed. A second in turn on the same side makes it so: the numbers begin anew there, and that is no hole.
"""

from enum import Enum

__all__ = ["Heard", "TradeIds"]

_JUMP_MAX = 10_000_000  # further away, one id alone says nothing of the next
_RANGES_MAX = 1_000  # separate holes; beyond it the oldest is given up


class Heard(Enum):
    """What a live trade is."""

    NEXT = "next"
    AFTER_A_HOLE = "after a hole"
    KNOWN = "known"


class TradeIds:
    """The ids of one market on one connection."""

    __slots__ = ("_far", "_first", "_missing", "_open", "last", "outliers")

    def __init__(self) -> None:
        """Begin with no trade: the first live one is the first there is."""
        self.outliers = 0  # ids far away that the next one did not confirm
        self.reset()

    def reset(self) -> None:
        """Forget everything: the connection is gone."""
        self.last: int | None = None  # the newest that was taken, or is known not to exist
        self._first: int | None = None  # the oldest that is accounted for
        self._missing: list[list[int]] = []  # [first, last], ascending
        self._open: int | None = None  # everything from here to the first live trade
        self._far = 0  # where the id before was far from the last one: 1 above, -1 below

    @property
    def wanted(self) -> int | None:
        """The first id that is missing, None if there is none."""
        return self._missing[0][0] if self._missing else self._open

    def hear(self, trade_id: int) -> Heard:
        """Take a live trade."""
        if self._is_far(trade_id):
            return Heard.NEXT  # the collector knows whether it was stored
        last = self.last
        if last is None:
            self.last = self._first = trade_id
            if self._open is not None and trade_id > self._open:
                self._first = self._open
                self._add(self._open, trade_id - 1)
            self._open = None
            return Heard.NEXT
        if trade_id == last + 1:
            self.last = trade_id
            return Heard.NEXT
        if trade_id > last:
            self.last = trade_id
            self._add(last + 1, trade_id - 1)
            return Heard.AFTER_A_HOLE
        return Heard.NEXT if self._found(trade_id) else Heard.KNOWN

    def _is_far(self, trade_id: int) -> bool:
        """Return whether an id is far from the last one; the second in turn is where numbers begin anew."""
        known = self._open if self.last is None else self.last
        if known is None or abs(trade_id - known) <= _JUMP_MAX:
            self.outliers += self._far != 0
            self._far = 0
            return False
        if self._found(trade_id):
            return True
        side = 1 if trade_id > known else -1
        if self._far != side:
            self._far = side
            return True
        since, outliers = self._open, self.outliers + (side < 0)  # it was the last one
        self.reset()
        self.outliers, self.last, self._first = outliers, trade_id, trade_id
        if since is not None and since < trade_id:  # a long absence: a search has bounds of its own
            self._first = since
            self._add(since, trade_id - 1)
        return True

    def hole_before(self, trade_id: int) -> int:
        """Return the first id of the hole that ends before `trade_id`."""
        return next((first for first, last in reversed(self._missing) if last == trade_id - 1), trade_id)

    def want_since(self, trade_id: int) -> None:
        """Note that everything after `trade_id`, up to the first live trade, is missing."""
        if self._first is None:
            self._open = trade_id + 1
        elif trade_id + 1 < self._first:
            self._missing.insert(0, [trade_id + 1, self._first - 1])
            self._first = trade_id + 1

    def found(self, trade_id: int) -> bool:
        """Take a trade of REST; return whether it was missing."""
        if self._open is not None and trade_id >= self._open:
            return True
        return self._found(trade_id)

    def settle(self, since: int, newest: int | None, *, head: bool) -> None:
        """Note that REST has told all it has from `since` up to `newest`.

        Args:
            since: the first id that it was asked for.
            newest: the newest id that it gave, None if it gave none.
            head: nothing newer exists: the next live trade must follow it.
        """
        if newest is not None and newest >= since:
            parts = []
            for first, last in self._missing:
                parts += [[first, min(last, since - 1)], [max(first, newest + 1), last]]
            self._missing = [part for part in parts if part[0] <= part[1]]
        if self._open is None:
            return
        told = self._open - 1 if newest is None else max(newest, self._open - 1)
        if head:
            self.last = self._first = told
            self._open = None
        else:
            self._open = told + 1

    def give_up(self) -> int:
        """Forget what is missing; return how many trades that are, as far as it is known."""
        lost = sum(last - first + 1 for first, last in self._missing)
        self._missing = []
        self._open = None
        return lost

    def _add(self, first: int, last: int) -> None:
        self._missing.append([first, last])
        if len(self._missing) > _RANGES_MAX:
            del self._missing[0]

    def _found(self, trade_id: int) -> bool:
        for at, (first, last) in enumerate(self._missing):
            if first <= trade_id <= last:
                parts = [[first, trade_id - 1], [trade_id + 1, last]]
                self._missing[at : at + 1] = [part for part in parts if part[0] <= part[1]]
                return True
        return False
