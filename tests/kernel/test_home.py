"""The runtime directory after a clean stop: locked until the end, no dead socket left, no live one taken."""

import socket
from pathlib import Path

import pytest

from daedalus.kernel.home import Home, LockedError


@pytest.fixture
def home(runtime_dir: Path) -> Home:
    home = Home(str(runtime_dir))
    home.lock()
    return home


def bound(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    sock.listen()
    return sock


def test_dead_sockets_go_and_everything_else_stays(home: Home) -> None:
    bound(home.path / "gateway.sock").close()
    bound(home.path / "gateway.sock.req").close()
    (home.path / "spool").mkdir()
    bound(home.path / "spool" / "inner.sock").close()
    (home.path / "file.sock").touch()
    (home.path / "link.sock").symlink_to("gateway.sock")
    home.close()
    left = sorted(path.name for path in home.path.iterdir())
    assert left == ["file.sock", "link.sock", "lock", "spool"]
    assert (home.path / "spool" / "inner.sock").is_socket()


def test_a_socket_somebody_listens_on_stays(home: Home) -> None:
    with bound(home.path / "mine.sock"), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(str(home.path / "other.sock"))
        home.close()
        assert (home.path / "mine.sock").is_socket()
        assert (home.path / "other.sock").is_socket()


def test_sockets_go_while_the_lock_is_held(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    bound(home.path / "gateway.sock").close()
    refused = []
    unlink = Path.unlink

    def watched(path: Path, *, missing_ok: bool = False) -> None:
        with pytest.raises(LockedError):
            Home(str(home.path)).lock()
        refused.append(path.name)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)
    home.close()
    assert "gateway.sock" in refused
    monkeypatch.undo()
    again = Home(str(home.path))
    again.lock()
    again.close()
