"""What a row of features is: one declaration per column, and the identity of all of them together."""

import hashlib

import msgspec

from daedalus import __version__

__all__ = ["VERSION", "Feature", "Schema"]

VERSION = 1  # raised when a definition changes, so that rows of two definitions never share a schema id


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One column, declared once; docs page, Parquet metadata and the schema answer are made from it."""

    name: str
    unit: str  # "quote", "base", "bps", "1" for a plain number …
    formula: str  # the definition, in the notation of the docs page
    null: str  # when there is no value
    window_s: float | None = None  # None: no memory beyond the book before
    fixed: bool = False  # there is one such window, not one for each horizon
    warmup: str = "first book"  # what must have been seen
    paper: str | None = None

    def __post_init__(self) -> None:
        """Refuse a declaration with a hole in it."""
        for field in ("name", "unit", "formula", "null", "warmup"):
            if not getattr(self, field).strip():
                raise ValueError(f"cannot declare feature {self.name!r}: {field} is empty")


class Schema(msgspec.Struct, frozen=True):
    """The columns of a row, in order. JSON: `msgspec.json.encode(schema)`."""

    id: str  # 16 hex digits over everything below
    names: list[str]
    units: list[str]
    windows: list[float | None]  # seconds
    warmups: list[str]
    nulls: list[str]
    formulas: list[str]
    papers: list[str | None]

    @classmethod
    def of(cls, features: list[Feature]) -> "Schema":
        """Return the schema of these columns.

        Raises:
            ValueError: two columns have the same name.
        """
        names = [feature.name for feature in features]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"cannot make a schema: declared twice: {', '.join(twice)}")
        digest = hashlib.blake2b(msgspec.json.encode([VERSION, features]), digest_size=8)
        return cls(
            digest.hexdigest(),
            names,
            [feature.unit for feature in features],
            [feature.window_s for feature in features],
            [feature.warmup for feature in features],
            [feature.null for feature in features],
            [feature.formula for feature in features],
            [feature.paper for feature in features],
        )

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the position of a column in the row.

        Raises:
            KeyError: there is no such column.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise KeyError(f"cannot find the column {name!r} in schema {self.id}") from None

    def parquet_metadata(self) -> dict[str, str]:
        """Return the key-value metadata of a Parquet file of such rows."""
        return {"daedalus.schema": self.id, "daedalus.version": __version__}

    def column_metadata(self) -> dict[str, dict[str, str]]:
        """Return the metadata of each column's Parquet field; what a column does not have is not there."""
        out = {}
        for i, name in enumerate(self.names):
            window, paper = self.windows[i], self.papers[i]
            out[name] = {
                "unit": self.units[i],
                "formula": self.formulas[i],
                "null": self.nulls[i],
                "warmup": self.warmups[i],
                **({} if window is None else {"window_s": f"{window:.15g}"}),
                **({} if paper is None else {"paper": paper}),
            }
        return out
