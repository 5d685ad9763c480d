"""Binance spot, public websocket and REST: what its messages mean.

One combined stream carries everything; its address names the streams, and the answer to LIST_SUBSCRIPTIONS,
or the first message of any of them, says that they are open. What is wrong with one market's stream stays
with that stream:

- books (`binance_depth`, by the rules of `binance_book`): a hole, a damaged update or a book that stays
  crossed is a local fault of `orderbook` and `depth` of that market; updates are buffered anew and a snapshot
  is asked for.
- trades (`binance_tape`, by the rules of `binance_trades`): a hole in the ids is a local fault of `trades` of
  that market, and REST is asked for what is missing. Aggregate trades have other ids and are never used.
- a market without a book (`binance_known`) is asked for once, because a stream of no market is merely silent.
- ticker (`binance_ticker`): the best bid and ask (`bookTicker`) merged with the last 24 hours (`ticker`); a
  row for each. Its `exch_seq` is the book's update id where the quote was the trigger, and missing otherwise.

`m = true` means that the buyer was the maker: the taker sold.

Source: github.com/binance/binance-spot-api-docs, web-socket-streams.md and rest-api.md. Limits: 300
connections per 5 minutes and address; 5 messages per second, 1024 streams and 24 hours a connection; REST
weight 6000 a minute, of which depth with 5000 levels takes 250, trades 25, exchangeInfo 20, bookTicker 2.
historicalTrades needs no key. Update ids are the market's own, the same on every connection and over REST.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote as quoted

from daedalus.exchanges.adapter import Ask, Control, DepthFact, Fault, Item, Limits, Send, Stream
from daedalus.exchanges.binance_depth import BookChannel
from daedalus.exchanges.binance_dialect import Answered, Dialect, local_fault, market_id
from daedalus.exchanges.binance_known import Known
from daedalus.exchanges.binance_listing import instruments, is_unknown
from daedalus.exchanges.binance_messages import (
    DAMAGE,
    REPLY,
    STREAM,
    Depths,
    Quotes,
    Summaries,
    Trades,
    decoder,
)
from daedalus.exchanges.binance_requests import fitting, request
from daedalus.exchanges.binance_tape import TradeChannel
from daedalus.exchanges.binance_ticker import TickerChannel
from daedalus.exchanges.sides import semantics, taker

__all__ = ["BinanceAdapter"]

_CHANNELS = ("orderbook", "depth", "trades", "ticker")
_NAME_AT = len(b'{"stream":"')  # where all messages name their stream; another is looked at as a whole
_NAME_END = 80
_SUBSCRIBE_MAX = 100  # streams a message
_ADDRESS_ID, _LIST_ID = 0, 1  # of what is subscribed by the address, and of requests; others follow
_DEPTH_SPEEDS = ("@100ms", "", "@0ms", "@250ms", "@500ms", "@1000ms")
_DEPTHS, _TRADES, _QUOTES, _SUMMARIES = (decoder(kind) for kind in (Depths, Trades, Quotes, Summaries))

SPOT = Dialect(
    name="binance",
    depth_path="/api/v3/depth",
    depth_levels=5000,
    depth_weight=250,
    trades_path="/api/v3/historicalTrades",
    trades_paged=True,
    trades_weight=25,
    info_path="/api/v3/exchangeInfo",
    info_by_symbol=True,
    info_weight=20,
    quote_path="/api/v3/ticker/bookTicker",
    quote_weight=2,
    dense_ids=True,
    settled=False,
    ticker_streams=("bookTicker", "ticker"),
    streams_max=1024,
    contract_size=None,
)


class _Route(NamedTuple):
    """Where the messages of one stream of Binance's go."""

    market: str
    decode: Callable[[bytes | memoryview], Any]
    take: Callable[[Any, str | None], list[Item]]
    damaged: Callable[[str], list[Item]]
    with_info: bool


