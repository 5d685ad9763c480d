"""Coinbase Advanced Trade, public websocket: what its messages mean.

Every message of a connection, heartbeats and acknowledgements included, carries `sequence_num`, one more
than the one before. A hole means that something was lost, and nobody can say in which channel: the whole
connection is taken down, and nothing is emitted before the next snapshot. `market_trades` prints the side
of the maker, and begins with a snapshot of recent trades: they did not arrive live and are flagged so. Trade
ids are contiguous per product (seen in every product recorded): a missing one is a hole of that stream alone.

A symbol has a book of its own even where the exchange has one for two (see `coinbase_products`).

Source: docs.cdp.coinbase.com, Advanced Trade WebSocket channels, endpoints and rate limits.
"""

from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from daedalus.exchanges.adapter import (
    Ask,
    Control,
    DepthFact,
    Fault,
    Item,
    Limits,
    Send,
    Stream,
    TradeFact,
)
from daedalus.exchanges.bookstate import BookState
from daedalus.exchanges.coinbase_facts import ticker_fact, trade_fact
from daedalus.exchanges.coinbase_messages import (
    BookMessage,
    Heartbeat,
    Level,
    Subscriptions,
    TickerMessage,
    TradeRow,
    TradesMessage,
    decode_known,
    decode_other,
    history_words,
    message_words,
    ns_of,
    oldest_first,
)
from daedalus.exchanges.coinbase_products import CHANNELS, THEIRS, Routes, product_id
from daedalus.exchanges.coinbase_rest import instruments_of, products_path, trades_of, trades_path
from daedalus.exchanges.sides import Semantics, semantics
from daedalus.exchanges.symbolwise import AGAIN_S, Symbolwise
from daedalus.exchanges.tradeholes import Request, TradeHoles
from daedalus.records import Flag

if TYPE_CHECKING:
    from daedalus.exchanges.credentials import Credentials
    from daedalus.exchanges.words import Words

__all__ = ["DEFAULT_WS_URL", "CoinbaseAdapter", "product_id"]

DEFAULT_WS_URL = "wss://advanced-trade-ws.coinbase.com"
DEFAULT_REST_URL = "https://api.coinbase.com"
_PAGES_MAX = 10
_OK = 200
_TIME_PATH = "/api/v3/brokerage/time"


