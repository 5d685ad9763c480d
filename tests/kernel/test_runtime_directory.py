"""The runtime directory: one supervisor in it, nobody else; and the notify datagrams that arrive there."""

import json
import os
import socket
from pathlib import Path

import pytest

from daedalus.kernel.errors import ConfigError
from daedalus.kernel.home import Home, LockedError
from daedalus.kernel.notify import Listener, Notifier, parse


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
