"""`daedalus coverage`: how much of a stream was observed, and why not the rest."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daedalus.cli.progress import Progress
from daedalus.kernel.errors import EXIT_DIVERGES, EXIT_OK
from daedalus.records import sanitise

if TYPE_CHECKING:
    from daedalus.dataset.coverage import Cause, Coverage, Hole
    from daedalus.dataset.layout import Layout

__all__ = ["command"]

_US = 1_000_000


@click.command("coverage")
@click.argument("stream", metavar="EXCHANGE:SYMBOL")
@click.option("--channel", "channels", multiple=True, help="Of these channels; default: all that exist.")
@click.option("--from", "start", metavar="TIME", help="ISO 8601, UTC unless it says otherwise.")
@click.option("--to", "end", metavar="TIME", help="Exclusive.")
@click.option(
    "--data", default="./data", show_default=True, type=click.Path(path_type=Path), help="Data directory."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(
    stream: str, channels: tuple[str, ...], start: str | None, end: str | None, data: Path, *, as_json: bool
) -> None:
    """Print the share of time covered, and every hole with its cause.

    What counts is the gaps table, the numbers of the rows, and where collection began and ended; sealed
    segments only. A hole that no gap row tells of has the cause "unexplained": that is a fault. Exits 0 when
    all is covered, 3 when holes were found.
    """
    window = _window(start, end)
    exchange, _, symbol = stream.partition(":")
    if not exchange or not symbol:
        raise click.UsageError(f"cannot read {stream!r}: write EXCHANGE:SYMBOL, for example binance:BTC/USDT")
    if not data.is_dir():
        raise click.ClickException(f"cannot read {data}: no such directory")
    found = _ask(data, exchange, symbol, channels, window)
    if as_json:
        import msgspec

        shown = [_as_data(channel, one) for channel, one in found.items()]
        whole = all(one.is_whole for one in found.values())
        answer = {"exchange": exchange, "symbol": symbol, "whole": whole, "channels": shown}
        click.echo(msgspec.json.encode(answer).decode())
    else:
        for channel, one in found.items():
            _show(exchange, symbol, channel, one)
    sys.exit(EXIT_OK if all(one.is_whole for one in found.values()) else EXIT_DIVERGES)


def _window(start: str | None, end: str | None) -> tuple[datetime | None, datetime | None]:
    from daedalus.dataset.scan import instant

    try:
        first, last = (None if text is None else instant(text) for text in (start, end))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if first is not None and last is not None and first >= last:
        raise click.UsageError(f"cannot look from {start} to {end}: the end is not after the beginning")
    return first, last


def _ask(
    data: Path,
    exchange: str,
    symbol: str,
    channels: tuple[str, ...],
    window: tuple[datetime | None, datetime | None],
) -> "dict[str, Coverage]":
    from polars.exceptions import PolarsError

    from daedalus.dataset.coverage import cover
    from daedalus.dataset.layout import Layout
    from daedalus.dataset.ledger import channels_of, evidence, microseconds
    from daedalus.dataset.symbols import names_of

    layout = Layout(data=str(data))
    try:
        place, known = sanitise(exchange), names_of(layout, symbol)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    names = sorted(known.get(place, known[""]))
    first, last = window
    edges = {name: at if at is None else microseconds(at) for name, at in (("start", first), ("end", last))}
    progress = Progress("reading", "files")
    found = {}
    try:
        there = channels_of(layout, place, names)
        for channel in channels or there:
            if channel not in there:
                _nothing(layout, exchange, symbol, channel, there)
            runs, gaps, begun = evidence(
                layout, channel, place, names, start=first, end=last, step=progress.step
            )
            one = cover(runs, gaps, begun=begun, **edges)
            if one is not None:
                found[channel] = one
    except (OSError, ValueError, PolarsError) as error:
        raise click.ClickException(
            f"cannot read what {data} holds of {exchange}:{symbol}: {error}"
        ) from error
    finally:
        progress.close()
    if not found:
        _nothing(layout, exchange, symbol, "", [])
    return found


def _nothing(layout: "Layout", exchange: str, symbol: str, channel: str, there: list[str]) -> None:
    known = {
        f"{path.parent.name.removeprefix('exchange=')}:{path.name.removeprefix('symbol=')}"
        for path in layout.ready().glob("*/*/exchange=*/symbol=*")
    }
    hint = f"; there are {', '.join(there or sorted(known))}" if there or known else ""
    what = f"nothing of {channel}" if channel else "nothing"
    raise click.ClickException(
        f"cannot tell the coverage of {exchange}:{symbol}: {what} is stored in {layout.ready()}{hint}; "
        "journals that are not sealed yet are not read"
    )


# --- as data


def _iso(at: int) -> str:
    text = datetime.fromtimestamp(at // _US, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{at % _US:06d}Z"


def _as_data(channel: str, found: "Coverage") -> dict[str, Any]:
    outside = sum(b - a for a, b in found.not_collected)
    return {
        "channel": channel,
        "from": _iso(found.start),
        "to": _iso(found.end),
        "share": found.share,
        "covered_s": found.covered / _US,
        "holes_s": sum(hole.end - hole.start for hole in found.holes) / _US,
        "not_collected_s": outside / _US,
        "rows": found.rows,
        "unexplained": found.unexplained,
        "duplicates": found.duplicates,
        "disordered": found.disordered,
        "holes": [_hole(hole) for hole in found.holes],
        "not_collected": [{"from": _iso(a), "to": _iso(b)} for a, b in found.not_collected],
    }


def _hole(hole: "Hole") -> dict[str, Any]:
    return {
        "from": _iso(hole.start),
        "to": _iso(hole.end),
        "length_s": (hole.end - hole.start) / _US,
        "lost": hole.lost,
        "causes": [_cause(cause) for cause in hole.causes],
    }


def _cause(cause: "Cause") -> dict[str, Any]:
    return {
        "reason": cause.reason,
        "from": _iso(cause.start),
        "to": _iso(cause.end),
        "session_id": cause.session,
        "first_seq": cause.first_seq,
        "last_seq": cause.last_seq,
        "lost": cause.lost,
        "detail": cause.detail,
    }


# --- for people


def _show(exchange: str, symbol: str, channel: str, found: "Coverage") -> None:
    share = "-" if found.share is None else f"{found.share:.4%}"
    click.echo(f"{exchange}:{symbol} {channel}  {share}  {_iso(found.start)} to {_iso(found.end)}")
    for a, b in found.not_collected:
        click.echo(f"  {_iso(a)}  {_length(b - a):>10}  not collected")
    for hole in found.holes:
        reasons = ", ".join(dict.fromkeys(cause.reason for cause in hole.causes))
        lost = "" if hole.lost is None else f", {hole.lost} lost"
        details = "; ".join(dict.fromkeys(cause.detail for cause in hole.causes if cause.detail))
        click.echo(
            f"  {_iso(hole.start)}  {_length(hole.end - hole.start):>10}  {reasons}{lost}"
            + (f"  ({details})" if details else "")
        )
    for count, words in (
        (found.unexplained, "unexplained: rows are missing, and no gap row says why"),
        (found.duplicates, "rows stored twice"),
        (found.disordered, "rows out of the order of their capture"),
    ):
        if count:
            click.echo(f"  FAULT: {count} {words}")


def _length(us: int) -> str:
    seconds = us / _US
    if seconds < 60:
        return f"{seconds:.3f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
