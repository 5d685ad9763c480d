"""A seeded order-flow model: the events of a limit order book that nobody trades but chance.

Limit orders and cancellations arrive as Poisson streams whose distance from the best price has a heavy tail;
market orders are a Hawkes process (each makes the next more likely, branching ratio 0.5) whose side persists.
Orders inside a wide spread close it again, so that prices wander and the book keeps its shape: the
zero-intelligence book of Smith, Farmer, Gillemot and Krishnamurthy (2003) with self-excited trades.

The same seed, symbol and rate give the same events, down to the digits; only ids and times are offset.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from daedalus.simulator.book import Level
from daedalus.simulator.market import Depth, Event, Opening, Quote, Taker, Trade, Trades

__all__ = ["OrderFlow"]

TRADES_PER_UPDATE = 0.25  # market orders for each depth message
LEVELS = 300  # of each side, about
CHANGES = 4.0  # limit orders and cancellations in a depth message, mean
BRANCHING = 0.5  # market orders each market order brings about
DECAY_S = 0.5  # half of them within this time
PERSISTENCE = 0.7  # probability that a market order is on the side of the one before
SWEEP_LEVELS = 5  # a market order takes at most so many levels
FLOOR = 20  # levels of a side that market orders and cancellations leave alone
_S = 1_000_000_000


class _Instrument(NamedTuple):
    price: float
    decimals: int  # of prices
    size: float  # median of a limit order, base currency
    size_decimals: int
    spacing: float  # ticks between levels, mean


_INSTRUMENTS = {
    "BTC": _Instrument(62_000.0, 2, 0.05, 5, 40.0),
    "ETH": _Instrument(2_700.0, 2, 0.8, 4, 4.0),
    "SOL": _Instrument(155.0, 2, 8.0, 3, 1.5),
}
_OTHER = _Instrument(25.0, 4, 40.0, 2, 5.0)


class _Ladder:
    """One side in whole ticks and lots, best at index 0: asks are kept as they are, bids negated."""

    def __init__(self, sign: int) -> None:
        self.sign = sign  # 1 asks, -1 bids
        self.keys: list[int] = []  # sign * tick, ascending: best first
        self.lots: dict[int, int] = {}
        self.changed: dict[int, int] = {}  # tick -> lots since the last depth message

    def best(self) -> int:
        return self.keys[0] * self.sign

    def put(self, tick: int, lots: int) -> None:
        key = tick * self.sign
        if key not in self.lots:
            insort(self.keys, key)
        self.lots[key] = self.changed[tick] = self.lots.get(key, 0) + lots

    def take(self, index: int, lots: int) -> None:
        """Remove up to `lots` from the level at `index`."""
        key = self.keys[index]
        left = self.lots[key] - lots
        if left > 0:
            self.lots[key] = left
        else:
            left = 0
            del self.lots[key], self.keys[index]
        self.changed[key * self.sign] = left

    def index(self, tick: int) -> int:
        return bisect_left(self.keys, tick * self.sign)


class OrderFlow:
    """Source of one modelled symbol."""

    recorded = False

    def __init__(self, exchange: str, symbol: str, *, rate: float, seed: int, first_id: int = 1) -> None:
        """Lay the first book.

        Args:
            exchange: whose clock resolution times are given in: binance ms, coinbase µs.
            symbol: as BTC/USDT; the base chooses price and sizes.
            rate: depth messages per second; market orders come at a quarter of it.
            seed: of everything random, together with the symbol.
            first_id: of trades and updates.
        """
        self.exchange = exchange
        self.symbol = symbol
        self.origin_ns = 0
        self._random = Random(f"{seed}:{symbol}")  # noqa: S311 - a market, not a secret
        self._kind = kind = _INSTRUMENTS.get(symbol.split("/", maxsplit=1)[0], _OTHER)
        self.price_step = f"{10.0**-kind.decimals:.{kind.decimals}f}"
        self.size_step = f"{10.0**-kind.size_decimals:.{kind.size_decimals}f}"
        self._rate = rate
        self._resolution_ns = 1_000_000 if exchange == "binance" else 1000
        self._update = first_id
        self._trade = first_id
        self._side: Taker = "buy"
        self._bids, self._asks = _Ladder(-1), _Ladder(1)
        middle = round(kind.price * 10**kind.decimals)
        for ladder in (self._bids, self._asks):
            tick = middle + (1 if ladder is self._asks else 0)
            for _ in range(LEVELS):
                ladder.put(tick, self._lots())
                tick += ladder.sign * self._gap()
        self._opening = self._flush()

    def opening(self) -> Opening:
        """Return the first book."""
        bids, asks = self._opening
        return Opening(self._update, bids, asks, 0)

    def events(self) -> Iterator[Event]:
        """Yield events for ever: quotes where the best changes, trades, and depth messages at the rate."""
        base = self._rate * TRADES_PER_UPDATE * (1 - BRANCHING)
        book_s, trade_s, excited = self._wait(self._rate), self._wait(base), 0.0
        decay = math.log(2) / DECAY_S
        sent = self._update  # last update id a depth message has covered
        while True:
            before = (self._top(self._bids), self._top(self._asks))
            now_s = min(book_s, trade_s)
            at_ns = round(now_s * _S)
            if trade_s <= book_s:
                excited += BRANCHING * decay
                trades = self._market_order(at_ns)
                if trades.trades:
                    yield trades
                trade_s, excited = self._next_trade(trade_s, base, excited, decay)
                depth = None
            else:
                self._shuffle()
                depth = Depth(at_ns, self._time(at_ns), sent + 1, self._update, *self._flush())
                sent = self._update
                book_s += self._wait(self._rate)
            after = (self._top(self._bids), self._top(self._asks))
            if after != before:
                yield Quote(at_ns, self._update, *after)
            if depth is not None:
                yield depth

    # chance

    def _wait(self, rate: float) -> float:
        return self._random.expovariate(rate)

    def _next_trade(self, now: float, base: float, excited: float, decay: float) -> tuple[float, float]:
        """Ogata's thinning: the time of the next market order and the excitement left then."""
        while True:
            bound = base + excited
            wait = self._wait(bound)
            now += wait
            excited *= math.exp(-decay * wait)
            if self._random.random() * bound <= base + excited:
                return now, excited

    def _lots(self) -> int:
        size = self._kind.size * math.exp(self._random.gauss(0.0, 1.2))
        return max(1, round(size * 10.0**self._kind.size_decimals))

    def _gap(self) -> int:
        return 1 + int(self._random.expovariate(1 / self._kind.spacing))

    def _far(self, count: int) -> int:
        """An index into a side's levels: mostly near the best, with a heavy tail."""
        index: int = min(int(self._random.paretovariate(0.9)) - 1, count - 1)
        return index

    # what happens

    def _shuffle(self) -> None:
        """Let a batch of limit orders and cancellations arrive."""
        count = 1 + int(self._random.expovariate(1 / (CHANGES - 0.5)))
        for _ in range(count):
            ladder, other = (
                (self._bids, self._asks) if self._random.random() < 0.5 else (self._asks, self._bids)
            )
            crowded = len(ladder.keys) / LEVELS
            if self._random.random() < crowded / (1 + crowded):
                self._cancel(ladder)
            else:
                self._add(ladder, other)
            self._update += 1

    def _cancel(self, ladder: _Ladder) -> None:
        index = self._far(len(ladder.keys))
        lots = ladder.lots[ladder.keys[index]]
        whole = self._random.random() < 0.6 and len(ladder.keys) > FLOOR
        ladder.take(index, lots if whole else self._random.randrange(lots))

    def _add(self, ladder: _Ladder, other: _Ladder) -> None:
        spread = ladder.sign * (ladder.best() - other.best())  # ticks, at least 1
        wide = spread / (spread + 2 * self._kind.spacing)
        if spread > 1 and self._random.random() < 0.2 + 0.6 * wide:
            tick = other.best() + ladder.sign * self._random.randint(1, spread - 1)
        elif self._random.random() < 0.5:
            tick = ladder.keys[self._far(len(ladder.keys))] * ladder.sign
        else:
            near = ladder.keys[self._far(len(ladder.keys))] * ladder.sign
            tick = near + ladder.sign * self._gap()
        ladder.put(tick, self._lots())

    def _market_order(self, at_ns: int) -> Trades:
        """Take what is best on the other side, level by level; one trade a level."""
        if self._random.random() > PERSISTENCE:
            self._side = "sell" if self._side == "buy" else "buy"
        ladder = self._asks if self._side == "buy" else self._bids
        wanted, trades, ts_ns = self._lots(), [], self._time(at_ns)
        for _ in range(SWEEP_LEVELS):
            if wanted <= 0 or len(ladder.keys) <= FLOOR:
                break
            tick = ladder.best()
            lots = min(wanted, ladder.lots[ladder.keys[0]])
            ladder.take(0, lots)
            wanted -= lots
            self._update += 1
            trades.append(Trade(self._trade, self._price(tick), self._size(lots), self._side, ts_ns))
            self._trade += 1
        return Trades(at_ns, ts_ns, trades)

    # words

    def _time(self, at_ns: int) -> int:
        return (self.origin_ns + at_ns) // self._resolution_ns * self._resolution_ns

    def _price(self, tick: int) -> str:
        return f"{tick / 10**self._kind.decimals:.{self._kind.decimals}f}"

    def _size(self, lots: int) -> str:
        return f"{lots / 10**self._kind.size_decimals:.{self._kind.size_decimals}f}"

    def _top(self, ladder: _Ladder) -> Level:
        key = ladder.keys[0]
        return self._price(key * ladder.sign), self._size(ladder.lots[key])

    def _flush(self) -> tuple[list[Level], list[Level]]:
        """Return the changed levels of both sides, best first, and forget them."""
        sides = []
        for ladder in (self._bids, self._asks):
            ticks = sorted(ladder.changed, key=lambda tick, sign=ladder.sign: tick * sign)  # type: ignore[misc]
            sides.append([(self._price(tick), self._size(ladder.changed[tick])) for tick in ticks])
            ladder.changed.clear()
        return sides[0], sides[1]
