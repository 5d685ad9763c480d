"""A real tree of real processes for system tests: start it, ask it, hurt it, stop it, read what it stored."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

BIN = Path(sys.executable).parent
T = TypeVar("T")
POLL_S = 0.02


def wait_for(what: str, probe: Callable[[], T | None], timeout_s: float = 20.0) -> T:
    """Return the first truthy answer of `probe`; fail with `what` after `timeout_s`.

    Time in which this process itself did not get to look does not count: a bound is one of the tree, not of a
    machine that has other things to do.
    """
    deadline, looks = time.monotonic() + timeout_s, timeout_s / POLL_S
    while True:
        answer = probe()
        if answer:
            return answer
        looks -= 1
        if time.monotonic() > deadline and looks < 0:
            raise AssertionError(f"{what}: not within {timeout_s:g} s (last answer: {answer!r})")
        time.sleep(POLL_S)


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            fields = stat.rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """Return whether a process runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def descendants(pid: int) -> set[int]:
    """Return the whole tree below a process, by parentage: forked actors bear no other mark."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        new = set(children(waiting.pop())) - found
        found |= new
        waiting += new
    return found


def marked(base: Path) -> set[int]:
    """Return the processes whose command line or first environment names this directory."""
    needle = str(base).encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if needle in text and alive(int(entry.name)):
            found.add(int(entry.name))
    return found


class Simulator:
    """`daedalus simulate` beside the tree, with its truth log."""

    def __init__(self, *args: str, log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [str(BIN / "daedalus"), "simulate", *args], stdout=subprocess.PIPE, stderr=file, text=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the simulator said nothing:\n{log.read_text()[-2000:]}"
        self.addresses: dict[str, Any] = json.loads(line)

    def ask(self) -> dict[str, Any]:
        """Return the state at its control endpoint."""
        import urllib.request

        with urllib.request.urlopen(self.addresses["ctl"], timeout=5) as reply:
            answer: dict[str, Any] = json.load(reply)
        return answer

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Tree:
    """One `daedalus-supervisor start` in directories of its own."""

    def __init__(self, base: Path, config: str, *args: str) -> None:
        self.base = base
        self.runtime = base / "r"
        self.data = base / "d"
        self.log = base / "supervisor.log"
        self.file = base / "supervisor.toml"
        self.file.write_text(config)
        self.args = args
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                [
                    *(str(BIN / "daedalus-supervisor"), "start", "--config", str(self.file)),
                    *("--data", str(self.data), "--runtime", str(self.runtime), *self.args),
                ],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def request(self, cmd: str, **args: Any) -> dict[str, Any]:
        """Return the whole reply to one control command."""
        with socket.socket(socket.AF_UNIX) as conn:
            conn.settimeout(20)
            conn.connect(str(self.runtime / "control.sock"))
            conn.sendall(
                json.dumps({"v": 1, "id": 1, "cmd": cmd, "args": args, "timeout": 15}).encode() + b"\n"
            )
            data = b""
            while not data.endswith(b"\n"):
                chunk = conn.recv(1 << 16)
                if not chunk:
                    break
                data += chunk
        answer: dict[str, Any] = json.loads(data)
        return answer

    def status(self) -> dict[str, Any]:
        """Return `status`, or {} while the supervisor is not there."""
        try:
            return dict(self.request("status").get("result") or {})
        except (OSError, ValueError):
            return {}

    def actors(self) -> dict[str, dict[str, Any]]:
        return {actor["name"]: actor for actor in self.status().get("actors", [])}

    def all_running(self) -> dict[str, dict[str, Any]] | None:
        actors = self.actors()
        good = actors and all(actor["state"] == "running" for actor in actors.values())
        return actors if good else None

    def wait_running(self, timeout_s: float = 20.0) -> dict[str, dict[str, Any]]:
        try:
            return wait_for("every actor running", self.all_running, timeout_s)
        except AssertionError as error:
            states = {name: (a["state"], a.get("last_exit")) for name, a in self.actors().items()}
            raise AssertionError(f"{error}\n{states}\n{self.tail()}") from None

    def tail(self, size: int = 4000) -> str:
        return self.log.read_text(errors="replace")[-size:]

    def stop(self, timeout_s: float = 60.0) -> int:
        """SIGTERM the supervisor and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the tree did not stop within {timeout_s:g} s:\n{self.tail()}") from None

    def kill(self, *first: str) -> None:
        """SIGKILL the supervisor and wait until everything it ran is gone: 3 s at most.

        Args:
            first: actors that are killed before it can notice: those do not get to drain.
        """
        actors = self.actors()
        everything = descendants(self.process.pid)
        assert len(everything) >= len(actors)
        self.process.send_signal(signal.SIGSTOP)
        for name in first:
            os.kill(actors[name]["pid"], signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        wait_for("the death of every actor", lambda: not [pid for pid in everything if alive(pid)], 3)
        wait_for("the death of every sealer", lambda: not self._others(), 3)

    def _others(self) -> set[int]:
        return {
            pid for pid in marked(self.data) if b"simulate" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        }

    def close(self) -> None:
        """Leave nothing behind, whatever happened."""
        left = descendants(self.process.pid)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in left | marked(self.data):
            if alive(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def segments(self, channel: str, source: str = "*") -> list[Path]:
        return sorted((self.data / "raw" / "ready").glob(f"{source}/{channel}/**/*.parquet"))

    def active(self) -> list[Path]:
        """Return what lies in raw/active: files only."""
        return [path for path in (self.data / "raw" / "active").rglob("*") if path.is_file()]


def rows(tree: Tree, channel: str, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the stored rows of one channel, file by file, read without Hive inference."""
    import pyarrow.parquet as pq

    for path in tree.segments(channel):
        yield from pq.ParquetFile(path).read(columns=columns).to_pylist()
