"""A tree of probes in a process of its own: `python probe_tree.py FILE` runs the tree that FILE holds."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from daedalus.kernel.spec import ActorSpec, Backoff, GroupSpec, Tree

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parent.parent}"}


def probe(name: str, trace: Path, spec: dict[str, Any] | None = None, **settings: Any) -> ActorSpec:
    """Return the spec of a probe; `settings` are what it is told to do."""
    values: dict[str, Any] = {
        "backoff": Backoff(base_s=0.1, cap_s=1.0, jitter=0.0),
        "drain_s": 0.5,
        "shutdown_s": 1.0,
        "heartbeat_interval_s": 0.2,
        "heartbeat_timeout_s": 2.0,
        "start_timeout_s": 10.0,
    }
    told = msgspec.msgpack.encode({"trace": str(trace), **settings})
    return ActorSpec(
        name=name,
        group=name.split("/", maxsplit=1)[0],
        target="probe_actor:Probe",
        settings=told,
        **(values | (spec or {})),
    )


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie that init has not buried yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


class ProbeTree:
    """A running supervisor over probes, seen through its control program, its trace and /proc."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runtime = directory / "rt"
        self.trace = directory / "trace"
        self.stderr = directory / "stderr"
        self.hint = directory / "hint"  # first on the supervisor's module path, where it exists
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self, *actors: ActorSpec, duration_s: float = 0.0, supervisor_cpus: tuple[int, ...] = (), **group: Any
    ) -> None:
        root = GroupSpec(name="root", parent=None, intensity=3, period_s=600, on_limit="park")
        tree = Tree(
            runtime=str(self.runtime),
            data=str(self.directory / "data"),
            groups=(root, GroupSpec(name="g", **group)),
            actors=actors,
            preload={"light": ("daedalus.kernel.actor",)},
            supervisor_cpus=supervisor_cpus,
        )
        file = self.directory / "tree.json"
        file.write_bytes(msgspec.json.encode([tree, duration_s]))
        self.run(file)

    def run(self, file: Path) -> None:
        with self.stderr.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(file)],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=ENVIRONMENT | {"PYTHONPATH": f"{self.hint}:{ENVIRONMENT['PYTHONPATH']}"},
                start_new_session=True,
            )

    def ctl(self, *args: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "daedalus.cli.ctl", "--runtime", str(self.runtime), *args]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT
        )

    def status(self) -> dict[str, Any]:
        done = self.ctl("status", "--json")
        return json.loads(done.stdout) if done.stdout else {"actors": [], "groups": [], "supervisor": {}}

    def actor(self, name: str) -> dict[str, Any]:
        return next((item for item in self.status()["actors"] if item["name"] == name), {})

    def until(self, what: str, check: Callable[[], Any], timeout_s: float = 15.0) -> Any:
        deadline, looks = time.monotonic() + timeout_s, timeout_s / 0.05
        while not (answer := check()):
            looks -= 1  # time in which we did not get to look does not count
            if time.monotonic() > deadline and looks < 0:
                raise AssertionError(f"{what}: not within {timeout_s} s\n{self.stderr.read_text()[-3000:]}")
            time.sleep(0.05)
        return answer

    def until_running(self, *names: str) -> dict[str, dict[str, Any]]:
        def check() -> dict[str, dict[str, Any]] | None:
            found = {item["name"]: item for item in self.status()["actors"]}
            return found if all(found.get(name, {}).get("state") == "running" for name in names) else None

        return self.until(f"{names} running", check)

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        lines = self.ctl("events", "--json").stdout.splitlines()
        return [event for event in map(json.loads, lines) if event["type"] in kinds or not kinds]

    def traced(self) -> list[tuple[float, str, int, int, str]]:
        return [tuple(json.loads(line)) for line in self.trace.read_text().splitlines()]

    def pids(self) -> list[int]:
        """Return every pid the probes and their children ever had."""
        pids = []
        for _, _, _, pid, event in self.traced():
            pids.append(int(event.split()[1]) if event.startswith("forked") else pid)
        return pids

    def left(self) -> list[int]:
        return [pid for pid in set(self.pids()) if alive(pid)]

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.left() if self.trace.exists() else []:
            self.until(f"end of {pid}", lambda pid=pid: not alive(pid), 5.0)


if __name__ == "__main__":
    from daedalus.kernel.launch import run

    loaded, seconds = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=tuple[Tree, float])
    sys.exit(run(loaded, duration_s=seconds))
