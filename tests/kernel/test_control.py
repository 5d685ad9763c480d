"""The wire of the control socket: what it answers, whom, and what it survives."""

import asyncio
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from daedalus.kernel import commands, control
from daedalus.kernel.control import CONNECTIONS_MAX, LINE_MAX, REQUESTS_MAX, Control
from daedalus.kernel.errors import ControlError
from daedalus.kernel.request import parse_request
from tests.kernel.control_room import FakeOffice, tree
from tests.loops import drive, until


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, cmd: str, request_id: Any = 1, timeout: float | None = None, **args: Any) -> None:
        self.write({"v": 1, "id": request_id, "cmd": cmd, "args": args, "timeout": timeout})

    def write(self, request: Any) -> None:
        self.writer.write(json.dumps(request).encode() + b"\n")

    async def reply(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await self.reader.readline())
        return answer

    async def ask(self, cmd: str, **args: Any) -> dict[str, Any]:
        self.send(cmd, **args)
        return await self.reply()

    def close(self) -> None:
        self.writer.close()


class Room:
    """A served tree and its clients."""

    def __init__(self, office: FakeOffice, server: Control, path: str) -> None:
        self.office = office
        self.server = server
        self.path = path
        self.clients: list[Client] = []

    async def client(self) -> Client:
        client = Client(*await asyncio.open_unix_connection(self.path))
        self.clients.append(client)
        return client


def served(tmp_path: Path, work: Callable[[Room], Awaitable[None]]) -> None:
    """Run `work` with a server on a tree of g/a and g/b that is up."""

    async def body() -> None:
        office = await FakeOffice(tree("g/a", "g/b")).begin()
        server = Control(office, str(tmp_path / "c.sock"))  # type: ignore[arg-type]
        await server.start()
        room = Room(office, server, str(tmp_path / "c.sock"))
        try:
            await work(room)
        finally:
            for client in room.clients:
                client.close()
            await server.close()

    drive(body)


def test_a_request_has_defaults() -> None:
    request = parse_request(b'{"cmd":"status"}')
    assert (request.v, request.id, request.args, request.timeout) == (1, None, {}, None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"nonsense", "cannot read the request"),
        (b"[]", "cannot read the request"),
        (b'{"cmd":"\xff"}', "cannot read the request"),
        (b'{"v":2,"cmd":"status"}', "version 2"),
        (b'{"v":1,"cmd":"dance"}', "cannot do 'dance'"),
        (b'{"v":1,"cmd":"status","timeout":-1}', "cannot wait -1 s"),
        (b'{"v":1,"cmd":"status","args":[]}', "cannot read the request"),
        (b'{"v":1,"cmd":"status","id":' + b"[" * 20_000, "cannot read the request"),
    ],
)
def test_a_bad_request_is_a_usage_error(line: bytes, words: str) -> None:
    with pytest.raises(ControlError, match=words) as caught:
        parse_request(line)
    assert caught.value.code == "usage"


def test_replies_carry_the_id_and_a_bad_line_keeps_the_connection(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        client = await room.client()
        client.writer.write(b"{\n")
        assert (await client.reply())["error"]["code"] == "usage"
        client.send("status", request_id={"any": "thing"})
        first = await client.reply()
        assert (first["v"], first["id"], first["ok"]) == (1, {"any": "thing"}, True)
        assert [actor["name"] for actor in first["result"]["actors"]] == ["g/a", "g/b"]
        client.write({"v": 1, "id": 8, "cmd": "dance"})
        second = await client.reply()
        assert (second["id"], second["ok"], second["error"]["code"]) == (8, False, "usage")
        third = await client.ask("stop", actors=["nobody"])
        assert third["error"] == {
            "code": "not_found",
            "message": "cannot find an actor or group named 'nobody'",
            "actor": "nobody",
        }
        assert (await client.ask("stop", actors=[{}]))["error"]["code"] == "usage"

    served(tmp_path, work)


def test_the_socket_is_0660_and_replaces_a_stale_one(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "c.sock"))
    before = os.umask(0o077)
    os.umask(before)

    async def work(room: Room) -> None:
        found = os.stat(room.path)  # noqa: PTH116
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert room.server.accepting

    served(tmp_path, work)
    assert os.umask(before) == before


