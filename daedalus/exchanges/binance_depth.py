"""The streams `orderbook` and `depth` of one Binance market: facts, faults and requests of its book.

`depth` begins with the snapshot as REST gave it, then has each update as the exchange sent it; `orderbook`
has the certain top after each update. Both come from the one book and are lost and found together.
"""

from typing import Literal

from daedalus.exchanges.adapter import Ask, BookFact, DepthFact, Fault, Item, Stream, book_flags
from daedalus.exchanges.binance_book import BUFFER_MAX, BookSync, Loaded, Step, Update
from daedalus.exchanges.binance_dialect import INVALID_SYMBOL, MS, Dialect, NewAsk, local_fault, pack
from daedalus.exchanges.binance_messages import DAMAGE, ERROR, REST_DEPTH, DepthUpdate, RestDepth
from daedalus.exchanges.symbolwise import AGAIN_S
from daedalus.records import Flag

__all__ = ["BookChannel"]

_FIRST_DELAY_S = 0.2  # two updates of `@depth@100ms`: a busy market's buffer begins before the snapshot
_RETRY_S = 0.5
_RETRY_CAP_S = 60.0
_ATTEMPTS_MAX = 5  # snapshots in a row that do not help, before it is said again
_SETTLED = 50  # updates applied (5 s), after which a book counts as recovered
_REFRESH_S = 5.0  # between two snapshots that extend the reach, where they follow at once
_COMPLETE = int(Flag.COMPLETE)


