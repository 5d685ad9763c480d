"""Process managers under one handle: Daedalus, supervisord and circus, each over the same idle children.

The others come from the package index, each into an environment of its own under a temporary directory.
All run with their defaults, apart from what must be said for children to be restarted as often as asked.
"""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

CHILD = Path(__file__).resolve().parent / "idle.py"
ROOT = CHILD.parent.parent
BIN = Path(sys.executable).parent
_INSTALL_TIMEOUT_S = 240
_STOP_TIMEOUT_S = 60


def own_cpu_s(pid: int) -> float:
    """Return user and system seconds of one process, without those of the children that it has buried."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:13]) / os.sysconf("SC_CLK_TCK")


class Up(NamedTuple):
    """What a child says when it is up."""

    name: str
    pid: int
    at: float  # monotonic seconds


class Stamps:
    """The socket that the children report to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))

    def next(self, timeout_s: float) -> Up | None:
        """Return the next report, None when there is none in time."""
        self.socket.settimeout(max(timeout_s, 1e-3))
        try:
            name, pid, at = self.socket.recv(256).decode().split()
        except TimeoutError:
            return None
        return Up(name, int(pid), int(at) / 1e9)

    def take(self, count: int, timeout_s: float) -> dict[str, Up]:
        """Return the reports of `count` children by name, the last of each.

        Raises:
            RuntimeError: fewer reported in time.
        """
        found: dict[str, Up] = {}
        deadline = time.monotonic() + timeout_s
        while len(found) < count:
            up = self.next(deadline - time.monotonic())
            if up is None:
                raise RuntimeError(f"cannot go on: {len(found)} of {count} children up after {timeout_s:g} s")
            found[up.name] = up
        return found

    def until_quiet(self, quiet_s: float) -> list[Up]:
        """Return all reports until there was none for so long."""
        found = []
        while (up := self.next(quiet_s)) is not None:
            found.append(up)
        return found

    def close(self) -> None:
        self.socket.close()


class Spent(NamedTuple):
    """The cost of one command."""

    wall_ms: float
    cpu_ms: float
    code: int
    output: str


def spend(command: list[str], cwd: Path | None = None) -> Spent:
    """Run a command and return what it took: wall time, and CPU of the process and its children."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)
    wall_ms = (time.monotonic() - began) * 1e3
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_ms = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3
    return Spent(wall_ms, cpu_ms, done.returncode, done.stdout + done.stderr)


class Manager:
    """One running manager. Subclasses say how it is configured, started and asked."""

    name = ""

    def __init__(self, base: Path, stamps: Stamps, count: int) -> None:
        base.mkdir(mode=0o700)
        self.base = base
        self.stamps = stamps
        self.names = [f"a{number:02}" for number in range(count)]
        self.notes: dict[str, str] = {}
        self.began = time.monotonic()
        self.configure()
        with (base / "out").open("ab") as out:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=base
            )

    def child(self, name: str) -> list[str]:
        """Return the command line of one child; a note makes it another one."""
        words = [sys.executable, "-I", "-S", str(CHILD), str(self.stamps.path), name]
        return [*words, self.notes[name]] if name in self.notes else words

    def configure(self) -> None:
        """Write the configuration."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return what starts the manager in the foreground."""
        raise NotImplementedError

    def status(self) -> list[str]:
        """Return the command that prints the state of all children."""
        raise NotImplementedError

    def reload(self) -> list[str]:
        """Return the command that makes the running children what the configuration says."""
        raise NotImplementedError

    def change(self, name: str) -> None:
        """Give one child another argument in the configuration."""
        self.notes[name] = f"note{len(self.notes)}"
        self.configure()

    def wait_answering(self, timeout_s: float = 20.0) -> None:
        """Return once `status` is answered well."""
        deadline = time.monotonic() + timeout_s
        while (last := spend(self.status())).code:
            if time.monotonic() > deadline:
                raise RuntimeError(f"cannot ask {self.name}: {last.output[-500:]}")
            time.sleep(0.2)

    def stop(self) -> float:
        """SIGTERM the manager and return the seconds until it has left."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(_STOP_TIMEOUT_S)
        return time.monotonic() - began

    def close(self, pids: set[int]) -> None:
        """Leave nothing behind: the manager, then those of `pids` that are still our child program."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in pids:
            with contextlib.suppress(OSError):
                if str(self.stamps.path).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)


