"""The control socket: one JSON object per line, both ways. Transport only; `commands` does what is asked.

The lines themselves are made in `request`. A bad line is answered with an error, and the connection stays
open. When a client sends no more, what it follows ends and what it asked is still answered.

Whatever clients do, the supervisor keeps its time and its memory: requests are begun one per turn of the
loop, whoever they are from; lines, connections, requests at work and unread replies are bounded; an operation
belongs to the supervisor, not to the client that asked for it, and outlives its patience.
"""

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import Callable
from typing import Any

from daedalus.kernel.access import Access, Level, peer_of
from daedalus.kernel.commands import COMMANDS, LAST_WORDS, READS, STREAMS, Office
from daedalus.kernel.errors import ControlError
from daedalus.kernel.request import Request, id_in, parse_request, reply_line

__all__ = ["CONNECTIONS_MAX", "LINE_MAX", "Control"]

LINE_MAX = 64 * 1024  # bytes of one request
REQUESTS_MAX = 16  # that take their time, per connection; what is answered at once is answered in turn
CONNECTIONS_MAX = 64
QUIET_S = 30.0  # asks nothing, or reads nothing: gives its place away when there is no other
REFUSAL_S = 1.0  # for the question of somebody who is refused anyway
UNREAD_MAX = 64 * 1024  # bytes of replies that a client has not read, beside the one being sent
_REFUSALS = (TypeError, ValueError, RecursionError)  # what arguments of another type lead to


