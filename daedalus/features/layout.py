"""Where the columns of a row lie, worked out once per set of parameters and process.

`PARTS` is the row: each part of the engine and what it writes, in order. Declaring all columns costs 2 ms and
some hundred kilobytes, and depends on the parameters alone. A process that forks actors can therefore do it
for all of them: `prewarm` before the fork, and they share the pages.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from daedalus.features.catalogue import clock, flow, rolling, shape
from daedalus.features.catalogue_windows import windows
from daedalus.features.params import Params
from daedalus.features.schema import Feature, Schema

__all__ = ["PARTS", "Layout", "features", "layout"]

# Landed parts only: a part whose kernel writes nothing has no line here, and so no column anywhere.
PARTS: tuple[tuple[str, Callable[[Params], list[Feature]]], ...] = (
    ("shape", shape),
    ("flow", flow),
    ("rolling", rolling),
    ("windows", windows),
    ("clock", clock),
)

_REMEMBERED = 4  # sets of parameters; a process has one, a notebook a few


class Layout(NamedTuple):
    """The columns, and where each part of the engine writes its own; a part without columns is not there."""

    schema: Schema
    at: dict[str, int]


def features(params: Params) -> list[Feature]:
    """Return all columns for these parameters, in the order of the row."""
    return [feature for _, declare in PARTS for feature in declare(params)]


def layout(params: Params) -> Layout:
    """Return the layout of the rows that an engine with these parameters emits."""
    # Parameters that no declaration names would only multiply what is remembered.
    return _layout(msgspec.structs.replace(params, emit_interval_s=1.0, max_state_staleness_s=300.0))


@functools.lru_cache(maxsize=_REMEMBERED)
def _layout(params: Params) -> Layout:
    out: list[Feature] = []
    at = {}
    for part, declare in PARTS:
        at[part] = len(out)
        out += declare(params)
    return Layout(Schema.of(out), at)
