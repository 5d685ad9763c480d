"""Kraken, public websocket v2: what its messages mean.

Messages are not numbered. What tells a damaged book is the CRC-32 of its top ten that comes with every
message: after a mismatch that one book is subscribed anew, and nothing of it is emitted before its next
snapshot. A change that was lost deeper than that is found when it comes up. A book has the depth that was
subscribed, and levels that fall out of it are not told: they are cut off here, and in `depth` the cut is part
of the change, so that the book can be rebuilt from the changes alone. Kraken tells of 1000 levels at most:
that is what `depth` means here. Trade ids are a sequence per pair; the first message has the last 50 trades.

Source: docs.kraken.com, Spot WebSocket v2: introduction, book, trade, ticker, book checksum, rate limits.
"""

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
)
from daedalus.exchanges.bookstate import BookState
from daedalus.exchanges.kraken_facts import past_fact, ticker_fact, trade_fact
from daedalus.exchanges.kraken_messages import (
    BookMessage,
    BookRow,
    Heartbeat,
    Method,
    Status,
    Texts,
    TickerMessage,
    TradeMessage,
    decode_known,
    decode_method,
    message_words,
    ns_of,
)
from daedalus.exchanges.kraken_past import KrakenPast
from daedalus.exchanges.kraken_rest import PAIRS_PATH, TIME_PATH, instruments_of
from daedalus.exchanges.sides import Semantics, semantics
from daedalus.exchanges.symbolwise import Reason, Symbolwise
from daedalus.features.book import ASK, BID
from daedalus.records import Flag

if TYPE_CHECKING:
    from daedalus.exchanges.credentials import Credentials
    from daedalus.exchanges.words import Words

__all__ = ["DEFAULT_REST_URL", "DEFAULT_WS_URL", "KrakenAdapter", "pair_name"]

DEFAULT_WS_URL = "wss://ws.kraken.com/v2"
DEFAULT_REST_URL = "https://api.kraken.com"
_CHANNELS = {"orderbook": "book", "depth": "book", "trades": "trade", "ticker": "ticker"}
_DEPTHS = (10, 25, 100, 500, 1000)  # what can be subscribed
_OLD_NAMES = {"XBT": "BTC", "XDG": "DOGE"}
_PING = b'{"method":"ping"}'
_OK = 200


def pair_name(symbol: str) -> str:
    """Return Kraken's name of a symbol, websocket v2.

    >>> pair_name("BTC/USD"), pair_name("XBT/USD")
    ('BTC/USD', 'BTC/USD')
    """
    return "/".join(_OLD_NAMES.get(asset, asset) for asset in symbol.split("/"))


