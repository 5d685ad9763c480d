"""A running tree of probes, started as a user starts one and seen only from outside.

What a test may look at: `daedalus-ctl`, the control socket (one JSON line each way, for speed), the events,
the trace that the probes write, and /proc. Nothing here imports the implementation.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.conformance.wire import Link, RefusedError

PROBE = Path(__file__).parent / "probe.py"
BIN = Path(sys.executable).parent
WAIT_S = 25.0  # for what should happen at once: the machine may be busy
POLL_S = 0.03
CODES = {0: 0, 1: 1, 75: 2, 78: 3, 3: 4}  # exit code -> which real-time signal asks a probe for it
BACKOFF = {"base_s": 0.1, "factor": 2.0, "cap_s": 1.0, "jitter": 0.0, "reset_after_s": 60.0}

Actor = tuple[str, dict[str, Any]]


class Told(NamedTuple):
    """One line of the trace."""

    mono: float
    name: str
    generation: int
    pid: int
    event: str


def slack(seconds: float) -> float:
    """Return the upper bound for what takes `seconds` on a quiet machine."""
    return 4 * seconds + 2.0


def probe(name: str, *flags: str | float, **keys: Any) -> Actor:
    """Return an actor that runs the probe with `flags`; `keys` are TOML keys over the usual ones."""
    usual: dict[str, Any] = {
        "command": [sys.executable, "-S", "-E", str(PROBE), "--trace", "{trace}", *map(str, flags)],
        "drain_signal": "SIGUSR2",
        "drain_s": 0.5,
        "shutdown_s": 1.0,
        "heartbeat_interval_s": 0.2,
        "heartbeat_timeout_s": 15.0,  # cases about hanging say less
        "start_timeout_s": 20.0,
        "backoff": BACKOFF,
    }
    usual |= keys
    return name, {key: value for key, value in usual.items() if value is not None}


def toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def table(name: str, values: dict[str, Any]) -> str:
    """Return one table."""
    return "\n".join([f"[{name}]", *(f"{key} = {toml(value)}" for key, value in values.items()), ""])


def state_of(pid: int) -> str:
    """Return the kernel's letter for a process, "" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    return state_of(pid) not in ("", "Z", "X")


def until(
    what: str, check: Callable[[], Any], timeout_s: float = WAIT_S, story: Callable[[], str] = str
) -> Any:
    """Return the first true answer of `check`."""
    deadline = time.monotonic() + timeout_s
    while not (answer := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s} s\n{story()}")
        time.sleep(POLL_S)
    return answer


