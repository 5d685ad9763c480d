"""What an exchange's raw messages become before the collector numbers and stamps them.

An adapter is pure: raw message in, facts, faults and controls out. It knows the exchange's words and
nothing of sessions, sequence numbers, files or sockets; the shells beside it (`socket`, `ccxt_pro`) know
connections; the collector, behind `Sink`, adds the rest. Data flows one way: shell -> adapter -> sink.

A symbol here is always the spelling of the configuration, `BTC/USD`.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Literal, NamedTuple, Protocol

import msgspec

from daedalus.records import Flag

__all__ = [
    "Adapter",
    "BookFact",
    "Control",
    "Fact",
    "Fault",
    "Item",
    "Now",
    "Sink",
    "Stream",
    "TickerFact",
    "TradeFact",
    "book_flags",
]


class Stream(NamedTuple):
    """One subscription: a symbol, as configured, and a channel of ours."""

    symbol: str
    channel: str  # orderbook | trades | ticker


class Now(NamedTuple):
    """When a raw message was captured. Taken once per message, by the sink's clock."""

    ts_recv: int  # ns UTC, whole µs
    mono_ns: int  # ns, CLOCK_MONOTONIC
    wall_ms: int  # ms UTC, the local wall clock


class TradeFact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One trade, `side` already the taker's."""

    symbol: str
    trade_id: str | None
    ts_event: int | None  # ns UTC
    side: str | None  # "buy" | "sell" | None = unknown
    side_raw: str | None
    price: float
    amount: float
    cost: float | None
    exch_seq: int | None = None
    flags: int = 0
    info_json: str | None = None


class BookFact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The top of a valid book, frozen in the step its message arrived."""

    symbol: str
    ts_event: int | None
    nonce: int | None
    bids: bytes  # packed, best first
    asks: bytes
    exch_seq: int | None = None
    flags: int = 0


class TickerFact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A ticker: columns as in `records.Ticker`."""

    symbol: str
    ts_event: int | None = None
    bid: float | None = None
    ask: float | None = None
    bid_volume: float | None = None
    ask_volume: float | None = None
    last: float | None = None
    open: float | None = None
    high: float | None = None
    low: float | None = None
    close: float | None = None
    vwap: float | None = None
    base_volume: float | None = None
    quote_volume: float | None = None
    change: float | None = None
    percentage: float | None = None
    exch_seq: int | None = None
    flags: int = 0
    info_json: str | None = None


class Fault(msgspec.Struct, frozen=True):
    """These streams can no longer be trusted: they must be resynchronised, and a gap row says so."""

    streams: tuple[Stream, ...]
    reason: Literal["disconnect", "stale", "sequence", "checksum", "error"]
    detail: str
    fatal: bool = False  # the configuration asks for what the exchange does not have


class Control(msgspec.Struct, frozen=True):
    """A good message that is no fact. `subscribed` ends the gap of the streams it names (not of books)."""

    kind: Literal["subscribed", "heartbeat"]
    streams: tuple[Stream, ...] = ()


Fact = TradeFact | BookFact | TickerFact
Item = Fact | Fault | Control


class Adapter(Protocol):
    """The pure half of a native adapter. One object serves one connection at a time."""

    source: str  # "native"

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What this connection carries."""
        ...

    def subscribe(self) -> list[bytes]:
        """Forget the last connection and return the messages to send once the next one is open."""
        ...

    def feed(self, raw: bytes | memoryview) -> list[Item]:
        """Return what one message says. After a Fault nothing is returned until `subscribe` was called."""
        ...


class Sink(Protocol):
    """The collector, as the shells see it."""

    def capture(self) -> Now:
        """Return the capture time of the message in hand."""
        ...

    def take(self, now: Now, items: Sequence[Fact | Control]) -> None:
        """Take what one raw message said."""
        ...

    def lost(self, fault: Fault, since: int | None) -> None:
        """Open a gap. `since`: capture time, ns, of the connection's last good message, if any."""
        ...


_best = Struct("<d").unpack_from


def book_flags(bids: bytes, asks: bytes) -> int:
    """Return CROSSED, LOCKED and ONE_SIDED of a packed book: the one place that decides them.

    Args:
        bids: packed levels, best first.
        asks: the same.
    """
    if not bids or not asks:
        return int(Flag.ONE_SIDED)
    bid, ask = _best(bids)[0], _best(asks)[0]
    if bid < ask:
        return 0
    return int(Flag.CROSSED if bid > ask else Flag.LOCKED)
