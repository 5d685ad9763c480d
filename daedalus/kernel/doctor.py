"""What the machine gives a running tree, and what to do about what it does not. Standard library only.

Each check reads one fact, judges it and says what to do. Nothing is changed, nothing is measured over time.
Where a supervisor runs, its own process is looked at (control group, limits), else ours. A fact that cannot
be read is `unknown`, never `ok`.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from daedalus.kernel import cgroups, doctor_board, timesync

__all__ = ["Check", "Level", "examine"]

Level = Literal["ok", "warn", "bad", "unknown"]

FREE_WARN_PCT = 10.0
FREE_BAD_PCT = 5.0
PYTHON_MIN = (3, 11)
FILES_MIN = 4096
STALL_WARN_PCT = 20.0  # of the last minute, some task waiting for the disk
SCAN_MAX = 20_000  # entries looked at in search of a segment
_LOST = ("tmpfs", "ramfs", "overlay")
_VAGUE = ("vfat", "exfat", "ntfs", "ntfs3", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs")
_CMDLINE = (
    "append `cgroup_enable=memory cgroup_memory=1` to the one line of /boot/firmware/cmdline.txt and reboot"
    " (if it is there already, update the kernel); until then limits are kept by sampling"
)


class Check(NamedTuple):
    """One fact. `advice` is empty when there is nothing to do."""

    name: str
    level: Level
    value: str
    advice: str = ""


class Mount(NamedTuple):
    """Where a path lies: a line of mountinfo."""

    point: str
    kind: str  # of file system
    source: str
    options: frozenset[str]


class _Case(NamedTuple):
    """What is examined."""

    root: Path
    data: str | None
    runtime: str | None
    pid: str  # of the supervisor, else "self"

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def text(self, path: str) -> str | None:
        try:
            return self.at(path).read_text("utf-8", "replace")
        except OSError:
            return None


def examine(*, data: str | None, runtime: str | None, root: Path = Path("/")) -> list[Check]:
    """Return every check, in a fixed order. Takes milliseconds, and never raises.

    Args:
        data: the data directory, absolute; None: not known, its checks are `unknown`.
        runtime: the runtime directory, absolute; None likewise.
        root: what all files are read below; for tests.
    """
    case = _Case(root, data, runtime, "self")
    case = case._replace(pid=_supervisor_pid(case))
    checks: tuple[Callable[[_Case], Check], ...] = (
        _python,
        _pidfd,
        _cgroup,
        _memory_cgroup,
        _files,
        _time,
        _data_free,
        _data_fsync,
        _data_segments,
        _data_stalls,
        _runtime,
        _swap,
    )
    return [check(case) for check in checks] + [Check(*found) for found in doctor_board.examine(root)]


def _supervisor_pid(case: _Case) -> str:
    if case.runtime is not None:
        pid = (case.text(f"{case.runtime}/lock") or "").strip()
        if pid.isdecimal() and case.at(f"/proc/{pid}/cgroup").exists():
            return pid
    return "self"


# --- the system -------------------------------------------------------------------------------------------


def _python(_case: _Case) -> Check:
    value = ".".join(map(str, _version()))
    if _version() < PYTHON_MIN:
        return Check("python", "bad", value, "install Python 3.11 or newer")
    return Check("python", "ok", value)


def _version() -> tuple[int, ...]:
    return sys.version_info[:3]


def _pidfd(_case: _Case) -> Check:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return Check("pidfd", "bad", str(error), "Linux 5.3 or newer is needed, and a filter that permits it")
    return Check("pidfd", "ok", "available")


def _own_cgroup(case: _Case) -> Path | None:
    """Return the directory that would be delegated: above the leaf the supervisor sits in."""
    path = cgroups.own_directory(case.root / "proc", case.pid, case.root)
    return path.parent if path is not None and path.name == cgroups.SUPERVISOR else path


def _controllers(directory: Path) -> list[str] | None:
    try:
        return (directory / "cgroup.controllers").read_text("ascii").split()
    except OSError:
        return None


def _cgroup(case: _Case) -> Check:
    path = _own_cgroup(case)
    if path is None or (found := _controllers(path)) is None:
        return Check(
            "cgroup",
            "warn",
            "no cgroup v2",
            "use the unified hierarchy (systemd.unified_cgroup_hierarchy=1); until then what escapes from an"
            " actor's process group is found by its environment",
        )
    who = "this shell" if case.pid == "self" else f"supervisor {case.pid}"
    value = f"{' '.join(found) or 'no controllers'} ({who})"
    missing = [name for name in cgroups.CONTROLLERS if name not in found]
    if missing:
        return Check(
            "cgroup", "warn", value, f"run under the unit with Delegate=cpu memory pids: no {missing[0]}"
        )
    return Check("cgroup", "ok", value)


def _memory_cgroup(case: _Case) -> Check:
    """By the controllers of our own cgroup, never by the command line: kernels have ignored it."""
    path = _own_cgroup(case)
    found = _controllers(path) if path is not None else None
    if path is None or found is None:
        return Check("memory cgroup", "unknown", "no cgroup v2", "limits are kept by sampling")
    if "memory" in found:
        return Check("memory cgroup", "ok", "available")
    above = [directory for directory in path.parents if _controllers(directory) is not None]
    if above and "memory" in (_controllers(above[-1]) or ()):
        return Check(
            "memory cgroup",
            "warn",
            "the machine has it, our cgroup has not",
            "run under the unit with Delegate=cpu memory pids; until then limits are kept by sampling",
        )
    return Check("memory cgroup", "warn", "off", _CMDLINE)


def _files(case: _Case) -> Check:
    line = next(
        (line for line in (case.text(f"/proc/{case.pid}/limits") or "").splitlines() if "open files" in line),
        "",
    )
    soft = line.split()[3] if len(line.split()) > 4 else ""
    if soft == "unlimited" or (soft.isdecimal() and int(soft) >= FILES_MIN):
        return Check("open files", "ok", soft)
    if soft.isdecimal():
        return Check(
            "open files",
            "warn",
            soft,
            f"set LimitNOFILE={FILES_MIN} in the unit, or `ulimit -n {FILES_MIN}` before the start",
        )
    return Check("open files", "unknown", f"cannot read /proc/{case.pid}/limits")


def _time(case: _Case) -> Check:
    if timesync.is_synchronized(case.root):
        return Check("time sync", "ok", "synchronized")
    return Check(
        "time sync",
        "warn",
        "not synchronized",
        "look at `timedatectl` and the network; rows carry clock_ok = false, actors that require it wait",
    )


# --- data and runtime -------------------------------------------------------------------------------------


def _data_free(case: _Case) -> Check:
    name = "data free"
    if case.data is None:
        return Check(name, "unknown", "no data directory known", "name it with --data")
    try:
        found = _statvfs(_nearest(case.at(case.data)))
    except OSError as error:
        return Check(name, "unknown", f"cannot read {case.data}: {error.strerror}")
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    pct = 100.0 * free / total if total else 0.0
    value = f"{pct:.1f} % ({free / (1 << 30):.1f}G of {total / (1 << 30):.1f}G)"
    advice = "move or compact old data, shorten [sync] local_retention_hours, or use a larger disk"
    if pct < FREE_BAD_PCT:
        return Check(name, "bad", value, advice)
    if pct < FREE_WARN_PCT:
        return Check(name, "warn", value, advice)
    if found.f_files and 100.0 * found.f_favail / found.f_files < FREE_BAD_PCT:
        return Check(name, "warn", f"{value}, {found.f_favail} inodes left", "compact: too many small files")
    return Check(name, "ok", value)


_statvfs = os.statvfs


def _nearest(path: Path) -> Path:
    """Return the path or the nearest directory above it that exists."""
    return next((item for item in (path, *path.parents) if item.exists()), path)


def _data_fsync(case: _Case) -> Check:
    name = "data on"
    mount = _mount(case, case.data) if case.data is not None else None
    if mount is None:
        return Check(name, "unknown", "cannot tell the file system")
    value = f"{mount.kind} {mount.source}"
    if mount.kind in _LOST:
        return Check(name, "warn", value, "a loss of power loses the data: use a disk (ext4)")
    if mount.options & {"nobarrier", "barrier=0"}:
        return Check(name, "warn", f"{value}, no barriers", "mount with barriers: fsync is not honoured")
    if mount.kind in _VAGUE or mount.kind.startswith("fuse."):
        return Check(name, "warn", value, "fsync may not be honoured here: use a local ext4")
    return Check(name, "ok", value)


def _data_segments(case: _Case) -> Check:
    """No segments found: of the troubleshooting matrix."""
    name = "segments"
    if case.data is None:
        return Check(name, "unknown", "no data directory known")
    files = _some_files(case.at(f"{case.data}/raw/ready"))
    if any(path.endswith(".parquet") for path in files):
        return Check(name, "ok", "found")
    if any(_some_files(case.at(f"{case.data}/raw/active"))):
        return Check(
            name,
            "warn",
            "journals, no segment yet",
            "a segment is sealed after [writer] max_segment_age_s (900) or idle_seal_s (60): wait, then look"
            " at `daedalus-ctl logs store/writer-…`",
        )
    return Check(name, "unknown", "no data yet")


def _some_files(folder: Path) -> Iterator[str]:
    seen = 0
    for _, _, names in os.walk(folder):
        yield from names
        seen += len(names) + 1
        if seen > SCAN_MAX:
            return


def _data_stalls(case: _Case) -> Check:
    """Slow writes: of the troubleshooting matrix, by the kernel's own account of waiting."""
    name = "disk stalls"
    line = (case.text("/proc/pressure/io") or "").partition("\n")[0]
    avg60 = dict(part.split("=", 1) for part in line.split() if "=" in part).get("avg60", "")
    try:
        pct = float(avg60)
    except ValueError:
        return Check(name, "unknown", "no pressure figures", "psi=1 on the kernel's command line shows them")
    value = f"{pct:.1f} % of the last minute"
    if pct >= STALL_WARN_PCT:
        return Check(name, "warn", value, "the disk is too slow: another card, less swap, longer commit_ms")
    return Check(name, "ok", value)


