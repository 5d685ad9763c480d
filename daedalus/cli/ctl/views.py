"""The commands that look once: status, tree, spec, count, stats, health. One question, one answer."""

import json
import sys
import time
from typing import Any

import click

from daedalus.cli.ctl import text
from daedalus.cli.ctl.connection import READ_TIMEOUT_S, Connection
from daedalus.cli.ctl.options import Options, example, global_options, one_name, some_names
from daedalus.cli.ctl.output import colored, say, say_json, show, width
from daedalus.cli.ctl.words import clean, grid, span
from daedalus.kernel.errors import EXIT_DIVERGES, EXIT_OK

__all__ = ["count", "health", "spec", "stats", "status", "tree"]


def _ask(options: Options, cmd: str, args: dict[str, Any]) -> Any:
    return Connection(options).call(cmd, args, options.timeout or READ_TIMEOUT_S)


@click.command(epilog=example("daedalus-ctl status 'ingest/*' --wide"))
@some_names(required=False)
@click.option("--wide", is_flag=True, help="More columns.")
@click.option(
    "--watch",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Show it again and again, until Ctrl-C.",
)
@global_options
def status(options: Options, names: tuple[str, ...], wide: bool, watch: float | None) -> None:
    """Show every actor: its state, process, memory, mailbox and last error.

    RST counts restarts since the supervisor started, 5! says that it flaps (ten or more in the last hour).
    MEM is anonymous memory, CPU% is of one core. Exits 3 when an actor shown, or any group, is not as it is
    wanted; one that was stopped on purpose is. The fields of --json are described in docs/status.schema.json.
    """
    connection = Connection(options)
    while True:
        document = connection.call("status", {"select": list(names)}, options.timeout or READ_TIMEOUT_S)
        if options.json:
            say_json(document)
        elif not options.quiet:
            if watch:
                click.clear()  # does nothing where there is no terminal
            say(text.table(document, wide=wide, width=width(), color=colored(options)), nl=False)
        if not watch:
            break
        time.sleep(watch)
    sys.exit(EXIT_DIVERGES if text.diverges(document) else EXIT_OK)


@click.command(epilog=example("daedalus-ctl tree"))
@global_options
def tree(options: Options) -> None:
    """Show groups and actors as a tree.

    Each group has its strategy and how much of its window of restarts is used up.
    """
    document = _ask(options, "status", {})
    show(options, document, lambda document: text.tree(document, color=colored(options)))


@click.command(epilog=example("daedalus-ctl spec store/writer-trades"))
@one_name()
@global_options
def spec(options: Options, name: str) -> None:
    """Show the effective values of one actor or group, under their names in supervisor.toml."""
    result = _ask(options, "spec", {"actors": [name]})
    show(
        options, result, lambda result: "\n".join(f"{key} = {_plain(value)}" for key, value in result.items())
    )


@click.command(epilog=example("daedalus-ctl count store"))
@one_name("group", required=False)
@global_options
def count(options: Options, group: str | None) -> None:
    """Count the direct children of a group (default: root).

    As OTP's count_children: specs are all that are known, active those that have a process.
    """
    result = _ask(options, "count", {"group": group})
    show(options, result, lambda result: " ".join(f"{key}={value}" for key, value in result.items()))


@click.command(epilog=example("daedalus-ctl stats ingest"))
@some_names(required=False)
@global_options
def stats(options: Options, names: tuple[str, ...]) -> None:
    """Show what actors last reported of themselves: counters, queues, files.

    They report once a minute; the age of the report stands beside the name.
    """
    connection = Connection(options)
    timeout = options.timeout or READ_TIMEOUT_S
    result = connection.call("stats", {"select": list(names)}, timeout)
    if options.json or options.quiet:
        show(options, result, lambda _: "")
        return
    blocks = [_block(item) for item in result["actors"]]
    if any(item["role"] == "collector" for item in result["actors"]):
        blocks.append(_collectors(connection.call("status", {"select": list(names)}, timeout)))
    say("\n\n".join(blocks) or "no actors")


def _block(item: dict[str, Any]) -> str:
    head = f"{item['name']}  {item['role']}"
    if item["stats"] is None:
        return f"{head}\n  has reported nothing"
    rows = _flat(item["stats"])
    wide = max((len(key) for key, _ in rows), default=0)
    age = "" if item["age_s"] is None else f"  ({span(item['age_s'])} ago)"
    return "\n".join([f"{head}{age}", *(f"  {key.ljust(wide)}  {clean(value)}" for key, value in rows)])


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return the values with dotted names, in their order."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, "-" if value is None else _plain(value)))
    return rows


def _collectors(document: dict[str, Any]) -> str:
    collectors = [item for item in document["actors"] if item["role"] == "collector"]
    healthy = sum(item["state"] == "running" for item in collectors)
    return f"Health: {healthy}/{len(collectors)} collectors healthy"


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@click.command(epilog=example("daedalus-ctl health"))
@global_options
def health(options: Options) -> None:
    """Show the indicators of health with their limits. Exits 3 when one is bad."""
    result = _ask(options, "health", {})
    show(options, result, _indicators)
    bad = not result["ok"] or any(item["level"] == "bad" for item in result["indicators"])
    sys.exit(EXIT_DIVERGES if bad else EXIT_OK)


def _indicators(result: dict[str, Any]) -> str:
    rows = [
        (
            item["name"],
            item["level"],
            _amount(item["value"], item["unit"]),
            _amount(item["limit"], item["unit"]),
            clean(item["text"] or ""),
        )
        for item in result["indicators"]
    ]
    return grid(("INDICATOR", "LEVEL", "VALUE", "LIMIT", "MEANING"), rows)


def _amount(value: Any, unit: str | None) -> str:
    if value is None:
        return "-"
    number = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"{number} {unit}" if unit else number
