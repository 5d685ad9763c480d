"""Power cuts: a writer and its sender on an ext4 image of their own, which stops in the middle of it.

A cut is the ioctl EXT4_IOC_SHUTDOWN without a flush of the log: from that instant nothing more reaches the
image, and what lies in the page cache without an fsync is gone. Then everything is killed, the image is
copied, and the copy is mounted: the file system recovers as after a real cut. The runtime directory is in
memory and does not survive either: the next sender begins a session of its own.
"""

import ctypes
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from daedalus.actors import endpoints
from daedalus.kernel.inotify import APPEARS, Inotify

__all__ = ["NAMED", "STAGES", "Machine", "unavailable"]

HERE = Path(__file__).resolve().parent
_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32)
_NO_LOG_FLUSH = 2
_MOVED_FROM, _DELETE = 0x40, 0x200
_IMAGE_MB = 96
_RATE = 4000  # records per second
_TIMEOUT_S = 40.0

# stage -> (directory below data, what happens there, how the name begins and ends)
STAGES: dict[str, tuple[str, int, str, str] | None] = {
    "append": None,  # at any moment
    "rotate": ("raw/active/trades", APPEARS, "journal_", ".open"),
    "close": ("raw/active/trades", APPEARS, "journal_", ".closed"),
    "seal": ("raw/active/trades", APPEARS, "journal_", ".tmp"),
    "counter": ("state", APPEARS, ".counters.json", ".tmp"),
    "plan": ("raw/active/trades", APPEARS, "journal_", ".plan"),
    "publish": ("raw/active/trades", _MOVED_FROM, "journal_", ".tmp"),
    "remove": ("raw/active/trades", _DELETE, "journal_", ".closed"),
}

NAMED = ("append", "rotate", "seal", "publish", "counter")
"""The stages that have a name of their own in the promise; the others lie between these."""


def unavailable() -> str:
    """Return why there are no power cuts here; empty: there are."""
    if os.geteuid() != 0:
        return "only root mounts images"
    missing = [name for name in ("mkfs.ext4", "mount", "umount") if shutil.which(name) is None]
    if missing:
        return f"there is no {missing[0]}"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    return ""


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise OSError(f"cannot run {' '.join(command)}: {done.stderr.strip()}")


