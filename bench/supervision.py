"""What supervision costs: Daedalus, supervisord and circus over 12 and over 50 of the same children.

Each manager runs alone, one after the other: idle CPU and memory of the manager, the start of all children,
SIGKILL to up again (by the child's own word), the status command, a reload that changes nothing and one that
changes one child, and the stop. Children reported again after a reload are counted: those were restarted.
"""

import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.figure import figure
from bench.managers import Circus, Daedalus, Manager, Stamps, Supervisord, install, own_cpu_s, spend
from bench.tree import pss_mb

SIZES = (12, 50)
WINDOW_S = 20.0
SETTLE_S = 3.0
KILLS = 7
BETWEEN_KILLS_S = 1.5  # supervisord takes an end within a second of the start for a failed start
ASKS = 10
START_TIMEOUT_S = 90.0
QUIET_S = 2.5


def say(line: str) -> None:
    """Tell the person who waits; stdout belongs to the result."""
    print(f"  {line}", file=sys.stderr, flush=True)


def one(manager: Manager, size: int, pids: set[int]) -> dict[str, dict[str, Any]]:
    """Return the figures of one manager over `size` children."""
    found: dict[str, dict[str, Any]] = {}

    def note(what: str, value: float, unit: str) -> None:
        found[what] = figure(value, unit)

    ups = manager.stamps.take(size, START_TIMEOUT_S)
    note("start of all", max(up.at for up in ups.values()) - manager.began, "s")
    manager.wait_answering()
    time.sleep(SETTLE_S)
    pids |= {up.pid for up in ups.values()}
    before, began = own_cpu_s(manager.process.pid), time.monotonic()
    time.sleep(WINDOW_S)
    note("CPU", 100 * (own_cpu_s(manager.process.pid) - before) / (time.monotonic() - began), "% of a core")
    note("PSS", pss_mb(manager.process.pid), "MB")
    asked = [spend(manager.status()) for _ in range(ASKS)]
    note("status, wall", statistics.median(item.wall_ms for item in asked), "ms")
    note("status, CPU", statistics.mean(item.cpu_ms for item in asked), "ms")
    note("SIGKILL to up again", statistics.median(restarts(manager, ups, pids)), "ms")
    for what, changed in (
        ("reload, nothing changed", None),
        ("reload, one changed", manager.names[size // 2]),
    ):
        reload(manager, what, changed, found, pids)
    note("stop of all", manager.stop(), "s")
    return found


def restarts(manager: Manager, ups: dict[str, Any], pids: set[int]) -> list[float]:
    """SIGKILL one child after the other; return the milliseconds until each was up again."""
    times = []
    for name in manager.names[:KILLS]:
        time.sleep(BETWEEN_KILLS_S)
        began = time.monotonic()
        os.kill(ups[name].pid, signal.SIGKILL)
        up = manager.stamps.take(1, START_TIMEOUT_S)[name]
        pids.add(up.pid)
        times.append((up.at - began) * 1e3)
    time.sleep(BETWEEN_KILLS_S)
    return times


def reload(
    manager: Manager, what: str, changed: str | None, found: dict[str, dict[str, Any]], pids: set[int]
) -> None:
    """Reload and see who was started again."""
    if changed is not None:
        manager.change(changed)
    began = time.monotonic()
    spent = spend(manager.reload())
    if spent.code:
        say(f"{manager.name}: {what}: exit {spent.code}: {spent.output.strip()[-200:]}")
        return
    found[what] = figure(spent.wall_ms, "ms")
    ups = manager.stamps.until_quiet(QUIET_S)
    pids |= {up.pid for up in ups}
    found[f"{what}: children restarted"] = figure(len({up.name for up in ups}), "")
    mine = [up.at for up in ups if up.name == changed]
    if mine:
        found[f"{what}: until it is up"] = figure((mine[-1] - began) * 1e3, "ms")


IN_TABLE = ("CPU", "PSS", "status, CPU", "SIGKILL to up again")
TARGETS = {"12 actors: CPU": 0.5, "12 actors: PSS": 30.0, "12 actors: status, CPU": 80.0}


def merged(size: int, all_found: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return the figures of all managers side by side, and ours as a multiple of each other's."""
    result: dict[str, Any] = {}
    ours = all_found.get("daedalus", {})
    for manager, found in all_found.items():
        for what, measured in found.items():
            key, value = f"{size} actors: {what}", measured["value"]
            target = TARGETS.get(key) if manager == "daedalus" else None
            shown = size == min(SIZES) and what in IN_TABLE
            result[f"{key}, {manager}"] = figure(value, measured["unit"], target, table=shown)
            mine = ours.get(what, {}).get("value")
            if manager != "daedalus" and mine is not None and value:
                result[f"{key}, daedalus to {manager}"] = figure(mine / value, "times", table=False)
    return result


def run() -> dict[str, Any]:
    """Measure all managers that can be had."""
    result: dict[str, Any] = {"versions": {}}
    with tempfile.TemporaryDirectory(prefix="dm-", dir="/tmp") as folder:
        base = Path(folder)
        kinds: list[type[Manager]] = [Daedalus]
        for kind, package in ((Supervisord, "supervisor"), (Circus, "circus")):
            had = install(package, base, say)
            result["versions"][package] = "not to be had" if had is None else had[1]
            if had is not None:
                kind.bin = had[0]
                kinds.append(kind)
        for size in SIZES:
            all_found = {}
            for kind in kinds:
                say(f"{kind.name} with {size}")
                all_found[kind.name] = measure(kind, base / f"{kind.name}{size}", size)
            result |= merged(size, all_found)
    return result


def measure(kind: type[Manager], base: Path, size: int) -> dict[str, dict[str, Any]]:
    """Run one manager over `size` children and leave nothing of it behind."""
    stamps = Stamps(base.with_suffix(".s"))
    pids: set[int] = set()
    manager = kind(base, stamps, size)
    try:
        return one(manager, size, pids)
    except RuntimeError as error:
        raise RuntimeError(f"{error}\n{(base / 'out').read_text(errors='replace')[-2000:]}") from error
    finally:
        manager.close(pids)
        stamps.close()
