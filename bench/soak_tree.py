"""The tree of a soak as seen from outside: its file, its control socket, and its processes in /proc."""

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.soak_plan import GROUPS, HARD_MB, POOL, Member
from bench.soak_rules import Process
from tests.system.tree import Tree

PROBE = Path(__file__).resolve().parent / "soak_probe.py"
ANSWER_S = 5.0  # for what must be answered at once, on a busy machine
OPERATION_S = 60.0  # for a stop or a start with everything that may be in its way
HANG_S = 5.0


class RefusedError(Exception):
    """The supervisor answered with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: str = error["code"]


def value(item: object) -> str:
    """Return a value as TOML writes it."""
    if isinstance(item, dict):
        return "{" + ", ".join(f"{key} = {value(one)}" for key, one in item.items()) + "}"
    return json.dumps(item)


def configuration(base: Path, members: Mapping[str, Member]) -> str:
    """Return the file that makes this roster."""
    head = (
        f'[paths]\ndata = "{base}/d"\nruntime = "{base}/r"\n[dashboard]\nlisten = ""\n'
        '[supervisor]\nintensity = 100\nperiod_s = 60\non_limit = "park"\npark_retry_s = 2\n'
    )
    parts = [head]
    for name, keys in GROUPS.items():
        told = {"park_retry_s": 2, **keys}
        parts.append(f"[groups.{name}]\n" + "".join(f"{key} = {value(one)}\n" for key, one in told.items()))
    for name, member in members.items():
        command = [sys.executable, "-I", "-S", str(PROBE)]
        command += ["--fork", member.fork] if member.fork else []
        command += ["--tag", str(member.tag)]
        keys: dict[str, object] = {
            "command": command, "restart": member.restart, "drain_signal": "SIGUSR2", "drain_s": 2.0,
            "shutdown_s": 2.0, "heartbeat_interval_s": 0.5, "heartbeat_timeout_s": HANG_S,
            "memory_soft": f"{member.soft_mb}M", "memory_hard": f"{HARD_MB}M",
            "backoff": {"base_s": 0.05, "cap_s": 0.5, "jitter": 0.1, "reset_after_s": 2.0},
        }  # fmt: skip
        if name == POOL:
            keys["instances"] = member.instances
        parts.append(f'[actors."{name}"]\n' + "".join(f"{key} = {value(one)}\n" for key, one in keys.items()))
    return "\n".join(parts)


class SoakTree(Tree):
    """A running tree of soak probes."""

    def __init__(self, base: Path, members: Mapping[str, Member]) -> None:
        super().__init__(base, configuration(base, members))
        self.slowest_s = 0.0  # answer to `status` or `events`
        self.answers = 0

    def write(self, members: Mapping[str, Member]) -> None:
        """Change the file; the tree does not know yet."""
        self.file.write_text(configuration(self.base, members))

    def ask(self, cmd: str, timeout_s: float = OPERATION_S, **args: Any) -> Any:
        """Return the result of a command, the list of its items when it is a stream.

        Raises:
            RefusedError: the answer is an error.
            TimeoutError: there was none in time.
        """
        request = {"v": 1, "id": 1, "cmd": cmd, "args": args, "timeout": timeout_s}
        items: list[Any] = []
        began = time.monotonic()
        with socket.socket(socket.AF_UNIX) as conn:
            conn.settimeout(timeout_s + ANSWER_S)
            conn.connect(str(self.runtime / "control.sock"))
            conn.sendall(json.dumps(request).encode() + b"\n")
            with conn.makefile("rb") as file:
                for line in file:
                    reply = json.loads(line)
                    if not reply["ok"]:
                        raise RefusedError(reply["error"])
                    if not reply.get("more"):
                        if cmd in ("status", "events"):
                            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                            self.answers += 1
                        return items if cmd == "events" else reply["result"]
                    items.append(reply["result"])
        raise ConnectionError(f"no answer to {cmd}: the supervisor closed the connection")

    def knows(self, cmd: str) -> bool:
        """Return whether the supervisor has a command, without doing anything."""
        try:
            self.ask(cmd, actors=["no-such-actor"], dry_run=True)
        except RefusedError as error:
            return not (error.code == "usage" and "cannot do" in str(error) and "commands are" in str(error))
        return True

    def processes(self) -> Iterator[Process]:
        """Yield the processes of the tree: the supervisor's children, and whoever bears its mark."""
        mark = f"DAEDALUS_RUNTIME={self.runtime}".encode()
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                found = process(int(entry.name), mark, self.process.pid)
                if found is not None:
                    yield found

    def alive(self, who: Process) -> bool:
        """Return whether this very process still runs."""
        try:
            fields = Path(f"/proc/{who.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return False
        return fields[0] not in "ZX" and int(fields[19]) == who.started

    def fds(self) -> int:
        """Return the number of the supervisor's open descriptors."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def rss_mb(self) -> float:
        """Return the resident memory of the supervisor, MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def signal(self, pid: int, number: int) -> bool:
        """Send a signal to one process; False: it is gone."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True


def process(pid: int, mark: bytes, supervisor: int) -> Process | None:
    """Return a process if it belongs to the tree.

    Raises:
        OSError: it is gone.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    state, parent, group, started = fields[0], int(fields[1]), int(fields[2]), int(fields[19])
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if state not in "ZX" else []
    if mark not in variables:
        return Process(pid, parent, group, state, started) if parent == supervisor else None
    told = dict(item.split(b"=", 1) for item in variables if b"=" in item)
    name, generation = told.get(b"DAEDALUS_ACTOR", b"").decode(), int(told.get(b"DAEDALUS_GENERATION", 0))
    return Process(pid, parent, group, state, started, name, generation)


NUMBERS = {name: getattr(signal, name) for name in ("SIGKILL", "SIGSEGV", "SIGTERM")}
