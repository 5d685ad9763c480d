"""Program: the SHA-256 of an engine's rows over a recording, for other interpreters and uncompiled runs.

python -m tests.features.digest NAME BOOKS [CHECKPOINT RECORDS_DONE]
"""

import hashlib
import sys
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from daedalus.features import FeatureEngine, compiled
from tests.features.recorded import Record, events

EVERY: dict[str, object] = {"emit_interval_s": 0}


def rows(engine: FeatureEngine, stream: Iterable[Record]) -> list[bytes]:
    """Return the rows emitted, as bytes."""
    return [bytes(row) for row in map(engine.update, stream) if row is not None]


def digest(parts: Iterable[bytes]) -> str:
    """Return the hash of all rows in order; a NaN is a NaN, whatever its bits."""
    values = array("d", b"".join(parts))
    nan = float("nan")
    return hashlib.sha256(array("d", [v if v == v else nan for v in values]).tobytes()).hexdigest()  # noqa: PLR0124


def main(name: str, books: str, checkpoint: str = "", done: str = "0") -> None:
    """Print "compiled" and the hash."""
    engine: Any = FeatureEngine(EVERY, trades=True)
    if checkpoint:
        engine.restore(Path(checkpoint).read_bytes())
    sys.stdout.write(f"{compiled()} {digest(rows(engine, events(name, int(books))[int(done) :]))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
