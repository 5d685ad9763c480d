"""Real ccxt classes on sockets of ours: every line of ccxt's runs, from the watch call to the handler.

A `Desk` is a whole CcxtExchange whose websockets are `Line`s: what it sends is in `sent`, what the exchange
would say is pushed. REST methods are replaced where a test needs them. Nothing waits for real time.
"""

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import WSMessage, WSMsgType

from daedalus.exchanges.adapter import Control, EventFact, Now, Stream
from daedalus.exchanges.ccxt_pro import CcxtExchange, CcxtOptions
from tests.exchanges.fakes import BASE, ListSink

IDS = {"coinbase": "{0}-{1}", "kraken": "{0}/{1}", "okx": "{0}-{1}"}  # of the others: BASEQUOTE


class ClockSink(ListSink):
    """A sink whose monotonic clock can be moved."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_ns = 0

    def capture(self) -> Now:
        now = super().capture()
        return Now(now.ts_recv + self.ahead_ns, now.mono_ns + self.ahead_ns, now.wall_ms)

    @property
    def events(self) -> list[EventFact]:
        return self.of(EventFact)

    @property
    def confirmed(self) -> list[Stream]:
        return [stream for control in self.of(Control) for stream in control.streams]


def market_of(exchange: Any, symbol: str, **more: Any) -> dict[str, Any]:
    """Return a market as ccxt has it."""
    pair, _, settle = symbol.partition(":")
    base, quote = pair.split("/")
    swap = bool(settle)
    name = IDS.get(exchange.id, "{0}{1}").format(base, quote)
    if exchange.id == "okx" and swap:
        name += "-SWAP"
    out = {
        "id": name,
        "lowercaseId": name.lower(),
        "symbol": symbol,
        "base": base,
        "quote": quote,
        "baseId": base,
        "quoteId": quote,
        "settle": settle or None,
        "type": "swap" if swap else "spot",
        "spot": not swap,
        "swap": swap,
        "contract": swap,
        "linear": settle == quote if swap else None,
        "inverse": settle == base if swap else None,
        "contractSize": 1.0 if swap else None,
        "active": True,
        "precision": {"amount": 1e-8, "price": 0.1},
        "limits": {"amount": {"min": 1e-5}, "cost": {"min": 5.0}},
        "info": {"wsname": pair},
    }
    return exchange.safe_market_structure(out | more)


class Line:
    """One websocket, as ccxt's client sees aiohttp's."""

    _conn = None

    def __init__(self, url: str) -> None:
        self.url = url
        self.sent: list[Any] = []
        self.closed = False
        self._queue: asyncio.Queue[WSMessage] = asyncio.Queue()

    async def receive(self) -> WSMessage:
        return await self._queue.get()

    async def send_str(self, text: str) -> None:
        self.sent.append(json.loads(text) if text[:1] == "{" else text)

    async def ping(self) -> None:
        self._queue.put_nowait(WSMessage(WSMsgType.PONG, b"", None))

    async def pong(self, _data: bytes) -> None:
        pass

    async def close(self) -> None:
        self.closed = True
        self._queue.put_nowait(WSMessage(WSMsgType.CLOSED, None, None))

    def push(self, message: Any) -> None:
        """Let the exchange say something."""
        text = message if isinstance(message, str) else json.dumps(message)
        self._queue.put_nowait(WSMessage(WSMsgType.TEXT, text, None))

    def hang_up(self) -> None:
        """Let the exchange close the socket."""
        self._queue.put_nowait(WSMessage(WSMsgType.CLOSE, 1000, ""))

    def requests(self, *words: str) -> list[Any]:
        """Return what was sent that has all these words in it."""
        return [message for message in self.sent if all(word in json.dumps(message) for word in words)]


class Desk:
    """A CcxtExchange of a real class, without a network."""

    def __init__(self, exchange_id: str, channels: dict[str, list[str]], **options: Any) -> None:
        self.sink = ClockSink()
        self.lines: list[Line] = []
        wanted: dict[str, Any] = {"stagger_ms": 0, "reconnect_base_s": 0, "allowed": (1e6, 1.0)}
        wanted |= {"overrides": {"enableRateLimit": False}, "backfill": False, "bulk": {}}
        self.shell = CcxtExchange(
            CcxtOptions(id=exchange_id, channels=channels, **(wanted | options)), self.sink
        )
        self.exchange = self.shell.exchange
        self.markets = [
            market_of(self.exchange, symbol)
            for symbol in dict.fromkeys(symbol for symbols in channels.values() for symbol in symbols)
        ]
        self.loads = 0
        self.exchange.load_markets = self._load_markets
        self._client = self.exchange.client
        self.exchange.client = self._wired
        self.task: asyncio.Task[None] | None = None

    async def _load_markets(self, _reload: bool = False, _params: Any = None) -> Any:
        self.loads += 1
        return self.exchange.set_markets(self.markets)

    def _wired(self, url: str) -> Any:
        client = self._client(url)
        client.create_connection = lambda _session: self._dial(url)
        return client

    async def _dial(self, url: str) -> Line:
        line = Line(url)
        self.lines.append(line)
        return line

    @property
    def line(self) -> Line:
        """The newest websocket."""
        return self.lines[-1]

    def answer(self, **methods: Any) -> None:
        """Let REST methods of ccxt's answer: a value, an exception, or a function of their arguments."""
        for name, value in methods.items():
            setattr(self.exchange, name, _answering(value))

    async def start(self, lines: int = 1) -> None:
        """Run until so many websockets are open and each has sent something."""
        self.task = asyncio.get_running_loop().create_task(self.shell.run())
        await self.until(lambda: len(self.lines) >= lines and all(line.sent for line in self.lines))

    async def until(self, true: Callable[[], object]) -> None:
        """Turn the loop until something is so."""
        for _ in range(20_000):
            if true():
                return
            if self.task is not None and self.task.done():
                self.task.result()
            await asyncio.sleep(0)
        raise AssertionError("it did not happen")

    async def say(self, line: Line, *messages: Any) -> None:
        """Push messages and wait until they are handled."""
        for message in messages:
            line.push(message)
        await self.until(line._queue.empty)
        await turns()

    async def finish(self) -> None:
        await self.shell.close()
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