class BookChannel:
    """One market's book, as configured: `orderbook`, `depth`, or both."""

    def __init__(
        self,
        symbol: str,
        market: str,
        streams: tuple[Stream, ...],
        levels: int,
        dialect: Dialect,
        ask: NewAsk,
    ) -> None:
        """Begin without a book.

        Args:
            symbol: as configured.
            market: Binance's name.
            streams: which of `orderbook` and `depth` are wanted.
            levels: levels per side of an emitted top.
            dialect: of the market.
            ask: makes requests.
        """
        self.symbol = symbol
        self.streams = streams
        self._path = f"{dialect.depth_path}?symbol={market}&limit={dialect.depth_levels}"
        self._weight = dialect.depth_weight
        self._dense = dialect.dense_ids
        self._levels = levels
        self._top = any(stream.channel == "orderbook" for stream in streams)
        self._deltas = any(stream.channel == "depth" for stream in streams)
        self._ask = ask
        self.sync = BookSync(dialect.depth_levels)
        self._asked = False
        self._attempts = 0  # snapshots asked for since the book last was sound
        self._loads = 0  # of this object: the first book is no resynchronisation
        self._told = False  # a fault says already that there is no book
        self.known = False  # there was a book once, in this object or the one before it
        self.missing: str | None = None  # what the exchange said when it knew the market no more

    def reset(self) -> Ask:
        """Forget the connection; return the request for the first snapshot of the next."""
        self.sync.reset()
        self._attempts = 0
        self._told = False
        self.missing = None
        return self._request(_FIRST_DELAY_S)

    def update(self, message: DepthUpdate, _info_json: str | None = None) -> list[Item]:
        """Take one update of the stream."""
        previous = message.first - 1 if self._dense else message.previous
        if previous is None:
            return self.damaged("a depth update without `pu`")
        update = Update(
            previous, message.first, message.last, message.ts_ms, pack(message.bids), pack(message.asks)
        )
        sync = self.sync
        chain = sync.chain
        try:
            step = sync.feed(update)
        except ValueError as error:
            return self.damaged(str(error))
        if step is Step.APPLIED:
            return self._applied(update)
        if step is Step.BROKEN:
            expected = sync.last if chain is None else chain
            return self._broken("sequence", f"update {update.first} follows {previous}, expected {expected}")
        if step is Step.OVERFLOW:
            detail = f"no snapshot came while {BUFFER_MAX} updates waited: the oldest are dropped"
            return [local_fault(self.streams, "error", detail)]
        return []

    def damaged(self, detail: str) -> list[Item]:
        """Take an update that cannot be read or believed."""
        self.sync.spoil()
        return self._broken("error", detail)

    def _applied(self, update: Update) -> list[Item]:
        sync = self.sync
        bids, asks = sync.top(self._levels if self._top else 1)
        flags = sync.flags(bids, asks)
        damage = sync.damage(bids, asks)
        if damage is not None:
            return self.damaged(damage)
        items: list[Item] = []
        if self._deltas:
            items.append(self._delta(update, flags))
        if self._top:
            items.append(self._book(bids, asks, update.ts_ms * MS, flags))
        if sync.applied == _SETTLED:
            self._attempts = 0
        if not self._asked and sync.thin(self._levels):
            sync.keep()
            items.append(self._request(0.0 if sync.applied >= _SETTLED else _REFRESH_S))
        return items

    def _book(self, bids: bytes, asks: bytes, ts_event: int | None, flags: int) -> BookFact:
        sync = self.sync
        if sync.complete and sync.holds_no_more_than(self._levels):
            flags |= _COMPLETE
        return BookFact(
            symbol=self.symbol,
            ts_event=ts_event,
            nonce=sync.last,
            bids=bids,
            asks=asks,
            exch_seq=sync.last,
            flags=flags,
        )

    # -- snapshots

    def _request(self, delay_s: float) -> Ask:
        self._asked = True
        return self._ask(self._path, self.snapshot, self.streams, self._weight, delay_s)

    def _again(self, least_s: float = 0.0) -> Ask:
        """Ask once more, later each time."""
        delay_s = 0.0 if self._attempts == 0 else min(_RETRY_S * 2.0**self._attempts, _RETRY_CAP_S)
        self._attempts += 1
        return self._request(max(delay_s, least_s))

    def _broken(self, reason: Literal["sequence", "error"], detail: str) -> list[Item]:
        items: list[Item] = []
        if not self._told:
            self._told = True
            items.append(local_fault(self.streams, reason, detail))
        if not self._asked:  # else the snapshot on its way may still join
            items.append(self._again())
        return items

    def snapshot(self, status: int, body: bytes) -> list[Item]:
        """Take the answer to a request for a snapshot."""
        self._asked = False
        if status != 200:
            return self._refused(status, body)
        sync = self.sync
        refreshed = sync.valid
        try:
            message = REST_DEPTH.decode(body)
            loaded = sync.load(message.last, pack(message.bids), pack(message.asks), message.ts_ms)
        except DAMAGE as error:
            return self._useless(f"a snapshot that cannot be read: {error}")
        except ValueError as error:
            return self._untrue(str(error), refreshed=refreshed)
        if loaded is None:
            return self._useless(f"snapshot {message.last} is older than the buffer, from {sync.since}")
        return self._loaded(message, loaded, refreshed=refreshed)

    def _loaded(self, message: RestDepth, loaded: Loaded, *, refreshed: bool) -> list[Item]:
        sync = self.sync
        bids, asks = sync.top(self._levels if self._top else 1)
        flags = sync.flags(bids, asks)
        damage = sync.damage(bids, asks)
        if damage is not None:
            return self._untrue(damage, refreshed=refreshed)
        if refreshed:  # the stream was whole all the time: nothing was lost
            return list(self.whole())
        first = int(Flag.SNAPSHOT | (Flag.RESYNC if self._loads else 0))
        self._loads += 1
        self.known, self.missing = True, None
        self._told = False
        items: list[Item] = []
        if self._deltas:
            items = self._first_depths(message.last, message.ts_ms, loaded, first)
        if self._top:
            ts_event = None if sync.ts_ms is None else sync.ts_ms * MS
            items.append(self._book(bids, asks, ts_event, flags | first))
        return items

    def _first_depths(self, last: int, ts_ms: int | None, loaded: Loaded, first: int) -> list[Item]:
        flags = first | book_flags(loaded.bids, loaded.asks) | (_COMPLETE if self.sync.complete else 0)
        snapshot = DepthFact(
            symbol=self.symbol,
            ts_event=None if ts_ms is None else ts_ms * MS,
            nonce=last,
            kind="snapshot",
            first_exch_seq=None,
            bids=loaded.bids,
            asks=loaded.asks,
            exch_seq=last,
            flags=flags,
        )
        return [snapshot, *(self._delta(update, 0) for update in loaded.behind)]

    def _delta(self, update: Update, flags: int) -> DepthFact:
        return DepthFact(
            symbol=self.symbol,
            ts_event=update.ts_ms * MS,
            nonce=update.last,
            kind="update",
            first_exch_seq=update.first,
            bids=update.bids,
            asks=update.asks,
            exch_seq=update.last,
            flags=flags,
        )

    def whole(self) -> list[DepthFact]:
        """Return the whole book, if it is valid and `depth` is wanted."""
        sync = self.sync
        if not self._deltas or not sync.valid:
            return []
        bids, asks = sync.whole()
        flags = book_flags(bids, asks) | (_COMPLETE if sync.complete else 0)
        return [
            DepthFact(
                symbol=self.symbol,
                ts_event=None if sync.ts_ms is None else sync.ts_ms * MS,
                nonce=sync.last,
                kind="snapshot",
                first_exch_seq=None,
                bids=bids,
                asks=asks,
                exch_seq=sync.last,
                flags=flags,
            )
        ]

    def _useless(self, detail: str) -> list[Item]:
        """A snapshot did not help: ask again, and say so when it does not end."""
        again = self._again(_RETRY_S)
        if self.sync.valid:  # it was to extend the reach: the book goes on without
            self.sync.keep()
            return [again]
        if self._attempts % _ATTEMPTS_MAX:
            return [again]
        return [local_fault(self.streams, "sequence", f"{self._attempts} snapshots: {detail}"), again]

    def _untrue(self, detail: str, *, refreshed: bool) -> list[Item]:
        """A snapshot is in the book that cannot be shown; if it only refreshed it, the book is lost."""
        self.sync.spoil()
        detail = f"a snapshot that cannot be true: {detail}"
        return self._broken("error", detail) if refreshed else self._useless(detail)

    def _delisted(self, detail: str) -> list[Item]:
        """The market is gone: nothing of it is shown until it is listed again."""
        again = self._request(AGAIN_S)
        if self.missing:
            return [again]
        self.sync.spoil()
        self._told, self.missing = True, detail
        return [local_fault(self.streams, "error", detail), again]

    def _refused(self, status: int, body: bytes) -> list[Item]:
        try:
            refusal = ERROR.decode(body)
        except DAMAGE:
            return self._useless(f"a snapshot was refused with status {status}")
        detail = f"the exchange refuses a snapshot of {self.symbol}: {refusal.code} {refusal.msg}"
        if refusal.code == INVALID_SYMBOL and not self.known:
            return [Fault(self.streams, "error", detail, fatal=True)]
        if refusal.code == INVALID_SYMBOL and not self.sync.valid:
            return self._delisted(detail)
        self._attempts = max(self._attempts, _ATTEMPTS_MAX)  # not soon
        if self.sync.valid:
            self.sync.keep()
            return [self._again()]
        return [local_fault(self.streams, "error", detail), self._again()]
