"""What the results of ccxt's handlers are: of which stream, and which facts. The other half of the hooks.

A result belongs to who asked for its hash; the exchange may call the symbol by another name (Coinbase sends
BTC-USD for BTC/USDC, an alias) or put several symbols into one message. The requested symbol is the key, and
two books are never merged.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from daedalus.exchanges.adapter import BookFact, EventFact, Stream, TickerFact, stream_of
from daedalus.exchanges.ccxt_channels import method_of
from daedalus.exchanges.ccxt_connection import Connection, Message
from daedalus.exchanges.ccxt_events import Events
from daedalus.exchanges.ccxt_facts import Translator
from daedalus.exchanges.ccxt_guards import trades_before
from daedalus.exchanges.ccxt_trades import CONTIGUOUS, TradeMemory
from daedalus.records import Flag

if TYPE_CHECKING:
    from daedalus.exchanges.tradeholes import Hole

__all__ = ["Found", "Kinds", "Results"]


class Kinds(NamedTuple):
    """ccxt's classes of results."""

    book: type[Any]
    cache: type[Any]
    candles: type[Any]


class Found:
    """What one result said."""

    __slots__ = ("facts", "holes")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.facts: list[Any] = []  # Fact | Control
        self.holes: list[tuple[Stream, Hole]] = []