def _runtime(case: _Case) -> Check:
    name = "runtime on"
    mount = _mount(case, case.runtime) if case.runtime is not None else None
    if mount is None:
        return Check(name, "unknown", "cannot tell the file system")
    value = f"{mount.kind} {mount.source}"
    if mount.kind in ("tmpfs", "ramfs"):
        return Check(name, "ok", value)
    return Check(name, "warn", value, "spools and state wear the disk: use a directory below /run")


def _swap(case: _Case) -> Check:
    text = case.text("/proc/swaps")
    if text is None:
        return Check("swap", "unknown", "cannot read /proc/swaps")
    areas = [line.split()[0] for line in text.splitlines()[1:] if line.strip()]
    if not areas:
        return Check("swap", "ok", "none")
    for area in areas:
        mount = None if area.startswith("/dev/") else _mount(case, area)
        device = mount.source if mount is not None else area
        if device.startswith("/dev/mmcblk"):
            return Check(
                "swap",
                "warn",
                f"{area} on the SD card",
                "turn it off (`sudo systemctl disable --now dphys-swapfile`) or use zram:"
                " it wears the card and stalls every actor",
            )
    return Check("swap", "ok", " ".join(areas))


def _mount(case: _Case, path: str) -> Mount | None:
    """Return the mount that a path lies on; the deepest, and of equals the one mounted last."""
    real, root = os.path.realpath(case.at(path)), os.path.realpath(case.root)
    target = os.path.normpath("/" + os.path.relpath(real, root))
    best: Mount | None = None
    for line in (case.text("/proc/self/mountinfo") or "").splitlines():
        left, separator, right = line.partition(" - ")
        fields, rest = left.split(" "), right.split(" ")
        if not separator or len(fields) < 6 or len(rest) < 3:
            continue
        point = cgroups.unescaped(fields[4])
        covers = point in ("/", target) or target.startswith(point + "/")
        if covers and (best is None or len(point) >= len(best.point)):
            options = frozenset(fields[5].split(",")) | frozenset(rest[2].split(","))
            best = Mount(point, rest[0], cgroups.unescaped(rest[1]), options)
    return best
