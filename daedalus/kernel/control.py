"""The control socket: one JSON object per line, both ways. Transport only; `commands` does what is asked.

    request  {"v":1,"id":any,"cmd":"stop","args":{…},"timeout":s}
    reply    {"v":1,"id":…,"ok":true,"result":…}  or  {…,"ok":false,"error":{"code","message","actor"}}

A streamed reply has "more":true in all lines but the last. A bad line is answered with an error, and the
connection stays open. The socket is made under a umask: a chmod after the bind would be a race.
"""

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from daedalus.kernel.commands import COMMANDS, STREAMS
from daedalus.kernel.errors import ControlError

if TYPE_CHECKING:
    from daedalus.kernel.supervisor import Supervisor

__all__ = ["Control", "Request", "parse_request"]

LINE_MAX = 1 << 20  # bytes of one request
REQUESTS_MAX = 16  # at work at the same time per connection; more wait in the socket
_CREDENTIALS = struct.Struct("iII")


class Request(msgspec.Struct, frozen=True):
    """One request."""

    cmd: str
    v: int = 1
    id: Any = None
    args: dict[str, Any] = {}
    timeout: float | None = None


def parse_request(line: bytes) -> Request:
    """Return the request in a line.

    Raises:
        ControlError: it is none (code usage).
    """
    try:
        request = msgspec.json.decode(line, type=Request)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ControlError("usage", f"cannot read the request: {error}") from None
    if request.v != 1:
        raise ControlError("usage", f"cannot speak version {request.v} of the protocol: this is version 1")
    if request.cmd not in COMMANDS and request.cmd not in STREAMS:
        known = ", ".join(sorted((*COMMANDS, *STREAMS)))
        raise ControlError("usage", f"cannot do {request.cmd!r}: the commands are {known}")
    return request


class Control:
    """Serves the socket of one supervisor."""

    def __init__(self, supervisor: "Supervisor", path: str) -> None:
        """Prepare; `start` binds `path`. A stale socket goes: the lock says that its owner is dead."""
        Path(path).unlink(missing_ok=True)
        self._supervisor = supervisor
        self._path = path
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bind and listen."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        before = os.umask(0o117)
        try:
            sock.bind(self._path)
        finally:
            os.umask(before)
        self._server = await asyncio.start_unix_server(self._accept, sock=sock, limit=LINE_MAX)

    async def close(self) -> None:
        """Stop listening and end all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        work: set[asyncio.Task[None]] = set()
        room = asyncio.Semaphore(REQUESTS_MAX)
        try:
            self._authorise(writer)
            while True:
                line = await self._read(reader, writer)
                if line is None:
                    break
                if not line.strip():
                    continue
                await room.acquire()
                item = asyncio.get_running_loop().create_task(self._answer(line, writer))
                work.add(item)
                item.add_done_callback(lambda done: (work.discard(done), room.release()))  # type: ignore[func-returns-value]
        except ControlError as error:
            await _send(writer, None, error=error)
        except ConnectionError:
            pass
        finally:
            for item in list(work):
                item.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*work, return_exceptions=True)
            writer.close()
            self._connections.discard(task)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        """Return the next line, None at the end. A line that is too long is skipped whole."""
        try:
            line = await reader.readline()
        except ValueError:  # the reader has thrown away what it had of it
            await _send(
                writer, None, error=ControlError("usage", f"cannot read a line over {LINE_MAX} bytes")
            )
            return b"\n"
        return line or None

    def _authorise(self, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(data)
        if uid not in (0, os.geteuid()):
            raise ControlError(
                "denied", f"cannot serve uid {uid}: this supervisor belongs to uid {os.geteuid()}"
            )

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        request_id = None
        try:
            with contextlib.suppress(ValueError, AttributeError, RecursionError):
                request_id = json.loads(line).get("id")
            request = parse_request(line)
            if request.cmd in STREAMS:
                await self._stream(STREAMS[request.cmd](self._supervisor, request.args), request, writer)
                return
            try:
                async with asyncio.timeout(request.timeout):
                    result = await COMMANDS[request.cmd](self._supervisor, request.args)
            except TimeoutError:
                message = f"cannot finish {request.cmd} within {request.timeout:g} s; it goes on"
                raise ControlError("timeout", message) from None
            await _send(writer, request_id, result=result)
        except ControlError as error:
            await _send(writer, request_id, error=error)
        except (TypeError, ValueError, RecursionError) as error:
            # Arguments of another type than the command takes: whoever asked is owed an answer.
            refused = ControlError("usage", f"cannot do this request: {error}")
            await _send(writer, request_id, error=refused)
        except ConnectionError:
            pass

    async def _stream(
        self, items: AsyncIterator[Any], request: Request, writer: asyncio.StreamWriter
    ) -> None:
        async for item in items:
            await _send(writer, request.id, result=item, more=True)
        await _send(writer, request.id, result=None)


async def _send(
    writer: asyncio.StreamWriter,
    request_id: Any,
    *,
    result: Any = None,
    error: ControlError | None = None,
    more: bool = False,
) -> None:
    reply: dict[str, Any] = {"v": 1, "id": request_id, "ok": error is None}
    if error is not None:
        reply["error"] = {"code": error.code, "message": str(error), "actor": error.actor}
    else:
        reply["result"] = result
    if more:
        reply["more"] = True
    writer.write(msgspec.json.encode(reply) + b"\n")
    await writer.drain()