class CoinbaseAdapter:
    """The pure half: see `adapter.Adapter`."""

    source = "native"
    default_ws_url = DEFAULT_WS_URL
    default_rest_url = DEFAULT_REST_URL
    channels = tuple(CHANNELS)
    # 8 connections and 8 unauthenticated messages a second and address (WebSocket rate limits); 10 public
    # REST requests a second (REST rate limits)
    limits = Limits(connects=(8, 1.0), sends=(8, 1.0), rest=(10, 1.0))

    def __init__(
        self,
        channels: Mapping[str, Sequence[str]],
        *,
        levels: int = 50,
        side: str = "auto",
        raw_info: bool = False,
        credentials: "Credentials | None" = None,
    ) -> None:
        """Prepare the streams of one connection.

        Args:
            channels: our channel -> symbols as configured.
            levels: levels per side of an emitted book.
            side: "auto", or whose side the exchange prints: "maker", "taker", "unknown".
            raw_info: keep the raw object of trades and tickers as `info_json`.
            credentials: key name and EC private key; None: unauthenticated.

        Raises:
            ValueError: a channel is not one of orderbook, depth, trades, ticker; a key that cannot sign.
        """
        unknown = sorted(set(channels) - set(CHANNELS))
        if unknown:
            raise ValueError(f"cannot subscribe to {', '.join(unknown)}: coinbase has {', '.join(CHANNELS)}")
        self._streams = tuple(
            Stream(symbol, channel) for channel, symbols in channels.items() for symbol in symbols
        )
        self._routes = Routes(self._streams)
        self._books = {
            symbol: BookState(
                symbol, [stream.channel for stream in self._routes.of(symbol, "level2")], levels
            )
            for symbol in dict.fromkeys(s.symbol for s in self._streams if CHANNELS[s.channel] == "level2")
        }
        self._meaning: Semantics = semantics("coinbase", side)
        self._raw_info = raw_info
        self._words: Words = {}  # of the message in hand
        self._sign: Callable[[], str] | None = None
        if credentials is not None:
            from daedalus.exchanges.jwt import Signer

            self._sign = Signer(credentials).token
        self._holes = TradeHoles()
        self._subscriptions = Symbolwise(self._streams)
        self._refused: set[str] = set()  # products; over connections, for the exchange may end one for it
        self._alone: set[str] = set()  # products that were subscribed for themselves
        self._expected: int | None = None
        self._broken = True
        self._handlers: dict[type, Callable[[Any], list[Item]]] = {
            BookMessage: self._on_book,
            TradesMessage: self._on_trades,
            TickerMessage: self._on_ticker,
            Heartbeat: self._on_heartbeat,
            Subscriptions: self._on_subscriptions,
        }

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What this connection carries."""
        return self._streams

    def address(self, ws_url: str) -> str:
        """Return what to open: the configured address as it is."""
        return ws_url

    def subscribe(self) -> list[Send | Ask]:
        """Forget the last connection and return the messages that open the next."""
        self._expected = None
        self._broken = False
        self._subscriptions.clear()
        self._alone.clear()
        self._holes.clear()
        for state in self._books.values():
            state.reset()
        items: list[Send | Ask] = [self._send("subscribe", "heartbeats", None), *self._batch()]
        if self._refused:
            streams = self._routes.streams(self._refused)
            self._subscriptions.leave_out(streams)
            items += self._subscriptions.later("again", _TIME_PATH, streams, AGAIN_S)
        return items

    def _batch(self) -> list[Send]:
        """Return the subscriptions of all products that are not refused."""
        sends = []
        for theirs, wanted in self._routes.wanted.items():
            products = [product for product in wanted if product not in self._refused]
            if products:
                sends.append(self._send("subscribe", theirs, products))
        return sends

    def _again(self) -> list[Send]:
        """Return the subscriptions of what was refused, each for itself: no other is refused with it."""
        self._alone |= self._refused
        self._refused.clear()
        return [
            self._send("subscribe", theirs, [product])
            for theirs, wanted in self._routes.wanted.items()
            for product in wanted
            if product in self._alone
        ]

    def _send(self, kind: str, theirs: str, products: list[str] | None) -> Send:
        message: dict[str, object] = {"type": kind, "channel": theirs}
        if products is not None:
            message["product_ids"] = products
        if self._sign is not None:
            message["jwt"] = self._sign()
        return Send(msgspec.json.encode(message))

    def ping(self) -> None:
        """Return nothing: a websocket ping keeps the connection alive."""
        return

    def ready(self) -> bool:
        """Return whether every stream that the exchange has is subscribed, and every book valid."""
        return not self._broken and self._subscriptions.complete(self._books.values())

    def snapshots(self) -> list[DepthFact]:
        """Return the whole book of every valid `depth` stream."""
        if self._broken:
            return []
        return [whole for state in self._books.values() if (whole := state.whole()) is not None]

    def backfill(self, symbol: str, last_id: str | None) -> list[Ask]:
        """Return the request for trades since `last_id`; nothing if there never was a trade."""
        return [] if last_id is None else self._ask(symbol, last_id)

    def instruments(self) -> list[Ask]:
        """Return the request for the products of this connection."""
        products = list(dict.fromkeys(product_id(stream.symbol) for stream in self._streams))
        return [Ask("instruments", products_path(products), self._streams)]

    def answer(self, key: str, status: int, body: bytes) -> list[Item]:
        """Return what the answer to an `Ask` says."""
        symbol = key.removeprefix("resync/")
        needed = self._subscriptions.due(key, self._books.get(symbol)) and not self._broken
        if key == "again":
            return list(self._again()) if needed else []
        if key != symbol:
            return list(self._resubscribe(symbol)) if needed else []
        request = self._holes.answered(key)
        cause: object = f"status {status}" if status != _OK else "nobody asked"
        try:
            if status == _OK and key == "instruments":
                return list(instruments_of(body, {product_id(s.symbol): s.symbol for s in self._streams}))
            if status == _OK and request is not None:
                return self._history(request, body)
        except (ValueError, RecursionError) as error:  # msgspec's are ValueErrors
            cause = error
        return [Fault((), "error", f"cannot use the answer to {key}: {cause}", local=True)]

    def feed(self, raw: bytes | memoryview) -> list[Item]:
        """Return what one message says; [] once the connection is broken."""
        if self._broken:
            return []
        try:
            message = decode_known(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._on_other(raw, error)
        hole = self._sequence(message.sequence_num)
        if hole is not None:
            return [hole]
        try:
            if self._raw_info:
                self._words = message_words(message, raw)
            return self._handlers[type(message)](message)
        except ValueError as error:
            return [self._fault("error", f"unusable message: {error}")]

    def _fault(self, reason: str, detail: str) -> Fault:
        self._broken = True
        return Fault(self.streams, reason, detail)  # type: ignore[arg-type]

    def _sequence(self, number: int) -> Fault | None:
        expected = self._expected
        if expected is not None and number != expected:
            return self._fault("sequence", f"sequence_num {number}, expected {expected}")
        self._expected = number + 1
        return None

    def _on_other(self, raw: bytes | memoryview, error: Exception) -> list[Item]:
        try:
            other = decode_other(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [self._fault("error", f"undecodable message: {error}")]
        if other.type == "error":
            named = self._routes.named(other.message)
            if named:
                return self._on_refusal(named, other.message)
            self._broken = True
            refused = self._expected is None or "not a valid product" in other.message
            fatal = refused and "product" in other.message.lower()
            return [Fault(self.streams, "error", f"the exchange says: {other.message}", fatal)]
        if other.channel in THEIRS or other.sequence_num is None:
            return [self._fault("error", f"unexpected message: {error}")]
        # a channel nobody asked for: its number counts all the same
        hole = self._sequence(other.sequence_num)
        return [hole] if hole is not None else []

    def _on_refusal(self, products: set[str], why: str) -> list[Item]:
        fresh = products - self._refused
        if not fresh:
            return [Control("heartbeat")]  # of another channel, refused for the same product
        self._refused |= fresh
        streams = self._routes.streams(fresh)
        for stream in streams:
            if stream.symbol in self._books:
                self._books[stream.symbol].reset()
        items = self._subscriptions.refused(streams, why, "again", _TIME_PATH)
        if isinstance(items[0], Fault) and items[0].fatal:
            self._broken = True
        elif not fresh <= self._alone:  # whoever was asked for beside them was refused with them
            items += self._batch()
        return items

    def _on_heartbeat(self, _message: Heartbeat) -> list[Item]:
        return [Control("heartbeat")]

    def _on_subscriptions(self, message: Subscriptions) -> list[Item]:
        streams = dict.fromkeys(
            stream
            for event in message.events
            for channel, products in event.subscriptions.items()
            if channel in THEIRS
            for product in products
            for stream in self._routes.subscribed(product, THEIRS[channel])
        )
        return [self._subscriptions.acknowledged(streams)]

    def _on_book(self, message: BookMessage) -> list[Item]:
        items: list[Item] = []
        ts_event = ns_of(message.timestamp)
        for event in message.events:
            bids, asks = _pack(event.updates)
            for symbol in self._routes.symbols(event.product_id, "level2"):
                state = self._books[symbol]
                if event.type == "snapshot":
                    state.load(bids, asks)
                    items += state.snapshot(ts_event, exch_seq=message.sequence_num)
                elif state.valid:
                    state.apply(bids, asks)
                    facts = state.update(bids, asks, ts_event, exch_seq=message.sequence_num)
                    items += self._crossed(state) if state.stuck else facts
        return items

    def _crossed(self, state: BookState) -> list[Item]:
        detail, key = f"{state.symbol} crossed for {state.crossed} updates", f"resync/{state.symbol}"
        anew = partial(self._resubscribe, state.symbol)
        return self._subscriptions.damaged(state, "error", detail, key, _TIME_PATH, anew)

    def _resubscribe(self, symbol: str) -> list[Send]:
        name = self._routes.level2(symbol)
        return [self._send("unsubscribe", "level2", [name]), self._send("subscribe", "level2", [name])]

    def _on_trades(self, message: TradesMessage) -> list[Item]:
        items: list[Item] = []
        for event in message.events:
            recent = event.type == "snapshot"
            for trade in oldest_first(event.trades):
                for symbol in self._routes.symbols(trade.product_id, "market_trades"):
                    hole = self._holes.seen(symbol, trade.trade_id)
                    if hole is not None and not recent:
                        detail = f"trade {hole.before} follows {hole.after}: {hole.missing} missing"
                        items.append(Fault((Stream(symbol, "trades"),), "sequence", detail, local=True))
                        items += self._ask(symbol, hole.after, hole.before)
                    flags = int(Flag.BACKFILLED) if recent else 0
                    items.append(self._trade(symbol, trade, message.sequence_num, flags))
        return items

    def _ask(
        self,
        symbol: str,
        after: int | str | None,
        before: int | None = None,
        *,
        page: int = 1,
        end_s: int | None = None,
    ) -> list[Ask]:
        key = self._holes.ask(symbol, after, before, page)
        if key is None:
            return []
        return [Ask(key, trades_path(product_id(symbol), end_s), (Stream(symbol, "trades"),))]

    def _history(self, request: Request, body: bytes) -> list[Item]:
        told = trades_of(body)
        if self._raw_info:
            self._words = history_words(told, body)
        trades = oldest_first(told)
        found = [trade for trade in trades if self._holes.wanted(request, trade.trade_id)]
        items: list[Item] = [self._trade(request.symbol, t, None, int(Flag.BACKFILLED)) for t in found]
        oldest = trades[0] if trades else None
        self._holes.judged(request, None if oldest is None else oldest.trade_id, len(found))
        reached = oldest is None or self._holes.reached(request, oldest.trade_id)
        if oldest is None or reached or request.page == _PAGES_MAX or len(trades) == 1:
            return items
        end_s = int(oldest.time.timestamp())
        return items + list(
            self._ask(request.symbol, request.after, request.before, page=request.page + 1, end_s=end_s)
        )

    def _trade(self, symbol: str, trade: TradeRow, number: int | None, flags: int) -> TradeFact:
        return trade_fact(symbol, trade, self._meaning, number, flags, self._words.get(id(trade)))

    def _on_ticker(self, message: TickerMessage) -> list[Item]:
        ts_event = ns_of(message.timestamp)
        return [
            ticker_fact(symbol, ticker, ts_event, message.sequence_num, self._words.get(id(ticker)))
            for event in message.events
            for ticker in event.tickers
            for symbol in self._routes.symbols(ticker.product_id, "ticker")
        ]


def _pack(levels: list[Level]) -> tuple[bytes, bytes]:
    bids: list[float] = []
    asks: list[float] = []
    for level in levels:
        side = bids if level.side == "bid" else asks
        side.append(level.price_level)
        side.append(level.new_quantity)
    return array("d", bids).tobytes(), array("d", asks).tobytes()
