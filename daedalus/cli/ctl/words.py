"""The small words of `daedalus-ctl`: durations, sizes, clocks, lines and plain tables. Pure.

What actors print may come from anywhere (an exchange's error text), so nothing is shown that could move a
terminal's cursor: what is not printable stands escaped.
"""

import time
from collections.abc import Sequence
from typing import Any

__all__ = [
    "clean",
    "clock",
    "columns_of",
    "cut",
    "event_line",
    "grid",
    "log_line",
    "log_mark",
    "size",
    "span",
]


def span(seconds: float | None) -> str:
    """Return a duration in at most two units: 40s, 12m, 3h12m, 5d4h."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes}m{rest:02d}s" if minutes < 10 else f"{minutes}m"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def size(amount: int | None) -> str:
    """Return bytes in units of 1024: 512K, 142M, 1.5G."""
    if amount is None:
        return "-"
    if amount < 1 << 20:
        return f"{amount >> 10}K"
    if amount < 1 << 30:
        return f"{round(amount / (1 << 20))}M"
    return f"{amount / (1 << 30):.1f}G"


def clock(ts: float) -> str:
    """Return the local time of day of wall seconds, to the millisecond."""
    return time.strftime("%H:%M:%S", time.localtime(ts)) + f".{int(ts * 1000) % 1000:03d}"


def clean(text: str) -> str:
    r"""Return the text with what is not printable escaped; tabs are spaces.

    >>> clean("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    text = text.expandtabs(4)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: ideographs take two, combining marks none."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def cut(text: str, room: int) -> str:
    """Return what fits into `room` columns (at least one), with an ellipsis where something is missing."""
    room = max(1, room)
    if columns_of(text) <= room:
        return text
    kept = text[: room - 1]
    while columns_of(kept) > room - 1:
        kept = kept[:-1]
    return kept + "…"


def grid(headers: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None = None) -> str:
    """Return a plain table: columns as wide as what they hold, the last one cut to the terminal."""
    table = [list(headers), *(list(row) for row in rows)]
    widths = [max(columns_of(row[place]) for row in table) for place in range(len(headers) - 1)]
    lines = []
    for row in table:
        cells = [cell + " " * (wide - columns_of(cell)) for cell, wide in zip(row, widths, strict=False)]
        fixed = "  ".join(cells)
        last = row[-1] if width is None else cut(row[-1], width - columns_of(fixed) - 2)
        lines.append(f"{fixed}  {last}".rstrip())
    return "\n".join(lines) + "\n"


def event_line(event: dict[str, Any]) -> str:
    """Return one event of the tree on one line."""
    known = ("seq", "ts", "mono", "type", "actor", "generation", "stderr_tail")
    rest = " ".join(
        f"{key}={value}" for key, value in event.items() if key not in known and value not in (None, "")
    )
    generation = f" gen {event['generation']}" if event["generation"] else ""
    head = f"{event['seq']:>6} {clock(event['ts'])} {event['type']:<18}"
    return clean(f"{head} {event['actor'] or '-'}{generation} {rest}".rstrip())


def log_line(line: dict[str, Any]) -> str:
    """Return one printed line, or the mark of a new generation, with its time and actor in front."""
    if line.get("event") == "started":
        return log_mark(line, f"gen {line['generation']} started")
    return f"{clock(line['ts'])} {line['actor']} │ {clean(line['text'])}"


def log_mark(line: dict[str, Any], what: str) -> str:
    """Return a remark of ours between the lines of an actor."""
    return f"{clock(line['ts'])} {line['actor']} │ --- {what} ---"