def test_a_line_that_is_too_long_is_skipped_whole(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        client = await room.client()
        hidden = b'{"cmd":"shutdown"}'
        client.writer.write(b"x" * (3 * LINE_MAX) + hidden + b"\n")
        client.send("count")
        error = (await client.reply())["error"]
        assert (error["code"], error["message"]) == (
            "usage",
            f"cannot read a line of {3 * LINE_MAX + len(hidden) + 1} bytes, at most {LINE_MAX}",
        )
        assert (await client.reply())["result"]["specs"] == 1
        assert room.office.told_to_leave == 0

    served(tmp_path, work)


def test_a_client_that_only_finished_asking_is_still_answered(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        client = await room.client()
        client.send("events", follow=True)
        client.send("stop", request_id=2, actors=["a"])
        client.writer.write(b'{"id":3,"cmd":"count"}')  # and no end of the line
        client.writer.write_eof()
        replies = [json.loads(line) for line in (await client.reader.read()).splitlines()]
        assert {reply["id"] for reply in replies if not reply.get("more")} == {2, 3}
        await until(lambda: not room.server._connections)

    served(tmp_path, work)


def test_an_operation_outlives_the_patience_of_its_client(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        slow = room.office.cells["g/a"]
        slow.stops_at_once = False
        client = await room.client()
        client.send("restart", actors=["all"], timeout=0.01)
        error = (await client.reply())["error"]
        assert (error["code"], error["message"]) == (
            *("timeout",),
            "cannot finish restart within 0.01 s; it goes on",
        )
        slow.go()
        await until(lambda: [cell.generation for cell in room.office.cells.values()] == [2, 2])

    served(tmp_path, work)


def test_an_operation_outlives_the_connection_of_its_client(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        slow = room.office.cells["g/a"]
        slow.stops_at_once = False
        client = await room.client()
        client.send("restart", actors=["all"])
        await until(lambda: slow.state == "draining")
        client.close()
        await until(lambda: not room.server._connections)
        slow.go()
        await until(lambda: [cell.generation for cell in room.office.cells.values()] == [2, 2])

    served(tmp_path, work)


def test_while_one_operation_hangs_everything_else_answers(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        room.office.cells["g/a"].stops_at_once = False
        client = await room.client()
        client.send("stop", request_id="slow", actors=["a"])
        await until(lambda: room.office.cells["g/a"].state == "draining")
        assert (await client.ask("status"))["result"]["supervisor"]["op_queue"] == {"g": 1}
        assert (await client.ask("kill", actors=["b"], signal="USR1"))["ok"]
        other = await room.client()
        assert (await other.ask("count"))["ok"]

    served(tmp_path, work)


def test_the_answer_to_the_last_command_is_written_before_the_program_ends(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        written: list[bytes] = []

        async def reexec() -> int:
            asyncio.get_running_loop().call_soon(lambda: written.append(client.reader._transport.recv()))
            return 1

        class Raw:
            """The client's own socket, read at the very moment at which the program would end."""

            def __init__(self) -> None:
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.connect(room.path)
                self.sock.setblocking(False)
                self.reader = self
                self._transport = self

            def recv(self) -> bytes:
                return self.sock.recv(4096)

        client: Any = Raw()
        room.office.reexec = reexec  # type: ignore[method-assign]
        client.sock.send(b'{"id":1,"cmd":"reexec"}\n')
        await until(lambda: written)
        assert json.loads(written[0])["result"] == {"pid": os.getpid(), "image": 1}
        client.sock.close()

    served(tmp_path, work)


def test_connections_are_bounded_and_the_one_that_was_quiet_for_longest_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(room: Room) -> None:
        clients = [await room.client() for _ in range(CONNECTIONS_MAX)]
        await until(lambda: len(room.server._connections) == CONNECTIONS_MAX)
        refused = await room.client()
        error = (await refused.ask("count"))["error"]
        assert (error["code"], error["message"]) == (
            "busy",
            f"cannot serve more than {CONNECTIONS_MAX} connections",
        )
        assert await refused.reader.read() == b""
        clients[0].send("events", since=10**6)  # busy, if briefly: not the quiet one
        assert (await clients[0].reply())["result"] is None
        monkeypatch.setattr(control, "QUIET_S", 0.0)
        served_now = await room.client()
        assert (await served_now.ask("count"))["ok"]
        assert await clients[1].reader.read() == b""
        assert (await clients[0].ask("count"))["ok"]

    served(tmp_path, work)


def test_what_takes_its_time_is_bounded_per_connection(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        client = await room.client()
        for number in range(REQUESTS_MAX + 1):
            client.send("wait", request_id=number, actors=["a"], **{"for": "stopped"})
        error = await client.reply()
        assert (error["id"], error["error"]["code"]) == (REQUESTS_MAX, "busy")
        assert (await client.ask("count"))["ok"]
        client.close()
        await until(lambda: not room.server._connections)

    served(tmp_path, work)


def test_a_client_that_never_reads_holds_no_more_than_its_bound(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        mute, other = await room.client(), await room.client()
        mute.writer.transport.pause_reading()  # type: ignore[attr-defined]
        mute.send("events", follow=True)
        for _ in range(3000):
            room.office.events.add("x", "g/a", 1, text="y" * 200)
            await asyncio.sleep(0)
        held = [
            connection._writer.transport.get_write_buffer_size() for connection in room.server._connections
        ]
        assert max(held) <= control.UNREAD_MAX + 1000
        assert any(connection.quiet_since is not None for connection in room.server._connections)
        assert (await other.ask("count"))["ok"]

    served(tmp_path, work)


def test_a_flood_of_requests_is_begun_one_per_turn_of_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(room: Room) -> None:
        turns = begun = 0
        ahead: list[int] = []

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def look(office: object, args: dict[str, Any]) -> int:
            nonlocal begun
            del office, args
            begun += 1
            ahead.append(begun - turns)
            return begun

        monkeypatch.setitem(commands.COMMANDS, "count", look)
        clients = [await room.client() for _ in range(8)]
        counting = asyncio.create_task(count_turns())
        for client in clients:
            for _ in range(50):
                client.send("count")
        for client in clients:
            for _ in range(50):
                await client.reply()
        counting.cancel()
        assert begun == 400
        assert max(ahead) <= 1

    served(tmp_path, work)


def test_a_fault_in_an_operation_that_nobody_waits_for_is_the_supervisors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(room: Room) -> None:
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: faults.append(context["exception"])
        )
        gate = asyncio.Event()

        async def stumble(office: object, args: dict[str, Any]) -> None:
            del office
            await gate.wait()
            raise ControlError("failed", "no") if args else KeyError("broken")

        monkeypatch.setitem(commands.COMMANDS, "stop", stumble)
        client = await room.client()
        client.send("stop", timeout=0.01)
        client.send("stop", timeout=0.01, actors=["a"])
        assert [(await client.reply())["error"]["code"] for _ in range(2)] == ["timeout", "timeout"]
        gate.set()
        await until(lambda: faults and not room.server._operations)
        assert [type(fault) for fault in faults] == [KeyError]

    served(tmp_path, work)


def test_another_image_goes_on_listening_on_the_same_socket(tmp_path: Path) -> None:
    async def work(room: Room) -> None:
        fd = os.dup(room.server.release())
        waiting = socket.socket(socket.AF_UNIX)
        waiting.connect(room.path)  # in the last turn of the old image, which does not serve it any more
        waiting.sendall(b'{"id":1,"cmd":"count"}\n')
        await room.server.close()
        heir = Control(room.office, room.path)  # type: ignore[arg-type]
        assert not heir.accepting
        await heir.adopt(fd)
        assert heir.accepting
        reader, writer = await asyncio.open_unix_connection(sock=waiting)
        assert json.loads(await reader.readline())["ok"]
        writer.close()
        await heir.close()

    served(tmp_path, work)
