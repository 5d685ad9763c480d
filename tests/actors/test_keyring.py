"""Keys on disk: private, whole, in force when they are there, gone when they are removed."""

import os
import stat
from pathlib import Path

import pytest

from daedalus.actors import keyring
from daedalus.actors.keyring import Keyring, clients, make, revoke, server_secret
from daedalus.kernel.errors import FatalError
from daedalus.kernel.zap import new_keys, public_of
from tests.loops import drive, until


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_is_made_once_and_every_file_is_private(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    key = make(directory, "desk.1")
    assert public_of(key.secret) == key.public
    with pytest.raises(FileExistsError):
        make(directory, "desk.1")
    assert [(found.name, found.public, found.secret) for found in clients(directory)[0]] == [
        ("desk.1", key.public, "")
    ]
    files = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    assert files == ["clients/desk.1.pub", "server.secret"]
    assert {mode(directory / name) for name in files} == {0o600}
    assert (mode(directory), mode(directory / "clients")) == (0o700, 0o700)
    assert key.secret not in (directory / "clients/desk.1.pub").read_text()


def test_a_revoked_key_is_gone_and_its_name_free_for_another(tmp_path: Path) -> None:
    first = make(tmp_path, "a")
    revoke(tmp_path, "a")
    assert clients(tmp_path) == ([], [])
    with pytest.raises(FileNotFoundError):
        revoke(tmp_path, "a")
    assert make(tmp_path, "a").public != first.public


@pytest.mark.parametrize("name", ["", "..", "../a", "a/b", ".a", "-a", "a\n", "ä", "a" * 65, "a\0"])
def test_a_name_that_could_leave_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    for work in (make, revoke):
        with pytest.raises(ValueError, match="cannot name a key"):
            work(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "bits", "message"),
    [("x" * 40, 0o644, "mode 0644, it must be 0600"), ("short", 0o600, "not 40 characters of Z85")],
)
def test_a_server_key_that_cannot_be_is_fatal_and_not_repeated(
    tmp_path: Path, content: str, bits: int, message: str
) -> None:
    (tmp_path / "server.secret").write_text(content)
    (tmp_path / "server.secret").chmod(bits)
    with pytest.raises(FatalError, match=message) as caught:
        server_secret(tmp_path)
    assert content not in str(caught.value)


def test_the_server_key_stays_the_same(tmp_path: Path) -> None:
    assert server_secret(tmp_path) == server_secret(tmp_path)


@pytest.mark.needs_root
def test_what_root_makes_belongs_to_the_owner_of_the_place(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("plays another user, which only root can")
    os.chown(tmp_path, 12345, 12346)
    make(tmp_path / "keys", "a")
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in (tmp_path / "keys").rglob("*")}
    assert owners == {(12345, 12346)}
    assert (tmp_path / "keys").stat().st_uid == 12345


@pytest.mark.parametrize("watched", [True, False])
def test_the_gateway_follows_what_is_done_to_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, watched: bool
) -> None:
    if not watched:
        monkeypatch.setattr(keyring.Inotify, "open", lambda: None)
        monkeypatch.setattr(keyring, "LOOK_AGAIN_S", 0.01)

    async def work() -> None:
        revoked: list[str] = []
        first = make(tmp_path, "first")
        ring = Keyring(tmp_path, revoked.append)
        try:
            assert ring.knows(first.public.encode())
            second = make(tmp_path, "second")
            await until(lambda: ring.knows(second.public.encode()))
            revoke(tmp_path, "first")
            await until(lambda: revoked == [first.public])
            assert not ring.knows(first.public.encode())
            other = new_keys()[0]
            (tmp_path / "clients/second.pub").write_text(f"{other}\n")  # another key under the same name
            await until(lambda: revoked == [first.public, second.public])
            assert ring.knows(other.encode())
            (tmp_path / "clients/bad.pub").write_bytes(b"\xff" * 100)
            (tmp_path / "clients/.hidden.pub").write_text(new_keys()[0])
            third = make(tmp_path, "third")
            await until(lambda: ring.knows(third.public.encode()))
            assert len(ring) == 2
            said = capsys.readouterr()
            assert third.secret not in said.out + said.err
            assert "bad.pub" in said.out + said.err
        finally:
            ring.close()

    drive(work)