class Daedalus(Manager):
    """Ours, by its real programs."""

    name = "daedalus"

    def configure(self) -> None:
        parts = [f'[paths]\ndata = "{self.base}/d"\nruntime = "{self.base}/r"\n[dashboard]\nlisten = ""\n']
        parts.append("[groups.g]\nintensity = 1000\nbackoff = {base_s = 0.001, cap_s = 0.001, factor = 1}\n")
        for name in self.names:
            words = ", ".join(f'"{word}"' for word in self.child(name))
            parts.append(f'[actors."g/{name}"]\ncommand = [{words}]\n')
        (self.base / "supervisor.toml").write_text("".join(parts))

    def command(self) -> list[str]:
        return [str(BIN / "daedalus-supervisor"), "start", "--config", str(self.base / "supervisor.toml")]

    def _ctl(self, *words: str) -> list[str]:
        return [str(BIN / "daedalus-ctl"), "--runtime", str(self.base / "r"), *words]

    def status(self) -> list[str]:
        return self._ctl("status")

    def reload(self) -> list[str]:
        return self._ctl("reload", "--json")


class Supervisord(Manager):
    """supervisord, each child a program of its own."""

    name = "supervisord"
    bin = Path()

    def configure(self) -> None:
        base = self.base
        head = (
            f"[supervisord]\nnodaemon=true\nlogfile={base}/log\npidfile={base}/pid\nchildlogdir={base}\n"
            f"[unix_http_server]\nfile={base}/s\n[supervisorctl]\nserverurl=unix://{base}/s\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        )
        parts = [head]
        parts += [
            f"[program:{name}]\ncommand={' '.join(self.child(name))}\nautorestart=true\n"
            for name in self.names
        ]
        (base / "supervisord.conf").write_text("".join(parts))

    def command(self) -> list[str]:
        return [str(self.bin / "supervisord"), "-c", str(self.base / "supervisord.conf")]

    def _ctl(self, *words: str) -> list[str]:
        return [str(self.bin / "supervisorctl"), "-c", str(self.base / "supervisord.conf"), *words]

    def status(self) -> list[str]:
        return self._ctl("status")

    def reload(self) -> list[str]:
        return self._ctl("update")


class Circus(Manager):
    """circusd, each child a watcher of its own."""

    name = "circus"
    bin = Path()

    def configure(self) -> None:
        base = self.base
        parts = [
            f"[circus]\nendpoint=ipc://{base}/e\npubsub_endpoint=ipc://{base}/p\nstats_endpoint=ipc://{base}/t\n"
        ]
        parts += [f"[watcher:{name}]\ncmd={' '.join(self.child(name))}\n" for name in self.names]
        (base / "circus.ini").write_text("".join(parts))

    def command(self) -> list[str]:
        return [str(self.bin / "circusd"), str(self.base / "circus.ini")]

    def _ctl(self, *words: str) -> list[str]:
        return [str(self.bin / "circusctl"), "--endpoint", f"ipc://{self.base}/e", *words]

    def status(self) -> list[str]:
        return self._ctl("status")

    def reload(self) -> list[str]:
        return self._ctl("reloadconfig")


def install(package: str, folder: Path, say: Callable[[str], None]) -> tuple[Path, str] | None:
    """Return (bin directory, version) of a package from the index; None, and why, where that cannot be."""
    env = folder / package
    subprocess.run([sys.executable, "-m", "venv", str(env)], check=True, capture_output=True)
    done = subprocess.run(
        [str(env / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", package],
        capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        say(f"{package}: skipped, cannot be installed: {reason}")
        return None
    code = f"from importlib.metadata import version; print(version({package!r}))"
    told = subprocess.run(
        [str(env / "bin" / "python"), "-c", code], capture_output=True, text=True, check=True
    )
    say(f"{package} {told.stdout.strip()}")
    return env / "bin", told.stdout.strip()
