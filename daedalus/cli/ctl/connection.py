"""The conversation with the supervisor: one JSON object per line over a Unix socket, and how it can fail.

Every failure becomes a `Refused` with a code of the wire, so that one place turns it into a line and an exit
code. An answer is waited for in turns of a second where somebody wants to be told meanwhile (`patience`).
"""

import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

from daedalus.cli.ctl.options import Options
from daedalus.kernel import errors
from daedalus.kernel.locate import find_socket

__all__ = [
    "ANSWER_MARGIN_S",
    "EXIT_CODES",
    "READ_TIMEOUT_S",
    "RETRY_S",
    "TURN_S",
    "Connection",
    "Gone",
    "Refused",
]

EXIT_CODES = {
    "failed": errors.EXIT_FAILED,
    "usage": errors.EXIT_USAGE,
    "config": errors.EXIT_USAGE,
    "not_found": errors.EXIT_NOT_FOUND,
    "timeout": errors.EXIT_TIMEOUT,
    "running": errors.EXIT_CONFLICT,
    "restarting": errors.EXIT_CONFLICT,
    "busy": errors.EXIT_CONFLICT,
    "already_present": errors.EXIT_CONFLICT,
    "unreachable": errors.EXIT_UNREACHABLE,
    "denied": errors.EXIT_DENIED,
}
# The supervisor keeps the time. Beyond it one that does not answer at all is given so much more.
ANSWER_MARGIN_S = 5.0  # to end an operation, or to say that it goes on
READ_MARGIN_S = 1.0
READ_TIMEOUT_S = 10.0
GONE_S = 30.0  # a supervisor that hung up and lives has come back by then, if it comes back at all
RETRY_S = 0.1  # nothing tells that a socket is bound anew
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
TURN_S = 1.0  # after so long somebody who waits is told, and again


class Refused(Exception):  # noqa: N818 - what the supervisor said, not a fault of ours
    """The error object of a reply, or of our own making."""

    def __init__(self, code: str, message: str, actor: str | None = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, "actor": actor}

    @property
    def code(self) -> str:
        """The wire's word for what went wrong."""
        return self.error["code"] or "failed"


class Gone(Refused):
    """The supervisor hung up."""

    def __init__(self, message: str) -> None:
        super().__init__("unreachable", message)