class KrakenAdapter:
    """The pure half: see `adapter.Adapter`."""

    source = "native"
    default_ws_url = DEFAULT_WS_URL
    default_rest_url = DEFAULT_REST_URL
    channels = tuple(_CHANNELS)
    # Cloudflare in front of it allows about 150 connection attempts in ten minutes and address, and bans for
    # ten more; the limit of messages is not documented ("Exceeded msg rate"): this is a cautious one. Public
    # REST: about one request a second.
    limits = Limits(connects=(150, 600.0), sends=(10, 1.0), rest=(1, 1.0))

    def __init__(
        self,
        channels: Mapping[str, Sequence[str]],
        *,
        levels: int = 50,
        side: str = "auto",
        raw_info: bool = False,
        credentials: "Credentials | None" = None,  # noqa: ARG002  (its public data knows no key)
    ) -> None:
        """Prepare the streams of one connection.

        Args:
            channels: our channel -> symbols as configured.
            levels: levels per side of an emitted book.
            side: "auto", or whose side the exchange prints: "maker", "taker", "unknown".
            raw_info: keep the raw object of trades and tickers as `info_json`.
            credentials: ignored.

        Raises:
            ValueError: a channel is not one of orderbook, depth, trades, ticker; more levels than 1000; a
                contract; one pair under two names.
        """
        unknown = sorted(set(channels) - set(_CHANNELS))
        if unknown:
            raise ValueError(f"cannot subscribe to {', '.join(unknown)}: kraken has {', '.join(_CHANNELS)}")
        if levels > _DEPTHS[-1]:
            raise ValueError(f"cannot keep {levels} levels: kraken tells of {_DEPTHS[-1]} at most")
        self._streams = tuple(
            Stream(symbol, channel) for channel, symbols in channels.items() for symbol in symbols
        )
        self._symbols: dict[str, str] = {}  # pair -> symbol as configured
        for symbol in dict.fromkeys(stream.symbol for stream in self._streams):
            if ":" in symbol:
                raise ValueError(f"cannot collect {symbol} from kraken: contracts are another exchange's")
            other = self._symbols.setdefault(pair_name(symbol), symbol)
            if other != symbol:
                raise ValueError(f"cannot collect {symbol} beside {other}: they are one pair of kraken's")
        self._wanted: dict[str, list[str]] = {}  # their channel -> pairs
        for symbol, channel in self._streams:
            pairs = self._wanted.setdefault(_CHANNELS[channel], [])
            if pair_name(symbol) not in pairs:
                pairs.append(pair_name(symbol))
        enough = next(depth for depth in _DEPTHS if depth >= levels)
        self._depths: dict[str, int] = {}  # pair -> subscribed depth
        self._books: dict[str, BookState] = {}
        self._texts: dict[str, Texts] = {}
        for pair in self._wanted.get("book", ()):
            ours = [stream.channel for stream in self._of(pair, "book")]
            self._depths[pair] = _DEPTHS[-1] if "depth" in ours else enough
            self._books[pair] = BookState(self._symbols[pair], ours, levels, self._depths[pair])
            self._texts[pair] = Texts()
        self._meaning: Semantics = semantics("kraken", side)
        self._raw_info = raw_info
        self._words: Words = {}  # of the message in hand
        self._past = KrakenPast(lambda symbol, past: past_fact(symbol, past, self._meaning, raw=raw_info))
        self._subscriptions = Symbolwise(self._streams)
        self._requests: dict[int, tuple[str, list[str]]] = {}  # req_id -> channel, pairs
        self._count = 0
        self._broken = True
        self._handlers: dict[type, Callable[[Any], list[Item]]] = {
            BookMessage: self._on_book,
            TradeMessage: self._on_trades,
            TickerMessage: self._on_ticker,
            Heartbeat: self._on_heartbeat,
            Status: self._on_heartbeat,
        }

    def _of(self, pair: str, theirs: str) -> list[Stream]:
        symbol = self._symbols.get(pair)
        return [s for s in self._streams if s.symbol == symbol and _CHANNELS[s.channel] == theirs]

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What this connection carries."""
        return self._streams

    def address(self, ws_url: str) -> str:
        """Return what to open: the configured address as it is."""
        return ws_url

    def subscribe(self) -> list[Send | Ask]:
        """Forget the last connection and return the messages that open the next."""
        self._broken = False
        self._subscriptions.clear()
        self._past.clear()
        self._requests.clear()
        for pair in self._books:
            self._forget(pair)
        sends: list[Send | Ask] = []
        for theirs, pairs in self._wanted.items():
            depths = sorted({self._depths[pair] for pair in pairs}) if theirs == "book" else [0]
            for depth in depths:
                some = [pair for pair in pairs if not depth or self._depths[pair] == depth]
                sends.append(self._send("subscribe", theirs, some))
        return sends

    def _send(self, method: str, theirs: str, pairs: list[str]) -> Send:
        self._count += 1
        self._requests[self._count] = (theirs, pairs)
        params: dict[str, object] = {"channel": theirs, "symbol": pairs}
        if theirs == "book":
            params["depth"] = self._depths[pairs[0]]
        if method == "subscribe":
            params["snapshot"] = True
        return Send(msgspec.json.encode({"method": method, "params": params, "req_id": self._count}))

    def _forget(self, pair: str) -> None:
        self._books[pair].reset()
        self._texts[pair].clear()

    def ping(self) -> bytes:
        """Return the message that keeps an idle connection alive."""
        return _PING

    def ready(self) -> bool:
        """Return whether every stream that the exchange has is subscribed, and every book valid."""
        return not self._broken and self._subscriptions.complete(self._books.values())

    def snapshots(self) -> list[DepthFact]:
        """Return the book, as deep as the exchange tells of it, of every valid `depth` stream."""
        if self._broken:
            return []
        return [whole for state in self._books.values() if (whole := state.whole()) is not None]

    def backfill(self, symbol: str, last_id: str | None) -> list[Ask]:
        """Return the request for trades since `last_id`; nothing if there never was a trade."""
        return [] if last_id is None else self._past.ask(symbol, pair_name(symbol), last_id)

    def instruments(self) -> list[Ask]:
        """Return the request for what the exchange says of its pairs: of all, as one unknown spoils it."""
        return [Ask("instruments", PAIRS_PATH, self._streams)]

    def answer(self, key: str, status: int, body: bytes) -> list[Item]:
        """Return what the answer to an `Ask` says."""
        kind, _, rest = key.partition("/")
        if kind == "resync":
            theirs, _, pair = rest.partition("/")
            needed = self._subscriptions.due(key, self._books.get(pair) if theirs == "book" else None)
            return list(self._resubscribe(theirs, pair)) if needed and not self._broken else []
        cause: object = f"status {status}"
        try:
            if key == "instruments" and status == _OK:
                return list(instruments_of(body, self._symbols))
            if kind == "trades" and status == _OK:
                return self._past.answer(key, body)
        except (ValueError, RecursionError) as error:  # msgspec's are ValueErrors
            cause = error
        return [Fault((), "error", f"cannot use the answer to {key}: {cause}", local=True)]

    def feed(self, raw: bytes | memoryview) -> list[Item]:
        """Return what one message says; [] once the connection is broken."""
        if self._broken:
            return []
        try:
            message = decode_known(raw)
            self._words = message_words(message, raw) if self._raw_info else {}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._on_method(raw, error)
        return self._handlers[type(message)](message)

    def _fault(self, reason: str, detail: str) -> Fault:
        self._broken = True
        return Fault(self.streams, reason, detail)  # type: ignore[arg-type]

    def _on_heartbeat(self, _message: object) -> list[Item]:
        return [Control("heartbeat")]

    def _on_method(self, raw: bytes | memoryview, cause: Exception) -> list[Item]:
        try:
            answer = decode_method(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [self._fault("error", f"undecodable message: {cause}")]
        if answer.method == "pong" or (answer.channel and answer.channel not in _CHANNELS.values()):
            return [Control("heartbeat")]  # or a channel nobody asked for
        if answer.method == "subscribe" and answer.success and answer.result is not None:
            return [self._subscriptions.acknowledged(self._of(answer.result.symbol, answer.result.channel))]
        if answer.method == "unsubscribe":
            return [Control("heartbeat")]
        return self._on_refusal(answer, cause)

    def _on_refusal(self, answer: Method, cause: Exception) -> list[Item]:
        if answer.error is None:
            return [self._fault("error", f"unexpected message: {cause}")]
        theirs, pairs = self._requests.get(answer.req_id or 0, ("", []))
        pair = answer.symbol if answer.symbol in pairs else pairs[0] if len(pairs) == 1 else None
        if pair is None or answer.method != "subscribe":
            return [self._fault("error", f"the exchange says: {answer.error}")]
        if theirs == "book":
            self._forget(pair)
        key = f"resync/{theirs}/{pair}"
        return self._subscriptions.refused(self._of(pair, theirs), answer.error, key, TIME_PATH)

    def _on_book(self, message: BookMessage) -> list[Item]:
        items: list[Item] = []
        for row in message.data:
            state = self._books.get(row.symbol)
            if state is None:
                continue
            try:
                items += self._book(state, row, snapshot=message.type == "snapshot")
            except ValueError as error:
                items += self._resync(row.symbol, "error", f"unusable book of {row.symbol}: {error}")
        return items

    def _book(self, state: BookState, row: BookRow, *, snapshot: bool) -> list[Item]:
        texts = self._texts[row.symbol]
        if snapshot:
            texts.clear()
        elif not state.valid:
            return []
        bids, asks = texts.read(BID, row.bids), texts.read(ASK, row.asks)
        if snapshot:
            state.load(bids, asks)
        else:
            state.apply(bids, asks)
        for side in (BID, ASK):
            cut = state.truncate(side)
            if cut:
                texts.remove(side, cut)
                bids, asks = (bids + cut, asks) if side == BID else (bids, asks + cut)
        found = texts.checksum(state.book)
        if found != row.checksum:
            detail = f"{row.symbol}: CRC-32 {found}, expected {row.checksum}"
            return self._resync(row.symbol, "checksum", detail)
        ts_event = ns_of(row.timestamp)
        if snapshot:
            return list(state.snapshot(ts_event, exch_seq=None))
        facts = state.update(bids, asks, ts_event, exch_seq=None)
        if state.stuck:
            return self._resync(row.symbol, "error", f"{row.symbol} crossed for {state.crossed} updates")
        return list(facts)

    def _resync(self, pair: str, reason: Reason, detail: str) -> list[Item]:
        state, key = self._books[pair], f"resync/book/{pair}"
        anew = partial(self._resubscribe, "book", pair)
        return self._subscriptions.damaged(state, reason, detail, key, TIME_PATH, anew)

    def _resubscribe(self, theirs: str, pair: str) -> list[Send]:
        return [self._send("unsubscribe", theirs, [pair]), self._send("subscribe", theirs, [pair])]

    def _on_trades(self, message: TradeMessage) -> list[Item]:
        items: list[Item] = []
        recent = message.type == "snapshot"
        for trade in sorted(message.data, key=lambda trade: trade.trade_id):
            symbol = self._symbols.get(trade.symbol)
            if symbol is None or trade.symbol not in self._wanted.get("trade", ()):
                continue
            ts_event = ns_of(trade.timestamp)
            items += self._past.seen(symbol, trade.symbol, trade.trade_id, ts_event, live=not recent)
            flags = int(Flag.BACKFILLED) if recent else 0
            items.append(
                trade_fact(symbol, trade, ts_event, self._meaning, flags, self._words.get(id(trade)))
            )
        return items

    def _on_ticker(self, message: TickerMessage) -> list[Item]:
        return [
            ticker_fact(symbol, row, self._words.get(id(row)))
            for row in message.data
            if (symbol := self._symbols.get(row.symbol)) is not None
            and row.symbol in self._wanted.get("ticker", ())
        ]
