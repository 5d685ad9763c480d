"""Real processes, killed in the middle of it: every record a spool accepted is stored, once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from daedalus.actors import endpoints
from daedalus.kernel.spool import Spool

pytestmark = pytest.mark.system

HERE = Path(__file__).resolve().parent
RATE = 20_000  # records per second


class Process:
    """A program of this folder that is started again after each kill."""

    def __init__(self, script: str, *arguments: str, log: Path) -> None:
        self._command = [sys.executable, str(HERE / script), *arguments]
        self._log = log.open("ab")
        self._spawn()

    def _spawn(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
        self.child = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=self._log, env=environment
        )

    def kill(self) -> None:
        self.child.kill()
        self.child.communicate()
        self._spawn()

    def ready(self) -> None:
        assert self.child.stdout is not None
        assert self.child.stdout.readline() == b"ready\n"

    def end(self) -> bytes:
        """Stop it in good order; return the last line it wrote."""
        self.child.send_signal(signal.SIGTERM)
        out, _ = self.child.communicate(timeout=60)
        assert self.child.returncode == 0
        return out.splitlines()[-1] if out else b""

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        if self.child.stdout is not None:
            self.child.stdout.close()
        self._log.close()


@pytest.fixture
def processes(short_tmp: Path) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def make(script: str, *arguments: str) -> Process:
        made.append(Process(script, *arguments, log=short_tmp / "stderr.log"))
        return made[-1]

    yield make
    for process in made:
        process.close()
    sys.stdout.write((short_tmp / "stderr.log").read_text())  # shown when the test fails


def stored(data: Path) -> pl.DataFrame:
    files = list((data / "raw" / "ready" / "ccxt" / "trades").rglob("*.parquet"))
    return pl.read_parquet(files, columns=["trade_id", "seq", "price"], hive_partitioning=False)


def left_in_active(data: Path) -> list[Path]:
    return [path for path in (data / "raw" / "active").rglob("*") if path.is_file()]


def test_ten_kills_of_either_end_at_20k_records_per_second_lose_and_double_nothing(
    processes: Callable[..., Process], short_tmp: Path, runtime_dir: Path
) -> None:
    data = short_tmp / "data"
    rng = random.Random(20)
    writer = processes("writer_process.py", str(data), str(runtime_dir), "trades", "segment_max_mb=1")
    sender = processes("link_sender.py", str(runtime_dir), str(RATE))
    victims = [writer, sender] * 10
    rng.shuffle(victims)
    spool = Path(endpoints.spool(str(runtime_dir), "binance", "trades"))
    for victim in victims:
        _wait_for_progress(spool)  # whoever was killed before is back, however slow the machine is
        time.sleep(rng.uniform(0.0, 0.5))
        victim.kill()
    time.sleep(1.0)
    sender.ready()
    told = json.loads(sender.end())
    writer.end()
    assert told["left"] == 0
    assert told["accepted"] > RATE * 2
    rows = stored(data)
    numbers = rows["seq"].sort()
    assert len(numbers) == numbers.n_unique() == told["accepted"]
    assert (numbers[0], numbers[-1]) == (1, told["accepted"])
    assert (rows["trade_id"] == rows["seq"].cast(pl.String)).all()
    assert (rows["price"] == 100.0 + rows["seq"] % 7).all()
    assert left_in_active(data) == []
    assert list((data / "raw" / "active").iterdir()) == []


def test_a_killed_writer_is_acknowledging_again_at_once(
    processes: Callable[..., Process], short_tmp: Path, runtime_dir: Path
) -> None:
    """From its READY (the socket is bound) the time is the link's: below 100 ms on an idle machine."""
    data = short_tmp / "data"
    writer = processes("writer_process.py", str(data), str(runtime_dir), "trades")
    sender = processes("link_sender.py", str(runtime_dir), "5000")
    spool_path = Path(endpoints.spool(str(runtime_dir), "binance", "trades"))
    waits_s = []
    for _ in range(3):
        _wait_for_progress(spool_path)
        socket = runtime_dir / "link-trades.sock"
        writer.child.kill()
        writer.child.communicate()
        before = _acknowledged(spool_path)
        socket.unlink()
        writer._spawn()
        deadline = time.monotonic() + 20
        while not socket.exists():
            time.sleep(0.001)
            assert time.monotonic() < deadline
        bound = time.monotonic()
        while _acknowledged(spool_path) <= before:
            time.sleep(0.001)
            assert time.monotonic() - bound < 10
        waits_s.append(time.monotonic() - bound)
    sender.ready()
    sender.end()
    writer.end()
    # 20 ms to reconnect, the commit group's 100 ms, and a loaded machine
    assert min(waits_s) < 0.25, waits_s


def _acknowledged(path: Path) -> int:
    """Look into a spool that another process owns."""
    with path.open("rb") as file:
        page = file.read(4096)
    slots = [page[at : at + 32] for at in (256, 512)]
    return max(int.from_bytes(slot[24:32], "little") for slot in slots)


def _wait_for_progress(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() or path.stat().st_size == 0:
        time.sleep(0.005)
        assert time.monotonic() < deadline
    first = _acknowledged(path)
    while _acknowledged(path) == first:
        time.sleep(0.005)
        assert time.monotonic() < deadline


def test_a_sender_that_never_returns_leaves_its_records_for_the_next_one(
    processes: Callable[..., Process], short_tmp: Path, runtime_dir: Path
) -> None:
    """Killed with the writer away: nothing was acknowledged, all of it is in the spool."""
    data = short_tmp / "data"
    sender = processes("link_sender.py", str(runtime_dir), "5000")
    path = Path(endpoints.spool(str(runtime_dir), "binance", "trades"))
    deadline = time.monotonic() + 20
    while not path.exists() or path.stat().st_size == 0:
        time.sleep(0.01)
        assert time.monotonic() < deadline
    time.sleep(0.5)
    sender.child.kill()
    sender.child.communicate()
    spool = Spool.open(path, 16 << 20)
    accepted = spool.next_seq - 1
    spool.close()
    assert accepted > 100
    writer = processes("writer_process.py", str(data), str(runtime_dir), "trades")
    successor = processes("link_sender.py", str(runtime_dir), "0")
    successor.ready()
    told = json.loads(successor.end())
    writer.end()
    assert (told["accepted"], told["left"]) == (accepted, 0)
    assert sorted(stored(data)["seq"]) == list(range(1, accepted + 1))