class Connection:
    """One connection to the supervisor. One question at a time."""

    def __init__(self, options: Options, *, answer_s: float = READ_TIMEOUT_S) -> None:
        """Connect.

        Args:
            options: where the socket is.
            answer_s: seconds after which a supervisor that takes or sends nothing is given up.

        Raises:
            Refused: unreachable, denied, or a path that cannot be one.
        """
        self._options = options
        self._answer_s = answer_s
        path = _path(options)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(answer_s)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise _refusal(error, path) from None
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def call(
        self,
        cmd: str,
        args: dict[str, Any],
        timeout: float | None,
        idle: Callable[[float], None] | None = None,
        *,
        margin_s: float | None = None,
    ) -> Any:
        """Ask and return the result.

        Args:
            cmd: the command.
            args: its arguments.
            timeout: seconds the supervisor may take; None leaves the bound to it.
            idle: called once a second with the seconds waited so far.
            margin_s: seconds beyond the timeout, in which the supervisor may say that it is over;
                None: what is usual for a question, or with `idle` for an operation.

        Raises:
            Refused: what the supervisor answered, or that it did not.
        """
        self._send(cmd, args, timeout)
        if margin_s is None:
            margin_s = READ_MARGIN_S if idle is None else ANSWER_MARGIN_S
        self._await(cmd, None if timeout is None else timeout + margin_s, idle)
        return self._reply(cmd, self._answer_s)["result"]

    def stream(self, cmd: str, args: dict[str, Any], *, follow: bool) -> Iterator[Any]:
        """Ask and yield the results one by one. A stream that is followed ends only with the supervisor.

        Raises:
            Gone: the connection broke.
            Refused: what the supervisor answered; `unreachable` when one that is followed ends.
        """
        self._send(cmd, args, None)
        while (reply := self._reply(cmd, None if follow else self._answer_s)).get("more"):
            yield reply["result"]
        if follow:
            raise Refused("unreachable", f"cannot follow {cmd} any longer: the supervisor has left")

    def again(self) -> "Connection | None":
        """Return a connection to the same supervisor after it hung up; None when it has left.

        A supervisor that replaces its program (`reexec`) keeps its process and binds its socket anew.
        """
        pidfd = self._peer()
        if pidfd is None:
            return None
        deadline = time.monotonic() + GONE_S
        try:
            while not select.select([pidfd], [], [], RETRY_S)[0] and time.monotonic() < deadline:
                with contextlib.suppress(Refused):
                    return Connection(self._options, answer_s=self._answer_s)
        finally:
            os.close(pidfd)
        return None

    def _peer(self) -> int | None:
        """Return a pidfd of the process at the other end."""
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        try:
            return os.pidfd_open(_CREDENTIALS.unpack(credentials)[0])
        except OSError:
            return None

    def _send(self, cmd: str, args: dict[str, Any], timeout: float | None) -> None:
        request = {"v": 1, "id": 1, "cmd": cmd, "args": args, "timeout": timeout}
        self._socket.settimeout(self._answer_s)
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except TimeoutError:
            raise Refused("timeout", f"cannot ask for {cmd}: not taken within {self._answer_s:g} s") from None
        except ConnectionError:
            pass  # whoever hangs up at once (denied) has said why: it is read below

    def _await(self, cmd: str, wait_s: float | None, idle: Callable[[float], None] | None) -> None:
        began = time.monotonic()
        while True:
            left = None if wait_s is None else began + wait_s - time.monotonic()
            if left is not None and left <= 0:
                onward = "" if idle is None else "; it goes on"
                raise Refused("timeout", f"cannot get an answer to {cmd} within {wait_s:g} s{onward}")
            turn = left if idle is None else min(TURN_S, TURN_S if left is None else left)
            if select.select([self._socket], [], [], turn)[0]:
                return
            if idle is not None:
                idle(time.monotonic() - began)

    def _reply(self, cmd: str, wait_s: float | None) -> dict[str, Any]:
        self._socket.settimeout(wait_s)
        try:
            line = self._file.readline()
        except TimeoutError:
            raise Refused("timeout", f"cannot get an answer to {cmd} within {wait_s:g} s") from None
        except OSError as error:
            raise Gone(f"cannot reach the supervisor: {error.strerror or error}") from None
        if not line:
            raise Gone(f"cannot get an answer to {cmd}: the supervisor closed the connection")
        try:
            reply = json.loads(line)
            if not reply["ok"]:
                fault = reply["error"]
                raise Refused(fault["code"], fault["message"], fault.get("actor"))
            return {"result": reply["result"], "more": reply.get("more", False)}
        except (ValueError, TypeError, KeyError, AttributeError):
            said = line[:80].decode("utf-8", "replace").strip()
            raise Refused("unreachable", f"cannot understand the answer to {cmd}: {said!r}") from None


def _path(options: Options) -> str:
    try:
        return find_socket(os.environ, path=options.socket or "", runtime=options.runtime or "")
    except ValueError as error:
        raise Refused("usage", str(error)) from None
    except PermissionError as error:
        raise Refused("denied", str(error)) from None
    except OSError as error:
        raise Refused("unreachable", str(error)) from None


def _refusal(error: OSError, path: str) -> Refused:
    if isinstance(error, PermissionError):
        return Refused("denied", f"cannot use {path}: {error.strerror}")
    if isinstance(error, FileNotFoundError):
        return Refused("unreachable", f"cannot reach a supervisor: no socket {path}")
    return Refused("unreachable", f"cannot reach a supervisor at {path}: {error.strerror or error}")
