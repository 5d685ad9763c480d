"""The sealer: closed journals in, published Parquet segments out, each record once, whatever dies when.

    journal ─spread─▶ temporary files ─claim numbers─▶ plan ─publish each─▶ remove journal ─▶ remove plan

The plan is the point of no return. Before it, a second run begins anew and nothing was visible. Once it is
on disk, it says which temporary file gets which name: a temporary file that is gone has been published,
wherever its segment may be by now. The journal goes only when all are out, and the plan goes after it.

Run as `python -m daedalus.dataset.seal --data DIR --channel C`, a short-lived child of the writer: it needs
pyarrow, which the writer should not carry. One line of JSON per journal on stdout.
"""

import argparse
import ctypes
import gc
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from daedalus.dataset import counters, dirty
from daedalus.dataset.durable import (
    locked,
    publish,
    remove,
    replace,
    sync_directory,
    written_bytes,
)
from daedalus.dataset.layout import Layout, segment_path
from daedalus.dataset.reading import Reading, identity
from daedalus.dataset.segment import SUFFIX, Options
from daedalus.dataset.spread import spread
from daedalus.kernel.errors import EXIT_FAILED, EXIT_OK
from daedalus.kernel.journal import CLOSED, journals

__all__ = ["Plan", "Published", "main", "seal", "seal_channel"]

_PR_SET_PDEATHSIG = 1
_NICE = 10
_TIMELESS = {"gaps", "instruments"}  # no hour of features is computed from them


class Published(msgspec.Struct, frozen=True):
    """One segment of a plan."""

    temporary: str  # name in the active directory
    path: str  # below the data directory
    rows: int
    bytes: int
    late: bool = False  # its hour had ended for its stream: it is marked dirty


class Plan(msgspec.Struct, frozen=True):
    """Which temporary file becomes which segment. Written once, then only carried out."""

    identity: str  # of the journal; another journal of the same name has another
    segments: list[Published]
    gaps: int = 0  # rows added for damage
    damaged_bytes: int = 0


def seal_channel(
    layout: Layout, channel: str, options: Options, only: Path | None = None
) -> Iterator[dict[str, Any]]:
    """Seal the closed journals of a channel, oldest first; yield a summary, or the error, of each."""
    active = layout.active(channel)
    with locked(layout.state() / f"seal-{channel}.lock"):
        waiting = [path for _, path in journals(active) if path.suffix == CLOSED]
        _tidy(active)
        for path in waiting:
            if only is not None and path != only:
                continue
            began = time.process_time()
            summary: dict[str, Any] = {"journal": f"{channel}/{path.stem}"}
            try:
                summary |= seal(layout, channel, path, options)
            except (OSError, ValueError) as error:
                summary["error"] = f"cannot seal {path}: {error}"
                if not path.with_suffix(".plan").exists():
                    _clear(path)  # on a full disk this is room for the journal
            summary["cpu_s"] = round(time.process_time() - began, 6)
            yield summary


def seal(layout: Layout, channel: str, journal: Path, options: Options) -> dict[str, Any]:
    """Seal one journal and remove it. Running it again after any interruption completes it.

    Returns:
        What was done: rows, segments, bytes in and out, gap rows and bytes put into quarantine.

    Raises:
        OSError, ValueError: nothing is lost; the journal stays.
    """
    mark = identity(journal)
    size = journal.stat().st_size
    plan_path = journal.with_suffix(".plan")
    plan = _load(plan_path)
    if plan is None or plan.identity != mark:
        plan = _prepare(layout, channel, journal, mark, options)
        replace(plan_path, msgspec.json.encode(plan))
    for segment in plan.segments:
        temporary = journal.with_name(segment.temporary)
        if temporary.exists():
            if segment.late:
                dirty.mark(layout, segment.path)
            publish(temporary, Path(layout.data, segment.path))
    remove(journal)
    remove(plan_path)
    left = {f"{channel}/{path.stem}#{identity(path)}" for _, path in journals(journal.parent)}
    counters.release(layout, lambda key: key.startswith(f"{channel}/") and key not in left)
    return {
        "rows": sum(segment.rows for segment in plan.segments),
        "segments": [{"path": item.path, "rows": item.rows, "bytes": item.bytes} for item in plan.segments],
        "bytes_in": size,
        "bytes_out": sum(segment.bytes for segment in plan.segments),
        "late_segments": sum(segment.late for segment in plan.segments),
        "gap_rows": plan.gaps,
        "damaged_bytes": plan.damaged_bytes,
    }


