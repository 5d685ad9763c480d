"""The wire of the control socket, the lock, and the notify datagrams."""

import asyncio
import json
import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daedalus.kernel import control as module
from daedalus.kernel.clock import ManualClock
from daedalus.kernel.control import Control, parse_request
from daedalus.kernel.errors import ConfigError, ControlError
from daedalus.kernel.events import RETAINED, EventRing
from daedalus.kernel.home import Home, LockedError
from daedalus.kernel.notify import Listener, Notifier, parse


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
    ],
)
def test_a_bad_request_is_a_usage_error(line: bytes, words: str) -> None:
    with pytest.raises(ControlError, match=words) as caught:
        parse_request(line)
    assert caught.value.code == "usage"


def talk(path: Path, *lines: bytes) -> list[dict[str, Any]]:
    async def body() -> list[dict[str, Any]]:
        server = Control(SimpleNamespace(), str(path))  # type: ignore[arg-type]
        await server.start()
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660  # noqa: PTH116
        reader, writer = await asyncio.open_unix_connection(str(path))
        replies = []
        for line in lines:
            writer.write(line + b"\n")
            replies.append(json.loads(await reader.readline()))
        writer.close()
        await writer.wait_closed()
        await server.close()
        return replies

    return asyncio.run(body())


def test_replies_carry_the_id_and_a_bad_line_keeps_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(supervisor: object, args: dict[str, Any]) -> dict[str, Any]:
        del supervisor
        return {"got": args}

    async def choke(supervisor: object, args: dict[str, Any]) -> None:
        del supervisor
        raise TypeError(f"cannot select {args['select']!r}")

    async def sleep(supervisor: object, args: dict[str, Any]) -> None:
        del supervisor, args
        await asyncio.Event().wait()

    monkeypatch.setitem(module.COMMANDS, "status", answer)
    monkeypatch.setitem(module.COMMANDS, "stop", sleep)
    monkeypatch.setitem(module.COMMANDS, "start", choke)
    first, second, third, odd, deep = talk(
        tmp_path / "c.sock",
        b"{",
        b'{"v":1,"id":"x","cmd":"status","args":{"select":[]},"timeout":1}',
        b'{"v":1,"id":7,"cmd":"stop","args":{},"timeout":0.01}',
        b'{"v":1,"id":8,"cmd":"start","args":{"select":5}}',
        b'{"v":1,"id":' + b"[" * 20_000,
    )
    assert first["ok"] is False
    assert first["error"]["code"] == "usage"
    assert second == {"v": 1, "id": "x", "ok": True, "result": {"got": {"select": []}}}
    assert third["id"] == 7
    assert third["error"]["code"] == "timeout"
    assert (odd["id"], odd["error"]["code"], odd["error"]["message"]) == (
        *(8, "usage"),
        "cannot do this request: cannot select 5",
    )
    assert deep["error"]["code"] == "usage"


def test_events_have_no_gaps_and_the_ring_forgets_the_oldest() -> None:
    ring = EventRing(ManualClock())
    for _ in range(RETAINED + 10):
        ring.add("spawn", "g/a", 1)
    numbers = [event["seq"] for event in ring.since(0)]
    assert numbers == list(range(11, RETAINED + 11))
    assert ring.since(RETAINED + 9)[0]["seq"] == RETAINED + 10


def test_one_supervisor_per_directory(tmp_path: Path) -> None:
    home = Home(str(tmp_path / "rt"))
    home.lock()
    with pytest.raises(LockedError, match=f"pid {os.getpid()}"):
        Home(str(tmp_path / "rt")).lock()
    home.close()
    again = Home(str(tmp_path / "rt"))
    again.lock()
    again.close()


def test_a_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rt").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="mode 0755, must be 0700"):
        Home(str(tmp_path / "rt"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot"):
        Home(str(tmp_path / "file"))


def test_a_damaged_note_is_no_note(tmp_path: Path) -> None:
    home = Home(str(tmp_path / "rt"))
    (home.path / "state.json").write_bytes(b'{"supervisor": 3')
    assert home.sweep_survivors() == []


def test_a_recycled_pid_is_never_signalled(tmp_path: Path) -> None:
    home = Home(str(tmp_path / "rt"))
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    note = {
        "supervisor": {"pid": 1 << 22, "start": 1, "boot": boot},
        "processes": {"g/a": {"pid": os.getpid(), "start": 12345, "boot": boot}},
    }
    (home.path / "state.json").write_text(json.dumps(note))
    assert home.sweep_survivors() == []  # we live to tell


def test_datagrams_arrive_with_the_pid_of_their_sender(tmp_path: Path) -> None:
    heard: list[tuple[int, dict[str, str]]] = []
    listener = Listener(str(tmp_path / "n.sock"), lambda pid, said: heard.append((pid, said)))
    notifier = Notifier(str(tmp_path / "n.sock"))
    notifier.send(READY=1, X_DAEDALUS_MAILBOX=4)
    listener.empty()
    assert heard == [(os.getpid(), {"READY": "1", "X_DAEDALUS_MAILBOX": "4"})]
    notifier.close()
    listener.close()
    assert parse(b"A=1\nnoise\nB=x=y\nA=2") == {"A": "2", "B": "x=y"}


def test_a_notifier_without_a_socket_or_a_listener_is_silent(tmp_path: Path) -> None:
    Notifier("").send(READY=1)
    lonely = Notifier(str(tmp_path / "none.sock"))
    lonely.send(READY=1)
    lonely.close()
    assert socket.AF_UNIX
