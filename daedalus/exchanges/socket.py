"""A native connection that lasts: opened again for ever, and replaced before the exchange cuts it.

    run ──▶ line ──lost──▶ wait (full jitter) ──▶ line ──▶ …
                └─old──▶ overlap: a second line beside it ──ready──▶ it takes over, no gap
                                                          └─not in a minute──▶ the first stays, later again

A socket that dies is opened again for ever; an exception of our own ends the actor.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from copy import copy

from daedalus.exchanges.adapter import Adapter, Control, Fact, Fault, Sink
from daedalus.exchanges.backoff import full_jitter
from daedalus.exchanges.freshness import Freshness
from daedalus.exchanges.line import Line
from daedalus.exchanges.overlap import Sieve
from daedalus.exchanges.shared import Shared, SocketOptions, shown
from daedalus.kernel.errors import FatalError
from daedalus.kernel.telemetry import get_logger

__all__ = ["NativeConnection", "SocketOptions", "missing_of"]

_HOUR_S = 3600.0
_SPREAD = 0.1  # a connection is replaced up to this share of its age earlier, by chance …
_SPREAD_S = 600.0  # … but no more than this
_AGE = 0.95  # of the age at which the exchange closes it: there must be time to try again
_AGAIN_S, _AGAIN_S_MAX = 60.0, 1800.0  # after a replacement that did not work
_GOODBYE_S = 2.0


class NativeConnection:
    """One connection of a native exchange, over all the sockets it has in its life."""

    def __init__(
        self,
        make: Callable[[], Adapter],
        sink: Sink,
        shared: Shared,
        number: int = 1,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Prepare; nothing is opened before `run`.

        Args:
            make: returns a new adapter object for the streams of this connection.
            sink: the collector.
            shared: what the connections of an exchange have in common.
            number: of this connection, from 1.
            uniform: `random.uniform`, or a test's own.
        """
        options = shared.options
        self._make = make
        self._sink = sink
        self._shared = shared
        self._number = number
        self._uniform = uniform
        self._closing = False
        self._runner: asyncio.Task[None] | None = None
        self._rotor: asyncio.Task[None] | None = None
        self._tasks: dict[Line, asyncio.Task[None]] = {}
        self._line = self._new(make(), Freshness(options.stale_min_s, options.stale_max_s))
        self._candidate: tuple[Line, Sieve] | None = None
        self._settled = asyncio.Event()  # the second connection is the first now, or was given up
        self._fresh = asyncio.Event()  # another socket is the trusted one
        self._messages = 0  # of lines that have ended
        self._instruments_owed = False

    @property
    def adapter(self) -> Adapter:
        """The adapter object that is fed now."""
        return self._line.adapter

    @property
    def open(self) -> bool:
        """Whether messages can arrive."""
        return self._line.open

    @property
    def messages(self) -> int:
        """Good messages since start."""
        return self._messages + sum(line.messages for line, task in self._tasks.items() if not task.done())

    # -- life

    async def run(self) -> None:
        """Keep the connection open until `close`.

        Raises:
            FatalError: the exchange refuses what the configuration asks for.
            Exception: whatever the sink or the adapter raised: a fault of ours, never the network's.
        """
        if self._closing:
            return
        loop = asyncio.get_running_loop()
        self._runner = loop.create_task(self._keep())
        self._rotor = loop.create_task(self._rotate())
        try:
            await asyncio.wait({self._runner, self._rotor}, return_when=asyncio.FIRST_COMPLETED)
            if self._said_goodbye():
                await asyncio.wait({self._runner})
            for task in (self._runner, self._rotor):
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            everything = [self._runner, self._rotor, *self._tasks.values()]
            for task in everything:
                task.cancel()
            await asyncio.gather(*everything, return_exceptions=True)

    async def close(self) -> None:
        """Say goodbye; `run` returns."""
        self._closing = True
        if self._rotor is not None:
            self._rotor.cancel()  # before its second connection ends under its hands
        tasks = list(self._tasks.items())
        for line, task in tasks:
            line.retire()
            if not line.open:
                task.cancel()
        if tasks:
            await asyncio.wait([task for _, task in tasks], timeout=_GOODBYE_S)
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])

    def _said_goodbye(self) -> bool:
        return self._closing

    def drop(self, fault: Fault) -> None:
        """Give the socket up and open another: `fault` is what the gap rows will say."""
        self._line.drop(fault)

    def snapshot(self) -> None:
        """Store the whole book of every valid depth stream."""
        if self._line.open:
            now = self._sink.capture()
            facts = self._line.adapter.snapshots()
            if facts:
                self._sink.take(now, facts)

    def ask_instruments(self, after_s: float = 0.0) -> None:
        """Ask what the markets of this connection are, as soon as it is open."""
        self._instruments_owed = True
        if self._line.open:
            self._instruments_owed = False
            self._line.errands.ask_instruments(after_s)

    def _new(self, adapter: Adapter, pace: Freshness) -> Line:
        return Line(self._number, adapter, self._sink, self._shared, pace, self._opened)

    def _start(self, line: Line) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(line.run())
        self._tasks[line] = task
        task.add_done_callback(lambda task: self._over(line, task))
        return task

    def _over(self, line: Line, task: "asyncio.Task[None]") -> None:
        self._messages += line.messages
        if line is not self._line and (self._candidate is None or line is not self._candidate[0]):
            self._tasks.pop(line, None)
            if not task.cancelled():
                task.exception()  # of a connection that nobody listens to any more

    def _opened(self, line: Line) -> None:
        if line is not self._line:
            return
        self._fresh.set()
        if self._instruments_owed:
            self._instruments_owed = False
            after_s = self._shared.options.instruments_after_s
            line.errands.ask_instruments(self._uniform(after_s / 2, after_s))

    async def _keep(self) -> None:
        attempt = 0
        line = self._line
        task = self._start(line)
        while True:
            await asyncio.wait([task])
            if self._closing:
                return
            if line is self._line:
                task.result()
                self._instruments_owed |= line.errands.instruments_owed
                if not self._promote():
                    attempt = 0 if line.fruitful else attempt + 1
                    await asyncio.sleep(self._wait_s(line, attempt))
                    del self._tasks[line]
                    self._line = self._new(line.adapter, line.pace)
                    self._line.watches.learn(line.watches)
                    self._start(self._line)
            self._tasks.pop(line, None)
            line = self._line  # a successor, of either kind
            task = self._tasks[line]

    def _wait_s(self, line: Line, attempt: int) -> float:
        options = self._shared.options
        wait_s = full_jitter(attempt, options.reconnect_base_s, options.reconnect_cap_s, self._uniform)
        fault = line.fault
        get_logger().warning(
            "connection_lost",
            url=shown(options.url),
            attempt=attempt,
            retry_in_s=round(max(wait_s, line.refused_s), 3),
            reason=fault.reason if fault is not None else None,
            detail=fault.detail if fault is not None else None,
        )
        return max(wait_s, line.refused_s)

    # -- a second connection

    async def _rotate(self) -> None:
        """Replace the socket whenever it is old, for ever."""
        while True:
            await self._fresh.wait()
            self._fresh.clear()
            wait_s, failures = self._age_s(), 0
            while not await self._fresh_within(wait_s):
                async with self._shared.turn:
                    detail = None if self._fresh.is_set() else await self._overlap()
                if detail is None:
                    break
                wait_s = self._again_s(failures)
                failures += 1
                get_logger().warning(
                    "rotation_failed",
                    url=shown(self._shared.options.url),
                    detail=detail,
                    retry_in_s=round(wait_s, 1),
                )

    async def _fresh_within(self, wait_s: float) -> bool:
        """Wait; return True as soon as another socket is the trusted one."""
        try:
            async with asyncio.timeout(wait_s):
                await self._fresh.wait()
        except TimeoutError:
            return False
        return True

    def _age_s(self) -> float:
        """Return an age at which to replace a socket, s: spread, so that many do not do it together."""
        oldest_s = self._oldest_s()
        return self._uniform(oldest_s - min(oldest_s * _SPREAD, _SPREAD_S), oldest_s)

    def _oldest_s(self) -> float:
        age_s = self._shared.options.rotate_after_h * _HOUR_S
        return age_s if self._shared.age_s is None else min(age_s, self._shared.age_s * _AGE)

    def _again_s(self, failures: int) -> float:
        least_s = min(_AGAIN_S, self._oldest_s() * _SPREAD)
        return least_s + full_jitter(failures, least_s, _AGAIN_S_MAX, self._uniform)

    async def _overlap(self) -> str | None:
        """Replace the socket by a second one; return why it did not work."""
        before = self._line
        if not before.open:
            return "there is no connection to replace"
        line = self._new(self._make(), copy(before.pace))
        if (inherit := getattr(line.adapter, "inherit", None)) is not None:
            inherit(before.adapter)
        sieve = Sieve(self._sink, comparable=getattr(line.adapter, "comparable", False))
        line.become_candidate(sieve, self._progressed, before)
        self._candidate = (line, sieve)
        self._settled.clear()
        task = self._start(line)
        settled = asyncio.ensure_future(self._settled.wait())
        ready_s = self._shared.options.ready_s
        try:
            await asyncio.wait({task, settled}, timeout=ready_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            settled.cancel()
        if self._line is line:
            return None
        self._candidate = None
        detail = f"not ready after {ready_s:g} s"
        if task.done():
            detail = line.fault.detail if line.fault is not None else "it was closed"
            error = None if task.cancelled() else task.exception()
            if isinstance(error, FatalError):  # the old connection is still there
                detail = str(error)
            elif error is not None:
                raise error
        await self._let_go(line)
        return detail

    async def _let_go(self, line: Line) -> None:
        line.retire()
        task = self._tasks.pop(line, None)
        if task is not None and not task.done():
            if line.open:
                await asyncio.wait([task], timeout=_GOODBYE_S)
            task.cancel()
            await asyncio.wait([task])

    def _progressed(self) -> None:
        """Let the second connection take over as soon as it can."""
        if self._candidate is None:
            return
        line, sieve = self._candidate
        before = self._line
        if not (line.open and line.adapter.ready()):
            return
        missing = missing_of(line.adapter)
        if not sieve.caught_up(before.watches, {stream for fault in missing for stream in fault.streams}):
            return
        ahead = sieve.ahead(before.watches)
        before.retire()
        self._trust(line, [*ahead, *line.adapter.snapshots()])
        for fault in missing:
            self._sink.lost(fault, None)
        if before.errands.instruments_owed:
            line.errands.ask_instruments(0.0)
        self._shared.rotations += 1
        get_logger().info(
            "connection_rotated",
            url=shown(self._shared.options.url),
            streams=len(line.adapter.streams),
            rotations=self._shared.rotations,
        )

    def _promote(self) -> bool:
        """Take the second connection, ready or not, because the first has died."""
        if self._candidate is None:
            return False
        line, sieve = self._candidate
        if not line.open:
            self._candidate = None
            self._settled.set()
            return False
        if self._shared.options.backfill:
            heard = frozenset(symbol for symbol, channel in sieve.acked if channel == "trades")
            line.errands.owe_backfill(heard)
        acked = tuple(stream for stream in sieve.acked if stream.channel not in ("orderbook", "depth"))
        self._trust(line, [Control("subscribed", acked), *line.adapter.snapshots()])
        return True

    def _trust(self, line: Line, facts: Sequence[Fact | Control]) -> None:
        self._candidate = None
        self._line = line
        line.go_live()
        if facts:
            self._sink.take(self._sink.capture(), facts)
        self._settled.set()
        self._fresh.set()


def missing_of(adapter: Adapter) -> list[Fault]:
    """Return a fault of each market that its exchange has no more, as far as an adapter can tell."""
    missing = getattr(adapter, "missing", None)
    return [] if missing is None else list(missing())
