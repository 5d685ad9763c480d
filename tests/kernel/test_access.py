"""Who may use the control socket: levels, file modes, and real processes of other users."""

import asyncio
import grp
import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from daedalus.kernel import access
from daedalus.kernel.access import Access, Peer, peer_of
from daedalus.kernel.control import Control
from daedalus.kernel.errors import ConfigError
from tests.kernel.control_room import FakeOffice, tree
from tests.loops import drive

CONTROL, READONLY, OTHER = (
    entry.gr_gid for entry in sorted(grp.getgrall(), key=lambda entry: entry.gr_gid)[3:6]
)
STRANGER = 54321  # a uid that nobody has


def name_of(gid: int) -> str:
    return grp.getgrgid(gid).gr_name


def groups() -> Access:
    return Access(name_of(CONTROL), name_of(READONLY))


@pytest.mark.parametrize(
    ("peer", "level"),
    [
        (Peer(0, frozenset()), "all"),
        (Peer(os.geteuid(), frozenset()), "all"),
        (Peer(STRANGER, frozenset({OTHER, CONTROL})), "all"),
        (Peer(STRANGER, frozenset({READONLY})), "read"),
        (Peer(STRANGER, frozenset({READONLY, CONTROL})), "all"),
        (Peer(STRANGER, frozenset({OTHER})), "none"),
        (Peer(STRANGER, frozenset()), "none"),
    ],
)
def test_the_user_and_the_control_group_do_everything_and_the_readonly_group_looks(
    peer: Peer, level: str
) -> None:
    assert groups().level(peer) == level


def test_without_groups_the_user_and_root_are_alone() -> None:
    alone = Access("", "")
    assert not alone.shared
    assert groups().shared
    assert alone.level(Peer(STRANGER, frozenset({0, CONTROL}))) == "none"
    assert alone.level(Peer(0, frozenset())) == "all"


def test_a_group_that_does_not_exist_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(
        ConfigError, match=r"cannot let the group 'no-such' in: there is none \(\[control\] group\)"
    ):
        Access("no-such", "")
    with pytest.raises(ConfigError, match="readonly_group"):
        Access("", "no-such")


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert peer_of(here) == Peer(os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))


def test_where_the_kernel_does_not_tell_groups_those_of_the_user_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(access, "_SO_PEERGROUPS", 9999)
    here, there = socket.socketpair()
    with here, there:
        peer = peer_of(here)
    assert (peer.uid, os.getegid() in peer.gids) == (os.geteuid(), True)


def test_without_groups_modes_are_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    Access("", "").open_directory(str(tmp_path))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users: needs root")


@root_only
def test_the_mode_stays_0660_with_both_groups_and_no_access_list_means_an_open_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.touch(0o660)
    try:
        groups().open_socket(str(path))
    finally:
        found = path.stat()
    if "system.posix_acl_access" in os.listxattr(path):
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, CONTROL)

    def refuse(*_: Any) -> None:
        raise OSError(95, "not supported")

    plain = tmp_path / "g"
    plain.touch(0o660)
    monkeypatch.setattr(os, "setxattr", refuse)
    groups().open_socket(str(plain))
    assert (stat.S_IMODE(plain.stat().st_mode), plain.stat().st_gid) == (0o666, CONTROL)
    only = tmp_path / "d"
    only.mkdir(0o700)
    Access("", name_of(READONLY)).open_directory(str(only))
    assert (stat.S_IMODE(only.stat().st_mode), only.stat().st_gid) == (0o710, READONLY)


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory that others could pass to: those of pytest are closed further up."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    yield path
    shutil.rmtree(path)


def as_user(uid: int, gids: list[int], path: str, *cmds: str) -> Any:
    """Return what another user is answered, from a process of its own; or the error it met."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(gids)
            os.setgid(gids[0])
            os.setuid(uid)
            try:
                answer: Any = talk(path, cmds)
            except OSError as error:
                answer = type(error).__name__
            os.write(writing, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    return json.loads(data)


def talk(path: str, cmds: tuple[str, ...]) -> list[str]:
    codes = []
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(path)
        file = sock.makefile("rwb")
        for cmd in cmds:
            file.write(json.dumps({"cmd": cmd, "args": {"actors": ["all"]}}).encode() + b"\n")
            file.flush()
            reply = json.loads(file.readline())
            codes.append("ok" if reply["ok"] else reply["error"]["code"])
    return codes


@root_only
@pytest.mark.system
@pytest.mark.parametrize("lists", [True, False])
def test_real_users_get_what_their_groups_may(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch, *, lists: bool
) -> None:
    if not lists:

        def refuse(*_: Any) -> None:
            raise OSError(95, "not supported")

        monkeypatch.setattr(os, "setxattr", refuse)
    path = str(short_dir / "c.sock")

    async def body() -> list[Any]:
        of = replace(tree("g/a"), control_group=name_of(CONTROL), readonly_group=name_of(READONLY))
        server = Control(await FakeOffice(of).begin(), path)  # type: ignore[arg-type]
        await server.start()
        loop = asyncio.get_running_loop()
        try:
            return [
                await loop.run_in_executor(None, as_user, STRANGER, gids, path, *cmds)
                for gids, cmds in (
                    ([CONTROL], ("status", "stop", "start")),
                    ([OTHER, CONTROL], ("stop",)),
                    ([READONLY], ("status", "stop", "logs", "shutdown")),
                    ([OTHER, READONLY], ("status", "kill")),
                    ([OTHER], ("status",)),
                )
            ]
        finally:
            await server.close()

    member, second, reader, second_reader, stranger = drive(body)
    assert member == ["ok", "ok", "ok"]
    assert second == ["ok"]
    assert reader == ["ok", "denied", "ok", "denied"]
    assert second_reader == ["ok", "denied"]
    # Kept out by the kernel where there are access lists, by the server where there are none.
    assert stranger == ("PermissionError" if lists else ["denied"])