class Results:
    """Facts of the results of one exchange."""

    kinds: Kinds

    def __init__(self, exchange_id: str, translator: Translator, unified: Mapping[str, str]) -> None:
        """Begin without a result.

        Args:
            exchange_id: ccxt's.
            translator: makes facts.
            unified: symbol as configured -> ccxt's.
        """
        self.translator = translator
        self.trades: dict[str, TradeMemory] = {}  # by symbol as configured
        self.last: dict[Stream, BookFact | TickerFact | EventFact] = {}  # what REST is compared with
        self._id = exchange_id
        self._unified = unified
        self._events = Events()
        self._marks: dict[str, Any] = {}  # message hash -> the newest trade of its cache that was taken
        self._books_valid: set[Stream] = set()  # since their last subscription
        self._resyncs: set[Stream] = set()  # were valid before
        self._book_names: dict[Stream, str] = {}  # as ccxt keeps it

    def asked(self, streams: tuple[Stream, ...], message_hash: str) -> tuple[Stream, ...]:
        """Return which of the streams of a watch call a hash brings: those it names, or all."""
        if len(streams) == 1:
            return streams
        named = [stream for stream in streams if _names(message_hash, self._unified[stream.symbol])]
        return tuple(named) or streams

    def memory(self, symbol: str) -> TradeMemory:
        """Return what is known of the trades of a symbol."""
        memory = self.trades.get(symbol)
        if memory is None:
            memory = self.trades[symbol] = TradeMemory(contiguous=self._id in CONTIGUOUS)
        return memory

    def forget(self, streams: set[Stream]) -> list[str]:
        """Forget what belonged to a dropped connection; return the names of its books in ccxt."""
        names = []
        for stream in streams:
            if stream.channel == "orderbook":
                self._books_valid.discard(stream)
                names += [self._unified[stream.symbol], self._book_names.pop(stream, "")]
            elif stream.channel == "ticker":
                self.translator.forget(stream.symbol)
            elif stream.channel == "trades":
                self.memory(stream.symbol).reconnected()
        return names

    def take(
        self,
        connection: Connection,
        streams: tuple[Stream, ...],
        result: Any,
        message_hash: str,
        message: Message | None,
    ) -> Found:
        """Return what a result says.

        Args:
            connection: where it came from.
            streams: who asked for its hash.
            result: ccxt's.
            message_hash: ccxt's.
            message: in whose step it was made; None: a snapshot by REST.
        """
        found = Found()
        by_channel: dict[str, list[Stream]] = {}
        for stream in streams:
            by_channel.setdefault(stream.channel, []).append(stream)
        for channel, some in by_channel.items():
            if channel == "orderbook":
                if isinstance(result, self.kinds.book):
                    self._book(found, self._pick(some, result.get("symbol")), result, message)
            elif channel == "trades":
                if isinstance(result, self.kinds.cache) and message is not None:
                    self._trades(found, connection, some, result, (message_hash, message.decoded))
            elif channel == "ticker":
                self._ticker(found, some, result, message_hash)
            else:
                self._event(found, some, result, message_hash)
        return found

    def is_hollow(self, result: Any) -> bool:
        """Return whether a book has neither levels nor an id: what ccxt makes of any JSON at all."""
        if not isinstance(result, self.kinds.book) or result.get("nonce") is not None:
            return False
        return not result["bids"] and not result["asks"]

    def _pick(self, streams: list[Stream], name: object) -> Stream | None:
        """Return the stream of a result that calls itself `name`."""
        if len(streams) == 1:
            return streams[0]
        return next((stream for stream in streams if self._unified[stream.symbol] == name), None)

    def _book(self, found: Found, stream: Stream | None, book: Any, message: Message | None) -> None:
        if stream is None:
            return
        flags = 0
        if stream not in self._books_valid:
            flags = Flag.SNAPSHOT | (Flag.RESYNC if stream in self._resyncs else 0)
        fact = self.translator.book(stream.symbol, book, int(flags))
        if message is not None:
            if message.books.get(stream) == fact:
                return  # the same update under a second hash
            message.books[stream] = fact
        self._books_valid.add(stream)
        self._resyncs.add(stream)
        self._book_names[stream] = book.get("symbol") or ""
        self.last[stream] = fact
        found.facts.append(fact)

    def _trades(
        self, found: Found, connection: Connection, streams: list[Stream], cache: Any, source: tuple[str, Any]
    ) -> None:
        message_hash, decoded = source
        if not cache:
            return
        mark = self._marks.get(message_hash)
        fresh: list[Mapping[str, Any]] = []
        for trade in reversed(cache):
            if trade is mark:
                break
            fresh.append(trade)
        self._marks[message_hash] = cache[-1]
        flags = int(Flag.BACKFILLED) if trades_before(self._id, decoded) else 0
        for stream, trades in self._shared_out(connection, streams, fresh[::-1]).items():
            facts = self.translator.trades(stream.symbol, trades, flags)
            memory = self.memory(stream.symbol)
            for fact in memory.unseen(facts) if flags else facts:
                if hole := memory.seen(fact):
                    found.holes.append((stream, hole))
                found.facts.append(fact)

    def _shared_out(
        self, connection: Connection, streams: list[Stream], trades: list[Mapping[str, Any]]
    ) -> dict[Stream, list[Mapping[str, Any]]]:
        """Return whose the trades of one cache are: ccxt files a message under its first trade's symbol."""
        out: dict[Stream, list[Mapping[str, Any]]] = {}
        for trade in trades:
            name = trade.get("symbol")
            stream = self._pick(streams, name)
            if stream is None or not self._is_named(stream, name):
                mine = [s for s in connection.streams if s.channel == "trades" and self._is_named(s, name)]
                stream = mine[0] if mine else stream
            if stream is not None:
                out.setdefault(stream, []).append(trade)
        return out

    def _is_named(self, stream: Stream, name: object) -> bool:
        """Return whether the exchange may call a stream's symbol so: by its name, or by Coinbase's alias."""
        unified = self._unified[stream.symbol]
        return unified == name or (self._id.startswith("coinbase") and unified == f"{name}C")

    def _ticker(self, found: Found, streams: list[Stream], result: Any, message_hash: str) -> None:
        quote = message_hash.startswith("bidask")
        make = self.translator.quote if quote else self.translator.summary
        for ticker in _structures(result):
            if "bid" in ticker and (stream := self._pick(streams, ticker.get("symbol"))) is not None:
                fact = make(stream.symbol, ticker)
                self.last[stream] = fact
                found.facts.append(fact)

    def _event(self, found: Found, streams: list[Stream], result: Any, message_hash: str) -> None:
        if message_hash.startswith("authenticat"):
            return
        method = method_of(streams[0].channel)
        cache, candles = self.kinds.cache, self.kinds.candles
        if type(result) is list and result and isinstance(result[-1], candles):
            result = result[-1]  # [symbol, timeframe, candles]
        if isinstance(result, candles):
            if len(streams) == 1:
                found.facts += self._events.candles(streams[0], method, result)
        elif isinstance(result, cache):
            newest = result[-1].get("symbol") if result else None
            if (stream := self._pick(streams, newest)) is not None:
                found.facts += self._events.fresh(stream, method, result)
        else:
            for structure in _structures(result):
                if (stream := self._pick(streams, structure.get("symbol"))) is not None:
                    found.facts += self._events.of(stream, method, structure)
        self.last.update((stream_of(fact), fact) for fact in found.facts if isinstance(fact, EventFact))


def _structures(result: Any) -> list[Mapping[str, Any]]:
    """Return the unified structures of a result: one, a list, or a dict by symbol."""
    if isinstance(result, list):
        return [one for one in result if isinstance(one, Mapping)]
    if not isinstance(result, Mapping):
        return []
    if "symbol" in result or "info" in result:
        return [result]
    return [one for one in result.values() if isinstance(one, Mapping) and "symbol" in one]


def _names(message_hash: str, unified: str) -> bool:
    """Return whether a hash is about a symbol: it has the name, and no more letters around it."""
    at = message_hash.find(unified)
    if at < 0:
        return False
    before, after = message_hash[:at][-1:], message_hash[at + len(unified) :][:1]
    return not (before.isalnum() or before in "/-") and not (after.isalnum() or after in "/-:")
