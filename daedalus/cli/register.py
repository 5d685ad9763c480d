"""`daedalus register`: what symbols are called on disk: list the registry, add to it, check it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daedalus.cli.progress import Progress
from daedalus.kernel.errors import EXIT_DIVERGES, EXIT_OK, FatalError
from daedalus.records import sanitise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daedalus.dataset.layout import Layout
    from daedalus.dataset.symbols import Entry, Registry

__all__ = ["command"]

_COLUMNS = ("exchange", "symbol", "name", "type", "base", "quote", "settle", "former")
_data = click.option(
    "--data", default="./data", show_default=True, type=click.Path(path_type=Path), help="Data directory."
)
_json = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")


@click.group("register")
def command() -> None:
    """What each symbol is called on disk. Collectors add theirs when they start."""


@command.command("list")
@click.argument("exchange", required=False)
@_data
@_json
def list_names(exchange: str | None, data: Path, *, as_json: bool) -> None:
    """List the symbols of EXCHANGE, or of all."""
    _, registry = _open(data)
    rows = [_row(*entry) for entry in registry.entries(exchange)]
    if as_json:
        _print({"symbols": rows})
        return
    table = [_COLUMNS, *(tuple(_cell(row[name]) for name in _COLUMNS) for row in rows)]
    widths = [max(len(row[at]) for row in table) for at in range(len(_COLUMNS))]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@command.command("add")
@click.argument("exchange")
@click.argument("symbol")
@click.option("--name", help="Another name on disk than the usual one.")
@click.option("--type", "kind", type=click.Choice(["spot", "swap", "future", "option"]))
@click.option("--base")
@click.option("--quote")
@click.option("--settle")
@_data
@_json
def add(
    exchange: str,
    symbol: str,
    name: str | None,
    kind: str | None,
    data: Path,
    *,
    as_json: bool,
    **market: Any,
) -> None:
    """Give SYMBOL of EXCHANGE its name, and print it. The same again changes nothing."""
    from daedalus.config.values import parse_symbol

    try:
        parse_symbol(symbol)
    except ValueError as error:
        raise click.UsageError(f"cannot use {symbol!r}: {error}") from error
    _, registry = _open(data)
    try:
        given = registry.claim(exchange, symbol, name, type=kind, **market)
        registry.save()
    except FatalError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot write the registry of {data}: {error}") from error
    if as_json:
        _print(next(_row(*entry) for entry in registry.entries(sanitise(exchange)) if entry[1] == symbol))
    else:
        click.echo(given)


@command.command("check")
@click.option("--fix", is_flag=True, help="Add what is stored and not in the registry.")
@_data
@_json
def check(data: Path, *, fix: bool, as_json: bool) -> None:
    """Compare the registry with the symbols in the stored rows. Exits 3 when they differ."""
    layout, registry = _open(data)
    progress = Progress("reading", "directories")
    try:
        found = list(_findings(layout, registry, progress.step, fix=fix))
        if fix:
            registry.save()
    except OSError as error:
        raise click.ClickException(f"cannot check {data}: {error}") from error
    finally:
        progress.close()
    left = [finding for finding in found if not finding["fixed"]]
    if as_json:
        _print({"ok": not left, "findings": found})
    else:
        for finding in found:
            click.echo(f"{finding['path']}: {finding['message']}{' (added)' if finding['fixed'] else ''}")
        click.echo(f"{len(registry.entries())} symbols, {len(left)} faults", err=True)
    sys.exit(EXIT_DIVERGES if left else EXIT_OK)


def _open(data: Path) -> "tuple[Layout, Registry]":
    from daedalus.dataset.layout import Layout
    from daedalus.dataset.symbols import Registry

    if not data.is_dir():
        raise click.ClickException(f"cannot read {data}: no such directory")
    layout = Layout(data=str(data))
    try:
        return layout, Registry.load(layout)
    except (FatalError, OSError) as error:
        raise click.ClickException(f"cannot read the registry of {data}: {error}") from error


def _findings(
    layout: "Layout", registry: "Registry", step: "Callable[[int, int], None]", *, fix: bool
) -> "Iterator[dict[str, Any]]":
    """Yield every directory whose rows are of another symbol than the registry says, or of none it knows."""
    known = {
        (exchange, name): raw
        for exchange, raw, entry in registry.entries()
        for name in (entry.symbol, *entry.former)
    }
    found = sorted(layout.ready().glob("*/*/exchange=*/symbol=*"))
    directories = [path for path in found if path.parts[-3] not in ("gaps", "frames")]
    for done, path in enumerate(directories, 1):
        exchange = path.parent.name.removeprefix("exchange=")
        name = path.name.removeprefix("symbol=")
        where = str(path.relative_to(layout.data))
        for raw in _symbols_in(path):
            listed = known.get((exchange, name))
            if listed == raw:
                continue
            if listed is not None:
                message = f"rows of {raw!r} lie under the name of {listed!r}"
                yield {"path": where, "message": message, "fixed": False}
                continue
            message, fixed = f"{raw!r} of {exchange} is not in the registry", False
            if fix:
                try:
                    registry.claim(exchange, raw, name)
                    known[exchange, name], fixed = raw, True
                except FatalError as error:
                    message = str(error)
            yield {"path": where, "message": message, "fixed": fixed}
        step(done, len(directories))


def _symbols_in(path: Path) -> list[str]:
    """Return the symbols, as configured, in the newest and the oldest file of a directory."""
    import polars as pl

    files = sorted(path.rglob("*.parquet"))
    raw: set[str] = set()
    for file in {*files[:1], *files[-1:]}:
        try:
            table = pl.read_parquet(file, columns=["symbol_raw"], hive_partitioning=False, glob=False)
        except pl.exceptions.PolarsError as error:
            raise click.ClickException(f"cannot read {file}: {error}") from error
        raw |= set(table["symbol_raw"].drop_nulls().unique().to_list())
    return sorted(raw)


def _row(exchange: str, raw: str, entry: "Entry") -> dict[str, Any]:
    return {
        "exchange": exchange,
        "symbol": raw,
        "name": entry.symbol,
        "type": entry.type,
        "base": entry.base,
        "quote": entry.quote,
        "settle": entry.settle,
        "former": entry.former,
    }


def _cell(value: Any) -> str:
    return (", ".join(value) if isinstance(value, list) else value) or "-"


def _print(answer: object) -> None:
    import msgspec

    click.echo(msgspec.json.encode(answer).decode())
