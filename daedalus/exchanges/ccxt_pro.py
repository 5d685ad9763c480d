"""A real ccxt.pro exchange, subscribed and kept alive. The one door to ccxt.

The watch methods are called once per subscription, to subscribe; the data comes through the hooks
(`ccxt_hooks`). A connection that fails in any way is dropped, its streams are subscribed again after a
backoff, for ever. Only a mistake in the configuration is fatal.
"""

import asyncio
from difflib import get_close_matches
from typing import Any

from daedalus.exchanges.adapter import Fault, Sink, Stream
from daedalus.exchanges.ccxt_backfill import Missed, Span, missed_trades
from daedalus.exchanges.ccxt_channels import check_symbols, plan
from daedalus.exchanges.ccxt_facts import Translator
from daedalus.exchanges.ccxt_hooks import Hooks
from daedalus.exchanges.ccxt_keep import Keep
from daedalus.exchanges.ccxt_limits import paced, slowed
from daedalus.exchanges.ccxt_markets import contracts, instruments
from daedalus.exchanges.ccxt_options import BULK, CcxtOptions, instance_config
from daedalus.exchanges.ccxt_redact import Redactor
from daedalus.exchanges.ccxt_results import Results
from daedalus.exchanges.ccxt_stats import sizes
from daedalus.exchanges.ccxt_verify import is_quiet
from daedalus.exchanges.ccxt_watch import Suspicion, Watch
from daedalus.exchanges.credentials import load_credentials
from daedalus.exchanges.sides import semantics
from daedalus.kernel.errors import FatalError
from daedalus.kernel.telemetry import get_logger

__all__ = ["BULK", "CcxtExchange", "CcxtOptions", "build", "check_symbols"]

_WATCH_S = 1.0
_FATAL = ("AuthenticationError", "ArgumentsRequired", "BadSymbol", "NotSupported")
_BACKFILL_TRIES = 5
_SECRETS = ("apiKey", "secret", "password", "uid", "login", "privateKey", "walletAddress", "token", "twofa")


def build(options: CcxtOptions) -> Any:
    """Return the ccxt.pro instance.

    Raises:
        FatalError: no such exchange, its settings or the key cannot be used.
    """
    import ccxt.pro

    if options.id not in ccxt.pro.exchanges:
        near = get_close_matches(options.id, ccxt.pro.exchanges, 3)
        hint = f"; near matches: {', '.join(near)}" if near else ""
        raise FatalError(
            f"cannot collect from {options.id!r}: ccxt.pro {ccxt.__version__} has no such id{hint}"
        )
    try:
        credentials = load_credentials(
            options.name or options.id, options.api_key_file, options.api_secret_file
        )
    except ValueError as error:
        raise FatalError(str(error)) from None
    try:
        exchange = getattr(ccxt.pro, options.id)(instance_config(options, credentials))
    except (ccxt.BaseError, LookupError, TypeError, ValueError) as error:  # no test net, say
        detail = Redactor().error(error)
        sandbox = " (has it a test net?)" if options.overrides.get("sandbox") else ""
        raise FatalError(f"cannot set up ccxt's {options.id}{sandbox}: {detail}") from None
    slowed(exchange.throttler, options.share)
    exchange.throttler = paced(options, exchange.rateLimit) or exchange.throttler
    return exchange


