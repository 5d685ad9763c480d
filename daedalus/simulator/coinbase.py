"""Coinbase Advanced Trade, the way it talks: subscriptions, envelopes with sequence numbers, heartbeats.

Every message of a connection is numbered, heartbeats and acknowledgements included. `level2` begins with the
whole book and `market_trades` with the recent trades; `side` is the maker's; trades come newest first. The
envelope of `level2` says `l2_data`.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from daedalus.simulator.book import Level
from daedalus.simulator.hub import Connection, Hub, Sent
from daedalus.simulator.market import Depth, Event, Market, Trade, Trades

__all__ = ["Coinbase", "format_time", "maker"]

CHANNELS = ("level2", "market_trades", "ticker", "heartbeats")
_SNAPSHOT_TRADES = 100
_MAKER = {"buy": "SELL", "sell": "BUY"}
_encode = msgspec.json.encode
_raw = msgspec.Raw
_EVERYTHING = 1 << 30


def format_time(ts_ns: int) -> str:
    """Return ISO text of a time, in microseconds.

    >>> format_time(1_700_000_000_123_456_000)
    '2023-11-14T22:13:20.123456Z'
    """
    return f"{_second(ts_ns // 1_000_000_000)}.{ts_ns // 1000 % 1_000_000:06d}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def maker(trade: Trade) -> str:
    """Return the maker's side, in the exchange's words."""
    return _MAKER[trade.taker]


class Coinbase:
    """The dialect. Pure but for the queues of the connections it is given."""

    exchange = "coinbase"

    def __init__(
        self,
        hub: Hub,
        markets: dict[str, Market],
        now_ns: Callable[[], int],
        opened: Callable[[Market, str, Sent], None],
        refuses: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Speak for `markets`, by their id (BTC-USD).

        Args:
            hub: where subscriptions are kept.
            markets: by product id.
            now_ns: exchange time for what has none of its own.
            opened: told of each first message of level2 and market_trades: market, channel, its fate.
            refuses: tells whether a subscription is to fail.
        """
        self._hub = hub
        self._markets = markets
        self._now_ns = now_ns
        self._opened = opened
        self._refuses = refuses
        self._beats = 0

    def request(self, connection: Connection, text: str | bytes) -> None:
        """Answer one message of a client."""
        try:
            request = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            connection.push(_refusal(f"failed to parse the message: {error}"))
            return
        kind = request.get("type") if isinstance(request, dict) else None
        if kind not in ("subscribe", "unsubscribe"):
            connection.push(_refusal("type must be subscribe or unsubscribe"))
            return
        channel, products = request.get("channel"), request.get("product_ids") or []
        if channel not in CHANNELS:
            connection.push(_refusal(f"channel {channel} is not one of {', '.join(CHANNELS)}"))
            return
        unknown = [product for product in products if product not in self._markets]
        if unknown and channel != "heartbeats":
            connection.push(_refusal(f"{', '.join(map(str, unknown))} is not a valid product"))
            return
        if kind == "subscribe" and self._refuses(self.exchange):
            connection.push(_refusal("failure to subscribe"))
            return
        self._change(connection, kind, channel, products)

    def _change(self, connection: Connection, kind: str, channel: str, products: Sequence[str]) -> None:
        if channel == "heartbeats":
            topics = ["coinbase/heartbeats"]
        else:
            products = products or list(self._markets)
            topics = [f"coinbase/{channel}:{product}" for product in products]
        for topic in topics:
            if kind == "subscribe":
                self._hub.subscribe(connection, topic)
            else:
                self._hub.unsubscribe(connection, topic)
        if kind == "subscribe" and channel != "heartbeats":
            for product in products:
                self._introduce(connection, channel, self._markets[product])
        self._acknowledge(connection)

    def _introduce(self, connection: Connection, channel: str, market: Market) -> None:
        """Send the first message of a subscription: what is there already."""
        ts_ns = market.ts_ns or self._now_ns()
        event: dict[str, Any] = {"type": "snapshot"}
        if channel == "level2":
            book = market.book
            updates = _updates(book.bids(_EVERYTHING), book.asks(_EVERYTHING), ts_ns)
            event |= {"product_id": market.id, "updates": updates}
        elif channel == "market_trades":
            event["trades"] = _trades(market, list(market.recent)[-_SNAPSHOT_TRADES:])
        else:
            event["tickers"] = [_ticker(market)]
        name = "l2_data" if channel == "level2" else channel
        sent = self._push(connection, name, ts_ns, _encode([event]), f"coinbase/{channel}:{market.id}")
        if channel != "ticker":
            self._opened(market, channel, sent)

    def _acknowledge(self, connection: Connection) -> None:
        """Say what the connection is subscribed to now."""
        subscriptions: dict[str, list[str]] = {}
        for topic in connection.topics:
            channel, _, product = topic.partition("/")[2].partition(":")
            subscriptions.setdefault(channel, []).append(product or "heartbeats")
        self._push(connection, "subscriptions", self._now_ns(), _encode([{"subscriptions": subscriptions}]))

    def parts(self, event: Event) -> list[Event]:
        """Return an event as the messages it becomes: always one."""
        return [event]

    def emit(self, market: Market, event: Event) -> list[Sent]:
        """Send an event to whom it concerns; return what became of it for each of them."""
        if isinstance(event, Depth):
            return self._send("level2", "l2_data", market, event.ts_ns, lambda: _change_of(market, event))
        if isinstance(event, Trades):
            newest_first = event.trades[::-1]
            sent = self._send(
                "market_trades",
                "market_trades",
                market,
                event.ts_ns,
                lambda: [{"type": "update", "trades": _trades(market, newest_first)}],
            )
            self._send(
                "ticker",
                "ticker",
                market,
                event.ts_ns,
                lambda: [{"type": "update", "tickers": [_ticker(market)]}],
            )
            return sent
        return []

    def second(self, market: Market) -> None:
        """Nothing of Coinbase's is due by the playback's seconds."""

    def beat(self) -> None:
        """Send the heartbeat of this second (of the wall clock)."""
        self._beats += 1
        now = self._now_ns()
        for connection in self._hub.listeners("coinbase/heartbeats"):
            text = format_time(now).replace("T", " ").replace("Z", "000 +0000 UTC")
            event = {"current_time": text, "heartbeat_counter": self._beats}
            self._push(connection, "heartbeats", now, _encode([event]), "coinbase/heartbeats")

    def _send(
        self, kind: str, channel: str, market: Market, ts_ns: int, events: Callable[[], Any]
    ) -> list[Sent]:
        topic = f"coinbase/{kind}:{market.id}"
        listeners = self._hub.listeners(topic)
        if not listeners:
            return []
        body = _encode(events())
        return [self._push(connection, channel, ts_ns, body, topic) for connection in listeners]

    def _push(self, connection: Connection, channel: str, ts_ns: int, events: bytes, topic: str = "") -> Sent:
        """Put events into an envelope with the connection's next number; faults spare what has no topic."""
        head = b'{"channel":"%b","client_id":"","timestamp":"%b","sequence_num":%%d,"events":' % (
            channel.encode(),
            format_time(ts_ns).encode(),
        )

        def build(number: int) -> bytes:
            return head % number + events + b"}"

        return connection.deliver(topic, build)


