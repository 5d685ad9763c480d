"""Many rows in one block, column after column: what NumPy and polars take as it is."""

from typing import TYPE_CHECKING

from daedalus.client.rows import Row, Schema

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

__all__ = ["Batch"]

_FIRST_ROWS = 64  # the block begins with room for so many, and doubles


class Batch:
    """Rows of one schema in the order they came; `Feed.batch` makes it.

    A row is written once, when it arrives, into a block that lies in memory by columns. `numpy` is that block
    and `polars` has its columns: neither copies. Needs numpy; `polars` needs polars.
    """

    def __init__(self, max_rows: int) -> None:
        """Make an empty batch of at most `max_rows` rows."""
        self.schema = Schema("", ())
        self.gap = 0  # messages lost before or between these rows
        self.exchanges: list[str] = []  # one entry per row, as in all that follow
        self.symbols: list[str] = []
        self.seqs: list[int] = []
        self.ts_recv_ns: list[int] = []  # capture
        self._max_rows = max_rows
        self._block: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.seqs)

    def add(self, row: Row) -> bool:
        """Add a row. False: the batch is full, or the row is of another schema."""
        import numpy as np

        at = len(self.seqs)
        if at == self._max_rows or (at and row.schema.id != self.schema.id):
            return False
        if self._block is None:
            self.schema = row.schema
            rows = min(self._max_rows, _FIRST_ROWS)
            self._block = np.empty((rows, len(row.schema.names)), order="F")
        elif at == len(self._block):
            grown = np.empty((min(self._max_rows, 2 * at), self._block.shape[1]), order="F")
            grown[:at] = self._block
            self._block = grown
        self._block[at] = row.numpy()
        self.gap += row.gap
        self.exchanges.append(row.exchange)
        self.symbols.append(row.symbol)
        self.seqs.append(row.seq)
        self.ts_recv_ns.append(row.ts_recv_ns)
        return True

    def numpy(self) -> "NDArray[np.float64]":
        """Return the values, shape (rows, columns), NaN where there is none: a view, nothing is copied."""
        import numpy as np

        if self._block is None:
            return np.empty((0, 0), order="F")
        return self._block[: len(self.seqs)]

    def polars(self) -> "pl.DataFrame":
        """Return exchange, symbol, seq, ts_recv and the columns of the schema.

        The columns lie where they lay, with NaN for no value; `.fill_nan(None)` copies them and has nulls.
        """
        import polars as pl

        values = self.numpy()
        columns = {name: pl.Series(name, values[:, at]) for at, name in enumerate(self.schema.names)}
        about = {
            "exchange": pl.Series(self.exchanges, dtype=pl.String),
            "symbol": pl.Series(self.symbols, dtype=pl.String),
            "seq": pl.Series(self.seqs, dtype=pl.Int64),
            "ts_recv": pl.Series(self.ts_recv_ns, dtype=pl.Int64).cast(pl.Datetime("ns", "UTC")),
        }
        return pl.DataFrame(about | columns)
