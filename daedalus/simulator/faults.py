"""The faults in force: the seam through which everything that leaves the exchange passes.

An order of the menu becomes, here, something that waits for its prey: on connections a tamper, a silence or a
stop; for REST requests, handshakes and subscriptions a window; for a market a crossing. What needs a socket
(close, reset, stop reading) is asked of `Effects`, which is the server. No clock and no socket of its own, so
that a test can hold both.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from copy import copy
from typing import NamedTuple, Protocol

from daedalus.simulator.book import Book
from daedalus.simulator.hub import Connection, Hub
from daedalus.simulator.market import Market
from daedalus.simulator.menu import MENU, STREAMS, Order
from daedalus.simulator.tampers import Duplicate, Garbage, Loss, Reorder, Swallow

__all__ = ["Effects", "Faults", "Reply"]

_S = 1_000_000_000
Markets = Mapping[str, dict[str, Market]]  # exchange -> id -> market
Matcher = Callable[[str], bool]


class Reply(NamedTuple):
    """What a request meets: a delay, and instead of the real answer, if there is a status, another one."""

    delay_s: float = 0.0
    status: int | None = None
    retry_after_s: float | None = None
    how: str = ""  # what becomes of the body of the real answer


class Effects(Protocol):
    """What faults ask of the sockets."""

    def close(self, number: int, code: int) -> None:
        """Begin a closing handshake."""

    def abort(self, number: int) -> None:
        """Reset the connection."""

    def deafen(self, number: int, *, deaf: bool) -> None:
        """Stop, or go on, reading what the client says."""

    def later(self, delay_s: float, then: Callable[[], None]) -> None:
        """Call `then` after so long."""


class _Window:
    """A fault of requests, open for a number of them or for a time."""

    def __init__(self, order: Order, now_ns: int, stale: Mapping[str, Market] | None = None) -> None:
        self.order = order
        self.left = order.count
        self.until_ns = None if order.for_s is None else now_ns + round(order.for_s * _S)
        self.stale = stale or {}

    def open(self, now_ns: int) -> bool:
        return self.left != 0 and (self.until_ns is None or now_ns < self.until_ns)

    def use(self) -> None:
        if self.left is not None:
            self.left -= 1


class Faults:
    """All faults of one simulator."""

    def __init__(self, hub: Hub, markets: Markets, now_ns: Callable[[], int]) -> None:
        """Befall the connections of `hub`; `now_ns` is a monotonic clock."""
        self._hub = hub
        self._markets = markets
        self._now_ns = now_ns
        self._windows: list[_Window] = []
        self.effects: Effects | None = None
        self.ordered: Counter[str] = Counter()

    def order(self, order: Order) -> list[int]:
        """Carry out an order; return the numbers of the connections it befell."""
        self.ordered[order.fault] += 1
        befalls = MENU[order.fault].befalls
        if befalls == "requests":
            stale = self._frozen(order) if order.fault == "stale_snapshot" else None
            self._windows.append(_Window(order, self._now_ns(), stale))
            return []
        if befalls == "market":
            for market in self._chosen(order):
                market.cross(order.ticks or 0, order.count or 1)
            return []
        prey = self._prey(order)
        for connection in prey:
            self._befall(connection, order)
        return [connection.number for connection in prey]

    def _prey(self, order: Order) -> list[Connection]:
        """Return the open connections an order befalls: those that listen to what it names."""
        concerns = self._matcher(order)
        named = bool(order.symbol or order.stream or order.fault == "duplicate")
        prey = [
            connection
            for connection in self._hub.connections.values()
            if order.exchange in ("", connection.exchange)
            and (not named or any(concerns(topic) for topic in connection.topics))
        ]
        return [prey[order.pick % len(prey)]] if prey and order.pick is not None else prey

    def _matcher(self, order: Order) -> Matcher:
        """Return what knows the topics an order names."""
        wanted = "trades" if order.fault == "duplicate" else order.stream
        kinds = {exchange: set(words) for exchange, words in STREAMS[wanted].items()} if wanted else None
        ids = {
            (market.exchange, market.id) for market in self._chosen(order)
        } if order.symbol else None  # fmt: skip

        def concerns(topic: str) -> bool:
            exchange, kind, market = _parts(topic)
            return (kinds is None or kind in kinds[exchange]) and (ids is None or (exchange, market) in ids)

        return concerns

    def _chosen(self, order: Order) -> list[Market]:
        return [
            market
            for exchange, markets in self._markets.items()
            for market in markets.values()
            if order.exchange in ("", exchange) and order.symbol in ("", market.symbol)
        ]

    def _befall(self, connection: Connection, order: Order) -> None:
        fault, concerns, effects = order.fault, self._matcher(order), self.effects
        count = order.count or 1
        if fault == "garbage":
            connection.tampers.append(Garbage(concerns, count, order.how))
        elif fault == "gap":
            connection.tampers.append(Loss(concerns, count))
        elif fault == "duplicate":
            connection.tampers.append(Duplicate(concerns, count))
        elif fault == "reorder":
            connection.tampers.append(Reorder(concerns, count))
        elif fault == "oversize":
            connection.tampers.insert(0, Swallow(connection, order.size or 0))
        elif effects is not None:
            self._effect(connection, order, effects)

    def _effect(self, connection: Connection, order: Order, effects: Effects) -> None:
        number, for_s = connection.number, order.for_s or 0.0
        if order.fault == "close":
            effects.close(number, order.code or 1001)
        elif order.fault == "abort":
            effects.abort(number)
        elif order.fault == "stream_silence":
            effects.later(for_s, connection.silence(self._matcher(order)))
        elif order.fault == "silence":
            effects.later(for_s, connection.withhold())
        elif order.fault == "freeze":
            effects.deafen(number, deaf=True)
            flow = connection.withhold()

            def thaw() -> None:
                flow()
                effects.deafen(number, deaf=False)

            effects.later(for_s, thaw)

    # requests

    def _take(self, exchange: str, faults: tuple[str, ...], path: str = "") -> Order | None:
        """Return the oldest open order of these faults for a request, and count it."""
        now = self._now_ns()
        self._windows = [window for window in self._windows if window.open(now)]
        for window in self._windows:
            order = window.order
            if order.fault in faults and order.exchange in ("", exchange) and order.path in path:
                window.use()
                return order
        return None

    def rest(self, exchange: str, path: str) -> Reply | None:
        """Return what a REST request meets; None: nothing."""
        order = self._take(exchange, ("rest_error", "rest_slow", "rest_body"), path)
        if order is None:
            return None
        return Reply(order.delay_s or 0.0, order.status, order.retry_after_s, order.how)

    def handshake(self, exchange: str) -> Reply | None:
        """Return what a new websocket meets; None: nothing."""
        order = self._take(exchange, ("handshake_slow", "handshake_refused"))
        return None if order is None else Reply(order.delay_s or 0.0, order.status)

    def refuses(self, exchange: str) -> bool:
        """Return whether a subscription is refused."""
        return self._take(exchange, ("subscribe_error",)) is not None

    def books(self, exchange: str) -> dict[str, Market]:
        """Return the markets whose books REST tells: the real ones, or those of the moment of an order."""
        markets, now = self._markets[exchange], self._now_ns()
        for window in self._windows:
            if window.order.fault == "stale_snapshot" and window.open(now):
                stale = {key: old for key, old in window.stale.items() if key in markets}
                if stale:
                    window.use()
                    return {**markets, **stale}
        return markets

    def _frozen(self, order: Order) -> dict[str, Market]:
        frozen = {}
        for market in self._chosen(order):
            old = copy(market)
            old.book = Book()
            everything = 1 << 30
            old.book.replace(market.book.last_id, market.book.bids(everything), market.book.asks(everything))
            frozen[market.id] = old
        return frozen

    def status(self) -> dict[str, object]:
        """Return what GET /ctl says of faults."""
        now = self._now_ns()
        return {
            "ordered": dict(self.ordered),
            "waiting": [window.order.fault for window in self._windows if window.open(now)],
            "messages": sum(len(connection.tampers) for connection in self._hub.connections.values()),
            "withheld": sum(connection.withheld > 0 for connection in self._hub.connections.values()),
        }


def _parts(topic: str) -> tuple[str, str, str]:
    """Return exchange, kind and market id of a topic, binance/btcusdt@trade or coinbase/level2:BTC-USD."""
    exchange, _, name = topic.partition("/")
    if exchange == "binance":
        market, _, kind = name.partition("@")
        return exchange, kind.partition("@")[0], market.upper()
    kind, _, market = name.partition(":")
    return exchange, kind, market
