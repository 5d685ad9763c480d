"""The state file of a writer: how far each sender was stored when its last journal was about to be closed.

    {data}/state/cursors-{channel}.json

The writer goes on from it after a clean stop; the sealer learns from it what a journal should have held.
"""

from pathlib import Path

import msgspec

from daedalus.dataset.durable import replace
from daedalus.dataset.layout import Layout
from daedalus.kernel.journal import Cursor

__all__ = ["State", "load_state", "save_state", "state_path"]


class State(msgspec.Struct, frozen=True):
    """The cursors when journal `journal` was about to be closed; it and later ones go on from there."""

    journal: int = 0
    cursors: dict[str, Cursor] = {}


def state_path(layout: Layout, channel: str) -> Path:
    """Return where the state file of a channel's writer lies."""
    return layout.state() / f"cursors-{channel}.json"


def load_state(path: Path) -> State:
    """Return what the file says; an empty state where there is none or it cannot be read as one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return State()


def save_state(path: Path, state: State) -> None:
    """Write it, all or nothing, and durable."""
    replace(path, msgspec.json.encode(state))
