"""Keeping streams subscribed: a few at a time, no faster than the exchange allows, again and again.

One task for each watch call. It subscribes, waits until its connection ends, waits a random while that
grows with each failure, and begins anew. A call for several symbols that is refused is split: one bad symbol
must not keep the others away.
"""

import asyncio
import random
import time
from inspect import signature
from typing import Any

from daedalus.exchanges.adapter import Fault, Sink, Stream
from daedalus.exchanges.backoff import full_jitter
from daedalus.exchanges.bucket import Bucket
from daedalus.exchanges.ccxt_channels import Subscription, method_of
from daedalus.exchanges.ccxt_hooks import SUBSCRIBING, Hooks
from daedalus.exchanges.ccxt_limits import allowed
from daedalus.exchanges.ccxt_options import CcxtOptions, book_limit
from daedalus.exchanges.ccxt_redact import Redactor
from daedalus.kernel.errors import FatalError
from daedalus.kernel.telemetry import get_logger

__all__ = ["Keep", "calls"]

_SUBSCRIBE_S = 10.0  # a subscription slot is held until something arrives, but not longer
_SETTLED_S = 1.0  # a subscription that held this long is no failure: the next attempt is a first one
_REFUSALS_MAX = 2  # of a call for several symbols, before each is asked for by itself
_TOO_MANY = {"DDoSProtection", "RateLimitExceeded"}
_PAUSE_S = 30.0
_SNAKE = {"watchOHLCV": "watch_ohlcv"}
_MISTAKES = {"NotSupported", "ArgumentsRequired"}  # no repetition helps


def calls(exchange: Any, subscription: Subscription, levels: int) -> list[Any]:
    """Return the calls that subscribe. A book's limit is passed where it is known to be safe, else never."""
    channel, symbols, bulk = subscription.channel, list(subscription.symbols), subscription.bulk
    if channel == "ticker":
        return _ticker_calls(exchange, symbols, bulk=bulk)
    arguments: list[Any] = [symbols if bulk else symbols[0]]
    method = method_of(channel)
    if channel == "orderbook":
        arguments.append(book_limit(exchange.id, levels))
    elif channel == "ohlcv":
        arguments.append("1m")
    watch = getattr(exchange, _SNAKE.get(method, _snake(method)) + ("_for_symbols" if bulk else ""))
    if next(iter(signature(watch).parameters)) == "symbols":
        arguments[0] = symbols
    return [watch(*arguments)]


def _ticker_calls(exchange: Any, symbols: list[str], *, bulk: bool) -> list[Any]:
    if exchange.id.startswith("binance"):
        # its miniTicker has no bid and ask: they come by bookTicker, and are merged
        watch = {"name": "ticker"}
        whole = exchange.watch_tickers(symbols, watch) if bulk else exchange.watch_ticker(symbols[0], watch)
        return [whole, exchange.watch_bids_asks(symbols)]
    return [exchange.watch_tickers(symbols) if bulk else exchange.watch_ticker(symbols[0])]


def _snake(method: str) -> str:
    """Return ccxt's Python name of a method.

    >>> _snake("watchBidsAsks")
    'watch_bids_asks'
    """
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in method)


class _Life:
    """One watch call, from subscription to end."""

    __slots__ = ("attempt", "ended", "heard", "heard_at", "refusals")

    def __init__(self) -> None:
        self.attempt = 0
        self.refusals = 0
        self.ended: asyncio.Future[Fault] | None = None
        self.heard: asyncio.Future[None] | None = None
        self.heard_at = 0.0  # of the loop's clock, s


