"""The commands that can go on: events of the tree, and what actors print.

Both streams are numbered, so a follower knows when it missed something, and says so.
"""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from daedalus.cli.ctl.connection import Connection, Gone, Refused
from daedalus.cli.ctl.options import Options, example, global_options, some_names
from daedalus.cli.ctl.output import say, say_json
from daedalus.cli.ctl.words import event_line, log_line, log_mark

__all__ = ["events", "logs", "moment"]

LINES = 100
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_DAY_TIME = re.compile(r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?")


@click.command(epilog=example("daedalus-ctl events --since 120 -f"))
@click.option(
    "--since", type=click.IntRange(min=0), default=0, metavar="SEQ", help="Only events after this number."
)
@click.option(
    "-f", "--follow", is_flag=True, help="Go on with those to come; exits 7 when the supervisor goes."
)
@global_options
def events(options: Options, since: int, follow: bool) -> None:
    """Print what happened in the tree, oldest first; with --json one object a line.

    Numbers have no gaps: what fell out of the supervisor's memory is told on standard error. docs/events.md
    lists the types and their values.
    """
    seen = since

    def ask() -> dict[str, Any]:
        return {"since": seen, "follow": follow}

    for event in _items(options, "events", ask):
        lost = event["seq"] - seen - 1
        if seen and lost > 0 and not options.quiet:
            click.echo(f"daedalus-ctl: {lost} events after {seen} are no longer known", err=True)
        seen = event["seq"]
        if options.json:
            say_json(event)
        else:
            say(event_line(event))


@click.command(epilog=example("daedalus-ctl logs ingest -f --since 10m"))
@some_names(required=False)
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"So many of the last lines (default: {LINES}; with --since all).",
)
@click.option(
    "-f", "--follow", is_flag=True, help="Go on with those to come; exits 7 when the supervisor goes."
)
@click.option(
    "--since", metavar="TIME", help="Only lines after it: '10m' ago, '14:05', or '2026-02-03T14:05:00Z'."
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(("text", "json")),
    default="text",
    help="Lines as text, or an object a line.",
)
@global_options
def logs(
    options: Options, names: tuple[str, ...], lines: int | None, follow: bool, since: str | None, output: str
) -> None:
    """Print what actors printed, merged by time. Of each the last 256 lines are known.

    Times are local; a time without a zone is local as well. Following survives restarts of the actor: its
    next generation is announced by a line.
    """
    try:
        after = None if since is None else moment(since, time.time())
    except ValueError as error:
        raise Refused("usage", str(error)) from None
    if lines is None and after is None:
        lines = LINES
    seen: dict[str, int] = {}  # actor -> its last line
    latest: float | None = None

    def ask() -> dict[str, Any]:
        if latest is None:
            return {"actors": list(names), "lines": lines, "follow": follow, "since": after}
        return {"actors": list(names), "lines": None, "follow": follow, "since": latest}

    for item in _items(options, "logs", ask):
        latest = item["ts"] if latest is None else max(latest, item["ts"])
        lost = _missing(item, seen)
        if lost < 0:
            continue
        if options.json or output == "json":
            say_json(item)
            continue
        if follow and lost:
            say(log_mark(item, f"{lost} line{'' if lost == 1 else 's'} lost"))
        say(log_line(item))


def _items(options: Options, cmd: str, ask: Callable[[], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the items of a stream, and go on after a supervisor that replaced its program.

    Args:
        options: where the supervisor is.
        cmd: the stream.
        ask: returns its arguments: those of the beginning, later those that go on from what was seen.
    """
    connection, args = Connection(options), ask()
    while True:
        try:
            yield from connection.stream(cmd, args, follow=args["follow"])
        except Gone:
            if not args["follow"]:
                raise
            again = connection.again()
            if again is None:
                message = f"cannot follow {cmd} any longer: the supervisor has left"
                raise Refused("unreachable", message) from None
            connection.close()
            connection, args = again, ask()
        else:
            return


def _missing(item: dict[str, Any], seen: dict[str, int]) -> int:
    """Return how many lines of this actor were never sent to us; below 0 when we had this one before."""
    if "seq" not in item:
        return 0
    seq = int(item["seq"])
    before = seen.get(item["actor"], seq - 1)
    seen[item["actor"]] = max(seq, before)
    return seq - before - 1


def moment(words: str, now: float) -> float:
    """Return the wall seconds that a person means.

    Args:
        words: a span before now ("10m", "1h30m"), a time of day (the last one that was), or an ISO date or
        time;
            without a zone it is local.
        now: wall seconds.

    Raises:
        ValueError: it is none of these.
    """
    from datetime import datetime, timedelta

    if _SPAN.fullmatch(words):
        return now - sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(words))
    try:
        if _DAY_TIME.fullmatch(words):
            today = datetime.fromtimestamp(now).astimezone().date()
            then = datetime.fromisoformat(f"{today}T{words.zfill(len(words) + (words[1] == ':'))}")
            if then.timestamp() > now:
                then -= timedelta(days=1)
            return then.timestamp()
        return datetime.fromisoformat(words).timestamp()
    except (ValueError, OverflowError, OSError):
        forms = "10m, 14:05, 2026-02-03T14:05:00Z"
        raise ValueError(f"cannot read the time {words!r}: it is like one of {forms}") from None
