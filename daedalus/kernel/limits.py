"""Memory and CPU of one process: read from /proc every two seconds, judged against its limits.

The figure judged is anonymous and shared memory. Page cache is left out: a writer of Parquet files would be
restarted for the files it wrote.
"""

import os
import re
from typing import Literal

from daedalus.kernel.process import read_proc

__all__ = ["SAMPLE_INTERVAL_S", "SOFT_SAMPLES", "Level", "Meter", "level", "parse_anon", "parse_cpu_ticks"]

SAMPLE_INTERVAL_S = 2.0
SOFT_SAMPLES = 3  # in a row, before an actor is asked to leave

Level = Literal["ok", "warn", "soft", "hard"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_ANON = re.compile(r"^Rss(?:Anon|Shmem):\s*(\d+) kB", re.MULTILINE)


def parse_anon(status: str) -> int | None:
    """Return RssAnon + RssShmem of a /proc/PID/status, bytes; None when they are not there (a zombie)."""
    found = _ANON.findall(status)
    return sum(map(int, found)) * 1024 if found else None


def parse_cpu_ticks(stat: str) -> int:
    """Return user and system time of a /proc/PID/stat, clock ticks."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def level(anon: int, warn: int | None, soft: int | None, hard: int | None) -> Level:
    """Return the highest limit that `anon` bytes reach."""
    if hard is not None and anon >= hard:
        return "hard"
    if soft is not None and anon >= soft:
        return "soft"
    if warn is not None and anon >= warn:
        return "warn"
    return "ok"


class Meter:
    """The last samples of one process. A new process gets a new meter."""

    def __init__(self) -> None:
        """Begin without a sample: both figures are None."""
        self.anon: int | None = None  # bytes
        self.cpu_pct: float | None = None  # of one core, since the sample before
        self.over_soft = 0  # samples in a row
        self._last: tuple[float, int] | None = None

    def sample(self, pid: int, now: float, anon: int | None = None) -> None:
        """Read /proc. A process that has just gone leaves the figures as they are.

        Args:
            pid: the leader.
            now: monotonic seconds.
            anon: what the control group of all its processes says, where there is one.
        """
        try:
            status = read_proc(pid, "status") if anon is None else ""
            stat = read_proc(pid, "stat")
        except (FileNotFoundError, ProcessLookupError):
            return
        self.anon = parse_anon(status) if anon is None else anon
        ticks = parse_cpu_ticks(stat)
        if self._last is not None and now > self._last[0]:
            self.cpu_pct = 100.0 * (ticks - self._last[1]) / _TICKS_PER_S / (now - self._last[0])
        self._last = (now, ticks)

    def judge(self, warn: int | None, soft: int | None, hard: int | None) -> Level:
        """Return the level of the last sample; `soft` only when enough samples in a row reach it."""
        if self.anon is None:
            return "ok"
        found = level(self.anon, warn, soft, hard)
        self.over_soft = self.over_soft + 1 if found == "soft" else 0
        return "warn" if found == "soft" and self.over_soft < SOFT_SAMPLES else found
