"""The control socket as a test holds it: one JSON line each way."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Link", "RefusedError"]


class RefusedError(Exception):
    """The supervisor answered a request with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: str = error["code"]
        self.actor: str | None = error.get("actor")


class Link:
    """A connection to the control socket."""

    def __init__(self, path: Path, timeout_s: float = 60.0) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self.file = self.socket.makefile("rb")
        self.number = 0

    def ask(self, cmd: str, timeout: float | None = None, **args: Any) -> int:
        """Send a request and return its id."""
        self.number += 1
        request = {"v": 1, "id": self.number, "cmd": cmd, "args": args, "timeout": timeout}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        return self.number

    def answers(self) -> Iterator[Any]:
        """Yield results until the last.

        Raises:
            RefusedError: the answer is an error.
        """
        more = True
        while more:
            line = self.file.readline()
            if not line:
                raise ConnectionError("the supervisor closed the connection")
            reply = json.loads(line)
            if not reply["ok"]:
                raise RefusedError(reply["error"])
            more = reply.get("more", False)
            if more or reply["result"] is not None:
                yield reply["result"]

    def close(self) -> None:
        self.file.close()
        self.socket.close()
