"""Whose spool it is: a ring in the runtime directory belongs to one data set and to no other.

The runtime directory outlives a configuration. Without a name, what a demonstration left unacknowledged in
its spools would be delivered to the writers of whatever tree is started there next, into real tables. So a
data set has an id of its own, in `{data}/state/id`, and the spools' names carry it. Rings of other data sets
are left to them while they hold records that nobody acknowledged; empty ones are memory, and are removed.
"""

import os
import re
import secrets
from pathlib import Path

from daedalus.actors import endpoints
from daedalus.dataset.durable import make_directory, publish, sync_file
from daedalus.dataset.layout import Layout
from daedalus.kernel.spool import Spool

__all__ = ["identity", "others"]

_ID = re.compile(r"[0-9a-f]{8}")


def identity(data: str) -> str:
    """Return the id of the data set in `data`, eight hexadecimal digits; it gets one if it has none.

    Empty for no data set, and where the disk takes no id: the spool then has no data set in its name.
    """
    if not data:
        return ""
    path = Layout(data=data).state() / "id"
    try:
        return _read(path) or _made(path)
    except OSError:
        return ""


def _read(path: Path) -> str:
    try:
        text = path.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return ""
    return text if _ID.fullmatch(text) else ""


def _made(path: Path) -> str:
    make_directory(path.parent)
    if path.exists():
        path.unlink()  # damaged: what it named cannot be found again
    temporary = path.with_name(f"id.{os.getpid()}")
    temporary.write_text(secrets.token_hex(4) + "\n")
    sync_file(temporary)
    try:
        publish(temporary, path)
    except FileExistsError:  # another collector was first
        temporary.unlink()
    return _read(path)


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
