"""Binance spot, the way it talks over its websocket: requests, acknowledgements, streams.

Recorded bodies go out byte for byte. Paths decide the form, as at the real one: `/ws…` sends bodies,
`/stream…` wraps them in {"stream":…,"data":…}. A stream of an unknown symbol is
acknowledged and stays silent.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from daedalus.simulator.hub import Connection, Hub, Sent
from daedalus.simulator.market import Depth, Event, Market, Quote, Trades

__all__ = ["Binance"]

_MS = 1_000_000
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
STREAMS_PER_CONNECTION = 1024
_encode = msgspec.json.encode


class _Window:
    """Depth updates of one second, folded: what `@depth` and `@depth@1000ms` send."""

    def __init__(self) -> None:
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.first_id = 0
        self.last_id = 0
        self.ts_ns = 0

    def add(self, update: Depth) -> None:
        self.first_id = self.first_id or update.first_id
        self.last_id, self.ts_ns = update.last_id, update.ts_ns
        self.bids.update(update.bids)
        self.asks.update(update.asks)


class Binance:
    """The dialect. Pure but for the queues of the connections it is given."""

    exchange = "binance"

    def __init__(self, hub: Hub, refuses: Callable[[str], bool] = lambda _: False) -> None:
        """Speak to the connections of `hub`; `refuses` tells whether a subscription is to fail."""
        self._hub = hub
        self._refuses = refuses
        self._windows: dict[str, _Window] = {}

    def request(self, connection: Connection, text: str | bytes) -> None:
        """Answer one message of a client."""
        try:
            request = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            connection.push(_refusal(None, 3, f"Invalid JSON: {error}"))
            return
        if not isinstance(request, dict) or request.get("method") not in _METHODS:
            number = request.get("id") if isinstance(request, dict) else None
            connection.push(
                _refusal(number, 2, f"Invalid request: unknown method, expected one of {', '.join(_METHODS)}")
            )
            return
        number, method, params = request.get("id"), request["method"], request.get("params", [])
        if method == "LIST_SUBSCRIPTIONS":
            connection.push(
                _encode({"result": [_stream(topic) for topic in connection.topics], "id": number})
            )
        elif method == "SET_PROPERTY" and params[:1] == ["combined"]:
            connection.combined = params[1:] == [True]
            connection.push(_encode({"result": None, "id": number}))
        elif method == "GET_PROPERTY":
            connection.push(_encode({"result": connection.combined, "id": number}))
        else:
            self._change(connection, number, method, params)

    def _change(self, connection: Connection, number: Any, method: str, params: Any) -> None:
        names = params if isinstance(params, list) else [None]
        if not all(isinstance(name, str) and "@" in name for name in names):
            connection.push(_refusal(number, 2, "Invalid request: invalid stream"))
        elif method == "SUBSCRIBE" and len(connection.topics) + len(names) > STREAMS_PER_CONNECTION:
            connection.push(
                _refusal(number, 2, f"Invalid request: over {STREAMS_PER_CONNECTION} streams on a connection")
            )
        elif method == "SUBSCRIBE" and self._refuses(self.exchange):
            connection.push(_refusal(number, 0, "Unknown error"))
        else:
            change = self._hub.subscribe if method == "SUBSCRIBE" else self._hub.unsubscribe
            for name in names:
                change(connection, f"binance/{name}")
            connection.push(_encode({"result": None, "id": number}))

    def open(self, connection: Connection, streams: list[str]) -> None:
        """Subscribe a connection to the streams named in its address."""
        for name in streams:
            if "@" in name:
                self._hub.subscribe(connection, f"binance/{name}")

    def parts(self, event: Event) -> list[Event]:
        """Return an event as the messages it becomes: every trade has one of its own."""
        if isinstance(event, Trades) and len(event.trades) > 1:
            return [Trades(event.at_ns, event.ts_ns, [trade]) for trade in event.trades]
        return [event]

    def emit(self, market: Market, event: Event) -> list[Sent]:
        """Send an event to whom it concerns; return what became of it for each of them."""
        name = market.id.lower()
        if isinstance(event, Depth):
            self._windows.setdefault(market.id, _Window()).add(event)
            return self._send(f"{name}@depth@100ms", market, event, _depth_body)
        if isinstance(event, Trades):
            sent = []
            for part in self.parts(event):
                sent += self._send(f"{name}@trade", market, part, _trade_body)
            return sent
        if isinstance(event, Quote):
            return self._send(f"{name}@bookTicker", market, event, _quote_body)
        return []

    def second(self, market: Market) -> None:
        """Send what is due each second of the playback: tickers and the slow depth streams."""
        name = market.id.lower()
        window = self._windows.pop(market.id, None)
        if window is not None:
            update = Depth(
                0,
                window.ts_ns,
                window.first_id,
                window.last_id,
                list(window.bids.items()),
                list(window.asks.items()),
            )
            self._send(f"{name}@depth", market, update, _depth_body)
            self._send(f"{name}@depth@1000ms", market, update, _depth_body)
        if market.day.count:
            self._send(f"{name}@ticker", market, None, _ticker_body)
            self._send(f"{name}@miniTicker", market, None, _mini_body)

    def _send(
        self, stream: str, market: Market, event: Any, body: Callable[[Market, Any], bytes]
    ) -> list[Sent]:
        topic = f"binance/{stream}"
        listeners = self._hub.listeners(topic)
        if not listeners:
            return []
        raw: bytes | None = event.raw if event is not None else None
        inner = raw if raw is not None else body(market, event)
        outer = b'{"stream":"%b","data":%b}' % (stream.encode(), inner)
        sent = []
        for connection in listeners:
            message = outer if connection.combined else inner
            told = connection.deliver(topic, lambda _, message=message: message)  # type: ignore[misc]
            told.sequence = None  # Binance does not number its messages
            sent.append(told)
        return sent


def _stream(topic: str) -> str:
    return topic.partition("/")[2]


def _refusal(number: Any, code: int, message: str) -> bytes:
    return _encode({"error": {"code": code, "msg": message}, "id": number})


def _depth_body(market: Market, update: Depth) -> bytes:
    return _encode(
        {
            "e": "depthUpdate",
            "E": update.ts_ns // _MS,
            "s": market.id,
            "U": update.first_id,
            "u": update.last_id,
            "b": update.bids,
            "a": update.asks,
        }
    )


def _trade_body(market: Market, event: Trades) -> bytes:
    trade = event.trades[0]
    return _encode(
        {
            "e": "trade",
            "E": event.ts_ns // _MS,
            "s": market.id,
            "t": trade.trade_id,
            "p": trade.price,
            "q": trade.size,
            "T": trade.ts_ns // _MS,
            "m": trade.taker == "sell",
            "M": True,
        }
    )


def _quote_body(market: Market, quote: Quote) -> bytes:
    (bid, bid_size), (ask, ask_size) = quote.bid, quote.ask
    return _encode({"u": quote.update_id, "s": market.id, "b": bid, "B": bid_size, "a": ask, "A": ask_size})


def _mini_body(market: Market, _: Any) -> bytes:
    day = market.day
    return _encode(
        {
            "e": "24hrMiniTicker",
            "E": market.ts_ns // _MS,
            "s": market.id,
            "c": day.last,
            "o": day.open,
            "h": day.high,
            "l": day.low,
            "v": f"{day.volume:.8f}",
            "q": f"{day.turnover:.8f}",
        }
    )


def _ticker_body(market: Market, _: Any) -> bytes:
    day = market.day
    change = float(day.last) - float(day.open)
    (bid, bid_size), (ask, ask_size) = market.best()
    body = {
        "e": "24hrTicker",
        "E": market.ts_ns // _MS,
        "s": market.id,
        "p": f"{change:.8f}",
        "P": f"{100 * change / float(day.open):.3f}",
        "w": f"{day.turnover / day.volume:.8f}",
        "x": day.open,
        "c": day.last,
        "Q": day.last_size,
        "b": bid,
        "B": bid_size,
        "a": ask,
        "A": ask_size,
        "o": day.open,
        "h": day.high,
        "l": day.low,
        "v": f"{day.volume:.8f}",
        "q": f"{day.turnover:.8f}",
        "O": day.opened_ns // _MS,
        "C": market.ts_ns // _MS,
        "F": day.first_id,
        "L": day.last_id,
        "n": day.count,
    }
    return _encode(body)
