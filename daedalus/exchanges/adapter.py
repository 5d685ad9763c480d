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
    "Ask",
    "BookFact",
    "Control",
    "DepthFact",
    "EventFact",
    "Fact",
    "Fault",
    "InstrumentFact",
    "Item",
    "Limits",
    "Now",
    "Send",
    "Sink",
    "Stream",
    "TickerFact",
    "TradeFact",
    "book_flags",
    "stream_of",
]


class Stream(NamedTuple):
    """One subscription: a symbol, as configured, and a channel of ours."""

    symbol: str
    channel: str  # orderbook | trades | ticker | depth | bidask | ohlcv | any watch method of ccxt's


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


class DepthFact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A change of the full book as the exchange sent it, or the whole book: see `records.Depth`."""

    symbol: str
    ts_event: int | None
    nonce: int | None
    kind: Literal["snapshot", "update"]
    first_exch_seq: int | None
    bids: bytes  # packed; of a snapshot best first, of an update as the exchange orders them
    asks: bytes
    exch_seq: int | None = None
    flags: int = 0


class EventFact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message of a channel without a schema of its own: see `records.Event`."""

    symbol: str
    channel: str
    method: str
    ts_event: int | None
    data_json: str
    exch_seq: int | None = None
    flags: int = 0


class InstrumentFact(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchange says of a market: see `records.Instrument`."""

    symbol: str
    exchange_symbol: str | None = None
    kind: str | None = None
    base: str | None = None
    quote: str | None = None
    settle: str | None = None
    tick_size: float | None = None
    lot_size: float | None = None
    min_amount: float | None = None
    min_cost: float | None = None
    contract_size: float | None = None
    active: bool | None = None
    info_json: str | None = None


class Fault(msgspec.Struct, frozen=True):
    """These streams can no longer be trusted: they must be resynchronised, and a gap row says so.

    A fault of the whole connection ends it; after it `feed` returns nothing until `subscribe` was called. A
    fault that is `local` ends nothing: the adapter resynchronises these streams itself, by the `Send` and
    `Ask` items that follow it, and emits nothing for them until they are valid again.
    """

    streams: tuple[Stream, ...]
    reason: Literal["disconnect", "stale", "sequence", "checksum", "error"]
    detail: str
    fatal: bool = False  # the configuration asks for what the exchange does not have
    local: bool = False


class Send(msgspec.Struct, frozen=True):
    """A message that the shell is to send on this connection, when the exchange's limits allow."""

    data: bytes


class Ask(msgspec.Struct, frozen=True):
    """A REST request that the shell is to make; its answer goes to `Adapter.answer` with the same key.

    An answer to an earlier connection is dropped by the shell; a failure (network, status 429 or 5xx) is
    retried by it with backoff, so that `answer` sees only what the exchange said for good.
    """

    key: str  # the adapter's own, opaque to the shell: unique among the requests that are open
    path: str  # below the REST address, with its query: "/api/v3/depth?symbol=BTCUSDT&limit=5000"
    streams: tuple[Stream, ...]  # who waits for it
    weight: float = 1.0  # of the exchange's own rate limit
    delay_s: float = 0.0  # not before


class Control(msgspec.Struct, frozen=True):
    """A good message that is no fact. `subscribed` ends the gap of the streams it names (not of books)."""

    kind: Literal["subscribed", "heartbeat"]
    streams: tuple[Stream, ...] = ()


Fact = TradeFact | BookFact | TickerFact | DepthFact | EventFact
Item = Fact | Fault | Control | Send | Ask | InstrumentFact


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an exchange allows, from its own documents; the shell keeps to it over all connections."""

    connects: tuple[float, float]  # (how many, in s): new websockets from one address
    sends: tuple[float, float]  # messages on one connection
    rest: tuple[float, float]  # REST weight
    age_s: float | None = None  # the exchange closes a connection of this age by itself


class Adapter(Protocol):
    """The pure half of a native adapter. One object serves one connection at a time.

    A class also says: `default_ws_url`, `default_rest_url`, `limits`, and `channels` (ours that it has).
    """

    source: str  # "native"

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What this connection carries."""
        ...

    def address(self, ws_url: str) -> str:
        """Return what to open, given the configured address: some name their streams in it."""
        ...

    def subscribe(self) -> list[Send | Ask]:
        """Forget the last connection; return what is to be sent and asked once the next one is open."""
        ...

    def feed(self, raw: bytes | memoryview) -> list[Item]:
        """Return what one message says. After a Fault that is not local nothing until `subscribe`."""
        ...

    def answer(self, key: str, status: int, body: bytes) -> list[Item]:
        """Return what the answer to an `Ask` says. Unknown keys and damaged bodies are faults, not errors."""
        ...

    def ping(self) -> bytes | None:
        """Return the message that keeps an idle connection alive; None: a websocket ping does."""
        ...

    def ready(self) -> bool:
        """Return whether every stream is subscribed and every book is valid: it may take over."""
        ...

    def snapshots(self) -> list[DepthFact]:
        """Return the whole book of every valid `depth` stream: at each hour, and when taking over."""
        ...

    def backfill(self, symbol: str, last_id: str | None) -> list[Ask]:
        """Return the requests for trades since `last_id`; their answers are facts flagged BACKFILLED."""
        ...

    def instruments(self) -> list[Ask]:
        """Return the requests for what the exchange says of its markets; answered by `InstrumentFact`s."""
        ...


class Sink(Protocol):
    """The collector, as the shells see it."""

    def capture(self) -> Now:
        """Return the capture time of the message in hand."""
        ...

    def take(self, now: Now, items: Sequence[Fact | Control]) -> None:
        """Take what one raw message said."""
        ...

    def instruments(self, facts: Sequence[InstrumentFact]) -> None:
        """Take what the exchange says of its markets."""
        ...

    def frame(self, now: Now, connection: int, payload: bytes | memoryview, *, text: bool) -> None:
        """Take a raw message word for word; called only where raw_capture = "frames"."""
        ...

    def last_trade(self, symbol: str) -> str | None:
        """Return the id of the last trade stored of a symbol, by this process or one before; None: none."""
        ...

    def last_trade_at(self, symbol: str) -> int | None:
        """Return the exchange's time, ns UTC, of the last trade stored of a symbol; None: not known."""
        ...

    def unfilled(self, stream: Stream, since: int, until: int | None, detail: str) -> None:
        """Say that REST did not fill a stretch that was missed, by the exchange's time, ns; None: to now."""
        ...

    def lost(self, fault: Fault, since: int | None) -> None:
        """Open a gap. `since`: capture time, ns, of the connection's last good message, if any."""
        ...


_CHANNEL: dict[type, str] = {
    BookFact: "orderbook", TradeFact: "trades", TickerFact: "ticker", DepthFact: "depth",
}  # fmt: skip


def stream_of(fact: Fact) -> Stream:
    """Return the stream that a fact belongs to."""
    channel = fact.channel if type(fact) is EventFact else _CHANNEL[type(fact)]
    return Stream(fact.symbol, channel)


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
