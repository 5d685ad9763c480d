"""A supervisor that only talks: it answers `daedalus-ctl` with what a test puts into its mouth."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

CTL = str(Path(sys.executable).parent / "daedalus-ctl")


class Fault(Exception):  # noqa: N818 - what it stands for is called so
    """An error reply."""

    def __init__(self, code: str, message: str = "cannot", actor: str | None = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, "actor": actor}


class Stream:
    """A streamed reply. Without an end the connection closes after the last item: the supervisor died."""

    def __init__(self, items: Iterable[Any], *, ends: bool = True) -> None:
        self.items = items
        self.ends = ends


Answer = Callable[[dict[str, Any]], Any]


class Server:
    """Answers each request by `answers[cmd]`: a value, a Stream, a Fault, or a function of the arguments."""

    def __init__(self, directory: Path, answers: dict[str, Any]) -> None:
        self.directory = directory
        self.answers = answers
        self.seen: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(directory / "control.sock"))
        self._socket.listen()
        self._peers: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(20)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self._peers.append(peer)
            thread = threading.Thread(target=self._talk, args=(peer,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _talk(self, peer: socket.socket) -> None:
        with peer, peer.makefile("rb") as file, contextlib.suppress(OSError):
            for line in file:
                request = json.loads(line)
                self.seen.append(request)
                for reply in self._replies(request):
                    if reply is None:
                        return
                    peer.sendall(json.dumps({"v": 1, "id": request["id"], **reply}).encode() + b"\n")

    def _replies(self, request: dict[str, Any]) -> Iterator[dict[str, Any] | None]:
        """Yield what to send; None: hang up."""
        answer = self.answers[request["cmd"]]
        try:
            result = answer(request["args"]) if callable(answer) else answer
            if isinstance(result, Fault):
                raise result
            if isinstance(result, Stream):
                for item in result.items:
                    yield {"ok": True, "result": item, "more": True}
                if not result.ends:
                    yield None
                result = None
            yield {"ok": True, "result": result}
        except Fault as fault:
            yield {"ok": False, "error": fault.error}

    def asked(self, cmd: str) -> list[dict[str, Any]]:
        """Return the arguments of every request of that name."""
        return [request["args"] for request in self.seen if request["cmd"] == cmd]


def environment(**values: str) -> dict[str, str]:
    """Return ours, without what points at a supervisor of somebody's."""
    unwanted = ("XDG_RUNTIME_DIR", "DAEDALUS_RUNTIME", "RUNTIME_DIRECTORY", "NO_COLOR")
    return {key: value for key, value in os.environ.items() if key not in unwanted} | values


def run(*words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run the installed `daedalus-ctl`."""
    return subprocess.run(
        [CTL, *words],
        capture_output=True,
        text=True,
        env=environment(**environ),
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def ctl(server: Server, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run it against a server."""
    return run("--runtime", str(server.directory), *words, **environ)


def brief(name: str = "store/writer-trades", state: str = "running", **values: Any) -> dict[str, Any]:
    """Return what an operation says of one actor."""
    return {"name": name, "state": state, "pid": 2211, "generation": 1} | values


def actor(**values: Any) -> dict[str, Any]:
    """Return an actor of a status document."""
    return {
        "name": "store/writer-trades", "parent": "store", "type": "worker", "role": "writer",
        "state": "running", "substate": "", "desired": "up",
        "pid": 2211, "generation": 1, "started_at": 900.0, "uptime_s": 11530.0,
        "ready": True, "flapping": False,
        "restarts": {"total": 0, "window": 0, "last_1h": 0}, "backoff": {"k": 0, "next_in_s": None},
        "cpu_pct": 8.06, "mem": {"anon": 142 << 20, "warn": None, "soft": None, "hard": 300 << 20},
        "cpus": [2], "mailbox": 4, "beat_age_s": 0.5, "fds": 12, "threads": 3, "status_text": "",
        "last_exit": None, "log_lines": 0, "log_dropped": 0, "spec_hash": "00c0ffee",
    } | values  # fmt: skip


def last_exit(**values: Any) -> dict[str, Any]:
    """Return how an actor ended."""
    return {
        "class": "abnormal", "code": 1, "signal": None, "at": 988.0, "message": "exit 1",
        "stderr_tail": ["boom"],
    } | values  # fmt: skip


def group(**values: Any) -> dict[str, Any]:
    """Return a group of a status document; as it stands it is the root."""
    return {
        "name": "root", "parent": None, "state": "running", "substate": "", "desired": "up",
        "strategy": "one_for_one", "intensity": 3, "period": 600.0, "window_used": 1, "on_limit": "park",
    } | values  # fmt: skip


def document(*actors: dict[str, Any], **supervisor: Any) -> dict[str, Any]:
    """Return a status document."""
    return {
        "v": 1,
        "ts": 1000.0,
        "supervisor": {
            "pid": 1, "version": "0.1.0", "uptime_s": 11535.0, "config_hash": "", "config_path": "",
            "runtime": "/r", "data": "/d", "state": "running", "loop_lag_ms": 0.2,
            "zygotes": [{"name": "light", "pid": 7}],
            "orphans_reaped": 0, "foreign_datagrams": 0, "log_dropped": 0,
            "host": {"load_1m": 0.9, "temperature_c": 61.2, "clock_synced": True},
        } | supervisor,
        "actors": list(actors),
        "groups": [group(), group(name="store", parent="root", intensity=5, period=60.0, window_used=0)],
    }  # fmt: skip
