"""The truth log: what was really sent, one JSON object a line, for tests to compare with what was stored.

{"kind":"opening", exchange, symbol, u, ids, bids, asks}       what was there before the first event
{"kind":"trade", exchange, symbol, id, price, amount, side (the taker's), ts_ns, at_ns, sockets, sent, fates}
{"kind":"book", exchange, symbol, u, ts_ns, at_ns, sockets, sent, fates, bids, asks}   top 20 after it
{"kind":"snapshot", exchange, symbol, channel, u, ts_ns, at_ns, sockets, sent, fates, …}   a Coinbase
    subscription's first message: bids and asks of level2, `ids` of the trades of market_trades
{"kind":"released", exchange, symbol, channel, u | id, at_ns, connection, sequence, fate}   a held one is sent
{"kind":"connected", exchange, connection, at_ns}, {"kind":"gone", connection, at_ns, unsent}
{"kind":"fault", at_ns, order, connections}   an order of the menu of faults, and whom it befell

`u` is the update id (Binance: the last of the message; Coinbase: a running number of the product's updates).
`sockets` is the number of connections it was sent to, 0 included: nobody listened. `sent` lists
[connection, sequence_num] where the exchange numbers its messages, those of lost ones included. `fates` is
there when faults had a hand in it: connection -> "twice" | "late" | "held" | "lost" | "garbled" (hub.Fate);
a connection that is not in it was simply sent the message. A lost or garbled one is not among the sockets, a
held one is, and says with a line of its own when it is sent after all. `at_ns` is this machine's wall clock
when the message was queued. Prices and sizes are numbers.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from daedalus.kernel.errors import ConfigError, DaedalusError
from daedalus.simulator.book import Level
from daedalus.simulator.hub import Fate, Sent
from daedalus.simulator.market import Depth, Event, Market, Trades
from daedalus.simulator.menu import Order

__all__ = ["Truth", "TruthError", "TruthLog"]

LEVELS = 20
FLUSH_BYTES = 1 << 18
_encode = msgspec.json.encode


class TruthError(DaedalusError):
    """The truth log can no longer be written: what is played from here on would have no witness."""


class Truth:
    """Keeps nothing: the log when none is wanted."""

    def opening(self, market: Market) -> None:
        """Note what a market begins with."""

    def event(self, market: Market, event: Event, sent: Sequence[Sent]) -> None:
        """Note an event and what became of it on its way to each listener."""

    def snapshot(self, market: Market, channel: str, sent: Sent) -> None:
        """Note the first message of a subscription."""

    def connection(self, kind: str, number: int, **what: object) -> None:
        """Note that a connection came or went."""

    def fault(self, order: Order, connections: Sequence[int]) -> None:
        """Note an order, and the connections it befell."""

    def flush(self) -> None:
        """Hand what was noted to the operating system."""

    def close(self) -> None:
        """End the log."""


class TruthLog(Truth):
    """Writes to a file."""

    def __init__(self, path: str, wall_ns: Callable[[], int]) -> None:
        """Begin the file anew.

        Raises:
            ConfigError: it cannot be opened.
        """
        self._path = path
        self._wall_ns = wall_ns
        self._waiting = bytearray()
        try:
            self._file: Any = Path(path).open("wb", buffering=0)  # noqa: SIM115 - close() ends it
        except OSError as error:
            raise ConfigError(f"cannot write the truth log {path}: {error.strerror}") from error

    def opening(self, market: Market) -> None:
        """Note what a market begins with."""
        ids = [str(trade.trade_id) for trade in market.recent]
        self._line("opening", **_place(market), u=market.book.last_id, ids=ids, **_top(market))

    def event(self, market: Market, event: Event, sent: Sequence[Sent]) -> None:
        """Note an event, one message to each listener, and what became of it on its way there."""
        if isinstance(event, Depth):
            if event.last_id != market.book.last_id:
                return  # older than the snapshot the book opened with: no client can have a book here
            self._entry("book", market, sent, u=event.last_id, ts_ns=event.ts_ns, **_top(market))
            self._await(market, sent, channel="orderbook", u=event.last_id)
        elif isinstance(event, Trades):
            for trade in event.trades:
                self._entry(
                    "trade",
                    market,
                    sent,
                    id=str(trade.trade_id),
                    price=float(trade.price),
                    amount=float(trade.size),
                    side=trade.taker,
                    ts_ns=trade.ts_ns,
                )
            ids = [str(trade.trade_id) for trade in event.trades]
            self._await(market, sent, channel="trades", ids=ids)

    def snapshot(self, market: Market, channel: str, sent: Sent) -> None:
        """Note the first message of a subscription."""
        what: dict[str, Any] = {"channel": channel, "u": market.book.last_id, "ts_ns": market.ts_ns}
        if channel == "level2":
            what |= _top(market)
        else:
            what["ids"] = [str(trade.trade_id) for trade in market.recent]
        self._entry("snapshot", market, [sent], **what)

    def connection(self, kind: str, number: int, **what: object) -> None:
        """Note that a connection came or went."""
        self._line(kind, connection=number, at_ns=self._wall_ns(), **what)

    def fault(self, order: Order, connections: Sequence[int]) -> None:
        """Note an order, and the connections it befell."""
        self._line("fault", at_ns=self._wall_ns(), order=order, connections=list(connections))

    def _await(self, market: Market, sent: Sequence[Sent], **what: object) -> None:
        """Write a line for each held message when it is sent after all."""
        for one in sent:
            if one.fate is Fate.HELD:

                def released(later: Sent) -> None:
                    sequence = later.sequence if market.exchange == "coinbase" else None
                    number = {"connection": later.connection, "sequence": sequence}
                    at_ns = self._wall_ns()
                    self._line("released", **_place(market), **what, at_ns=at_ns, **number, fate=later.fate)

                one.then = released

    def _entry(self, kind: str, market: Market, sent: Sequence[Sent], **what: Any) -> None:
        numbered = [(one.connection, one.sequence) for one in sent if one.sequence is not None]
        fates = {str(one.connection): one.fate for one in sent if one.fate is not Fate.SENT}
        what |= {"at_ns": self._wall_ns(), "sockets": sum(one.arrives() for one in sent), "sent": numbered}
        self._line(kind, **_place(market), **what, **({"fates": fates} if fates else {}))

    def _line(self, kind: str, **what: Any) -> None:
        self._waiting += _encode({"kind": kind, **what}) + b"\n"
        if len(self._waiting) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what was noted to the operating system.

        Raises:
            TruthError: it does not take it.
        """
        waiting, self._waiting = memoryview(bytes(self._waiting)), bytearray()
        if self._file is None:
            return
        try:
            while waiting:
                waiting = waiting[os.write(self._file.fileno(), waiting) :]
        except OSError as error:
            self._file.close()
            self._file = None
            raise TruthError(f"cannot write the truth log {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """End the log. Raises TruthError as `flush`."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None


def _place(market: Market) -> dict[str, str]:
    return {"exchange": market.exchange, "symbol": market.symbol}


def _top(market: Market) -> dict[str, list[list[float]]]:
    return {"bids": _floats(market.book.bids(LEVELS)), "asks": _floats(market.book.asks(LEVELS))}


def _floats(levels: list[Level]) -> list[list[float]]:
    return [[float(price), float(size)] for price, size in levels]
