"""A program for test_seal_crash: seal a data set again and again, dying at the n-th effect on the disk.

    python -m tests.dataset.crash_seal TEMPLATE WORK CHANNEL

For n = 1, 2 … a copy of TEMPLATE is sealed by a child that SIGKILLs itself just before its n-th fsync,
rename, link, unlink or opening for writing, then by a child that is left alone. Prints one JSON line per
n: [n, segments by name with their content's digest]. Ends when a child gets through.
"""

import builtins
import ctypes
import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from daedalus.dataset import durable
from daedalus.dataset.layout import Layout
from daedalus.dataset.seal import seal_channel
from daedalus.dataset.segment import Options


class Countdown:
    """Calls through, until the n-th call of any of its functions."""

    def __init__(self, left: int) -> None:
        self.left = left

    def wrap(self, function):
        def counted(*arguments, **named):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return counted


def child(data: Path, channel: str, death: int) -> int:
    """Seal in a fork; return its wait status."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    if death:
        countdown = Countdown(death)
        for module, name in (
            (os, "fsync"),
            (os, "link"),
            (os, "unlink"),
            (os, "rename"),
            (os, "mkdir"),
            (os, "open"),
            (builtins, "open"),
            (pyarrow.parquet.ParquetWriter, "write_table"),
        ):
            setattr(module, name, countdown.wrap(getattr(module, name)))
        for name in ("unlink", "rename", "open", "mkdir"):
            setattr(Path, name, countdown.wrap(getattr(Path, name)))
        durable._rename_noreplace = countdown.wrap(durable._rename_noreplace)
        durable.publish = durable.publish
    bad = [found for found in seal_channel(Layout(data=str(data)), channel, Options()) if "error" in found]
    os._exit(1 if bad else 0)


def digest(data: Path) -> dict[str, str]:
    """Return everything a reader can see, and what must not be left in active."""
    layout = Layout(data=str(data))
    seen = {
        str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in layout.ready().rglob("*")
        if path.is_file()
    }
    left = [path.name for path in (data / "raw" / "active").rglob("*") if path.is_file()]
    return seen | dict.fromkeys(left, "left behind")


def main() -> None:
    template, work, channel = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    death = 0
    while True:
        data = work / "data"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(template, data)
        status = child(data, channel, death)
        if death and os.WIFSIGNALED(status) and child(data, channel, 0) != 0:
            sys.exit(f"cannot seal after a death at effect {death}")
        print(json.dumps([death, digest(data)]), flush=True)  # noqa: T201 - it is a program
        if death and not os.WIFSIGNALED(status):
            sys.exit(os.waitstatus_to_exitcode(status))
        death += 1


if __name__ == "__main__":
    main()