def _answering(value: Any) -> Callable[..., Awaitable[Any]]:
    async def answer(*args: Any, **kwargs: Any) -> Any:
        result = value(*args, **kwargs) if callable(value) else value
        if inspect.isawaitable(result):
            result = await result
        if isinstance(result, BaseException):
            raise result
        return result

    return answer


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine; a loop that logs of an exception nobody awaited fails it."""
    asyncio.run(work())  # type: ignore[arg-type]


def with_desk(
    exchange_id: str, channels: dict[str, list[str]], **options: Any
) -> Callable[[Callable[[Desk], Awaitable[None]]], None]:
    """Return what runs a coroutine with a desk and closes it."""

    def runner(work: Callable[[Desk], Awaitable[None]]) -> None:
        async def main() -> None:
            desk = Desk(exchange_id, channels, **options)
            try:
                await work(desk)
            finally:
                await desk.finish()

        asyncio.run(main())

    return runner


# -- what exchanges say


def binance_trade(number: int, symbol: str = "BTCUSDT", **more: Any) -> dict[str, Any]:
    head = {"e": "trade", "E": 1_000 + number, "s": symbol, "t": number, "p": "100.1", "q": "0.5"}
    return head | {"T": 1_000 + number, "m": True} | more


def coinbase(channel: str, number: int, *events: dict[str, Any]) -> dict[str, Any]:
    return {
        "channel": channel,
        "client_id": "",
        "timestamp": "2026-04-07T14:30:02.789012Z",
        "sequence_num": number,
        "events": list(events),
    }


def coinbase_trades(*trades: tuple[str, str], kind: str = "update") -> dict[str, Any]:
    """Return an event of (id, product), newest first."""
    return {
        "type": kind,
        "trades": [
            {
                "trade_id": number,
                "product_id": product,
                "price": "68900.5",
                "size": "0.01",
                "side": "BUY",
                "time": "2026-04-07T14:30:02.5Z",
            }
            for number, product in trades
        ],
    }


def coinbase_book(product: str, *updates: tuple[str, str, str], kind: str = "update") -> dict[str, Any]:
    return {
        "type": kind,
        "product_id": product,
        "updates": [
            {
                "side": side,
                "event_time": "2026-04-07T14:30:00Z",
                "price_level": price,
                "new_quantity": quantity,
            }
            for side, price, quantity in updates
        ],
    }


def okx(channel: str, market: str, *data: dict[str, Any], action: str | None = None) -> dict[str, Any]:
    message: dict[str, Any] = {"arg": {"channel": channel, "instId": market}, "data": list(data)}
    return message if action is None else message | {"action": action}


def okx_book(
    number: int, before: int, bids: Sequence[tuple[str, str]], asks: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    sides = {name: [[p, s, "0", "1"] for p, s in side] for name, side in (("bids", bids), ("asks", asks))}
    return sides | {"ts": "1700000000123", "seqId": number, "prevSeqId": before}


def later(seconds: float) -> int:
    """Return a time of the sink's clock, ns UTC."""
    return BASE + int(seconds * 1e9)
