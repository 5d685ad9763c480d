"""An actor: one process, one event loop, one thing to do. The base class and its loop.

The life of an actor, in the order of its methods:

    __init__(settings, context)   in the new process, before the loop: store, allocate; no sockets yet
    start()                       open sockets, start tasks; READY is sent when it returns
    …                             handlers run on the loop, which also sends the heartbeat
    drain()                       once, at SIGTERM: stop intake, flush what is in memory
    stop()                        always last: close what start opened

An exception in start, drain, stop or in a task given to `spawn` ends the process with exit 1 (78 for
FatalError) and its supervisor decides. Nothing is caught in between: let it crash.

Nothing here lasts for ever once the end has begun: drain has `drain_s`, stop STOP_S, and after the death of
the supervisor the `leash` ends what is left.
"""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Coroutine
from functools import partial
from typing import Any, ClassVar, NamedTuple

import msgspec

from daedalus.kernel import leash
from daedalus.kernel.errors import EXIT_CONFIG, EXIT_FAILED, EXIT_OK, FatalError
from daedalus.kernel.notify import Notifier
from daedalus.kernel.telemetry import configure, get_logger

__all__ = ["Actor", "Context", "Drained", "run"]

ORPHAN_DRAIN_S = 1.0  # after the supervisor's death only what is in memory is drained
ORPHAN_STOP_S = 1.0  # and then it is killed: nothing outlives the supervisor by 3 s
STOP_S = 5.0
READY_TRIES = 40
READY_RETRY_S = 0.05
STATS_LOG_S = 60.0
STATS_TELL_S = 10.0  # to the supervisor, for `daedalus-ctl stats`


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """Who this process is."""

    name: str  # "store/writer-orderbook"
    generation: int = 1
    runtime: str = ""
    data: str = ""
    supervisor_pid: int = 0  # 0: nobody supervises (tests, `daedalus simulate`)
    heartbeat_interval_s: float = 2.0
    drain_s: float = 5.0


class Drained(NamedTuple):
    """What drain answers: what was left behind and what was brought home."""

    in_flight: int
    flushed: int


