"""`daedalus convert`: segments of JSON lines become the Parquet segments they would have been."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from daedalus.cli.progress import Progress
from daedalus.kernel.errors import EXIT_FAILED, EXIT_OK

__all__ = ["command"]

_SUFFIX = ".ndjson.zst"


@click.command("convert")
@click.argument(
    "paths", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True)
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Directory; default: beside each file."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(paths: tuple[Path, ...], out: Path | None, *, as_json: bool) -> None:
    """Turn FILE (.ndjson.zst, or a directory with such files) into Parquet, value for value.

    The files stay. What is there already is left alone, so that the command may be run again. Below --out
    partition directories are kept. Exits 1 if a file could not be converted.
    """
    found = list(_found(paths))
    if not found:
        raise click.UsageError(f"cannot convert {', '.join(map(str, paths))}: there is no {_SUFFIX} file")
    progress = Progress("converting", "files")
    results = []
    try:
        for done, path in enumerate(found, 1):
            results.append(_convert(path, _target(path, out)))
            progress.step(done, len(found))
    finally:
        progress.close()
    failed = [one for one in results if one["error"]]
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode({"ok": not failed, "files": results}).decode())
    else:
        for one in failed:
            click.echo(f"daedalus: {one['error']}", err=True)
        made = [one for one in results if one["rows"] is not None]
        there = len(results) - len(made) - len(failed)
        rows = sum(one["rows"] for one in made)
        click.echo(f"{len(made)} files ({rows} rows) converted, {there} were there, {len(failed)} failed")
    sys.exit(EXIT_FAILED if failed else EXIT_OK)


def _found(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob(f"*{_SUFFIX}") if not file.name.startswith("."))
        else:
            yield path


def _target(path: Path, out: Path | None) -> Path:
    """Return the file to make: below `out` in the partition it has ({source}/{channel}/exchange=…)."""
    name = f"{path.name.removesuffix(_SUFFIX)}.parquet"
    if out is None:
        return path.with_name(name)
    parts = path.absolute().parts[:-1]
    at = next((number for number, part in enumerate(parts) if part.startswith("exchange=")), None)
    return out.joinpath(*(() if at is None else parts[max(0, at - 2) :]), name)


def _convert(path: Path, target: Path) -> dict[str, Any]:
    from daedalus.dataset.convert import convert

    result: dict[str, Any] = {"file": str(path), "out": str(target), "rows": None, "error": None}
    if target.exists():
        return result
    try:
        result["rows"] = convert(path, target)
    except FileExistsError:  # made by another meanwhile
        pass
    except (OSError, ValueError) as error:
        text = str(error)
        result["error"] = text if text.startswith("cannot ") else f"cannot convert {path}: {text}"
    return result
