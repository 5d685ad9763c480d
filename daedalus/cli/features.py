"""`daedalus features`: the columns of a row of features, and what each one means."""

import json
import shutil
import sys
import textwrap
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from daedalus.kernel.errors import EXIT_FAILED

if TYPE_CHECKING:
    from daedalus.features.schema import Feature

__all__ = ["command"]

_LISTED = ("name", "unit", "window", "warmup")
_DESCRIBED = (
    ("name", "name"),
    ("unit", "unit"),
    ("definition", "formula"),
    ("no value", "null"),
    ("window", "window_s"),
    ("warm-up", "warmup"),
    ("source", "paper"),
)
_INDENT = 12
_json = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")


@click.group("features")
def command() -> None:
    """Show what the columns of a row of features mean, with the default parameters."""


@command.command("list")
@_json
def list_features(*, as_json: bool) -> None:
    """List the columns of a row, in its order."""
    found = _columns(everything=False)
    if as_json:
        click.echo(json.dumps([_object(feature) for feature in found], ensure_ascii=False, indent=1))
        return
    rows = [_LISTED, *((one.name, one.unit, _window(one.window_s), one.warmup) for one in found)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_LISTED))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@command.command("describe")
@click.argument("name")
@_json
def describe(name: str, *, as_json: bool) -> None:
    """Say of the column NAME what it is, in which unit, when it has no value, and where it comes from."""
    by_name = {feature.name: feature for feature in _columns(everything=True)}
    if name not in by_name:
        near = get_close_matches(name, by_name, 1)
        hint = f"did you mean {near[0]}?" if near else "see `daedalus features list`"
        click.echo(f"daedalus: cannot describe {name[:80]!r}: there is no such column; {hint}", err=True)
        sys.exit(EXIT_FAILED)
    found = _object(by_name[name])
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    width = max(40, shutil.get_terminal_size((100, 24)).columns - _INDENT - 2)
    for label, field in _DESCRIBED:
        value = _window(found[field]) if field == "window_s" else found[field] or "by definition"
        lines = textwrap.wrap(str(value), width, break_long_words=False, break_on_hyphens=False)
        click.echo(f"{label:{_INDENT}}" + f"\n{'':{_INDENT}}".join(lines))


def _columns(*, everything: bool) -> "list[Feature]":
    from daedalus.features.layout import features
    from daedalus.features.params import Params

    return features(Params(emit_ofi_levels=everything))


def _object(feature: "Feature") -> dict[str, Any]:
    import msgspec

    found = msgspec.structs.asdict(feature)
    del found["fixed"]  # how the docs page groups windows
    return found


def _window(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:g} s"