class Control:
    """Serves the socket of one supervisor."""

    def __init__(self, office: Office, path: str) -> None:
        """Prepare; `start` binds `path`.

        Raises:
            ConfigError: a group that is to be let in does not exist.
        """
        self.office = office
        self._path = path
        self._access = Access(office.tree.control_group, office.tree.readonly_group)
        self._server: asyncio.Server | None = None
        self._connections: dict[_Connection, asyncio.Task[Any] | None] = {}
        self._operations: set[asyncio.Task[Any]] = set()
        self._refusing = 0
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Bind, let the groups in, then listen. A stale socket goes: the lock says that its owner is dead.

        The socket is made under a umask: a chmod after the bind alone would be a race. Until it listens
        nobody can connect to it.

        Raises:
            ConfigError: we may not give the socket to one of the groups.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)  # noqa: PTH108
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        before = os.umask(0o117)
        try:
            sock.bind(self._path)
        finally:
            os.umask(before)
        try:
            self._access.open_socket(self._path)
            self._access.open_directory(os.path.dirname(self._path))  # noqa: PTH120
        except BaseException:
            sock.close()
            raise
        await self._listen(sock)

    async def adopt(self, fd: int) -> None:
        """Go on listening where the image before us stopped; who waits there is served."""
        await self._listen(socket.socket(fileno=fd))

    async def _listen(self, sock: socket.socket) -> None:
        self._server = await asyncio.start_unix_server(self._accept, sock=sock, limit=LINE_MAX)

    @property
    def accepting(self) -> bool:
        """Whether clients can connect."""
        return self._server is not None and self._server.is_serving()

    def release(self) -> int:
        """Return the descriptor that listens, for the next image of this process."""
        assert self._server is not None
        return self._server.sockets[0].fileno()

    async def close(self) -> None:
        """Stop listening, end all connections and what is still under way."""
        if self._server is not None:
            self._server.close()
        tasks = [task for task in self._connections.values() if task is not None]
        for connection in self._connections:
            connection.abort()  # not by cancelling: what asyncio runs for a connection must not be cancelled
        for operation in self._operations:
            operation.cancel()
        await asyncio.gather(*tasks, *self._operations, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refusal, level = self._refusal(writer)
        if refusal is not None:
            await self._refuse(reader, writer, refusal)
            return
        connection = _Connection(self, reader, writer, level)
        self._connections[connection] = asyncio.current_task()
        try:
            await connection.serve()
        finally:
            del self._connections[connection]

    async def _refuse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, error: ControlError
    ) -> None:
        """Say no, and hear the question out: who writes into a closed socket never reads the answer."""
        writer.write(reply_line(None, error=error))
        if self._refusing < CONNECTIONS_MAX:
            self._refusing += 1
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(REFUSAL_S):
                    await reader.read(LINE_MAX)
            self._refusing -= 1
        writer.close()

    def _refusal(self, writer: asyncio.StreamWriter) -> tuple[ControlError | None, Level]:
        peer = peer_of(writer.get_extra_info("socket"))
        level = self._access.level(peer)
        if level == "none":
            owner = os.geteuid()
            text = f"cannot serve uid {peer.uid}: this supervisor belongs to uid {owner}"
            return ControlError("denied", text), level
        if len(self._connections) >= CONNECTIONS_MAX and not self._make_room():
            return ControlError("busy", f"cannot serve more than {CONNECTIONS_MAX} connections"), level
        return None, level

    def _make_room(self) -> bool:
        """End the connection that has been quiet for longest, if that is long enough."""
        quiet = {item: since for item in self._connections if (since := item.quiet_since) is not None}
        longest = min(quiet, key=lambda item: quiet[item], default=None)
        if longest is None or asyncio.get_running_loop().time() - quiet[longest] < QUIET_S:
            return False
        longest.abort()
        return True

    async def take_turn(self) -> None:
        """Wait for a turn of the loop in which no other request is begun."""
        async with self._turn:
            await asyncio.sleep(0)

    async def operate(self, request: Request, say: Callable[[Any], None] | None = None) -> Any:
        """Do what changes something, to its end, whether or not anybody waits for it.

        Args:
            request: what is asked.
            say: called with the result in the very turn of the loop in which there is one.

        Raises:
            ControlError: it was refused or failed, or the client's time is over (timeout).
        """
        waits = True

        async def work() -> Any:
            result = await COMMANDS[request.cmd](self.office, request.args)
            if waits and say is not None:
                say(result)
            return result

        task = asyncio.get_running_loop().create_task(work())
        self._operations.add(task)
        task.add_done_callback(self._operations.discard)
        done: set[asyncio.Task[Any]] = set()
        try:
            done, _ = await asyncio.wait({task}, timeout=request.timeout)
        finally:
            if not done:
                waits = False
                task.add_done_callback(_judge_alone)
        if not done:
            raise ControlError(
                "timeout", f"cannot finish {request.cmd} within {request.timeout:g} s; it goes on"
            )
        return task.result()


def _judge_alone(task: asyncio.Task[Any]) -> None:
    """Take the end of an operation that nobody waits for any more: only a fault of ours is news."""
    if task.cancelled():
        return
    error = task.exception()
    if error is not None and not isinstance(error, (ControlError, *_REFUSALS)):
        task.get_loop().call_exception_handler({"message": "an operation failed", "exception": error})


