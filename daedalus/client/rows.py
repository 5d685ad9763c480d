"""What a subscriber holds in its hand: a row, and the schema that says what its values mean."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from daedalus import wire

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Row", "Schema"]

_SHOWN = 12  # names in an error message


class Schema(msgspec.Struct, frozen=True, dict=True):
    """What the values of a row mean, in their order."""

    id: str
    names: tuple[str, ...]
    units: tuple[str, ...] = ()
    windows: tuple[Any, ...] = ()  # seconds, or None

    @cached_property
    def index(self) -> dict[str, int]:
        """Return the position of each column."""
        return {name: at for at, name in enumerate(self.names)}

    def select(self, names: Sequence[str]) -> "Schema":
        """Return the schema of these columns alone, in the given order.

        Raises:
            LookupError: a name is not among the columns.
        """
        where = []
        for name in names:
            if name not in self.index:
                raise LookupError(f"cannot select the feature {name!r}: {_nearest(name, self.names)}")
            where.append(self.index[name])
        parts = (tuple(part[at] for at in where) if part else () for part in (self.units, self.windows))
        return Schema(self.id, tuple(names), *parts)


class Row:
    """One message. `row["name"]` is a value; of features a float, NaN where there is none."""

    __slots__ = (
        *("duration_s", "exchange", "gap", "kind", "schema", "seq", "session_id", "symbol"),
        *("ts_event_ns", "ts_pub_ns", "ts_recv_ns", "values"),
    )

    def __init__(self, topic: bytes, header: wire.Header, values: Any, schema: Schema, gap: int) -> None:
        self.kind, self.exchange, self.symbol, rest = topic.decode().split("/", 3)
        self.duration_s = int(rest[:-1]) if self.kind == "bar" else None  # of a bar
        self.seq = header.seq  # the publisher's, gapless within session_id
        self.session_id = header.session_id
        self.ts_event_ns = header.ts_event_ns  # the exchange's time, None where it gave none
        self.ts_recv_ns = header.ts_recv_ns  # capture
        self.ts_pub_ns = header.ts_pub_ns  # publication
        self.values = values  # memoryview of float64, or a list for records; in the order of schema.names
        self.schema = schema
        self.gap = gap  # messages lost before this one

    def __getitem__(self, name: str) -> Any:
        try:
            return self.values[self.schema.index[name]]
        except KeyError:
            raise KeyError(f"{name!r}: {_nearest(name, self.schema.names)}") from None

    def numpy(self) -> "NDArray[np.float64]":
        """Return the values as an array of float64, in the order of schema.names: a view, nothing is copied.

        Raises:
            TypeError: it is a record, whose values are of many kinds.
        """
        import numpy as np

        if not isinstance(self.values, memoryview):
            raise TypeError(
                f"cannot make an array of a {self.kind}: only rows of features and bars are numbers"
            )
        return np.frombuffer(self.values)

    def __repr__(self) -> str:
        return f"<Row {self.kind} {self.exchange} {self.symbol} seq={self.seq} gap={self.gap}>"


def _nearest(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(names[:_SHOWN])}, …"