class Machine:
    """A data directory on an image, a writer, a sender; power that goes and comes back."""

    def __init__(self, base: Path, seed: int) -> None:
        self.base = base
        self.mount = base / "m"
        self.data = self.mount / "data"
        self.runtime = base / "r"
        self.dice = random.Random(seed)
        self.boots = 0
        self.acked: dict[str, int] = {}  # session -> acknowledged, as the sender's spool has it
        self.reached: list[str] = []  # stages that were seen to begin just before a cut
        self.log = (base / "stderr.log").open("ab")
        self._children: list[subprocess.Popen[bytes]] = []
        self._image = base / "disk-0.img"
        self._mounted = False
        self.mount.mkdir()
        with self._image.open("wb") as file:
            file.truncate(_IMAGE_MB << 20)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=4", str(self._image))
        self._attach()

    def _attach(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.mount))
        self._mounted = True

    def boot(self, rate: int = _RATE) -> None:
        """Start the writer as a supervisor would, and a sender with an empty spool."""
        self.boots += 1
        shutil.rmtree(self.runtime, ignore_errors=True)
        self.runtime.mkdir(mode=0o700)
        self.data.mkdir(exist_ok=True)
        arguments = (str(self.data), str(self.runtime), "trades", "segment_max_mb=0.1")
        self.writer = self._spawn("writer_process.py", *arguments)
        self.sender = self._spawn("link_sender.py", str(self.runtime), str(rate), self.session)
        self._until("something acknowledged", lambda: rate == 0 or self._stored() > 0)

    @property
    def session(self) -> str:
        return f"s{self.boots}"

    def _spawn(self, script: str, *arguments: str) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
        child = subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments],
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment,
        )
        self._children.append(child)
        return child

    def wait(self, stage: str) -> None:
        """Return in the middle of `stage`, give or take a moment."""
        where = STAGES[stage]
        if where is None:
            before = self._stored()
            self._until(stage, lambda: self._stored() > before)
            self.reached.append(stage)
            time.sleep(self.dice.uniform(0.0, 0.5))
            return
        below, mask, begin, end = where
        news = Inotify.open()
        assert news is not None
        try:
            assert news.watch(str(self.data / below), mask) is not None

            def seen() -> bool:
                return any(
                    item.mask & mask and item.name.startswith(begin) and item.name.endswith(end)
                    for item in news.read()
                )

            self._until(stage, seen)
        finally:
            news.close()
        self.reached.append(stage)
        time.sleep(self.dice.choice((0.0, 0.0, 0.0005, 0.002, 0.005)))

    def cut(self) -> None:
        """Stop everything and the disk, and come back with a copy of what was on it.

        The writer first, if only by microseconds: an fdatasync that is under way at the shutdown may
        report success for a transaction that the shutdown threw away (seen once in 55 cuts), and no writer
        outlives a real cut to tell of it.
        """
        fd = os.open(self.mount, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.writer.kill()
            self.sender.kill()
            fcntl.ioctl(fd, _SHUTDOWN, ctypes.c_uint32(_NO_LOG_FLUSH))
        finally:
            os.close(fd)
        self._kill()
        self.acked[self.session] = self._stored()
        copy = self.base / f"disk-{self.boots}.img"
        _run("cp", "--sparse=always", str(self._image), str(copy))
        self._detach()
        self._image.unlink()
        self._image = copy
        self._attach()

    def _stored(self) -> int:
        """What the sender knows to be on disk, by its spool."""
        path = Path(endpoints.spool(str(self.runtime), "binance", "trades"))
        try:
            with path.open("rb") as file:
                page = file.read(4096)
        except FileNotFoundError:
            return 0
        slots = [page[at : at + 32] for at in (256, 512)]
        return max((int.from_bytes(slot[24:32], "little") for slot in slots), default=0)

    def _until(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while not condition():
            assert self.writer.poll() is None, f"the writer ended while waiting for: {what}"
            assert time.monotonic() < deadline, f"{what}: not within {_TIMEOUT_S:g} s"
            time.sleep(0.0005)

    def finish(self) -> None:
        """Let everything arrive, stop in good order: all of it is sealed."""
        self.sender.send_signal(signal.SIGTERM)
        out, _ = self.sender.communicate(timeout=60)
        told = json.loads(out.splitlines()[-1])
        assert told["left"] == 0
        self.acked[self.session] = told["accepted"]
        self.writer.send_signal(signal.SIGTERM)
        self.writer.communicate(timeout=60)
        assert self.writer.returncode == 0

    def _kill(self) -> None:
        for child in self._children:
            with suppress(ProcessLookupError):
                child.kill()
            child.communicate()
        self._children.clear()

    def _detach(self) -> None:
        if self._mounted:
            deadline = time.monotonic() + 10
            while True:  # the sealer dies with its writer, but a moment later
                try:
                    _run("umount", str(self.mount))
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        _run("umount", "-l", str(self.mount))
                        raise
                    time.sleep(0.02)
            self._mounted = False

    def close(self) -> None:
        """Leave nothing behind."""
        self._kill()
        self.log.close()
        self._detach()

    # What must hold

    def check_published(self) -> int:
        """Read every published segment, to the last value; return how many there are."""
        import pyarrow.parquet as pq

        found = self.segments()
        for path in found:
            pq.ParquetFile(path).read()
        return len(found)

    def segments(self) -> list[Path]:
        return sorted((self.data / "raw" / "ready").rglob("*.parquet"))

    def check_stored(self) -> int:
        """Every acknowledged record is there, none twice, none that was never sent; return how many."""
        import polars as pl

        names = ["session_id", "seq", "trade_id", "price"]
        rows = pl.concat(
            [
                pl.read_parquet(path, columns=names, hive_partitioning=False)
                for path in self.segments()
                if "/trades/" in str(path)
            ]
        )
        assert rows.select("session_id", "seq").is_unique().all(), "stored twice"
        assert (rows["trade_id"] == rows["seq"].cast(pl.String)).all()
        assert (rows["price"] == 100.0 + rows["seq"] % 7).all()
        for session, acked in self.acked.items():
            numbers = rows.filter(pl.col("session_id") == session)["seq"].sort()
            assert numbers.len() >= acked, f"{session}: {acked} acknowledged, {numbers.len()} stored"
            assert numbers.to_list() == list(range(1, numbers.len() + 1)), f"{session}: a hole"
        assert not list((self.data / "raw").glob("quarantine/**/*.reason"))
        assert not [path for path in (self.data / "raw" / "active").rglob("*") if path.is_file()]
        return rows.height
