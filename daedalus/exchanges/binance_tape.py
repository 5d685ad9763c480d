"""The stream `trades` of one Binance market: facts, faults, and what REST fills in."""

from collections.abc import Mapping
from math import inf

from daedalus.exchanges.adapter import Ask, Item, Stream, TradeFact
from daedalus.exchanges.binance_dialect import MS, Dialect, NewAsk, local_fault
from daedalus.exchanges.binance_messages import DAMAGE, REST_TRADES, RestTrade, TradeEvent
from daedalus.exchanges.binance_trades import Heard, TradeIds
from daedalus.records import Flag

__all__ = ["Sides", "TradeChannel"]

Sides = Mapping[bool, tuple[str | None, str]]
"""The buyer was the maker -> (the taker's side, the exchange's own flag as text)."""

_PAGE = 1000  # trades, the most that REST gives
_JUMP_MAX = 10_000_000
_PAGES_MAX = 50  # of one search: what lies further back is left to the gap row
_TRIES_MAX = 3  # answers in a row without a trade that was missing
_LATE_S = 1.0  # REST answers from a database that trails the stream
_BACKFILLED = int(Flag.BACKFILLED)


class TradeChannel:
    """One market's trades."""

    def __init__(self, symbol: str, market: str, sides: Sides, dialect: Dialect, ask: NewAsk) -> None:
        """Begin with no trade.

        Args:
            symbol: as configured.
            market: Binance's name.
            sides: what `m` means.
            dialect: of the market.
            ask: makes requests.
        """
        self.symbol = symbol
        self.streams = (Stream(symbol, "trades"),)
        self._path = f"{dialect.trades_path}?symbol={market}&limit={_PAGE}"
        self._paged = dialect.trades_paged
        self._weight = dialect.trades_weight
        self._sides = sides
        self._ask = ask
        self._ids = TradeIds()
        self.heard = False  # a trade, ever
        self.reset()

    def reset(self) -> None:
        """Forget the connection."""
        self._ids.reset()
        self._asked = False
        self._since = 0  # the first id that is asked for
        self._pages = 0
        self._tries = 0
        self._told = False  # a fault says already that a trade could not be read

    def trade(self, event: TradeEvent, info_json: str | None) -> list[Item]:
        """Take one trade of the stream.

        USD-M numbers more than trades: what the insurance fund or the deleveraging took over has a number of
        the same row and an `X` of its own. It counts, and is no trade.
        """
        kind = event.kind == "MARKET"
        if kind and not (0.0 < event.price < inf and 0.0 < event.amount < inf):
            return self.damaged(f"trade {event.trade_id} of {event.amount} at {event.price}")
        self.heard = True
        heard = self._ids.hear(event.trade_id)
        if heard is Heard.KNOWN:
            return []
        self._told = False
        items: list[Item] = self._hole(event.trade_id) if heard is Heard.AFTER_A_HOLE else []
        if kind:
            side, side_raw = self._sides[event.buyer_is_maker]
            items.append(
                TradeFact(
                    symbol=self.symbol,
                    trade_id=str(event.trade_id),
                    ts_event=event.ts_ms * MS,
                    side=side,
                    side_raw=side_raw,
                    price=event.price,
                    amount=event.amount,
                    cost=event.price * event.amount,
                    exch_seq=event.trade_id,
                    info_json=info_json,
                )
            )
        return items

    def damaged(self, detail: str) -> list[Item]:
        """Take a trade that cannot be read or believed: its id is a hole as soon as the next one comes."""
        if self._told:
            return []
        self._told = True
        return [local_fault(self.streams, "error", detail)]

    def _hole(self, trade_id: int) -> list[Item]:
        first = self._ids.hole_before(trade_id)
        items: list[Item] = [
            local_fault(
                self.streams, "sequence", f"trade {trade_id} after {first - 1}: {trade_id - first} missing"
            )
        ]
        if not self._asked:
            items.append(self._search(_LATE_S))
        return items

    # -- what is missing

    def backfill(self, last_id: str | None) -> list[Ask]:
        """Return the request for what follows `last_id`; nothing where no trade was ever stored."""
        if last_id is None or not last_id.isascii() or not last_id.isdigit() or len(last_id) > 18:
            return []
        self._ids.want_since(int(last_id))
        if self._asked or self._ids.wanted is None:
            return []
        return [self._search(0.0)]

    def _search(self, delay_s: float) -> Ask:
        self._pages = self._tries = 0
        return self._request(delay_s)

    def _request(self, delay_s: float) -> Ask:
        self._asked = True
        self._since = (self._ids.wanted or 0) if self._paged else 0
        path = f"{self._path}&fromId={self._since}" if self._paged else self._path
        return self._ask(path, self.history, self.streams, self._weight, delay_s)

    def history(self, status: int, body: bytes) -> list[Item]:
        """Take the answer to a request for trades."""
        self._asked = False
        wanted = self._ids.wanted
        if wanted is None:  # they came late, alive
            return []
        if status != 200:
            return self._give_up(f"status {status}")
        try:
            decoded = sorted(REST_TRADES.decode(body), key=lambda trade: trade.trade_id)
        except DAMAGE as error:
            return self._give_up(f"an answer that cannot be read: {error}")
        # ids of a page follow one another: one far ahead would settle all that is missing
        page = [one for one in decoded if not self._paged or one.trade_id - self._since <= _JUMP_MAX]
        items: list[Item] = []
        before = -1
        for trade in page:
            new = trade.trade_id != before and self._ids.found(trade.trade_id)
            before = trade.trade_id
            if new and 0.0 < trade.price < inf and 0.0 < trade.amount < inf:
                items.append(self._filled(trade))
        newest = page[-1].trade_id if page else None
        self._ids.settle(self._since, newest, head=not self._paged or len(page) < _PAGE)
        if self._ids.wanted is None:
            return items
        self._pages += 1
        self._tries = 0 if items else self._tries + 1
        if self._pages >= _PAGES_MAX or self._tries >= _TRIES_MAX:
            return items + self._give_up(f"{self._pages} answers were not enough")
        return [*items, self._request(0.0 if len(page) == _PAGE and self._paged else _LATE_S)]

    def _give_up(self, cause: str) -> list[Item]:
        first, lost = self._ids.wanted, self._ids.give_up()
        detail = (
            f"cannot fill in trades of {self.symbol} from {first}: {cause}; {lost or 'some'} stay missing"
        )
        return [local_fault((), "error", detail)]  # of no stream: the gap has its row

    def _filled(self, trade: RestTrade) -> TradeFact:
        side, side_raw = self._sides[trade.buyer_is_maker]
        return TradeFact(
            symbol=self.symbol,
            trade_id=str(trade.trade_id),
            ts_event=trade.ts_ms * MS,
            side=side,
            side_raw=side_raw,
            price=trade.price,
            amount=trade.amount,
            cost=trade.price * trade.amount,
            exch_seq=trade.trade_id,
            flags=_BACKFILLED,
        )
