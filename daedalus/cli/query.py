"""`daedalus query`: SQL over the data set, or a look into any Parquet file or directory."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import polars as pl

__all__ = ["command"]

_TABLES = ("orderbook", "trades", "ticker", "depth", "bidask", "ohlcv", "instruments", "frames", "gaps")
_TERMINAL_ROWS = 50


@click.command("query")
@click.argument("what", metavar="PATH|SQL")
@click.option(
    "--data", default="./data", show_default=True, type=click.Path(path_type=Path), help="Data directory."
)
@click.option("--engine", type=click.Choice(["polars", "duckdb"]), default="polars", show_default=True)
@click.option("--limit", type=click.IntRange(min=0), help="Rows at most; a terminal shows 50 without it.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines; the default where stdout is no terminal.")
def command(what: str, data: Path, engine: str, limit: int | None, *, as_json: bool) -> None:
    """Print rows of a Parquet PATH (file, directory, glob), or of a SQL query.

    SQL sees the channels of --data as tables: orderbook, trades, ticker, depth, gaps, instruments and what
    else was collected. Symbols are stored sanitised: BTC-USDT. Exits 2 for a query that the engine does not
    understand.
    """
    as_json = as_json or not sys.stdout.isatty()
    if limit is None and not as_json:
        limit = _TERMINAL_ROWS
    found = _paths(what)
    if not found and not any(sign.isspace() for sign in what.strip()):
        raise click.UsageError(f"cannot query {what}: no such Parquet file or directory, and no SQL")
    try:
        table = (_by_duckdb if engine == "duckdb" else _by_polars)(what, found, data, limit)
    except _misunderstandings() as error:
        raise click.UsageError(f"cannot query {what}: {_said(error, what, engine)}") from error
    except _failures() as error:
        raise click.ClickException(f"cannot query {what}: {_said(error, what, engine)}") from error
    _show(table, as_json=as_json)


def _paths(what: str) -> list[Path]:
    try:
        path = Path(what)
        if path.is_dir():
            return sorted(found for found in path.rglob("*.parquet") if not found.name.startswith("."))
        if path.is_file():
            return [path]
    except (OSError, ValueError):  # a SQL text is no file name
        return []
    if "*" in what and not any(sign.isspace() for sign in what):
        return sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
    return []


def _by_polars(what: str, found: list[Path], data: Path, limit: int | None) -> "pl.DataFrame":
    import polars as pl

    from daedalus.dataset.scan import scan, scan_files

    if found:
        frame = scan_files(found)
    else:
        frame = pl.SQLContext({name: scan(data, name) for name in _tables(data)}).execute(what, eager=False)
    return (frame if limit is None else frame.limit(limit)).collect()


def _by_duckdb(what: str, found: list[Path], data: Path, limit: int | None) -> "pl.DataFrame":
    try:
        import duckdb
    except ImportError as error:
        raise click.UsageError(
            "cannot use the engine duckdb: it is not installed; pip install 'daedalus-marketdata[duckdb]'"
        ) from error
    import polars as pl

    from daedalus.dataset.bronze import schema
    from daedalus.dataset.scan import files

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        if found:
            result = connection.read_parquet(
                [str(path) for path in found], hive_partitioning=False, union_by_name=True
            )
        else:
            for name in _tables(data):
                paths = [str(path) for path in files(data, name)]
                if paths:
                    view = connection.read_parquet(paths, hive_partitioning=False, union_by_name=True)
                    view.create_view(name)
                else:
                    connection.register(name, schema(name).empty_table())
            result = connection.sql(what)
        if result is None:
            return pl.DataFrame()
        table = (result if limit is None else result.limit(limit)).to_arrow_table()
    frame = pl.from_arrow(table)
    return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()


def _tables(data: Path) -> list[str]:
    """Return the channels that SQL sees: the usual ones, and whatever else is stored."""
    from daedalus.dataset.layout import Layout

    stored = {path.name for path in Layout(data=str(data)).ready().glob("*/*") if path.is_dir()}
    return [*_TABLES, *sorted(name for name in stored - set(_TABLES) if not name.startswith("."))]


def _said(error: Exception, what: str, engine: str) -> str:
    """Return what an engine says in one line, without the innards that polars prints behind it."""
    text = str(error).strip().partition("\n")[0].rstrip(": ")
    if text != "statement type is not supported":
        return text
    verb = what.split(maxsplit=1)[0].upper()
    return f"{engine} answers SELECT, not {verb}: stored data are never changed by a query"


def _misunderstandings() -> tuple[type[Exception], ...]:
    """What a query raises that asks for what is not there, or in words that the engine does not know."""
    import polars as pl

    ours = (
        *(pl.exceptions.SQLInterfaceError, pl.exceptions.SQLSyntaxError),
        *(pl.exceptions.ColumnNotFoundError, pl.exceptions.SchemaError),
    )
    duckdb = sys.modules.get("duckdb")
    return ours if duckdb is None else (*ours, duckdb.ProgrammingError, duckdb.NotSupportedError)


def _failures() -> tuple[type[Exception], ...]:
    """What a wrong query raises, without importing an engine that was not asked for."""
    import polars as pl

    duckdb = sys.modules.get("duckdb")
    return (pl.exceptions.PolarsError, OSError, ValueError, *(() if duckdb is None else (duckdb.Error,)))


def _show(table: "pl.DataFrame", *, as_json: bool) -> None:
    import polars as pl

    if as_json:
        click.echo(table.write_ndjson(), nl=False)  # click knows a reader that has gone (`| head`)
        return
    width = shutil.get_terminal_size().columns
    with pl.Config(
        tbl_width_chars=width, tbl_rows=-1, tbl_cols=-1, tbl_hide_dataframe_shape=True, fmt_str_lengths=80
    ):
        click.echo(str(table))
    click.echo(f"{table.height} rows")
