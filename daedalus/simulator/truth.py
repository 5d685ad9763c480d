"""The truth log: what was really sent, one JSON object a line, for tests to compare with what was stored.

{"kind":"trade", exchange, symbol, id, price, amount, side (the taker's), ts_ns, sockets, sent}
{"kind":"book", exchange, symbol, u, ts_ns, sockets, sent, bids, asks}       top 20 after this update
{"kind":"snapshot", exchange, symbol, channel, u, ts_ns, sockets, sent, …}   a Coinbase subscription's first
    message: bids and asks of level2, `ids` of the trades of market_trades

`u` is the update id (Binance: the last of the message; Coinbase: a running number of the product's updates).
`sockets` is the number of connections it was sent to, 0 included: nobody listened. `sent` lists
[connection, sequence_num] where the exchange numbers its messages. Prices and sizes are numbers.
"""

from pathlib import Path
from typing import IO, Any

import msgspec

from daedalus.kernel.errors import ConfigError
from daedalus.simulator.book import Level
from daedalus.simulator.market import Depth, Event, Market, Trades

__all__ = ["Truth", "TruthLog"]

LEVELS = 20
_encode = msgspec.json.encode
Sent = list[tuple[int, int | None]]


class Truth:
    """Keeps nothing: the log when none is wanted."""

    def event(self, market: Market, event: Event, sent: Sent) -> None:
        """Note an event that was sent to `sent`."""

    def snapshot(self, market: Market, channel: str, connection: int, sequence: int) -> None:
        """Note the first message of a subscription."""

    def flush(self) -> None:
        """Hand what was noted to the operating system."""

    def close(self) -> None:
        """End the log."""


class TruthLog(Truth):
    """Writes to a file."""

    def __init__(self, path: str) -> None:
        """Begin the file anew.

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            self._file: IO[bytes] = Path(path).open("wb", buffering=1 << 20)  # noqa: SIM115 - close() ends it
        except OSError as error:
            raise ConfigError(f"cannot write the truth log {path}: {error.strerror}") from error

    def event(self, market: Market, event: Event, sent: Sent) -> None:
        """Note an event that was sent to `sent`."""
        if isinstance(event, Depth):
            if event.last_id != market.book.last_id:
                return  # older than the snapshot the book opened with: no client can have a book here
            self._write("book", market, sent, u=event.last_id, ts_ns=event.ts_ns, **_top(market))
        elif isinstance(event, Trades):
            for trade in event.trades:
                self._write(
                    "trade",
                    market,
                    sent,
                    id=str(trade.trade_id),
                    price=float(trade.price),
                    amount=float(trade.size),
                    side=trade.taker,
                    ts_ns=trade.ts_ns,
                )

    def snapshot(self, market: Market, channel: str, connection: int, sequence: int) -> None:
        """Note the first message of a subscription."""
        what: dict[str, Any] = {"channel": channel, "u": market.book.last_id, "ts_ns": market.ts_ns}
        if channel == "level2":
            what |= _top(market)
        else:
            what["ids"] = [str(trade.trade_id) for trade in market.recent]
        self._write("snapshot", market, [(connection, sequence)], **what)

    def _write(self, kind: str, market: Market, sent: Sent, **what: Any) -> None:
        numbered = [pair for pair in sent if pair[1] is not None]
        line = {"kind": kind, "exchange": market.exchange, "symbol": market.symbol}
        line |= what | {"sockets": len({number for number, _ in sent}), "sent": numbered}
        self._file.write(_encode(line) + b"\n")

    def flush(self) -> None:
        """Hand what was noted to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """End the log."""
        self._file.close()


def _top(market: Market) -> dict[str, list[list[float]]]:
    return {"bids": _floats(market.book.bids(LEVELS)), "asks": _floats(market.book.asks(LEVELS))}


def _floats(levels: list[Level]) -> list[list[float]]:
    return [[float(price), float(size)] for price, size in levels]