def _prepare(layout: Layout, channel: str, journal: Path, mark: str, options: Options) -> Plan:
    """Write the temporary files and claim their names. Nothing is visible yet."""
    active = journal.parent
    name = f"{channel}/{journal.stem}"
    reading = Reading(layout, channel, journal, mark)
    _clear(journal)
    try:
        pieces = spread(reading, active / journal.stem, name, options)
    except (ValueError, OverflowError, TypeError):
        # A record does not fit: once more, slowly, putting such records aside. Anything else raises again.
        _clear(journal)
        reading.careful = True
        pieces = spread(reading, active / journal.stem, name, options)
    sync_directory(active)
    numbers = counters.claim(layout, f"{name}#{mark}", [piece.partition for piece in pieces])
    late = counters.overtaken(layout, f"{name}#{mark}", numbers)
    suffix = SUFFIX[options.raw_format]
    segments = []
    for piece in pieces:
        final = segment_path(layout, piece.partition, numbers[piece.partition], suffix)
        relative = str(final.relative_to(layout.data))
        size = piece.path.stat().st_size
        overdue = (piece.late or piece.partition in late) and piece.partition.channel not in _TIMELESS
        segments.append(Published(piece.path.name, relative, piece.rows, size, overdue))
    return Plan(mark, segments, reading.gaps, reading.damaged_bytes)


def _clear(journal: Path) -> None:
    """Remove the temporary files of a run that did not get as far as its plan."""
    for leftover in journal.parent.glob(f"{journal.stem}~*"):
        leftover.unlink()


def _load(path: Path) -> Plan | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except FileNotFoundError:
        return None


def _tidy(active: Path) -> None:
    """Remove plans whose journal is gone: their work was finished."""
    alive = {path.stem for _, path in journals(active)}
    for plan in active.glob("journal_*.plan"):
        if plan.stem not in alive:
            plan.unlink()


def main(arguments: Sequence[str] | None = None) -> int:
    """Seal the closed journals of one channel. Exit 0, or 1 if one of them could not be sealed."""
    defaults = Options()
    parser = argparse.ArgumentParser(prog="daedalus.dataset.seal", description=main.__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--channel", required=True)
    parser.add_argument("--journal", type=Path, help="only this one; default: every closed journal")
    parser.add_argument("--raw-format", choices=sorted(SUFFIX), default=defaults.raw_format)
    parser.add_argument("--compression", default=defaults.compression)
    parser.add_argument("--compression-level", type=int, default=defaults.compression_level)
    parser.add_argument("--row-group-rows", type=int, default=defaults.row_group_rows)
    parser.add_argument("--parent", type=int, default=0, help="pid to die with; 0: none")
    parser.add_argument("--urgent", action="store_true", help="keep the priority: somebody waits for the end")
    given = parser.parse_args(arguments)
    if not _follow(given.parent):
        print(f"cannot seal for the parent {given.parent}: it is gone", file=sys.stderr)  # noqa: T201
        return EXIT_FAILED
    options = Options(
        raw_format=given.raw_format,
        compression=given.compression,
        compression_level=given.compression_level,
        row_group_rows=given.row_group_rows,
        row_group_rows_min=min(defaults.row_group_rows_min, given.row_group_rows),
    )
    _be_modest(urgent=given.urgent)
    only = None if given.journal is None else given.journal.resolve()
    failed = False
    for summary in seal_channel(Layout(data=str(given.data.resolve())), given.channel, options, only):
        summary["peak_rss_bytes"] = _peak_bytes()
        summary["bytes_written"] = written_bytes()
        sys.stdout.write(msgspec.json.encode(summary).decode() + "\n")
        sys.stdout.flush()
        if "error" in summary:
            failed = True
            sys.stderr.write(summary["error"] + "\n")
    return EXIT_FAILED if failed else EXIT_OK


def _follow(parent: int) -> bool:
    """Die with `parent`; False if it died before that could be said."""
    if parent == 0:
        return True
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


def _peak_bytes() -> int:
    """Peak resident memory of this program; getrusage would count the process that exec'd it as well."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _be_modest(*, urgent: bool) -> None:
    """One thread, low priority unless urgent, and memory that is given back: it runs beside the live path."""
    # Arrow loads NumPy where there is one, and that would start a thread per core, each of which spins.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import pyarrow as pa

    gc.disable()  # records make no cycles; looking for some costs a tenth of the time
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    pa.set_memory_pool(pa.system_memory_pool())
    if not urgent and os.getpriority(os.PRIO_PROCESS, 0) < _NICE:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


if __name__ == "__main__":
    raise SystemExit(main())
