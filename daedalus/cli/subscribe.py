"""`daedalus subscribe EXCHANGE SYMBOL`: live rows in the terminal."""

import contextlib
import json
import math
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import click

from daedalus.kernel.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from daedalus.client import Feed, Row

__all__ = ["command"]

_INTERRUPTED = 130
_USUAL = ("mid_price", "spread_bps", "microprice", "imbalance_L0", "ofi_step", "ofi_sum_5s", "tfi_60s")
_COLUMNS = 7  # of features, when none are named
_WIDTH = 14
_HEADER_EVERY = 40  # rows, on a terminal


@contextlib.contextmanager
def _leaving(code: int) -> Iterator[None]:
    """Let SIGINT end the process at once, with `code`: 0 is the ordinary end of an endless stream.

    Raised as an exception it may land in a finaliser, where Python has to ignore it, and be lost. Every row
    has been flushed, and nothing is held that the kernel does not clean up.
    """
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(code))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@click.command("subscribe")
@click.argument("exchange")
@click.argument("symbol")
@click.option(
    "--features", metavar="A,B,C", help="Columns to print, in this order (default: a few; with --json all)."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line; a missing value is null.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N rows.")
@click.option("--bars", type=click.IntRange(min=1), metavar="SECONDS", help="Bars instead of rows.")
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

    \b
    daedalus subscribe binance BTC/USDT
    daedalus subscribe binance BTC/USDT --features mid_price,ofi_sum_5s --json --count 10
    """  # noqa: D301 - the backspace itself tells click to keep the lines
    from daedalus.client import subscribe

    if options["bars"] is not None:
        raise click.UsageError("--bars is not available yet: this version publishes rows, not bars")
    features = None
    if options["features"] is not None:
        features = [name.strip() for name in options["features"].split(",") if name.strip()]
        if not features:
            raise click.UsageError("--features names no column")
    try:
        feed = subscribe(
            exchange,
            symbol,
            features=features,
            endpoint=options["endpoint"],
            runtime=options["runtime"],
            timeout_s=options["timeout_s"],
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except LookupError as error:
        _fail(ctx, str(error))
    interrupted = EXIT_OK if options["count"] is None else _INTERRUPTED
    try:
        with feed, _leaving(interrupted):
            _print(feed, as_json=options["as_json"], count=options["count"], chosen=features is not None)
    except (LookupError, TimeoutError) as error:
        _fail(ctx, str(error))
    except KeyboardInterrupt:  # while connecting
        ctx.exit(interrupted)
    except BrokenPipeError:
        # the reader has had enough (`| head`); keep the interpreter from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        ctx.exit(EXIT_OK)


def _fail(ctx: click.Context, message: str) -> NoReturn:
    click.echo(f"daedalus: {message}", err=True)
    ctx.exit(EXIT_FAILED)


def _print(feed: "Feed", *, as_json: bool, count: int | None, chosen: bool) -> None:
    names = feed.schema.names
    if not chosen and not as_json:
        usual = [name for name in _USUAL if name in feed.schema.index]
        names = tuple(usual) or names[:_COLUMNS]
    for number, row in enumerate(_first(feed, count)):
        if as_json:
            line = json.dumps(as_object(row), ensure_ascii=False)
        else:
            if number == 0 or (sys.stdout.isatty() and number % _HEADER_EVERY == 0):
                print(heading(names))
            line = columns(row, names)
        print(line, flush=True)


def _first(feed: "Feed", count: int | None) -> "Iterator[Row]":
    for number, row in enumerate(feed, start=1):
        yield row
        if number == count:
            return


def as_object(row: "Row") -> dict[str, Any]:
    """Return a row as it is printed with --json; NaN becomes null."""
    values = {
        name: None if math.isnan(value) else value
        for name, value in zip(row.schema.names, row.values, strict=True)
    }
    return {
        "exchange": row.exchange,
        "symbol": row.symbol,
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
    seconds, ns = divmod(row.ts_recv_ns, 1_000_000_000)
    minutes, second = divmod(seconds % 86_400, 60)
    when = f"{minutes // 60:02}:{minutes % 60:02}:{second:02}.{ns // 1000:06}"
    cells = (f"{_cell(row[name]):>{max(_WIDTH, len(name))}}" for name in names)
    lost = [f"!{row.gap}"] if row.gap else []
    return "  ".join([when, f"{row.seq:>8}", *cells, *lost])


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.8g}"