class Keep:
    """All subscriptions of one exchange."""

    def __init__(self, options: CcxtOptions, exchange: Any, sink: Sink, redactor: Redactor) -> None:
        """Prepare.

        Args:
            options: the pace of attempts.
            exchange: the ccxt instance.
            sink: told of subscriptions that failed before they had a connection.
            redactor: takes secrets out of what is said.
        """
        self.resubscriptions = 0
        self.closing = False
        self.bucket = Bucket.shared(allowed(options), share=options.share)
        self._options = options
        self._exchange = exchange
        self._sink = sink
        self._redactor = redactor
        self._slots = asyncio.Semaphore(options.max_concurrent)
        self._lives: dict[Stream, _Life] = {}

    def delay_s(self, attempt: int) -> float:
        """Return how long to wait after a failure, s."""
        return full_jitter(
            attempt, self._options.reconnect_base_s, self._options.reconnect_cap_s, random.uniform
        )

    async def keep(self, subscription: Subscription, hooks: Hooks, delay_s: float) -> None:
        """Keep one subscription, for ever, or until it is split.

        Raises:
            FatalError: the exchange cannot do this, now or ever.
        """
        await asyncio.sleep(delay_s)
        loop = asyncio.get_running_loop()
        SUBSCRIBING.set(subscription.streams)  # this task's own context, and of the calls it makes
        life = _Life()
        self._lives.update(dict.fromkeys(subscription.streams, life))
        while True:
            ended, heard = life.ended, life.heard = loop.create_future(), loop.create_future()
            async with self._slots:
                if self._closed():
                    return
                coroutines = calls(self._exchange, subscription, self._options.levels)
                tasks = [loop.create_task(self._call(coroutine)) for coroutine in coroutines]
                waits = [ended, heard, *tasks]
                await asyncio.wait(waits, timeout=_SUBSCRIBE_S, return_when=asyncio.FIRST_COMPLETED)
            fault = await self._outcome(subscription, ended, tasks, hooks)
            if self._closed():
                return
            if heard.done() and loop.time() - life.heard_at > _SETTLED_S:
                life.attempt = life.refusals = 0
            life.refusals += fault.reason == "error" and not heard.done()
            if subscription.bulk and life.refusals >= _REFUSALS_MAX:
                await self._split(subscription, hooks)
                return
            attempt, life.attempt = life.attempt, life.attempt + 1
            delay_s = self.delay_s(attempt)
            self.resubscriptions += 1
            get_logger().warning(
                "connection_lost",
                symbol=", ".join(stream.symbol for stream in subscription.streams),
                channel=subscription.channel,
                reason=fault.reason,
                detail=fault.detail,
                attempt=attempt,
                retry_in_s=round(delay_s, 3),
            )
            await asyncio.sleep(delay_s)

    def _closed(self) -> bool:
        return self.closing

    async def _call(self, coroutine: Any) -> Any:
        """Subscribe when the exchange allows it."""
        try:
            await self.bucket.take()
        except asyncio.CancelledError:
            coroutine.close()
            raise
        if self.closing:  # ccxt would open a session anew, and nobody would close it
            coroutine.close()
            raise asyncio.CancelledError
        return await coroutine

    async def _split(self, subscription: Subscription, hooks: Hooks) -> None:
        get_logger().warning(
            "subscription_split",
            channel=subscription.channel,
            symbols=", ".join(stream.symbol for stream in subscription.streams),
        )
        async with asyncio.TaskGroup() as group:
            for stream, symbol in zip(subscription.streams, subscription.symbols, strict=True):
                one = Subscription((stream,), (symbol,), bulk=False)
                group.create_task(self.keep(one, hooks, self.delay_s(0)))

    async def _outcome(
        self,
        subscription: Subscription,
        ended: "asyncio.Future[Fault]",
        tasks: list["asyncio.Task[Any]"],
        hooks: Hooks,
    ) -> Fault:
        """Wait for the end of a subscription: its connection was dropped, or a call failed."""
        pending: set[asyncio.Future[Any]] = {ended, *tasks}
        failure: Fault | None = None
        while not ended.done() and failure is None:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {ended}:
                failure = self._failure(subscription, task) or failure
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if ended.done():
            return ended.result()
        assert failure is not None
        self._give_up(subscription, failure, hooks)
        return failure

    def _failure(self, subscription: Subscription, task: "asyncio.Future[Any]") -> Fault | None:
        if task.cancelled():
            return Fault(subscription.streams, "disconnect", "subscription cancelled")
        error = task.exception()
        if error is None:
            return None
        if not isinstance(error, Exception):
            raise error
        names = {kind.__name__ for kind in type(error).__mro__}
        detail = self._redactor.error(error)
        if names & _MISTAKES:
            what = ", ".join(f"{stream.channel} {stream.symbol}" for stream in subscription.streams)
            raise FatalError(f"cannot subscribe {what}: {detail}")
        if names & _TOO_MANY:
            self.bucket.pause(time.monotonic_ns(), _PAUSE_S)
        return Fault(subscription.streams, "error", detail)

    def _give_up(self, subscription: Subscription, failure: Fault, hooks: Hooks) -> None:
        carriers = [
            connection
            for connection in hooks.connections.values()
            if not connection.streams.isdisjoint(subscription.streams)
        ]
        for connection in carriers:
            hooks.drop(connection, Fault(tuple(connection.streams), failure.reason, failure.detail))
        if not carriers:
            self._sink.lost(failure, None)

    def ended(self, stream: Stream, fault: Fault) -> None:
        """Be told that a stream's connection was dropped."""
        life = self._lives.get(stream)
        if life is not None and life.ended is not None and not life.ended.done():
            life.ended.set_result(fault)

    def heard(self, stream: Stream) -> None:
        """Be told that a stream's subscription is in force."""
        life = self._lives.get(stream)
        if life is not None and life.heard is not None and not life.heard.done():
            life.heard.set_result(None)
            life.heard_at = asyncio.get_running_loop().time()