class BinanceAdapter:
    """The pure half: see `adapter.Adapter`."""

    source = "native"
    comparable: ClassVar[bool] = True  # update ids, between connections
    dialect: ClassVar[Dialect] = SPOT
    default_ws_url: ClassVar[str] = "wss://stream.binance.com:9443"
    default_rest_url: ClassVar[str] = "https://api.binance.com"
    channels: ClassVar[tuple[str, ...]] = _CHANNELS
    limits: ClassVar[Limits] = Limits(
        connects=(300, 300.0), sends=(5, 1.0), rest=(6000, 60.0), age_s=24 * 3600.0
    )

    def __init__(
        self,
        channels: Mapping[str, Sequence[str]],
        *,
        levels: int = 50,
        side: str = "auto",
        raw_info: bool = False,
    ) -> None:
        """Prepare the streams of one connection.

        Args:
            channels: our channel -> symbols as configured.
            levels: levels per side of an emitted book.
            side: "auto", or whose side the exchange prints: "maker", "taker", "unknown".
            raw_info: keep the raw object of trades and tickers as `info_json`.

        Raises:
            ValueError: a channel it does not have, a symbol that is none, two symbols that are one market, or
                more streams than a connection may have.
        """
        name = self.dialect.name
        unknown = sorted(set(channels) - set(_CHANNELS))
        if unknown:
            raise ValueError(f"cannot subscribe to {', '.join(unknown)}: {name} has {', '.join(_CHANNELS)}")
        self._streams = tuple(
            dict.fromkeys(
                Stream(symbol, channel) for channel, symbols in channels.items() for symbol in symbols
            )
        )
        self._symbols = self._named()
        self._levels = levels
        self._raw_info = raw_info
        meaning = semantics(name, side)
        self._sides = {
            True: (taker("sell", meaning), "m=true"),
            False: (taker("buy", meaning), "m=false"),
        }
        self._books: dict[str, BookChannel] = {}
        self._tapes: dict[str, TradeChannel] = {}
        self._tickers: dict[str, TickerChannel] = {}
        self._known: list[Known] = []
        self._routes: dict[bytes, _Route] = {}
        self._names: list[str] = []  # of the streams at Binance
        self._opens: dict[str, Stream] = {}  # name -> the stream of no book that it completes
        for market, symbol in self._symbols.items():
            self._add(market, symbol, {s.channel for s in self._streams if s.symbol == symbol})
        if len(self._names) > self.dialect.streams_max:
            raise ValueError(
                f"cannot carry {len(self._names)} streams on one connection: {name} allows "
                f"{self.dialect.streams_max}; lower symbols_per_connection"
            )
        self._named_in_address = fitting(self._names)
        self._unheard: dict[int, tuple[Stream, ...]] = {}  # request -> what is open once it is answered
        self._open: dict[str, Answered] = {}
        self._asks = 0
        self._broken = True

    def _named(self) -> dict[str, str]:
        symbols: dict[str, str] = {}
        for symbol in dict.fromkeys(stream.symbol for stream in self._streams):
            market = market_id(symbol, settled=self.dialect.settled)
            if market in symbols:
                raise ValueError(f"cannot use both {symbols[market]!r} and {symbol!r}: both are {market}")
            symbols[market] = symbol
        return symbols

    def _add(self, market: str, symbol: str, wanted: set[str]) -> None:
        dialect, asked = self.dialect, quoted(market)
        books = tuple(Stream(symbol, channel) for channel in ("orderbook", "depth") if channel in wanted)
        if books:
            book = BookChannel(symbol, asked, books, self._levels, dialect, self._ask)
            self._books[market] = book
            self._names.append(f"{market.lower()}@depth@100ms")
            for speed in _DEPTH_SPEEDS:
                self._route(market, f"depth{speed}", _DEPTHS.decode, book.update, book.damaged)
        if "trades" in wanted:
            tape = TradeChannel(symbol, asked, self._sides, dialect, self._ask)
            self._tapes[market] = tape
            self._names.append(f"{market.lower()}@trade")
            self._opens[self._names[-1]] = tape.streams[0]
            self._route(market, "trade", _TRADES.decode, tape.trade, tape.damaged, with_info=self._raw_info)
        if "ticker" in wanted:
            ticker = TickerChannel(symbol)
            self._tickers[market] = ticker
            self._names += [f"{market.lower()}@{stream}" for stream in dialect.ticker_streams]
            self._opens[self._names[-1]] = ticker.streams[0]
            info = self._raw_info
            self._route(market, "bookTicker", _QUOTES.decode, ticker.quote, ticker.damaged, with_info=info)
            self._route(market, "ticker", _SUMMARIES.decode, ticker.summary, ticker.damaged, with_info=info)
        if not books:
            parts = [
                part for part in (self._tapes.get(market), self._tickers.get(market)) if part is not None
            ]
            streams = tuple(stream for part in parts for stream in part.streams)
            self._known.append(
                Known(symbol, asked, streams, dialect, self._ask, lambda: any(part.heard for part in parts))
            )

    def _route(
        self,
        market: str,
        stream: str,
        decode: Callable[[bytes | memoryview], Any],
        take: Callable[[Any, str | None], list[Item]],
        damaged: Callable[[str], list[Item]],
        *,
        with_info: bool = False,
    ) -> None:
        name = f"{market.lower()}@{stream}".encode()
        self._routes[name] = _Route(market, decode, take, damaged, with_info)

    # -- the connection

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What this connection carries."""
        return self._streams

    def address(self, ws_url: str) -> str:
        """Return the address of the combined stream, with the streams that fit into it."""
        base = ws_url.rstrip("/").removesuffix("/stream")
        return f"{base}/stream?streams={'/'.join(quoted(name, safe='@') for name in self._named_in_address)}"

    def subscribe(self) -> list[Send | Ask]:
        """Forget the last connection; subscribe what its address does not name, and ask for snapshots."""
        self._broken = False
        self._open = {key: take for key, take in self._open.items() if self._is_listing(key)}
        for tape in self._tapes.values():
            tape.reset()
        for ticker in self._tickers.values():
            ticker.reset()
        first = len(self._named_in_address)
        self._unheard = {_ADDRESS_ID: self._streams_of(self._names[:first])}
        messages: list[Send | Ask] = []
        for at in range(first, len(self._names), _SUBSCRIBE_MAX):
            number, names = _LIST_ID + 1 + len(messages), self._names[at : at + _SUBSCRIBE_MAX]
            self._unheard[number] = self._streams_of(names)
            messages.append(request(number, "SUBSCRIBE", names))
        messages.append(request(_LIST_ID, "LIST_SUBSCRIPTIONS"))
        messages += [book.reset() for book in self._books.values()]
        return messages + [market.reset() for market in self._known]

    def _streams_of(self, names: list[str]) -> tuple[Stream, ...]:
        """Return the streams of no book that are open when these, and those before them, are."""
        return tuple(self._opens[name] for name in names if name in self._opens)

    def ping(self) -> bytes | None:
        """Return None: a websocket ping keeps the connection alive."""
        return None

    def ready(self) -> bool:
        """Return whether every stream is subscribed and every book valid of which there is a market."""
        books = self._books.values()
        return not self._unheard and not self._broken and all(b.sync.valid or b.missing for b in books)

    def _flows(self) -> "list[TradeChannel | TickerChannel]":
        return [*self._tapes.values(), *self._tickers.values()]

    def known(self) -> frozenset[str]:
        """Return the symbols of which anything ever came: Binance has, or had, these markets."""
        heard = [part.symbol for part in self._flows() if part.heard]
        return frozenset((*heard, *(book.symbol for book in self._books.values() if book.known)))

    def inherit(self, before: "BinanceAdapter") -> None:
        """Take from the adapter that is to be replaced which markets there were."""
        known = before.known()
        for book in self._books.values():
            book.known = book.symbol in known
        for part in self._flows():
            part.heard = part.symbol in known

    def missing(self) -> list[Fault]:
        """Return a fault of all streams of each market that was there once and that Binance knows no more."""
        parts: list[BookChannel | Known] = [*self._books.values(), *self._known]
        return [
            local_fault(tuple(s for s in self._streams if s.symbol == part.symbol), "error", part.missing)
            for part in parts
            if part.missing
        ]

    # -- messages

    def feed(self, raw: bytes | memoryview) -> list[Item]:
        """Return what one message says; [] once the connection is broken."""
        if self._broken:
            return []
        head = bytes(raw[_NAME_AT:_NAME_END])
        route = self._routes.get(head[: head.find(b'"')])
        if route is None:
            route = self._find(raw)
            if route is None:
                return self._other(raw)
        items = self._take(route, raw)
        if _ADDRESS_ID in self._unheard:  # one stream of the address is open: all are
            opened = self._unheard.pop(_ADDRESS_ID)
            if opened:
                return [Control("subscribed", opened), *items]
        return items

    def _take(self, route: _Route, raw: bytes | memoryview) -> list[Item]:
        try:
            message = route.decode(raw).data
            info_json = bytes(STREAM.decode(raw).data).decode() if route.with_info else None
        except DAMAGE as error:
            return route.damaged(f"an undecodable message: {error}")
        if message.market != route.market:
            return route.damaged(f"a message of {message.market!r} on a stream of {route.market}")
        return route.take(message, info_json)

    def _find(self, raw: bytes | memoryview) -> _Route | None:
        """Return the route of a message that does not begin as they all do."""
        try:
            return self._routes.get(STREAM.decode(raw).stream.encode())
        except (*DAMAGE, UnicodeEncodeError):
            return None

    def _other(self, raw: bytes | memoryview) -> list[Item]:
        try:
            reply = REPLY.decode(raw)
        except DAMAGE as error:
            return [self._fault(f"undecodable message: {error}")]
        number = reply.id if isinstance(reply.id, int) else -1
        if number == _LIST_ID:
            if set(self._names) <= set(reply.result or ()):
                streams = tuple(stream for group in self._unheard.values() for stream in group)
                self._unheard.clear()
                return [Control("subscribed", streams)]
        elif reply.error is not None or (reply.code is not None and reply.msg):
            said = reply.error.msg if reply.error is not None else reply.msg
            return [self._fault(f"the exchange says: {said}")]
        elif number != _ADDRESS_ID and number in self._unheard:
            return [Control("subscribed", self._unheard.pop(number))]
        return [Control("heartbeat")]

    def _fault(self, detail: str) -> Fault:
        self._broken = True
        return Fault(self._streams, "error", detail)

    # -- requests

    def _ask(
        self, path: str, take: Answered, streams: tuple[Stream, ...], weight: float, delay_s: float
    ) -> Ask:
        self._asks += 1
        key = f"{path.partition('&')[0]} {self._asks}"
        self._open[key] = take
        return Ask(key, path, streams, weight, delay_s)

    def answer(self, key: str, status: int, body: bytes) -> list[Item]:
        """Return what the answer to a request says."""
        take = self._open.pop(key, None)
        if take is None:
            return [local_fault((), "error", f"an answer to no request: {key[:200]!r}")]
        if self._broken and not self._is_listing(key):
            return []
        return take(status, body)

    def snapshots(self) -> list[DepthFact]:
        """Return the whole book of every valid `depth` stream."""
        return [fact for book in self._books.values() for fact in book.whole()]

    def backfill(self, symbol: str, last_id: str | None) -> list[Ask]:
        """Return the request for trades since `last_id`; [] where no trade was ever stored."""
        return [
            ask
            for market, tape in self._tapes.items()
            if self._symbols[market] == symbol
            for ask in tape.backfill(last_id)
        ]

    def instruments(self) -> list[Ask]:
        """Return the request for what Binance says of these markets."""
        self._open = {key: take for key, take in self._open.items() if not self._is_listing(key)}
        dialect = self.dialect
        path = dialect.info_path
        if dialect.info_by_symbol:
            names = ",".join(f"%22{quoted(market)}%22" for market in self._symbols)
            path = f"{path}?symbols=%5B{names}%5D"
        return [self._ask(path, self._listing, (), dialect.info_weight, 0.0)]

    def _is_listing(self, key: str) -> bool:
        """Return whether a request is of the markets as such, whichever connection is open."""
        return key.startswith(self.dialect.info_path)

    def _listing(self, status: int, body: bytes) -> list[Item]:
        if self.dialect.info_by_symbol and is_unknown(status, body):  # one of them spoils it: ask for all
            everything = self.dialect.info_path
            return [self._ask(everything, self._listed, (), self.dialect.info_weight, 0.0)]
        return self._listed(status, body)

    def _listed(self, status: int, body: bytes) -> list[Item]:
        try:
            facts = instruments(body, self._symbols, self.dialect) if status == 200 else None
        except DAMAGE as error:
            return [local_fault((), "error", f"cannot read exchangeInfo: {error}")]
        if facts is None:
            said = body[:200].decode(errors="replace")
            return [local_fault((), "error", f"exchangeInfo was refused with status {status}: {said}")]
        return list(facts)
