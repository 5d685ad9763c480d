"""OKX, public websocket v5: what its messages mean.

Every message of a book names the one before it: `prevSeqId` must be the `seqId` that came last; a snapshot
has -1, and numbers may start anew (`seqId` below `prevSeqId`) after maintenance. They are the same on every
connection of a channel (docs-v5, order book channel, Sequence ID). A broken chain
resynchronises that book alone, by subscribing again. The checksum is checked where there is one: the exchange
sends 0. A book has 400 levels a side, which is what `depth` means here.

A connection for trades alone goes to the business address and has every trade (`trades-all`); beside other
channels it is `trades`, which folds the trades of one order at one price into one and says how many: the ids
are contiguous either way, and a folded row is flagged CONFLATED. `split` keeps them apart.

Contracts are counted in contracts: their streams begin when the exchange has said what a contract is worth,
and every amount is base currency.

Source: www.okx.com/docs-v5, WebSocket: connect, order book channel, trades channel, all trades channel.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from daedalus.exchanges.adapter import Ask, Control, DepthFact, Fault, Item, Limits, Send, Stream
from daedalus.exchanges.okx_books import LEVELS, BookDamagedError, OkxBook
from daedalus.exchanges.okx_facts import ticker_fact, trade_fact
from daedalus.exchanges.okx_messages import (
    NO_DATA,
    Frame,
    decode_books,
    decode_frame,
    decode_tickers,
    decode_trades,
    named,
    oldest_first,
)
from daedalus.exchanges.okx_rest import (
    TIME_PATH,
    Contract,
    instrument_id,
    instrument_type,
    instruments_of,
    instruments_path,
    trades_of,
    trades_path,
)
from daedalus.exchanges.sides import Semantics, semantics
from daedalus.exchanges.symbolwise import Reason, Symbolwise
from daedalus.exchanges.tradeholes import Request, TradeHoles
from daedalus.exchanges.words import texts_of, words_of
from daedalus.records import Flag

if TYPE_CHECKING:
    from daedalus.exchanges.credentials import Credentials

__all__ = ["DEFAULT_REST_URL", "DEFAULT_WS_URL", "OkxAdapter"]

DEFAULT_WS_URL = "wss://ws.okx.com:8443/ws/v5/public"
DEFAULT_REST_URL = "https://www.okx.com"
_CHANNELS = {"orderbook": "books", "depth": "books", "trades": "trades", "ticker": "tickers"}
_ALL_TRADES = "trades-all"
_ARGS_MAX = 200  # of one message, which may have 64 KB
_PAGES_MAX = 20
_LATER_S = 5.0
_PONG = b"pong"
_OK = 200


class OkxAdapter:
    """The pure half: see `adapter.Adapter`."""

    source = "native"
    comparable = True  # seqId, between connections
    default_ws_url = DEFAULT_WS_URL
    default_rest_url = DEFAULT_REST_URL
    channels = tuple(_CHANNELS)
    # 3 connections a second and address; 480 subscribe, unsubscribe and login messages an hour and connection
    # (docs-v5, WebSocket: connect). history-trades and instruments: 20 requests in 2 s.
    limits = Limits(connects=(3, 1.0), sends=(480, 3600.0), rest=(20, 2.0))

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
            raw_info: keep the raw object of trades and tickers as `info_json`; of contracts it always is.
            credentials: ignored.

        Raises:
            ValueError: a channel is not one of orderbook, depth, trades, ticker; more levels than 400; an
                option; one instrument under two names.
        """
        unknown = sorted(set(channels) - set(_CHANNELS))
        if unknown:
            raise ValueError(f"cannot subscribe to {', '.join(unknown)}: okx has {', '.join(_CHANNELS)}")
        if levels > LEVELS:
            raise ValueError(f"cannot keep {levels} levels: okx tells of {LEVELS}")
        self._streams = tuple(
            Stream(symbol, channel) for channel, symbols in channels.items() for symbol in symbols
        )
        self._alone = {channel for _, channel in self._streams} == {"trades"}
        self._symbols: dict[str, str] = {}  # instrument -> symbol as configured
        self._kinds: dict[str, str] = {}  # instrument -> SPOT, SWAP, FUTURES
        for symbol in dict.fromkeys(stream.symbol for stream in self._streams):
            name = instrument_id(symbol)
            self._kinds[name] = instrument_type(symbol)
            if self._symbols.setdefault(name, symbol) != symbol:
                raise ValueError(f"cannot collect {symbol} beside {self._symbols[name]}: both are {name}")
        self._wanted: dict[tuple[str, str], list[Stream]] = {}  # their channel and instrument -> ours
        for stream in self._streams:
            arg = self._theirs(stream.channel), instrument_id(stream.symbol)
            self._wanted.setdefault(arg, []).append(stream)
        self._contracts: dict[str, Contract] = {}
        self._books = {
            name: OkxBook(name, self._symbols[name], [s.channel for s in self._of("books", name)], levels)
            for theirs, name in self._wanted
            if theirs == "books"
        }
        self._meaning: Semantics = semantics("okx", side)
        self._raw_info = raw_info
        self._holes = TradeHoles()
        self._subscriptions = Symbolwise(self._streams)
        self._waiting: set[str] = set()  # instruments whose contract is not known yet
        self._broken = True
        self._handlers: dict[str, Callable[[str, str, Frame], list[Item]]] = {
            "books": self._on_books,
            "trades": self._on_trades,
            _ALL_TRADES: self._on_trades,
            "tickers": self._on_tickers,
        }

    @staticmethod
    def split(channels: Mapping[str, Sequence[str]]) -> list[dict[str, Sequence[str]]]:
        """Return the channels of each connection: trades have a connection of their own."""
        parts = [{c: s for c, s in channels.items() if (c == "trades") is alone} for alone in (False, True)]
        return [part for part in parts if part]

    def _theirs(self, channel: str) -> str:
        return _ALL_TRADES if self._alone else _CHANNELS[channel]

    def _of(self, theirs: str, name: str) -> list[Stream]:
        return self._wanted.get((theirs, name), [])

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What this connection carries."""
        return self._streams

    def address(self, ws_url: str) -> str:
        """Return what to open: for trades alone the business address beside the public one."""
        return (
            ws_url.removesuffix("/public") + "/business"
            if self._alone and ws_url.endswith("/public")
            else ws_url
        )

    def subscribe(self) -> list[Send | Ask]:
        """Forget the last connection; return the messages and requests that open the next."""
        self._broken = False
        self._subscriptions.clear()
        self._holes.clear()
        for book in self._books.values():
            book.state.reset()
        self._waiting = {n for n, kind in self._kinds.items() if kind != "SPOT" and n not in self._contracts}
        kinds = sorted({self._kinds[name] for name in self._waiting})
        asks = [self._ask_kind("sizes", kind) for kind in kinds]
        return [
            *self._sends("subscribe", [arg for arg in self._wanted if arg[1] not in self._waiting]),
            *asks,
        ]

    def _sends(self, op: str, args: Sequence[tuple[str, str]]) -> list[Send]:
        return [
            Send(
                msgspec.json.encode(
                    {"op": op, "args": [{"channel": c, "instId": n} for c, n in args[at : at + _ARGS_MAX]]}
                )
            )
            for at in range(0, len(args), _ARGS_MAX)
        ]

    def _ask_kind(self, purpose: str, kind: str, delay_s: float = 0.0) -> Ask:
        streams = tuple(s for s in self._streams if self._kinds[instrument_id(s.symbol)] == kind)
        return Ask(f"{purpose}/{kind}", instruments_path(kind), streams, delay_s=delay_s)

    def ping(self) -> bytes:
        """Return the message that keeps an idle connection alive: without it 30 s of silence end it."""
        return b"ping"

    def ready(self) -> bool:
        """Return whether every stream that the exchange has is subscribed, and every book valid."""
        return not self._broken and self._subscriptions.complete(book.state for book in self._books.values())

    def snapshots(self) -> list[DepthFact]:
        """Return the book, as deep as the exchange tells of it, of every valid `depth` stream."""
        if self._broken:
            return []
        return [whole for book in self._books.values() if (whole := book.state.whole()) is not None]

    def backfill(self, symbol: str, last_id: str | None) -> list[Ask]:
        """Return the request for trades since `last_id`; nothing if there never was a trade."""
        return [] if last_id is None else self._ask(symbol, last_id, None)

    def instruments(self) -> list[Ask]:
        """Return the requests for what the exchange says of its instruments, one a type."""
        return [self._ask_kind("instruments", kind) for kind in sorted(set(self._kinds.values()))]

    def answer(self, key: str, status: int, body: bytes) -> list[Item]:
        """Return what the answer to an `Ask` says."""
        purpose, _, rest = key.partition("/")
        if purpose == "resync":
            theirs, _, name = rest.partition("/")
            book = self._books.get(name) if theirs == "books" else None
            needed = self._subscriptions.due(key, None if book is None else book.state)
            return list(self._resubscribe(theirs, name)) if needed and not self._broken else []
        self._subscriptions.due(key)
        cause: object = f"status {status}"
        try:
            if status == _OK and purpose in ("instruments", "sizes"):
                return self._on_instruments(purpose, rest, body)
            if purpose == "trades" and (request := self._holes.answered(key)) is not None and status == _OK:
                return self._history(request, body)
        except (ValueError, RecursionError) as error:  # msgspec's are ValueErrors
            cause = error
        items: list[Item] = [Fault((), "error", f"cannot use the answer to {key}: {cause}", local=True)]
        if purpose == "sizes" and rest in self._kinds.values() and not self._broken:
            items.append(self._ask_kind("sizes", rest, _LATER_S))
        return items

    def feed(self, raw: bytes | memoryview) -> list[Item]:
        """Return what one message says; [] once the connection is broken."""
        if self._broken:
            return []
        if len(raw) == len(_PONG) and bytes(raw) == _PONG:
            return [Control("heartbeat")]
        try:
            frame = decode_frame(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return [self._fault(f"undecodable message: {error}")]
        if frame.event:
            return self._on_event(frame)
        if frame.arg is None or frame.data is NO_DATA:
            return [self._fault("unexpected message: neither an event nor data")]
        return self._on_data(frame, frame.arg.channel, frame.arg.instId)

    def _on_data(self, frame: Frame, theirs: str, name: str) -> list[Item]:
        handle, streams = self._handlers.get(theirs), self._of(theirs, name)
        if handle is None or not streams:
            return [Control("heartbeat")]  # of a stream nobody asked for
        try:
            return handle(streams[0].symbol, name, frame)
        except (ValueError, UnicodeDecodeError, RecursionError) as error:  # msgspec's are ValueErrors
            detail = f"unusable message of {theirs} {name}: {error}"
            if theirs == "books":
                return self._resync(name, "error", detail)
            return [Fault(tuple(streams), "error", detail, local=True)]

    def _fault(self, detail: str) -> Fault:
        self._broken = True
        return Fault(self.streams, "error", detail)

    def _on_event(self, frame: Frame) -> list[Item]:
        if frame.event == "subscribe" and frame.arg is not None:
            return [self._subscriptions.acknowledged(self._of(frame.arg.channel, frame.arg.instId))]
        if frame.event != "error":
            return [Control("heartbeat")]  # unsubscribe, notice, channel-conn-count
        which = named(frame.msg)
        if which is None or which not in self._wanted:
            return [self._fault(f"the exchange says: {frame.code} {frame.msg}")]
        if which[0] == "books":
            self._books[which[1]].state.reset()
        key = f"resync/{which[0]}/{which[1]}"
        why = f"{frame.code} {frame.msg}"
        return self._subscriptions.refused(self._of(*which), why, key, TIME_PATH)

    def _on_instruments(self, purpose: str, kind: str, body: bytes) -> list[Item]:
        ours = {name: symbol for name, symbol in self._symbols.items() if self._kinds[name] == kind}
        facts, contracts = instruments_of(body, ours)
        items: list[Item] = list(facts)
        for name, contract in contracts.items():
            if name in self._books and self._contracts.get(name) != contract:
                self._books[name].counted_in(contract)
        self._contracts.update(contracts)
        if self._broken:
            return items
        begun = self._waiting.intersection(contracts)
        self._waiting -= begun
        items += self._sends("subscribe", [arg for arg in self._wanted if arg[1] in begun])
        missing = {name for name in self._waiting if self._kinds[name] == kind}
        if missing and purpose == "sizes":  # the next try is another look at the instruments
            streams = [s for s in self._streams if instrument_id(s.symbol) in missing]
            why, path = "there is no such contract", instruments_path(kind)
            items += self._subscriptions.refused(streams, why, f"sizes/{kind}", path)
        return items

    def _on_books(self, _symbol: str, name: str, frame: Frame) -> list[Item]:
        items: list[Item] = []
        if self._books[name].state.pending and frame.action != "snapshot":
            return items  # of the subscription that was damaged, usable or not
        try:
            for row in decode_books(frame.data):
                items += self._books[name].take(row, snapshot=frame.action == "snapshot")
        except BookDamagedError as damage:
            items += self._resync(name, damage.reason, str(damage))
        return items

    def _resync(self, name: str, reason: Reason, detail: str) -> list[Item]:
        state, key = self._books[name].state, f"resync/books/{name}"
        anew = partial(self._resubscribe, "books", name)
        return self._subscriptions.damaged(state, reason, detail, key, TIME_PATH, anew)

    def _resubscribe(self, theirs: str, name: str) -> list[Send]:
        return [*self._sends("unsubscribe", [(theirs, name)]), *self._sends("subscribe", [(theirs, name)])]

    def _on_trades(self, symbol: str, name: str, frame: Frame) -> list[Item]:
        items: list[Item] = []
        contract = self._contracts.get(name)
        rows = decode_trades(frame.data)
        words = words_of(rows, texts_of(frame.data)) if self._keeps_words(contract) else {}
        for row in oldest_first(rows):
            hole = self._holes.seen(symbol, row.tradeId, row.trades)
            if hole is not None:
                detail = f"trade {hole.before} follows {hole.after}: {hole.missing} missing"
                items.append(Fault((Stream(symbol, "trades"),), "sequence", detail, local=True))
                items += self._ask(symbol, hole.after, hole.before)
            items.append(trade_fact(symbol, row, contract, self._meaning, 0, words.get(id(row))))
        return items

    def _ask(
        self, symbol: str, after: int | str | None, before: int | None, *, page: int = 1, delay_s: float = 0.0
    ) -> list[Ask]:
        key = self._holes.ask(symbol, after, before, page)
        if key is None:
            return []
        path = trades_path(instrument_id(symbol), before)
        return [Ask(key, path, (Stream(symbol, "trades"),), delay_s=delay_s)]

    def _history(self, request: Request, body: bytes) -> list[Item]:
        symbol, after = request.symbol, request.after
        name = instrument_id(symbol)
        contract = self._contracts.get(name)
        if self._kinds[name] != "SPOT" and contract is None:  # it cannot be said yet how much a trade was
            again = self._ask(symbol, after, request.before, page=request.page + 1, delay_s=_LATER_S)
            return list(again)
        told, texts = trades_of(body)
        words = words_of(told, texts) if self._keeps_words(contract) else {}
        rows = oldest_first(told)
        found = [row for row in rows if self._holes.wanted(request, row.tradeId)]
        flags = int(Flag.BACKFILLED)
        items: list[Item] = [
            trade_fact(symbol, row, contract, self._meaning, flags, words.get(id(row))) for row in found
        ]
        oldest = rows[0].tradeId if rows else None
        self._holes.judged(request, oldest, len(found))
        reached = oldest is None or self._holes.reached(request, oldest) or int(oldest) == request.before
        if oldest is None or reached or request.page >= _PAGES_MAX:
            return items
        return items + list(self._ask(symbol, after, int(oldest), page=request.page + 1))

    def _on_tickers(self, symbol: str, name: str, frame: Frame) -> list[Item]:
        contract = self._contracts.get(name)
        rows = decode_tickers(frame.data)
        words = words_of(rows, texts_of(frame.data)) if self._keeps_words(contract) else {}
        return [ticker_fact(symbol, row, contract, words.get(id(row))) for row in rows]

    def _keeps_words(self, contract: Contract | None) -> bool:
        """Return whether objects are stored: those of contracts always, as their amounts are converted."""
        return self._raw_info or contract is not None
