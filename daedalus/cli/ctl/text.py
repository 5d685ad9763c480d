"""The status document as people read it: the table, the tree, the line below. Pure."""

import json
from typing import Any

from daedalus.cli.ctl.words import clean, columns_of, cut, size, span

__all__ = ["STATES", "diverges", "summary", "table", "tree"]

# of an actor; a test compares them with kernel.lifecycle, which is too heavy to import here
STATES = (
    "stopped", "held", "starting", "running", "degraded", "draining", "stopping", "killing", "stuck",
    "backoff", "done", "failed", "ignored",
)  # fmt: skip

COLUMNS = ("NAME", "STATE", "PID", "UPTIME", "RST", "CPU%", "MEM/LIMIT", "CORE", "MBOX", "LAST ERROR")
WIDE_COLUMNS = ("GEN", "DESIRED", "STRATEGY", "BEAT AGE", "FDS", "THREADS", "LOGDROP", "RST1H", "EXIT")
_RIGHT = {
    "PID",
    "UPTIME",
    "RST",
    "CPU%",
    "MEM/LIMIT",
    "MBOX",
    "GEN",
    "BEAT AGE",
    "FDS",
    "THREADS",
    "LOGDROP",
    "RST1H",
}
_GOOD = {"running", "done", "ignored"}
_QUIET = {"normal", "requested", "recycle"}  # ends that are no error
_COLORS = {
    "running": "32", "degraded": "33", "held": "33", "backoff": "33",
    "failed": "31", "stuck": "31", "killing": "31",
}  # fmt: skip


def diverges(document: dict[str, Any]) -> bool:
    """Return whether an actor shown, or any group, is not as it is wanted: then `status` exits 3.

    Done and ignored are ends that were wanted, and so is everything on the way down, or in a group that has
    shut itself down; an actor that does not die of SIGKILL is nobody's wish.
    """
    over = _over(document["groups"])
    actors = any(
        item["state"] == "stuck"
        or (item["desired"] == "up" and item["state"] not in _GOOD and item["parent"] not in over)
        for item in document["actors"]
    )
    return actors or any(group["state"] == "failed" for group in document["groups"])


def _over(groups: list[dict[str, Any]]) -> set[str]:
    """Return the groups that are done, with all in them. Parents stand before their children."""
    over: set[str] = set()
    for group in groups:
        if group["state"] == "done" or group["parent"] in over:
            over.add(group["name"])
    return over


def _state(item: dict[str, Any]) -> str:
    left = item["backoff"]["next_in_s"]
    if item["state"] == "backoff" and left is not None:
        return f"backoff {left:.0f}s"
    return _words(item["state"], item["substate"])


def _words(state: str, substate: str) -> str:
    return f"{state} ({substate})" if substate else state


def _last_error(item: dict[str, Any], now: float) -> str:
    """Return what the actor says is wrong now, else why it ended the last time."""
    if item.get("status_text"):
        return clean(item["status_text"])
    last = item["last_exit"]
    if last is None or last["class"] in _QUIET:
        return "-"
    cause = next((found for line in reversed(last["stderr_tail"]) if (found := _cause(line))), "")
    words = f"{last['message']}: {cause}" if cause else last["message"]
    return clean(f"{words} ({span(max(0.0, now - last['at']))} ago)")


def _cause(line: str) -> str:
    """Return the error in a log event, or the line itself."""
    if not line.startswith("{"):
        return line.strip()
    try:
        return str(json.loads(line).get("error", ""))
    except (ValueError, RecursionError):
        return line.strip()


def _row(item: dict[str, Any], now: float, strategies: dict[str, str]) -> dict[str, str]:
    memory, live = item["mem"], item["pid"] is not None
    total = str(item["restarts"]["total"])
    anon = size(memory["anon"]) if live else "-"
    beat = item["beat_age_s"]
    return {
        "NAME": item["name"],
        "STATE": _state(item),
        "PID": str(item["pid"]) if live else "-",
        "UPTIME": span(item["uptime_s"]),
        "RST": f"{total}!" if item["flapping"] else total,
        "CPU%": f"{item['cpu_pct']:.1f}" if item["cpu_pct"] is not None else "-",
        "MEM/LIMIT": f"{anon}/{size(memory['hard'])}",
        "CORE": ",".join(map(str, item["cpus"])) or "-",
        "MBOX": str(item["mailbox"]) if item["mailbox"] is not None else "-",
        "LAST ERROR": _last_error(item, now),
        "GEN": str(item["generation"]),
        "DESIRED": item["desired"],
        "STRATEGY": strategies.get(item["parent"], "-"),
        "BEAT AGE": f"{beat:.1f}s" if beat is not None else "-",
        "FDS": str(item["fds"]) if item.get("fds") is not None else "-",
        "THREADS": str(item["threads"]) if item.get("threads") is not None else "-",
        "LOGDROP": str(item["log_dropped"]),
        "RST1H": str(item["restarts"]["last_1h"]),
        "EXIT": item["last_exit"]["class"] if item["last_exit"] else "-",
    }


