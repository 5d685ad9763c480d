"""`daedalus subscribe EXCHANGE SYMBOL`: live rows: a table that refreshes on a terminal, lines in a pipe."""

import contextlib
import itertools
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import click

from daedalus.kernel.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from daedalus.client import Feed, Row

__all__ = ["command"]

_INTERRUPTED = 130
_PATIENCE_S = 1.0
_USUAL = ("mid_price", "spread_bps", "microprice", "imbalance_L0", "ofi_step", "ofi_sum_5s", "tfi_60s")
_COLUMNS = 7  # of features, when none are named
_WIDTH = 14
_REFRESH_S = 0.1  # the table is not drawn more often
_HOME, _TO_LINE_END, _TO_END = "\x1b[H", "\x1b[K", "\x1b[J"


@contextlib.contextmanager
def _leaving(code: int) -> Iterator[threading.Lock]:
    """Let SIGINT end the process at once, with `code`; yields the lock that a line is printed under.

    A thread waits for the signal. Python's own handler runs between two steps of the main thread: a signal
    that comes just before that thread sleeps in a socket's poll is not seen until the next row.
    """
    printing, over = threading.Lock(), threading.Event()

    def wait() -> None:
        signal.sigwait({signal.SIGINT})
        if not over.is_set():
            printing.acquire(timeout=_PATIENCE_S)  # no half line, unless the reader has stopped reading
            os._exit(code)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    thread = threading.Thread(target=wait, name="interrupt", daemon=True)
    thread.start()
    try:
        yield printing
    finally:
        over.set()
        signal.pthread_kill(thread.ident or 0, signal.SIGINT)
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@click.command("subscribe")
@click.argument("exchange")
@click.argument("symbol")
@click.option(
    "--features", metavar="A,B,C", help="Columns to print, in this order (default: a few; with --json all)."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line; a missing value is null.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N rows.")
@click.option(
    "--bars", type=click.IntRange(min=1), metavar="SECONDS", help="Bars of so many seconds instead of rows."
)
@click.option("--plain", is_flag=True, help="Lines, on a terminal too.")
@click.option(
    "--runtime", metavar="DIR", help="Runtime directory [$DAEDALUS_RUNTIME, then the usual places]."
)
@click.option("--endpoint", metavar="ADDRESS", help="The gateway's address, ipc://PATH or tcp://HOST:PORT.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the gateway and the stream.",
)
@click.pass_context
def command(ctx: click.Context, /, exchange: str, symbol: str, **options: Any) -> None:
    """Print live feature rows of SYMBOL on EXCHANGE until interrupted.

    On a terminal this is one table of the latest row, drawn anew as rows come; elsewhere a line for each row.

    \b
    daedalus subscribe binance BTC/USDT
    daedalus subscribe binance BTC/USDT --features mid_price,ofi_sum_5s --json --count 10
    daedalus subscribe binance BTC/USDT --bars 60
    """  # noqa: D301 - the backspace itself tells click to keep the lines
    features = None
    if options["features"] is not None:
        features = [name.strip() for name in options["features"].split(",") if name.strip()]
        if not features:
            raise click.UsageError("--features names no column")
    # 0 is the ordinary end of an endless stream
    with _leaving(EXIT_OK if options["count"] is None else _INTERRUPTED) as printing:
        feed = _open(ctx, exchange, symbol, features, options)
        try:
            with feed:
                if options["as_json"] or options["plain"] or not sys.stdout.isatty():
                    lines = _lines(feed, as_json=options["as_json"], chosen=features is not None)
                    for line in itertools.islice(lines, options["count"]):
                        with printing:
                            print(line, flush=True)
                else:
                    _refresh(itertools.islice(feed, options["count"]), printing, features)
        except (LookupError, TimeoutError) as error:
            _fail(ctx, str(error))
        except BrokenPipeError:
            # the reader has had enough (`| head`); keep the interpreter from complaining at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(EXIT_OK)


def _open(
    ctx: click.Context, exchange: str, symbol: str, features: list[str] | None, options: dict[str, Any]
) -> "Feed":
    from daedalus.client import subscribe

    where = {name: options[name] for name in ("endpoint", "runtime", "timeout_s")}
    try:
        bars = options["bars"]
        kind = "feature" if bars is None else "bar"
        return subscribe(exchange, symbol, features=features, kind=kind, duration_s=bars, **where)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except (LookupError, TimeoutError) as error:
        _fail(ctx, str(error))


def _fail(ctx: click.Context, message: str) -> NoReturn:
    click.echo(f"daedalus: {message}", err=True)
    ctx.exit(EXIT_FAILED)


def _lines(feed: "Feed", *, as_json: bool, chosen: bool) -> Iterator[str]:
    names = feed.schema.names
    if not chosen and not as_json:
        usual = [name for name in _USUAL if name in feed.schema.index]
        names = tuple(usual) or names[:_COLUMNS]
    for number, row in enumerate(feed):
        if as_json:
            yield json.dumps(as_object(row), ensure_ascii=False)
        elif number == 0:
            yield heading(names) + "\n" + columns(row, names)
        else:
            yield columns(row, names)


def _refresh(rows: "Iterator[Row]", printing: threading.Lock, chosen: list[str] | None) -> None:
    """Draw the latest row over the one before; of rows that come faster than the eye, the last."""
    lost, drawn, last = 0, 0.0, None
    for row in rows:
        lost += row.gap
        last = row
        if time.monotonic() - drawn >= _REFRESH_S:
            _draw(row, lost, printing, chosen, first=not drawn)
            drawn, last = time.monotonic(), None
    if last is not None:
        _draw(last, lost, printing, chosen, first=not drawn)


def _draw(row: "Row", lost: int, printing: threading.Lock, chosen: list[str] | None, *, first: bool) -> None:
    width, height = shutil.get_terminal_size()
    lines = table(row, lost, tuple(chosen or row.schema.names), (width, height - 1))
    with printing:
        screen = f"{_TO_LINE_END}\n".join(lines)
        sys.stdout.write(f"{_HOME}{_TO_END if first else ''}{screen}{_TO_LINE_END}\n{_TO_END}")
        sys.stdout.flush()


def table(row: "Row", lost: int, names: tuple[str, ...], size: tuple[int, int]) -> list[str]:
    """Return the latest row as lines of at most `size` (columns, lines): names and values, in columns.

    What does not fit is left out, and the last line says how many columns that are.
    """
    width, height = size
    head = f"{row.exchange} {row.symbol}  {_when(row)}  seq {row.seq}  lost {lost}"
    cell = max(len(name) for name in names) + 2 + _WIDTH
    down = max(1, height - 2)
    across = 1 if len(names) <= down else max(1, (width + 3) // (cell + 3))
    shown = names[: across * down]
    if len(shown) < len(names):
        down = max(1, down - 1)
        shown = names[: across * down]
    else:
        down = -(-len(shown) // across)
    cells = [f"{name:<{cell - _WIDTH}}{_cell(row[name]):>{_WIDTH}}" for name in shown]
    lines = ["   ".join(cells[at::down]) for at in range(min(down, len(cells)))]
    more = len(names) - len(shown)
    lines += [f"and {more} more: choose with --features, or --json"] if more else []
    return [line[:width] for line in [head, "", *lines]][:height]


def as_object(row: "Row") -> dict[str, Any]:
    """Return a row as it is printed with --json; NaN becomes null."""
    values = {
        name: None if math.isnan(value) else value
        for name, value in zip(row.schema.names, row.values, strict=True)
    }
    return {
        "exchange": row.exchange,
        "symbol": row.symbol,
        **({} if row.duration_s is None else {"duration_s": row.duration_s}),
        "ts_event_ns": row.ts_event_ns,
        "ts_recv_ns": row.ts_recv_ns,
        "ts_pub_ns": row.ts_pub_ns,
        "session_id": row.session_id,
        "seq": row.seq,
        "gap": row.gap,
        "features": values,
    }


def heading(names: tuple[str, ...]) -> str:
    """Return the line above the columns."""
    return "  ".join([f"{'time':15}", f"{'seq':>8}", *(f"{name:>{_WIDTH}}" for name in names)])


def columns(row: "Row", names: tuple[str, ...]) -> str:
    """Return a row as columns: UTC time of capture, number, values; "-" is no value, "!n" n lost before."""
    cells = (f"{_cell(row[name]):>{max(_WIDTH, len(name))}}" for name in names)
    lost = [f"!{row.gap}"] if row.gap else []
    return "  ".join([_when(row), f"{row.seq:>8}", *cells, *lost])


def _when(row: "Row") -> str:
    seconds, ns = divmod(row.ts_recv_ns, 1_000_000_000)
    minutes, second = divmod(seconds % 86_400, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{second:02}.{ns // 1000:06}"


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.8g}"