class CcxtExchange:
    """One exchange through ccxt: the shell."""

    source = "ccxt"

    def __init__(self, options: CcxtOptions, sink: Sink) -> None:
        """Make the instance; nothing is opened before `run`.

        Raises:
            FatalError: see `build`.
        """
        import ccxt

        self.options = options
        self.exchange = build(options)
        self.hooks: Hooks | None = None
        self.backfilled = 0
        self.quiet_spells = 0  # silences that the exchange said were none of its streams'
        # what a request may end in: its answer is the exchange's, and ccxt's parsers trust it
        self._errors: tuple[type[Exception], ...] = (
            *(ccxt.BaseError, TimeoutError, OSError),
            *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
        )
        self._redactor = Redactor(getattr(self.exchange, name, None) for name in _SECRETS)
        self._sink = sink
        self._keep = Keep(options, self.exchange, sink, self._redactor)
        self._unified: dict[str, str] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._closing = False
        self._streams = tuple(
            Stream(symbol, channel) for channel, names in options.channels.items() for symbol in names
        )

    async def run(self) -> None:
        """Collect until cancelled.

        Raises:
            FatalError: the configuration asks for what the exchange does not have.
            Exception: whatever the sink raised.
        """
        options = self.options
        asyncio.get_running_loop().set_exception_handler(self._stray)
        await self._load_markets()
        self._unified = check_symbols(self.exchange, options.channels)
        translator = Translator(
            levels=options.levels,
            side=semantics(options.id, options.side),
            raw_info=options.raw_info,
            contracts=contracts(self.exchange, self._unified),
        )
        results = Results(options.id, translator, self._unified)
        if options.backfill:
            for symbol in options.channels.get("trades", ()):
                lost = self._sink.last_trade(symbol), self._sink.last_trade_at(symbol)
                if lost != (None, None):
                    results.memory(symbol).lost_after = lost
        hooks = self.hooks = Hooks(
            self.exchange,
            self._sink,
            results,
            Watch(options.stale_min_s, options.stale_max_s),
            self,
            redactor=self._redactor,
            raw_frames=options.raw_frames,
        )
        self._sink.instruments(instruments(self.exchange, self._unified))
        subscriptions = plan(self.exchange, options.channels, self._unified, options.bulk)
        try:
            async with asyncio.TaskGroup() as group:
                self._tasks = group
                group.create_task(self._watch())
                group.create_task(self._failure())
                group.create_task(self._reload())
                for index, subscription in enumerate(subscriptions):
                    delay_s = index * options.stagger_ms / 1000
                    group.create_task(self._keep.keep(subscription, hooks, delay_s))
        except BaseExceptionGroup as errors:
            error: BaseException = errors
            while isinstance(
                error, BaseExceptionGroup
            ):  # a subscription that was split is a group of its own
                error = error.exceptions[0]
            raise error from None

    async def close(self) -> None:
        """Close every connection. Nothing is reported lost: who closes knows."""
        self._closing = self._keep.closing = True
        if self.hooks is not None:
            for connection in self.hooks.connections.values():
                connection.dropped = True
        await self.exchange.close()

    def stats(self) -> dict[str, int | float | str | None]:
        """Return counters since start, and what may grow: the sizes of ccxt's own tables."""
        hooks = self.hooks
        return {
            "connections": 0 if hooks is None else len(hooks.connections),
            "resubscriptions": self._keep.resubscriptions,
            "parse_errors": 0 if hooks is None else hooks.parse_errors,
            "backfilled": self.backfilled,
            "quiet_spells": self.quiet_spells,
            "lag_ms": None if hooks is None else round(hooks.watch.lag_ns / 1e6, 3),
            "limit_waits": self._keep.bucket.waited,
            **sizes(self.exchange),
        }

    # -- markets

    async def _load_markets(self, *, reload: bool = False) -> None:
        attempt = 0
        while True:
            try:
                # ccxt keeps its first answer, an empty one too: a further try has to ask anew
                await self.exchange.load_markets(reload or attempt > 0)
                name, detail = "no market at all", "the exchange lists no market at all"
            except self._errors as error:
                name, detail = type(error).__name__, self._redactor.error(error)
                if name in _FATAL and not reload:
                    raise FatalError(f"cannot load the markets of {self.options.id}: {detail}") from None
            else:
                if self.exchange.markets:
                    get_logger().info(
                        "markets_loaded", exchange=self.options.id, markets=len(self.exchange.markets)
                    )
                    return
            if not reload:
                self._sink.lost(Fault(self._streams, "disconnect", f"no markets: {name}"), None)
            delay_s = self._keep.delay_s(attempt)
            get_logger().warning(
                "markets_unavailable",
                exchange=self.options.id,
                attempt=attempt,
                retry_in_s=round(delay_s, 3),
                detail=detail,
            )
            attempt += 1
            await asyncio.sleep(delay_s)

    async def _reload(self) -> None:
        """Take the markets anew once a day: tick sizes and contract sizes change."""
        while True:
            await asyncio.sleep(self.options.markets_reload_s)
            await self._refresh()

    async def _refresh(self) -> None:
        await self._load_markets(reload=True)
        there = {s: name for s, name in self._unified.items() if name in self.exchange.markets}
        assert self.hooks is not None
        self.hooks.results.translator.contracts = contracts(self.exchange, there)
        self._sink.instruments(instruments(self.exchange, there))

    # -- what the hooks tell

    def stream_ended(self, stream: Stream, fault: Fault) -> None:
        """Be told that a stream's connection was dropped."""
        self._keep.ended(stream, fault)

    def stream_heard(self, stream: Stream) -> None:
        """Be told that a stream's subscription is in force: what came before it is fetched."""
        self._keep.heard(stream)
        assert self.hooks is not None
        if stream.channel == "trades" and self.options.backfill:
            memory = self.hooks.results.memory(stream.symbol)
            lost, memory.lost_after = memory.lost_after, None
            if lost is not None and lost != (None, None):
                self._spawn(self._backfill(stream, Span(*lost)))

    def hole(self, stream: Stream, after: int, before: int) -> None:
        """Be told that live trades are missing."""
        if self.options.backfill:
            self._spawn(self._backfill(stream, Span(str(after), None, before)))

    def _spawn(self, work: Any) -> None:
        if self._tasks is None or self._closing:
            work.close()
        else:
            self._tasks.create_task(work)

    async def _backfill(self, stream: Stream, span: Span) -> None:
        assert self.hooks is not None
        results, pages = self.hooks.results, self.options.backfill_pages
        symbol, found = stream.symbol, 0
        for attempt in range(_BACKFILL_TRIES):
            try:
                missed = await missed_trades(
                    self.exchange, results, symbol, self._unified[symbol], span, pages
                )
            except self._errors as error:
                get_logger().warning(
                    "backfill_failed", symbol=symbol, attempt=attempt, detail=self._redactor.error(error)
                )
            else:
                found = self._take_missed(stream, span, missed) or found
                if not missed.behind:
                    cut = missed.cut.why if missed.cut is not None else None
                    get_logger().info(
                        "trades_backfilled", symbol=symbol, trades=found, after=span.last_id, cut=cut
                    )
                    return
            await asyncio.sleep(self._keep.delay_s(attempt + 1))

    def _take_missed(self, stream: Stream, span: Span, missed: Missed) -> int:
        """Store what REST had of a hole, and compare it with what came live; return how many trades."""
        assert self.hooks is not None
        facts, symbol = missed.trades, stream.symbol
        memory = self.hooks.results.memory(symbol)
        if span.before is None:
            ids = filter(None, (span.last_id, *(fact.trade_id for fact in facts)))
            late = memory.caught_up(symbol, max(ids, key=_size, default=None))
            if late is not None:  # REST was behind: what it did not know yet, it will
                self._spawn(self._backfill(stream, Span(str(late.after), None, late.before)))
        elif span.last_id is not None and missed.whole:
            memory.judged(symbol, int(span.last_id), span.before, len(facts))
        for fact in facts:
            memory.seen(fact)
        if facts:
            self.backfilled += len(facts)
            self._sink.take(self._sink.capture(), facts)
        cut = missed.cut
        if cut is not None and cut.since is not None and not missed.behind:
            detail = f"cannot fill in all trades after {span.last_id or 'the gap'}: {cut.why}"
            self._sink.unfilled(stream, cut.since, cut.until, detail)
        return len(facts)

    # -- silence

    async def _watch(self) -> None:
        assert self.hooks is not None
        hooks = self.hooks
        while True:
            await asyncio.sleep(_WATCH_S)
            now = self._sink.capture().mono_ns
            for suspicion in hooks.watch.suspicions(list(hooks.connections.values()), now):
                self._spawn(self._suspect(suspicion))

    async def _suspect(self, suspicion: Suspicion) -> None:
        """Give a silent connection up, unless the exchange says that nothing was to be heard."""
        assert self.hooks is not None
        connection, streams = suspicion.connection, suspicion.streams
        if not suspicion.certain and not connection.unconfirmed:
            results = self.hooks.results
            for stream in streams:
                unified = self._unified[stream.symbol]
                if not await is_quiet(self.exchange, results, stream, unified, self._errors):
                    streams = (stream,)
                    break
            else:
                self.quiet_spells += 1
                return
        fault = Fault(tuple(connection.streams), "stale", suspicion.detail)
        self.hooks.drop(connection, fault, streams if suspicion.frozen else ())

    async def _failure(self) -> None:
        assert self.hooks is not None
        await self.hooks.failed

    def _stray(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what no handler of ccxt's took: the net below the hooks."""
        error = context.get("exception")
        get_logger().warning(
            "stray_exception_caught",
            exchange=self.options.id,
            message=self._redactor(str(context.get("message", "")))[:200],
            detail=self._redactor(f"{type(error).__name__}: {error}")[:300],
        )


def _size(trade_id: str) -> tuple[int, str]:
    """Return what orders ids that are numbers by their value."""
    return len(trade_id), trade_id
