"""A real ccxt.pro exchange, subscribed and kept alive. The one door to ccxt.

The watch methods are called once per subscription, to subscribe; the data comes through the hooks
(`ccxt_hooks`). A connection that fails in any way is dropped, its streams are subscribed again after a
backoff, for ever. Only a mistake in the configuration is fatal.
"""

import asyncio
import random
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from daedalus.exchanges.adapter import Fault, Sink, Stream
from daedalus.exchanges.backoff import full_jitter
from daedalus.exchanges.ccxt_facts import Translator
from daedalus.exchanges.ccxt_hooks import SUBSCRIBING, Hooks
from daedalus.exchanges.freshness import Freshness
from daedalus.exchanges.sides import semantics
from daedalus.kernel.errors import FatalError
from daedalus.kernel.telemetry import get_logger

__all__ = ["CcxtExchange", "CcxtOptions", "build", "check_symbols"]

_TRADES_LIMIT_MIN = 1000
_SPOT_DEEP = ("binance", "binanceus")
_SPOT_SNAPSHOT = 5000  # levels: the most that Binance spot gives
_WATCH_S = 1.0
_SUBSCRIBE_S = 10.0  # a subscription slot is held until something arrives, but not longer
_NEEDS = {"orderbook": "watchOrderBook", "trades": "watchTrades", "ticker": "watchTicker"}
_FATAL = ("AuthenticationError", "ArgumentsRequired", "BadSymbol", "NotSupported")


class CcxtOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of the exchange. Durations in seconds unless the name says otherwise."""

    id: str  # the ccxt class
    channels: dict[str, list[str]]  # our channel -> symbols as configured
    levels: int = 50
    overrides: dict[str, Any] = {}  # merged deeply into the instance
    side: str = "auto"
    raw_info: bool = False
    api_key_file: str = ""
    api_secret_file: str = ""
    keepalive_s: float = 12.0
    stale_min_s: float = 10.0
    stale_max_s: float = 120.0
    stagger_ms: float = 100.0
    max_concurrent: int = 5
    reconnect_base_s: float = 0.5
    reconnect_cap_s: float = 300.0


def build(options: CcxtOptions) -> Any:
    """Return the ccxt.pro instance.

    Raises:
        FatalError: no such exchange, or the key file cannot be used.
    """
    import ccxt.pro

    if options.id not in ccxt.pro.exchanges:
        near = get_close_matches(options.id, ccxt.pro.exchanges, 3)
        hint = f"; near matches: {', '.join(near)}" if near else ""
        raise FatalError(
            f"cannot collect from {options.id!r}: ccxt.pro {ccxt.__version__} has no such id{hint}"
        )
    base: dict[str, Any] = {
        "enableRateLimit": True,
        "newUpdates": True,
        "streaming": {"keepAlive": int(options.keepalive_s * 1000)},
        "options": _deepest(options),
    }
    config = _merged(_merged(base, _keys(options.api_key_file, options.api_secret_file)), options.overrides)
    exchange = getattr(ccxt.pro, options.id)(config)
    limit = exchange.options.get("tradesLimit") or 0
    exchange.options["tradesLimit"] = max(int(limit), _TRADES_LIMIT_MIN)
    return exchange


def _deepest(options: CcxtOptions) -> dict[str, int]:
    """Return the option for the deepest first snapshot there is.

    ccxt asks Binance for 1000 levels and keeps no more. Deltas beyond them pass unseen, and when the price
    has moved there, the top of the book is wrong: 3 of 6,881 recorded states; none with 5000 levels. Its
    derivatives refuse more than 1000.
    """
    spot = not any(":" in symbol for symbol in options.channels.get("orderbook", ()))
    return {"watchOrderBookLimit": _SPOT_SNAPSHOT} if spot and options.id in _SPOT_DEEP else {}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _keys(key_file: str, secret_file: str) -> dict[str, str]:
    """Return credentials: each file holds one value, or the first a JSON object in ccxt's words."""
    keys: dict[str, str] = {}
    for name, path in (("apiKey", key_file), ("secret", secret_file)):
        if not path:
            continue
        try:
            text = Path(path).read_text().strip()
            keys |= msgspec.json.decode(text, type=dict[str, str]) if text[:1] == "{" else {name: text}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FatalError(f"cannot read the key file {path}: {error}") from None
    return keys


