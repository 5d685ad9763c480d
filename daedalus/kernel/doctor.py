"""What the machine gives a running tree, and what to do about what it does not. Standard library only.

Each check reads one fact, judges it and says what to do. Nothing is changed, nothing is measured over time.
Where a supervisor runs, its own process is looked at (control group, limits), else ours.
"""

from pathlib import Path
from typing import Literal, NamedTuple

__all__ = ["Check", "Level", "examine"]

Level = Literal["ok", "warn", "bad", "unknown"]


class Check(NamedTuple):
    """One fact. `advice` is empty when there is nothing to do."""

    name: str
    level: Level
    value: str
    advice: str = ""


def examine(*, data: str | None, runtime: str | None, root: Path = Path("/")) -> list[Check]:
    """Return every check, in a fixed order. Takes milliseconds, and never raises.

    Args:
        data: the data directory, absolute; None: not known, its checks are `unknown`.
        runtime: the runtime directory, absolute; None likewise.
        root: what all files are read below; for tests.
    """
    return [Check("checks", "unknown", f"not built yet: {data} {runtime} {root}")]