def _refusal(message: str) -> bytes:
    return _encode({"type": "error", "message": message})


def _change_of(market: Market, event: Depth) -> list[dict[str, Any]]:
    return [
        {
            "type": "update",
            "product_id": market.id,
            "updates": _updates(event.bids, event.asks, event.ts_ns),
        }
    ]


def _updates(bids: Sequence[Level], asks: Sequence[Level], ts_ns: int) -> list[dict[str, str]]:
    time = format_time(ts_ns)
    return [
        {"side": side, "event_time": time, "price_level": price, "new_quantity": size}
        for side, levels in (("bid", bids), ("offer", asks))
        for price, size in levels
    ]


def _trades(market: Market, trades: Sequence[Trade]) -> list[dict[str, str]]:
    return [
        {
            "trade_id": str(trade.trade_id),
            "product_id": market.id,
            "price": trade.price,
            "size": trade.size,
            "side": maker(trade),
            "time": format_time(trade.ts_ns),
        }
        for trade in trades
    ]


def _ticker(market: Market) -> dict[str, str]:
    day = market.day
    (bid, bid_size), (ask, ask_size) = market.best()
    last = day.last or (market.recent[-1].price if market.recent else "")
    change = 100 * (float(day.last) / float(day.open) - 1) if day.count else 0.0
    return {
        "type": "ticker",
        "product_id": market.id,
        "price": last,
        "volume_24_h": f"{day.volume:.8f}",
        "low_24_h": day.low,
        "high_24_h": day.high,
        "low_52_w": day.low,
        "high_52_w": day.high,
        "price_percent_chg_24_h": f"{change:.8f}",
        "best_bid": bid,
        "best_bid_quantity": bid_size,
        "best_ask": ask,
        "best_ask_quantity": ask_size,
    }