class _Connection:
    """One client."""

    def __init__(
        self, control: Control, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, level: Level
    ) -> None:
        writer.transport.set_write_buffer_limits(high=UNREAD_MAX)
        self._control = control
        self._reader = reader
        self._writer = writer
        self._level = level
        self._loop = asyncio.get_running_loop()
        self._writing = asyncio.Lock()
        self._work: dict[asyncio.Task[None], bool] = {}  # whether it is without an end of its own
        self._idle_since = self._loop.time()
        self._stalled_since: float | None = None

    @property
    def quiet_since(self) -> float | None:
        """Since when it has asked nothing or read nothing; None while it is served."""
        return self._idle_since if self._stalled_since is None and not self._work else self._stalled_since

    def abort(self) -> None:
        """End it without another word."""
        self._writer.transport.abort()
        for task in self._work:
            task.cancel()

    async def serve(self) -> None:
        """Answer until the client goes."""
        try:
            while (line := await self._read()) is not None:
                if line.strip():
                    await self._begin(line)
            self._end_following(everything=self._hung_up())
            while self._work:
                await asyncio.wait(self._work)
        except ConnectionError:
            pass
        finally:
            self._end_following(everything=True)
            self._writer.close()

    async def _read(self) -> bytes | None:
        """Return the next line, None at the end. A line that is too long is skipped whole, and told so."""
        skipped = 0
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
            except asyncio.LimitOverrunError as error:
                skipped += len(await self._reader.readexactly(max(1, error.consumed)))
            except asyncio.IncompleteReadError as error:
                return error.partial or None
            else:
                if not skipped:
                    return line
                skipped += len(line)
                refused = ControlError("usage", f"cannot read a line of {skipped} bytes, at most {LINE_MAX}")
                await self._send(reply_line(None, error=refused))
                skipped = 0

    async def _begin(self, line: bytes) -> None:
        """Answer one request, or set to work on it when it takes as long as it takes."""
        await self._control.take_turn()
        self._idle_since = self._loop.time()
        try:
            request = parse_request(line)
            self._check_allowed(request)
        except ControlError as error:
            await self._send(reply_line(id_in(line), error=error))
            return
        endless = request.cmd == "wait" or bool(request.args.get("follow"))
        if request.cmd in READS and not endless:
            await self._answer(request)
        elif len(self._work) < REQUESTS_MAX:
            task = self._loop.create_task(self._answer(request))
            self._work[task] = endless
            task.add_done_callback(self._worked)
        else:
            text = f"cannot begin another request: {REQUESTS_MAX} of this connection are at work"
            await self._send(reply_line(request.id, error=ControlError("busy", text)))

    def _worked(self, task: asyncio.Task[None]) -> None:
        del self._work[task]
        self._idle_since = self._loop.time()

    def _check_allowed(self, request: Request) -> None:
        if self._level != "all" and request.cmd not in READS:
            raise ControlError(
                "denied", f"cannot {request.cmd}: members of the read-only group may only look"
            )

    def _hung_up(self) -> bool:
        """Return whether the client has gone, rather than only finished asking."""
        poll = select.poll()
        poll.register(self._writer.get_extra_info("socket").fileno(), 0)
        return bool(poll.poll(0))

    def _end_following(self, *, everything: bool) -> None:
        for task, endless in self._work.items():
            if endless or everything:
                task.cancel()

    async def _answer(self, request: Request) -> None:
        try:
            if request.cmd in STREAMS:
                await self._stream(request)
                return
            if request.cmd in LAST_WORDS:
                await self._control.operate(
                    request, lambda result: self._writer.write(reply_line(request.id, result=result))
                )
                return
            await self._send(reply_line(request.id, result=await self._result(request)))
        except ControlError as error:
            await self._send_last(reply_line(request.id, error=error))
        except _REFUSALS as error:
            refused = ControlError("usage", f"cannot do this request: {error}")
            await self._send_last(reply_line(request.id, error=refused))
        except ConnectionError:
            pass

    async def _result(self, request: Request) -> Any:
        if request.cmd not in READS:
            return await self._control.operate(request)
        if request.cmd == "wait":  # keeps the time itself, to say what it was waiting for
            return await COMMANDS[request.cmd](
                self._control.office, {**request.args, "timeout": request.timeout}
            )
        return await COMMANDS[request.cmd](self._control.office, request.args)

    async def _stream(self, request: Request) -> None:
        items = STREAMS[request.cmd](self._control.office, request.args)
        async with contextlib.aclosing(items):  # type: ignore[type-var]
            async for item in items:
                await self._send(reply_line(request.id, result=item, more=True))
        await self._send(reply_line(request.id))

    async def _send_last(self, line: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            await self._send(line)

    async def _send(self, line: bytes) -> None:
        """Write a line and wait until the client has read enough of what came before it."""
        async with self._writing:
            self._writer.write(line)
            self._stalled_since = self._loop.time()
            try:
                await self._writer.drain()
            finally:
                self._stalled_since = None