def table(
    document: dict[str, Any], *, wide: bool = False, width: int | None = None, color: bool = False
) -> str:
    """Return the status table, one line per actor in start order, and a summary line.

    Args:
        document: the result of `status`.
        wide: add the further columns.
        width: columns of the terminal, to which the last error is cut; None leaves it whole.
        color: colour the states.
    """
    now = document["ts"]
    strategies = {group["name"]: group["strategy"] for group in document["groups"]}
    rows = [_row(item, now, strategies) for item in document["actors"]]
    columns = (*COLUMNS[:-1], *(WIDE_COLUMNS if wide else ()), COLUMNS[-1])
    widths = {
        name: max(len(name), *(len(row[name]) for row in rows)) if rows else len(name) for name in columns
    }
    lines = [_line(dict(zip(columns, columns, strict=True)), columns, widths, width)]
    for row, item in zip(rows, document["actors"], strict=True):
        line = _line(row, columns, widths, width)
        if color and item["state"] in _COLORS:
            start = widths["NAME"] + 2
            end = start + widths["STATE"]
            line = f"{line[:start]}\x1b[{_COLORS[item['state']]}m{line[start:end]}\x1b[0m{line[end:]}"
        lines.append(line)
    return "\n".join([*lines, summary(document)]) + "\n"


def _line(row: dict[str, str], columns: tuple[str, ...], widths: dict[str, int], width: int | None) -> str:
    cells = [
        row[name].rjust(widths[name]) if name in _RIGHT else row[name].ljust(widths[name])
        for name in columns[:-1]
    ]
    fixed = "  ".join(cells)
    last = row[columns[-1]]
    if width is not None:
        last = cut(last, width - columns_of(fixed) - 2)
    return f"{fixed}  {last}".rstrip()


def summary(document: dict[str, Any]) -> str:
    """Return the line below the table."""
    actors = document["actors"]
    counts: dict[str, int] = {}
    for item in actors:
        counts[item["state"]] = counts.get(item["state"], 0) + 1
    states = ", ".join(f"{number} {state}" for state, number in counts.items()) or "none"
    parts = [f"{len(actors)} actor{'' if len(actors) == 1 else 's'}: {states}"]
    for group in document["groups"]:
        if group["parent"] is None:
            used, most = group["window_used"], group["intensity"]
            parts.append(f"{group['name']} {used}/{most} restarts in {span(group['period'])}")
        if group["state"] == "failed":
            parts.append(f"group {group['name']} {_words(group['state'], group['substate'])}")
    host = document["supervisor"].get("host", {})
    if host.get("load_1m") is not None:
        parts.append(f"load {host['load_1m']:.1f}")
    if host.get("temperature_c") is not None:
        parts.append(f"{host['temperature_c']:.0f}°C")
    if host.get("clock_synced") is not None:
        parts.append("clock synced" if host["clock_synced"] else "clock unsynced")
    return " · ".join(parts)


def tree(document: dict[str, Any], *, color: bool = False) -> str:
    """Return groups and actors with branches: strategy, window used and state of each group."""
    groups, actors = document["groups"], document["actors"]
    lines: list[str] = []

    def show(group: dict[str, Any], indent: str, branch: str) -> None:
        state = _painted(group["state"], _words(group["state"], group["substate"]), color=color)
        window = f"{group['window_used']}/{group['intensity']} restarts in {span(group['period'])}"
        lines.append(f"{indent}{branch}{group['name']}  {state}  {group['strategy']}  {window}")
        below = indent + ("" if not branch else "   " if branch.startswith("└") else "│  ")
        workers = [item for item in actors if item["parent"] == group["name"]]
        nested = [item for item in groups if item["parent"] == group["name"]]
        for number, item in enumerate([*workers, *nested]):
            turn = "└─ " if number == len(workers) + len(nested) - 1 else "├─ "
            if "strategy" in item:
                show(item, below, turn)
            else:
                pid = f"  pid {item['pid']}" if item["pid"] else ""
                words = _painted(item["state"], _state(item), color=color)
                lines.append(f"{below}{turn}{item['name'].rpartition('/')[2]}  {words}{pid}")

    for group in groups:
        if group["parent"] is None:
            show(group, "", "")
    return "\n".join(lines) + "\n"


def _painted(state: str, words: str, *, color: bool) -> str:
    return f"\x1b[{_COLORS[state]}m{words}\x1b[0m" if color and state in _COLORS else words
