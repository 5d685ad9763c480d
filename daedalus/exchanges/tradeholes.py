"""Where trade ids are contiguous, a number that is missing is a trade that was lost: it is asked for by REST.

Whether an exchange's ids are contiguous is the exchange's affair, and it may change: when REST says several
times that nothing was between two trades, their ids are no longer counted. One id far from all others is not
the one that the next must follow; a second makes it so: the numbers begin anew there, and that is no hole.
"""

from typing import NamedTuple

__all__ = ["Hole", "Request", "TradeHoles"]

_PHANTOMS_MAX = 3  # holes that were none
_OPEN_MAX = 4  # requests of one symbol at a time
_DIGITS_MAX = 18
_JUMP_MAX = 10_000_000  # further away, one id alone says nothing of the next


class Hole(NamedTuple):
    """Trades that are missing between two ids."""

    after: int
    before: int

    @property
    def missing(self) -> int:
        """How many."""
        return self.before - self.after - 1


class Request(NamedTuple):
    """A REST request for trades that is open."""

    symbol: str
    after: int | None  # newer than this id; None: whatever there is
    before: int | None  # older than this id; None: up to the present
    page: int  # from 1


def _number(trade_id: str | None) -> int | None:
    if trade_id is None or len(trade_id) > _DIGITS_MAX or not (trade_id.isascii() and trade_id.isdigit()):
        return None
    return int(trade_id)


class TradeHoles:
    """The ids of every symbol of one connection, and the requests that are open."""

    def __init__(self) -> None:
        """Begin without a trade."""
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._far: dict[str, int] = {}  # the id after the last one, if it is far from it
        self.outliers = 0  # ids far away that the next one did not confirm
        self._phantoms: dict[str, int] = {}
        self._open: dict[str, Request] = {}
        self._count = 0

    def clear(self) -> None:
        """Forget the connection: its last ids and its requests."""
        self._first.clear()
        self._last.clear()
        self._far.clear()
        self._open.clear()

    def seen(self, symbol: str, trade_id: str, count: int = 1) -> Hole | None:
        """Take the id of a trade, in the order of arrival; return the hole before it, if there is one.

        Args:
            symbol: whose trade.
            trade_id: the exchange's.
            count: how many trades the exchange folded into it, the last of which has this id.
        """
        number = _number(trade_id)
        if number is None:
            return None
        first, last = number - count + 1, self._last.get(symbol)
        if last is not None and (self._is_far(symbol, first, number) or number <= last):
            return None  # nobody knows yet, or late, or told twice
        self._last[symbol] = number
        self._first.setdefault(symbol, first)
        if last is not None and first - last > _JUMP_MAX:
            self._first[symbol] = first  # numbers begin anew: nothing is missing that could be asked for
            return None
        if last is None or first <= last + 1 or self._phantoms.get(symbol, 0) >= _PHANTOMS_MAX:
            return None
        return Hole(last, first)

    def is_last(self, symbol: str, trade_id: int) -> bool:
        """Return whether an id is the one that the next of a symbol must follow."""
        return self._last.get(symbol) == trade_id

    def _is_far(self, symbol: str, first: int, number: int) -> bool:
        """Return whether an id is far from the last one. The second in turn that is far below replaces it."""
        last = self._last[symbol]
        far = abs(number - last) > _JUMP_MAX
        if far and self._far.setdefault(symbol, number) == number:
            return True
        if self._far.pop(symbol, None) is not None and not far:
            self.outliers += 1
        if far and number < last:
            self.outliers += 1  # the last one was
            self._last[symbol], self._first[symbol] = number, first
        return far and number < last

    def ask(
        self, symbol: str, after: int | str | None, before: int | None = None, page: int = 1
    ) -> str | None:
        """Note a request and return its key; None: there are too many open already."""
        if isinstance(after, str):
            after = _number(after)
        if sum(request.symbol == symbol for request in self._open.values()) >= _OPEN_MAX:
            return None
        self._count += 1
        key = f"trades/{self._count}"
        self._open[key] = Request(symbol, after, before, page)
        return key

    def answered(self, key: str) -> Request | None:
        """Return the request of a key, which is open no longer."""
        return self._open.pop(key, None)

    def wanted(self, request: Request, trade_id: str) -> bool:
        """Return whether a trade of an answer was asked for, and did not come by this connection."""
        number = _number(trade_id)
        if number is None:
            return True  # the collector knows what it has
        before = self._first.get(request.symbol) if request.before is None else request.before
        return (request.after is None or number > request.after) and (before is None or number < before)

    def reached(self, request: Request, oldest: str | None) -> bool:
        """Return whether an answer that reaches back to `oldest` needs none before it."""
        number = _number(oldest)
        return number is None or request.after is None or number <= request.after + 1

    def judged(self, request: Request, oldest: str | None, found: int) -> None:
        """Take what an answer that reaches back to `oldest` had of a hole: nothing proves it was none."""
        if request.before is None or request.after is None or _number(oldest) is None:
            return
        if found == 0 and self.reached(request, oldest):
            self._phantoms[request.symbol] = self._phantoms.get(request.symbol, 0) + 1
        elif found:
            self._phantoms.pop(request.symbol, None)