class Actor:
    """Base of all actors. A subclass names its frozen `Settings` Struct and fills in the hooks."""

    Settings: ClassVar[type[msgspec.Struct]]

    def __init__(self, settings: Any, context: Context) -> None:
        """Store what the actor was told. Subclasses call this first."""
        self.settings = settings
        self.context = context
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ended: asyncio.Future[int] | None = None

    async def start(self) -> None:
        """Open sockets and begin to work. READY is sent when this returns."""

    async def drain(self) -> Drained:
        """Stop intake and flush, within `context.drain_s`. Peers may still be there."""
        return Drained(0, 0)

    async def stop(self) -> None:
        """Close what `start` opened. Called after drain, and also when start or drain failed."""

    def mailbox(self) -> int:
        """Return how many items wait to be worked on; shown as MBOX by the control program."""
        return 0

    def stats(self) -> dict[str, int | float | str | None]:
        """Return counters for `daedalus-ctl stats` and the one `actor_stats` line per minute."""
        return {}

    def status(self) -> str:
        """Return in one line what is out of the ordinary, for `daedalus-ctl status`; "" when nothing is."""
        return ""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a task beside the loop. An exception in it ends the actor."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def leave(self, code: int = EXIT_OK) -> None:
        """End the actor in good order: drain, stop, exit with `code`."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(code)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or self._ended is None or self._ended.done():
            return
        error = task.exception()
        if error is not None:
            self._ended.set_exception(error)


class _Beat:
    """The heartbeat: sent by the loop itself, so that it proves what it claims."""

    def __init__(self, actor: Actor, notifier: Notifier) -> None:
        self._actor = actor
        self._notifier = notifier
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None

    def beat(self) -> None:
        self._notifier.send(WATCHDOG=1, X_DAEDALUS_MAILBOX=self._actor.mailbox())
        self._handle = self._loop.call_later(self._actor.context.heartbeat_interval_s, self.beat)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


async def _report(actor: Actor, notifier: Notifier) -> None:
    """Tell the supervisor how things are, and the log too but less often."""
    log, loop = get_logger(), asyncio.get_running_loop()
    log_at = loop.time() + STATS_LOG_S
    said = ""
    while True:
        await asyncio.sleep(STATS_TELL_S)
        stats = actor.stats()
        notifier.send(X_DAEDALUS_STATS=msgspec.json.encode(stats).decode())
        if (status := actor.status()) != said and notifier.status(status):
            said = status
        if loop.time() >= log_at - STATS_TELL_S / 2:
            log_at += STATS_LOG_S
            log.info("actor_stats", **stats)


def _broken(ended: "asyncio.Future[int]", loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """End the actor for an exception in one of its callbacks: a mailbox half read is worse than a restart."""
    error = context.get("exception")
    if "handle" in context and isinstance(error, Exception) and not ended.done():
        ended.set_exception(error)
    else:
        loop.default_exception_handler(context)


async def _live(actor: Actor) -> int:
    loop = asyncio.get_running_loop()
    notifier = Notifier()
    ended: asyncio.Future[int] = loop.create_future()
    actor._ended = ended  # noqa: SLF001 - the loop and its actor are one thing in two parts
    loop.set_exception_handler(partial(_broken, ended))
    draining: asyncio.Timeout | None = None

    def told_to_go() -> None:
        if draining is None:
            actor.leave()
        elif not draining.expired():
            draining.reschedule(loop.time())  # told again: there is no more time

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        loop.add_signal_handler(number, told_to_go)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # comes with SIGCONT to a stopped orphan
    beat = _Beat(actor, notifier)
    reporter = loop.create_task(_report(actor, notifier))
    code = EXIT_FAILED
    try:
        await actor.start()
        if actor.context.supervisor_pid:
            gc.collect()
            gc.freeze()  # a full collection of what start-up left takes 6 ms, and of nothing none
        await _announce(actor, notifier)
        if actor.context.heartbeat_interval_s > 0:
            beat.beat()
        code = await ended
        orphaned = leash.is_orphan(actor.context.supervisor_pid)
        notifier.send(STOPPING=1)
        deadline_s = ORPHAN_DRAIN_S if orphaned else actor.context.drain_s
        try:
            async with asyncio.timeout(deadline_s) as draining:
                drained = await actor.drain()
            draining = None
            notifier.send(
                X_DAEDALUS_DRAINED=1,
                X_DAEDALUS_IN_FLIGHT=drained.in_flight,
                X_DAEDALUS_FLUSHED=drained.flushed,
            )
        except TimeoutError:
            draining = None
            get_logger().warning("drain_timed_out", drain_s=deadline_s, mailbox=actor.mailbox())
    finally:
        beat.cancel()
        reporter.cancel()
        if not await _close(actor):
            code = code or EXIT_FAILED
        notifier.close()
    return code


async def _announce(actor: Actor, notifier: Notifier) -> None:
    """Say READY. The supervisor's socket may be full, and a lost READY would be the end."""
    for _ in range(READY_TRIES):
        if notifier.send(READY=1, X_DAEDALUS_MAILBOX=actor.mailbox()):
            break
        await asyncio.sleep(READY_RETRY_S)


async def _close(actor: Actor) -> bool:
    """End the actor's tasks, then close it, each within STOP_S. False: something would not end."""
    tasks = [task for task in actor._tasks if not task.done()]  # noqa: SLF001
    for task in tasks:
        task.cancel()
    closed = True
    for ending in (asyncio.gather(*tasks, return_exceptions=True), actor.stop()):
        try:
            async with asyncio.timeout(STOP_S):
                await ending
        except TimeoutError:
            closed = False
            get_logger().warning("stop_timed_out", stop_s=STOP_S)
    return closed


def run(cls: type[Actor], settings: bytes, context: Context) -> int:
    """Live as one actor and return the exit code. The one place where an actor's exception ends.

    Args:
        cls: the actor's class.
        settings: MessagePack of its `Settings`.
        context: who the process is.
    """
    leash.tie(context.supervisor_pid, ORPHAN_DRAIN_S + ORPHAN_STOP_S)
    configure(context.name, context.generation)
    log = get_logger()
    try:
        actor = cls(msgspec.msgpack.decode(settings, type=cls.Settings), context)
        return asyncio.run(_live(actor))
    except FatalError as error:
        log.error("actor_failed", error=str(error), fatal=True)  # noqa: TRY400 - the message is the whole story
        return EXIT_CONFIG
    except Exception as error:  # house rule 3: the actor loop is one of three such places
        log.exception("actor_failed", error=f"{type(error).__name__}: {error}", fatal=False)
        return EXIT_FAILED
    finally:
        with contextlib.suppress(OSError):  # an orphan's pipes have no reader
            sys.stdout.flush()
            sys.stderr.flush()
        leash.cut(context.supervisor_pid)
