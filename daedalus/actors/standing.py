"""What a collector says of itself in one line, when something is out of the ordinary. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from daedalus.actors.streamstate import StreamState

__all__ = ["standing"]

_FILL = 0.5  # of a spool, above which it is told
_WORDS = {"stale": "stale", "overflow": "shedding"}


def standing(
    streams: Iterable[StreamState], fills: Mapping[str, float], *, disk: str = "", clock_ok: bool = True
) -> str:
    """Return the line; "" when all is well.

    Args:
        streams: of the session.
        fills: channel -> share of its spool that no writer has acknowledged.
        disk: what is to be said of the disk.
        clock_ok: whether the wall clock is synchronised.
    """
    said = _of_streams([one for one in streams if one.channel != "frames"])
    fullest = max(fills, key=fills.__getitem__, default="")
    if fullest and fills[fullest] >= _FILL:
        said.append(f"{fullest} spool {fills[fullest] * 100:.0f} % full")
    if disk:
        said.append(disk)
    if not clock_ok:
        said.append("clock not synchronised")
    return "; ".join(said)


def _of_streams(streams: list[StreamState]) -> list[str]:
    open_now = [(one, one.hole) for one in streams if one.hole is not None]
    if open_now and len(open_now) == len(streams) and all(h.reason != "overflow" for _, h in open_now):
        since = datetime.fromtimestamp(min(hole.started_at for _, hole in open_now) / 1e9, UTC)
        return [f"exchange unreachable since {since:%Y-%m-%dT%H:%M:%SZ}"]
    counted = Counter(_WORDS.get(hole.reason, "down") for _, hole in open_now)
    return [f"{count} of {len(streams)} streams {word}" for word, count in sorted(counted.items())]
