"""The simulated exchanges without their sockets: markets, dialects, playhead and truth, put together.

`play` moves what is due into the queues of the connections; the server empties them. Time comes in as an
argument or from the given clock, so that a test can hold it.
"""

from typing import Any

from daedalus.kernel.clock import Clock
from daedalus.simulator.binance import Binance
from daedalus.simulator.coinbase import Coinbase
from daedalus.simulator.faults import Faults
from daedalus.simulator.hub import Hub, Sent
from daedalus.simulator.market import Depth, Event, Market, Quote, Trades
from daedalus.simulator.menu import Order
from daedalus.simulator.playhead import Playhead, State
from daedalus.simulator.schedule import read_schedule
from daedalus.simulator.sources import Settings, check, sources_of
from daedalus.simulator.truth import Truth, TruthLog

__all__ = ["Exchange"]

SETTLE_NS = 1_000_000_000  # of quiet after the last subscription, before a recording begins
SNAPSHOT_NS = 10_000_000_000  # and as long at most it waits for subscribers of depth to ask for the snapshot
_S = 1_000_000_000


class Exchange:
    """All simulated exchanges of one process."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Read what is to be played.

        Raises:
            ConfigError: settings make no sense, or a recording or the truth log is not usable.
        """
        check(settings)
        self.hub = Hub()
        self._clock = clock
        # The model numbers from the wall clock in µs on: after a restart its ids go on, with a hole.
        sources = sources_of(settings, clock.wall_ns() // 1000)
        self.recorded = {source.exchange for source in sources if source.recorded}
        if settings.start == "auto":
            self.start_mode = "on-subscribe" if self.recorded else "immediately"
        else:
            self.start_mode = settings.start
        self.markets = [Market(source) for source in sources]
        self.playhead = Playhead(sources, self.markets, speed=settings.speed, skip_s=settings.skip_s)
        self.truth = TruthLog(settings.truth, clock.wall_ns) if settings.truth else Truth()
        self.trades = self.books = self.quotes = self.skips = 0  # events played
        self.by_id: dict[str, dict[str, Market]] = {"binance": {}, "coinbase": {}}
        for market in self.markets:
            self.by_id[market.exchange][market.id] = market
        self.faults = Faults(self.hub, self.by_id, clock.mono_ns)
        refuses = self.faults.refuses
        self.binance = Binance(self.hub, refuses)
        self.coinbase = Coinbase(
            self.hub, self.by_id["coinbase"], lambda: self.now_ns("coinbase"), self._introduced, refuses
        )
        self.places = [(market.exchange, market.symbol) for market in self.markets]
        self.schedule = read_schedule(settings.faults, self.places) if settings.faults else iter(())
        for market in self.markets:
            self.truth.opening(market)
        self._subscribed = 0  # Hub.subscribed when last looked at
        self._settled_ns = 0  # since when it has not changed
        self._asked: set[str] = set()  # ids of the Binance markets whose depth was asked for
        if self.start_mode == "immediately":
            self.start()

    def now_ns(self, exchange: str) -> int:
        """Return the exchange's time: now, or for a recording that of its latest event."""
        if exchange not in self.recorded:
            return self._clock.wall_ns()
        return max(market.ts_ns for market in self.by_id[exchange].values())

    def start(self) -> None:
        """Start the playback, whatever it waits for, or let it go on after a pause."""
        self.playhead.start(self._clock.mono_ns(), self._clock.wall_ns())

    def pause(self) -> None:
        """Hold the playback: nothing new happens until `start`."""
        self.playhead.pause(self._clock.mono_ns())

    def order(self, order: Order) -> list[int]:
        """Carry out an order of the menu of faults; return the connections it befell."""
        connections = self.faults.order(order)
        self.truth.fault(order, connections)
        return connections

    def asked(self, symbol: str) -> None:
        """Note that a client asked for the depth snapshot of a Binance symbol."""
        self._asked.add(symbol)

    def consider_start(self) -> None:
        """Start if the playback waits for subscribers and they are all there.

        Every market has a subscription, none came lately, and where Binance depth is subscribed, its
        snapshot was asked for (clients space their requests, ccxt by seconds).
        """
        if self.playhead.state is not State.WAITING or self.start_mode != "on-subscribe":
            return
        now = self._clock.mono_ns()
        if self.hub.subscribed != self._subscribed:
            self._subscribed, self._settled_ns = self.hub.subscribed, now
        quiet_ns = now - self._settled_ns
        topics = list(self.hub.topics())
        if quiet_ns < SETTLE_NS or not all(_heard(topics, market) for market in self.markets):
            return
        depth = {topic for topic in topics if topic.startswith("binance/") and "@depth" in topic}
        if quiet_ns >= SNAPSHOT_NS or all(_symbol(topic) in self._asked for topic in depth):
            self.start()

    def play(self, limit: int = 256) -> None:
        """Send what is due now, at most `limit` events."""
        if self.playhead.catch_up(self._clock.mono_ns()):
            self.skips += 1
        for market, event in self.playhead.take(self._clock.mono_ns(), limit):
            self._tell(market, event)
        self.truth.flush()

    def _tell(self, market: Market, event: Event) -> None:
        dialect = self.binance if market.exchange == "binance" else self.coinbase
        second = event.at_ns // _S
        if second > market.second:
            market.second = second
            dialect.second(market)
        for part in dialect.parts(event):
            sent = dialect.emit(market, part)
            if not isinstance(event, Quote):
                self.truth.event(market, part, sent)
        if isinstance(event, Trades):
            self.trades += len(event.trades)
        elif isinstance(event, Depth):
            self.books += 1
        else:
            self.quotes += 1

    def _introduced(self, market: Market, channel: str, sent: Sent) -> None:
        self.truth.snapshot(market, channel, sent)
        self.truth.flush()

    def status(self) -> dict[str, Any]:
        """Return what GET /ctl says."""
        due, now = self.playhead.due_ns(), self._clock.mono_ns()
        connections = self.hub.connections.values()
        return {
            "state": str(self.playhead.state),
            "start": self.start_mode,
            "position_s": round(self.playhead.position_ns / _S, 3),
            "late_s": round(max(0, now - due) / _S, 3) if due is not None else 0.0,
            "skips": self.skips,
            "sent": {"trades": self.trades, "books": self.books, "quotes": self.quotes},
            "clients": len(self.hub.connections),
            "faults": self.faults.status(),
            "connections": [
                {
                    "number": connection.number,
                    "exchange": connection.exchange,
                    "topics": [topic.partition("/")[2] for topic in connection.topics],
                    "sent": connection.sent,
                    "backlog": round(connection.backlog(), 4),
                    "withheld": connection.withheld > 0,
                }
                for connection in connections
            ],
        }


def _symbol(topic: str) -> str:
    """Return the market's id in a topic: BTCUSDT of binance/btcusdt@trade."""
    exchange, _, name = topic.partition("/")
    return name.partition("@")[0].upper() if exchange == "binance" else name.partition(":")[2]


def _heard(topics: list[str], market: Market) -> bool:
    return any(topic.startswith(market.exchange) and _symbol(topic) == market.id for topic in topics)