class Tree:
    """One supervisor and its probes in a short directory of their own."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="dc-", dir="/tmp"))
        self.runtime = self.directory / "rt"
        self.trace = self.directory / "trace"
        self.config = self.directory / "supervisor.toml"
        self.stderr = self.directory / "stderr"
        self.trace.touch()
        self.stderr.touch()
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith("DAEDALUS_")
        }

    # Starting.

    def write(
        self,
        *actors: Actor,
        groups: dict[str, dict[str, Any]] | None = None,
        root: dict[str, Any] | None = None,
        more: str = "",
    ) -> str:
        """Write supervisor.toml. Groups escalate, and endure a hundred restarts, unless told otherwise."""
        lasting = {"on_limit": "escalate", "intensity": 100, "period_s": 60}
        names = {name.rpartition("/")[0]: {} for name, _ in actors} | (groups or {})
        parts = [
            table("paths", {"data": str(self.directory / "data"), "runtime": str(self.runtime)}),
            table("dashboard", {"listen": ""}),
            table("supervisor", {"intensity": 100, "period_s": 60} | (root or {})),
            *(table(f"groups.{name}", lasting | keys) for name, keys in names.items()),
        ]
        for name, keys in actors:
            parts.append(table(f'actors."{name}"', self.spec_of((name, keys))))
        text = "\n".join([*parts, more])
        self.config.write_text(text)
        return text

    def spec_of(self, actor: Actor) -> dict[str, Any]:
        """Return an actor's TOML keys with its trace put in, as `add` takes them."""
        told = dict(actor[1])
        if "command" in told:
            told["command"] = [word.replace("{trace}", str(self.trace)) for word in told["command"]]
        return told

    def start(self, *actors: Actor, wait: bool = True, **rest: Any) -> "Tree":
        """Write the file and start the supervisor; with `wait` return when every probe of it was started."""
        self.write(*actors, **rest)
        self.launch()
        if wait:
            self.until_up()
        return self

    def launch(self, *words: str) -> subprocess.Popen[bytes]:
        """Run `daedalus-supervisor start` on the file."""
        with self.stderr.open("ab") as stderr:
            self.process = subprocess.Popen(
                [str(BIN / "daedalus-supervisor"), "start", "--config", str(self.config), *words],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=self.environment,
                cwd=self.directory,
                start_new_session=True,
            )
        return self.process

    def until_up(self) -> None:
        """Wait until the tree has opened."""
        self.until("tree up", lambda: self.answering() and self.status()["supervisor"]["state"] == "running")

    def check(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run `daedalus-supervisor check` on the file."""
        return self._run("daedalus-supervisor", "check", str(self.config), *words)

    # Asking.

    def _run(self, program: str, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(BIN / program), *words],
            capture_output=True, text=True, timeout=90, check=False, env=self.environment, cwd=self.directory,
        )  # fmt: skip

    def ctl(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run the real control program."""
        return self._run("daedalus-ctl", "--runtime", str(self.runtime), *words)

    def link(self) -> Link:
        return Link(self.runtime / "control.sock")

    def answering(self) -> bool:
        """Return whether somebody listens."""
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the supervisor left with {self.process.returncode}\n{self.story()}")
        with contextlib.suppress(OSError):
            self.link().close()
            return True
        return False

    def call(self, cmd: str, *actors: str, timeout: float | None = None, **args: Any) -> Any:
        """Ask one question. `actors` are what it is about.

        Raises:
            RefusedError: the answer is an error.
        """
        link = self.link()
        try:
            link.ask(cmd, timeout, **({"actors": list(actors)} if actors else {}), **args)
            return list(link.answers())[-1]
        finally:
            link.close()

    def refusal(self, cmd: str, *actors: str, **args: Any) -> str:
        """Return the code with which a request is refused; "" when it is not."""
        try:
            self.call(cmd, *actors, **args)
        except RefusedError as error:
            return error.code
        return ""

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = self.call("status")
        return document

    def actors(self) -> dict[str, dict[str, Any]]:
        return {item["name"]: item for item in self.status()["actors"]}

    def actor(self, name: str) -> dict[str, Any]:
        """Return an actor's part of the status, empty when there is none."""
        return self.actors().get(name, {})

    def group(self, name: str) -> dict[str, Any]:
        return next((item for item in self.status()["groups"] if item["name"] == name), {})

    def pid(self, name: str) -> int:
        return int(self.actor(name)["pid"])

    def who(self, *names: str) -> dict[str, tuple[int | None, int]]:
        """Return pid and generation of actors, to be compared later."""
        found = self.actors()
        return {name: (found[name]["pid"], found[name]["generation"]) for name in names}

    def events(self, actor: str | None = None, *kinds: str, since: int = 0) -> list[dict[str, Any]]:
        """Return retained events: of one actor or group (None: of all), of these types (none: all)."""
        link = self.link()
        try:
            link.ask("events", since=since)
            found = list(link.answers())
        finally:
            link.close()
        return [
            item
            for item in found
            if (actor is None or item["actor"] == actor) and (not kinds or item["type"] in kinds)
        ]

    def last_seq(self) -> int:
        return max((item["seq"] for item in self.events()), default=0)

    def traced(self, prefix: str = "") -> list[Told]:
        """Return the trace of the actors whose names begin with `prefix`."""
        lines = self.trace.read_text().splitlines()
        return [told for told in (Told(*json.loads(line)) for line in lines) if told.name.startswith(prefix)]

    def plot(self, prefix: str, *events: str) -> list[tuple[str, str]]:
        """Return (bare name, event) of a group's trace, of these events (none: all) without their details."""
        pairs = [(told.name.rpartition("/")[2], told.event.split()[0]) for told in self.traced(prefix)]
        return [pair for pair in pairs if not events or pair[1] in events]

    def spawns(self, name: str) -> int:
        return sum(told.name == name and told.event == "spawn" for told in self.traced())

    # Waiting.

    def story(self) -> str:
        return self.stderr.read_text()[-4000:]

    def until(self, what: str, check: Callable[[], Any], timeout_s: float = WAIT_S) -> Any:
        return until(what, check, timeout_s, self.story)

    def wait_state(
        self, name: str, *states: str, generation: int = 0, timeout_s: float = WAIT_S
    ) -> dict[str, Any]:
        """Return the actor's status once it is in one of the states, in `generation` or a later one."""
        seen: dict[str, Any] = {}

        def check() -> bool:
            seen.clear()
            seen.update(self.actor(name))
            return seen.get("state") in states and seen["generation"] >= generation

        try:
            self.until(f"{name} {'/'.join(states)}", check, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\nlast seen: {seen}") from None
        return seen

    def wait_running(self, *names: str, generation: int = 0) -> None:
        for name in names:
            self.wait_state(name, "running", generation=generation)

    def wait_event(
        self, actor: str, *kinds: str, since: int = 0, timeout_s: float = WAIT_S
    ) -> dict[str, Any]:
        """Return the first event of an actor of one of the types."""
        found = self.until(f"{kinds} of {actor}", lambda: self.events(actor, *kinds, since=since), timeout_s)
        first: dict[str, Any] = found[0]
        return first

    def wait_exit(self, timeout_s: float = WAIT_S) -> int:
        """Return the code with which the supervisor leaves."""
        assert self.process is not None
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the supervisor is still there after {timeout_s} s\n{self.story()}"
            ) from None

    # Doing.

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to an actor's leader and return its pid."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def leave(self, name: str, code: int) -> int:
        """Make a probe leave by itself with a code of CODES."""
        return self.kill(name, signal.SIGRTMIN + CODES[code])

    def fail_next(self, name: str, times: int = 1) -> None:
        """Make the next starts of a probe fail."""
        Path(f"{self.trace}.{name.replace('/', '-')}.fails").write_text(str(times))

    def end(self, timeout_s: float = WAIT_S) -> int:
        """Stop the tree as systemd would, and return the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait_exit(timeout_s)

    def pids(self) -> set[int]:
        """Return every pid that the probes and their children ever had."""
        forked = {int(told.event.split()[1]) for told in self.traced() if told.event.startswith("forked")}
        return forked | {told.pid for told in self.traced()}

    def left(self) -> list[int]:
        """Return those that still run: a pid that somebody else has by now is not one of ours."""
        return [pid for pid in sorted(self.pids()) if alive(pid) and self._ours(pid)]

    def _ours(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return str(self.trace).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        return False

    def close(self) -> None:
        """End everything, whatever state it is in, and remove the directory."""
        if self.process is not None and self.process.poll() is None:
            for _ in range(3):
                if self.process.poll() is None:
                    self.process.send_signal(signal.SIGTERM)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self.process.wait(3.0)
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        with contextlib.suppress(AssertionError):
            until("no probe", lambda: not self.left(), 2.0)
        for pid in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)
