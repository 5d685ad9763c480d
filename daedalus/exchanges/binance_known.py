"""Whether Binance knows a market of which no book is wanted.

A stream of a market that does not exist is opened like any other, and silent for ever. The snapshot of a book
would tell; where trades or ticker are all that is wanted, the best bid and ask are asked for, which weighs
little. Only the code for an unknown symbol decides: any other refusal says nothing about the market.
"""

from collections.abc import Callable

from daedalus.exchanges.adapter import Ask, Fault, Item, Stream
from daedalus.exchanges.binance_dialect import INVALID_SYMBOL, Dialect, NewAsk, local_fault
from daedalus.exchanges.binance_messages import DAMAGE, ERROR
from daedalus.exchanges.symbolwise import AGAIN_S

__all__ = ["Known"]


class Known:
    """The question about one market."""

    def __init__(
        self,
        symbol: str,
        market: str,
        streams: tuple[Stream, ...],
        dialect: Dialect,
        ask: NewAsk,
        heard: Callable[[], bool],
    ) -> None:
        """Prepare the question.

        Args:
            symbol: as configured.
            market: Binance's name.
            streams: what is wanted of it.
            dialect: of the market.
            ask: makes requests.
            heard: returns whether a message of the market ever came.
        """
        self.symbol = symbol
        self.missing: str | None = None  # what the exchange said when it knew the market no more
        self._streams = streams
        self._path = f"{dialect.quote_path}?symbol={market}"
        self._weight = dialect.quote_weight
        self._ask = ask
        self._heard = heard

    def reset(self) -> Ask:
        """Forget the connection; return the request."""
        self.missing = None
        return self._ask(self._path, self.answered, (), self._weight, 0.0)

    def answered(self, status: int, body: bytes) -> list[Item]:
        """Take the answer: what it says does not matter, only that it is one."""
        if status == 200:
            self.missing = None
            return []
        try:
            refusal = ERROR.decode(body)
        except DAMAGE:
            return [self._useless(f"status {status}")]
        if refusal.code != INVALID_SYMBOL:
            return [self._useless(f"{refusal.code} {refusal.msg}")]
        detail = f"the exchange does not know {self.symbol}: {refusal.code} {refusal.msg}"
        if not self._heard():
            return [Fault(self._streams, "error", detail, fatal=True)]
        # it was delisted: nobody is to wait for a message of it, until it is listed again
        again = self._ask(self._path, self.answered, self._streams, self._weight, AGAIN_S)
        if self.missing:
            return [again]
        self.missing = detail
        return [local_fault(self._streams, "error", detail), again]

    def _useless(self, cause: str) -> Fault:
        return local_fault((), "error", f"cannot find out whether there is a market {self.symbol}: {cause}")
