"""Where the columns of a row lie, worked out once per set of parameters and process.

Declaring 238 columns costs 2 ms and some hundred kilobytes, and depends on the parameters alone. A process
that forks actors can therefore do it for all of them: `prewarm` before the fork, and they share the pages.
"""

import functools
from typing import NamedTuple

import msgspec

from daedalus.features.catalogue import clock, flow, rolling, shape
from daedalus.features.params import Params
from daedalus.features.schema import Schema

__all__ = ["Layout", "layout"]

_REMEMBERED = 4  # sets of parameters; a process has one, a notebook a few


class Layout(NamedTuple):
    """The columns, and where each part of the engine writes its own."""

    schema: Schema
    flow: int
    rolling: int
    clock: int


def layout(params: Params) -> Layout:
    """Return the layout of the rows that an engine with these parameters emits."""
    # Parameters that no declaration names would only multiply what is remembered.
    return _layout(msgspec.structs.replace(params, emit_interval_s=1.0, max_state_staleness_s=300.0))


@functools.lru_cache(maxsize=_REMEMBERED)
def _layout(params: Params) -> Layout:
    parts = [shape(params), flow(params), rolling(params), clock()]
    at = [len(part) for part in parts]
    schema = Schema.of([feature for part in parts for feature in part])
    return Layout(schema, at[0], at[0] + at[1], at[0] + at[1] + at[2])
