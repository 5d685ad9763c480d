"""Whose spool it is: a ring in the runtime directory belongs to one data set and to no other.

The runtime directory outlives a configuration. Without a name, what a demonstration left unacknowledged in
its spools would be delivered to the writers of whatever tree is started there next, into real tables. So a
data set has an id of its own, in `{data}/state/id`, and the spools' names carry it. The id is bound to the
directory that it lies in: a copy of a data set is another data set. Where the disk takes no id yet, the
directory itself stands for it, and its ring gets the real name as soon as there is one.

Rings of other data sets are left to them while they hold records that nobody acknowledged; empty ones are
memory, and are removed.
"""

import os
import re
import secrets
from hashlib import sha256
from pathlib import Path

from daedalus.actors import endpoints
from daedalus.dataset.durable import locked, make_directory, replace
from daedalus.dataset.layout import Layout
from daedalus.kernel.spool import Spool

__all__ = ["adopt", "identity", "others"]

_ID = re.compile(r"([0-9a-f]{8}) (\d+:\d+)\n?")


def identity(data: str) -> str:
    """Return the id of the data set in `data`, eight hexadecimal digits; it gets one if it has none.

    Empty for no data set.
    """
    if not data:
        return ""
    state = Layout(data=data).state()
    try:
        make_directory(state)
        with locked(state / "id.lock"):  # collectors start side by side
            return _kept(state) or _made(state)
    except OSError:
        return _provisional(data)


def _place(directory: Path | str) -> str:
    found = Path(directory).stat()
    return f"{found.st_dev}:{found.st_ino}"


def _kept(state: Path) -> str:
    """Return the id; empty if there is none, if it is damaged, or if it came here with a copy."""
    try:
        found = _ID.fullmatch((state / "id").read_text("ascii", "replace"))
    except FileNotFoundError:
        return ""
    return found[1] if found is not None and found[2] == _place(state) else ""


def _made(state: Path) -> str:
    replace(state / "id", f"{secrets.token_hex(4)} {_place(state)}\n".encode())
    return _kept(state)


def _provisional(data: str) -> str:
    """Return what stands for the id while there is none; empty if not even the directory is there."""
    try:
        return sha256(_place(data).encode()).hexdigest()[:8]
    except OSError:
        return ""


def adopt(runtime: str, exchange: str, channel: str, data: str, own: str) -> None:
    """Give the ring that was begun before the data set had its id the name that it would have had.

    Args:
        runtime: the runtime directory.
        exchange: sanitised.
        channel: ours.
        data: the data set.
        own: its id.
    """
    before = _provisional(data)
    if not before or before == own:
        return
    ring, mine = (Path(endpoints.spool(runtime, exchange, channel, name)) for name in (before, own))
    if ring.exists() and not mine.exists():
        ring.rename(mine)


def others(runtime: str, exchange: str, channel: str, own: str) -> list[tuple[Path, int]]:
    """Remove the empty spools of other data sets; return those that are not, and how many records they hold.

    Args:
        runtime: the runtime directory.
        exchange: sanitised.
        channel: ours.
        own: the id of this data set.
    """
    mine = Path(endpoints.spool(runtime, exchange, channel, own))
    name = re.compile(re.escape(f"{exchange}-{channel}") + r"(\.[0-9a-f]{8})?\.spool")
    found = []
    for path in sorted(mine.parent.glob("*.spool")):
        if path == mine or not name.fullmatch(path.name):
            continue
        try:
            ring = Spool.open(path, max(path.stat().st_size - os.sysconf("SC_PAGESIZE"), 1 << 16))
        except OSError:  # its owner lives, or it has just gone
            continue
        waiting = ring.next_seq - 1 - ring.acked
        if waiting:
            found.append((path, waiting))
        else:
            path.unlink()
        ring.close()
    return found