def check_symbols(exchange: Any, channels: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Return unified symbol -> symbol as configured, once the markets are known.

    Raises:
        FatalError: a symbol or a channel the exchange does not have; every fault is named.
    """
    faults = [
        f"{exchange.id} has no {_NEEDS.get(channel, channel)}"
        for channel in channels
        if not exchange.has.get(_NEEDS.get(channel, ""))
    ]
    unified: dict[str, str] = {}
    for symbol in dict.fromkeys(symbol for symbols in channels.values() for symbol in symbols):
        if symbol in exchange.markets:
            unified[exchange.markets[symbol]["symbol"]] = symbol
        else:
            near = get_close_matches(symbol, list(exchange.markets), 3)
            hint = f"; near matches: {', '.join(near)}" if near else ""
            faults.append(f"{exchange.id} has no symbol {symbol!r} among {len(exchange.markets)}{hint}")
    if faults:
        raise FatalError(f"cannot subscribe: {'; '.join(faults)}")
    return unified


class CcxtExchange:
    """One exchange through ccxt: the shell."""

    source = "ccxt"

    def __init__(self, options: CcxtOptions, sink: Sink) -> None:
        """Make the instance; nothing is opened before `run`.

        Raises:
            FatalError: see `build`.
        """
        self.options = options
        self.exchange = build(options)
        self.hooks: Hooks | None = None
        self.resubscriptions = 0
        self._sink = sink
        self._ended: dict[Stream, asyncio.Future[Fault]] = {}
        self._attempts: dict[Stream, int] = {}
        self._closing = False
        self._streams = tuple(
            Stream(symbol, channel) for channel, names in options.channels.items() for symbol in names
        )
        self._heard: dict[Stream, asyncio.Future[None]] = {}

    async def run(self) -> None:
        """Collect until cancelled.

        Raises:
            FatalError: the configuration asks for what the exchange does not have.
            Exception: whatever the sink raised.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._stray)
        await self._load_markets()
        options = self.options
        symbols = check_symbols(self.exchange, options.channels)
        translator = Translator(
            levels=options.levels, side=semantics(options.id, options.side), raw_info=options.raw_info
        )
        self.hooks = Hooks(
            self.exchange,
            self._sink,
            translator,
            symbols,
            lambda: Freshness(options.stale_min_s, options.stale_max_s),
            self,
        )
        unified = {symbol: name for name, symbol in symbols.items()}
        slots = asyncio.Semaphore(options.max_concurrent)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                group.create_task(self._failure())
                for index, stream in enumerate(self._streams):
                    delay_s = index * options.stagger_ms / 1000
                    group.create_task(self._keep(stream, unified[stream.symbol], delay_s, slots))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def close(self) -> None:
        """Close every connection. Nothing is reported lost: who closes knows."""
        self._closing = True
        if self.hooks is not None:
            for connection in self.hooks.connections.values():
                connection.dropped = True
        await self.exchange.close()

    def stats(self) -> dict[str, int | float | str | None]:
        """Return counters since start."""
        hooks = self.hooks
        return {
            "connections": 0 if hooks is None else len(hooks.connections),
            "resubscriptions": self.resubscriptions,
            "parse_errors": 0 if hooks is None else hooks.parse_errors,
        }

    async def _load_markets(self) -> None:
        import ccxt

        attempt = 0
        while True:
            try:
                await self.exchange.load_markets()
            except ccxt.BaseError as error:
                name = type(error).__name__
                if name in _FATAL:
                    raise FatalError(
                        f"cannot load the markets of {self.options.id}: {name}: {error}"
                    ) from None
                delay_s = self._delay_s(attempt)
                self._sink.lost(Fault(self._streams, "disconnect", f"no markets: {name}"), None)
                get_logger().warning(
                    "markets_unavailable",
                    exchange=self.options.id,
                    attempt=attempt,
                    retry_in_s=round(delay_s, 3),
                    detail=f"{name}: {error}"[:300],
                )
                attempt += 1
                await asyncio.sleep(delay_s)
            else:
                get_logger().info(
                    "markets_loaded", exchange=self.options.id, markets=len(self.exchange.markets)
                )
                return

    async def _keep(self, stream: Stream, unified: str, delay_s: float, slots: asyncio.Semaphore) -> None:
        """Keep one stream subscribed."""
        await asyncio.sleep(delay_s)
        loop = asyncio.get_running_loop()
        SUBSCRIBING.set(stream)  # this task's own context, and of the calls it makes
        while True:
            ended = self._ended[stream] = loop.create_future()
            heard = self._heard[stream] = loop.create_future()
            async with slots:
                calls = [loop.create_task(call) for call in self._calls(stream.channel, unified)]
                waits = [ended, heard, *calls]
                await asyncio.wait(waits, timeout=_SUBSCRIBE_S, return_when=asyncio.FIRST_COMPLETED)
            fault = await self._outcome(stream, ended, calls)
            if self._closing:
                return
            attempt = self._attempts.get(stream, 0)
            self._attempts[stream] = attempt + 1
            delay_s = self._delay_s(attempt)
            self.resubscriptions += 1
            get_logger().warning(
                "connection_lost",
                symbol=stream.symbol,
                channel=stream.channel,
                reason=fault.reason,
                detail=fault.detail,
                attempt=attempt,
                retry_in_s=round(delay_s, 3),
            )
            await asyncio.sleep(delay_s)

    def _calls(self, channel: str, unified: str) -> list[Any]:
        """Return the calls that subscribe. No limit is ever passed: ccxt's books go wrong with one."""
        exchange = self.exchange
        if channel == "orderbook":
            return [exchange.watch_order_book(unified)]
        if channel == "trades":
            return [exchange.watch_trades(unified)]
        if self.options.id.startswith("binance"):
            # its miniTicker has no bid and ask: they come by bookTicker, and are merged
            return [exchange.watch_ticker(unified, {"name": "ticker"}), exchange.watch_bids_asks([unified])]
        return [exchange.watch_ticker(unified)]

    async def _outcome(
        self, stream: Stream, ended: "asyncio.Future[Fault]", calls: list["asyncio.Task[Any]"]
    ) -> Fault:
        """Wait for the end of a subscription: its connection was dropped, or a call failed."""
        import ccxt

        pending: set[asyncio.Future[Any]] = {ended, *calls}
        failure: Fault | None = None
        while not ended.done() and failure is None and ended in pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for call in done - {ended}:
                error = None if call.cancelled() else call.exception()
                if error is not None:
                    if not isinstance(error, ccxt.BaseError):
                        raise error
                    failure = Fault((stream,), "error", f"{type(error).__name__}: {error}"[:300])
                elif call.cancelled():
                    failure = Fault((stream,), "disconnect", "subscription cancelled")
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        if ended.done():
            return ended.result()
        assert failure is not None
        self._give_up(stream, failure)
        return failure

    def _give_up(self, stream: Stream, failure: Fault) -> None:
        assert self.hooks is not None
        carriers = [c for c in self.hooks.connections.values() if stream in c.streams]
        for connection in carriers:
            self.hooks.drop(connection, Fault(tuple(connection.streams), failure.reason, failure.detail))
        if not carriers:
            self._sink.lost(failure, None)

    def stream_ended(self, stream: Stream, fault: Fault) -> None:
        """Be told by the hooks that a stream's connection was dropped."""
        ended = self._ended.get(stream)
        if ended is not None and not ended.done():
            ended.set_result(fault)

    def stream_heard(self, stream: Stream) -> None:
        """Be told by the hooks that a message came after a stream was subscribed."""
        heard = self._heard.get(stream)
        if heard is not None and not heard.done():
            heard.set_result(None)

    def _delay_s(self, attempt: int) -> float:
        return full_jitter(
            attempt, self.options.reconnect_base_s, self.options.reconnect_cap_s, random.uniform
        )

    async def _watch(self) -> None:
        assert self.hooks is not None
        while True:
            await asyncio.sleep(_WATCH_S)
            self.hooks.stale(self._sink.capture().mono_ns)
            for connection in self.hooks.connections.values():
                if connection.messages:
                    for stream in connection.streams:
                        self._attempts.pop(stream, None)

    async def _failure(self) -> None:
        assert self.hooks is not None
        await self.hooks.failed

    def _stray(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what no handler of ccxt's took: the net below the hooks."""
        error = context.get("exception")
        get_logger().warning(
            "stray_exception_caught",
            exchange=self.options.id,
            message=str(context.get("message", ""))[:200],
            detail=f"{type(error).__name__}: {error}"[:300],
        )
