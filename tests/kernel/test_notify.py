"""Both ends of sd_notify: what we say to a service manager, and what we hear of actors."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.kernel import notify
from daedalus.kernel.notify import DATAGRAM_MAX, Listener, Notifier, parse


@pytest.fixture
def manager(short_tmp: Path) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.settimeout(20)
        found.bind(str(short_tmp / "manager"))
        yield found


@pytest.fixture
def heard() -> list[tuple[int, dict[str, str]]]:
    return []


@pytest.fixture
def listener(short_tmp: Path, heard: list[tuple[int, dict[str, str]]]) -> Iterator[Listener]:
    found = Listener(str(short_tmp / "n"), lambda pid, said: heard.append((pid, said)))
    yield found
    found.close()


def raw(short_tmp: Path, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for data in datagrams:
            sender.sendto(data, str(short_tmp / "n"))


@pytest.mark.parametrize(
    ("say", "expected"),
    [
        (lambda n: n.ready(), b"READY=1"),
        (lambda n: n.ready("12 actors"), b"READY=1\nSTATUS=12 actors"),
        (lambda n: n.stopping(), b"STOPPING=1"),
        (lambda n: n.watchdog(), b"WATCHDOG=1"),
        (lambda n: n.status("one\nREADY=1\0"), b"STATUS=one READY=1 "),
        (lambda n: n.extend_timeout(5_000_000), b"EXTEND_TIMEOUT_USEC=5000000"),
    ],
)
def test_each_message_is_one_datagram_that_systemd_knows(
    manager: socket.socket, say: Callable[[Notifier], bool], expected: bytes
) -> None:
    notifier = Notifier(manager.getsockname())
    assert say(notifier)
    assert manager.recv(4096) == expected
    notifier.close()


def test_reloading_carries_the_monotonic_time_it_began_at(manager: socket.socket) -> None:
    notifier = Notifier(manager.getsockname())
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert notifier.reloading()
    said = parse(manager.recv(4096))
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert said["RELOADING"] == "1"
    assert before <= int(said["MONOTONIC_USEC"]) <= after
    notifier.close()


def test_an_abstract_address_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"daedalus-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(20)
        manager.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notifier = Notifier()
        assert notifier.watchdog()
        assert manager.recv(4096) == b"WATCHDOG=1"
        notifier.close()


def test_a_full_or_vanished_socket_is_told_and_never_blocks(manager: socket.socket, short_tmp: Path) -> None:
    notifier = Notifier(manager.getsockname())
    for _ in range(100_000):
        if not notifier.watchdog():
            break
    assert not notifier.ready()
    assert not notifier.send(X="x" * (1 << 20))
    notifier.close()
    lonely = Notifier(str(short_tmp / "none"))
    assert not lonely.ready()
    lonely.close()
    assert Notifier("").ready()  # nobody supervises: nothing to be lost


def test_statistics_of_64_kib_arrive_whole(
    listener: Listener, short_tmp: Path, heard: list[tuple[int, dict[str, str]]]
) -> None:
    stats = "x" * (DATAGRAM_MAX - len("X_DAEDALUS_STATS="))
    notifier = Notifier(str(short_tmp / "n"))
    assert notifier.send(X_DAEDALUS_STATS=stats)
    listener.empty()
    assert heard == [(os.getpid(), {"X_DAEDALUS_STATS": stats})]
    assert listener.malformed == 0
    notifier.close()


@pytest.mark.parametrize(
    "data",
    [b"", b"noise", b"READY=\xff", b"READY=1\0WATCHDOG=1", b"READY=1\n" + b"x" * DATAGRAM_MAX],
)
def test_what_is_malformed_is_counted_and_not_heard(
    listener: Listener, short_tmp: Path, heard: list[tuple[int, dict[str, str]]], data: bytes
) -> None:
    raw(short_tmp, data, b"WATCHDOG=1\0")
    listener.empty()
    assert listener.malformed == 1
    assert [pid for pid, _ in heard] == [os.getpid()]


def test_credentials_of_large_ids_are_read() -> None:
    nobody = 2**32 - 2
    content = notify._CREDENTIALS.pack(77, nobody, nobody)
    assert notify._sender([(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, content)]) == 77
    assert notify._sender([(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, content[:4])]) == 0
    assert notify._sender([]) == 0


def test_a_datagram_without_a_sender_is_malformed(
    listener: Listener,
    short_tmp: Path,
    heard: list[tuple[int, dict[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notify, "_sender", lambda ancillary: 0 * len(ancillary))
    raw(short_tmp, b"READY=1")
    listener.empty()
    assert (heard, listener.malformed) == ([], 1)


def test_an_attached_descriptor_is_neither_taken_nor_leaked(
    listener: Listener, short_tmp: Path, heard: list[tuple[int, dict[str, str]]]
) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names of descriptors
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(short_tmp / "n"))
        socket.send_fds(sender, [b"FDSTORE=1"], [0, 0])
    listener.empty()
    assert heard == [(os.getpid(), {"FDSTORE": "1"})]
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_what_waits_in_a_released_socket_is_heard_by_who_adopts_it(
    short_tmp: Path, heard: list[tuple[int, dict[str, str]]]
) -> None:
    old = Listener(str(short_tmp / "n"), lambda pid, said: heard.append((-pid, said)))
    raw(short_tmp, b"READY=1")
    new = Listener.adopt(old.release(), lambda pid, said: heard.append((pid, said)))
    raw(short_tmp, b"WATCHDOG=1")
    new.empty()
    new.close()
    assert heard == [(os.getpid(), {"READY": "1"}), (os.getpid(), {"WATCHDOG": "1"})]


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z_]+", fullmatch=True), st.text(st.characters(exclude_categories=["Cs"]))
    )
)
def test_what_is_said_is_what_is_parsed_one_line_per_key(values: dict[str, str]) -> None:
    lines = {key: value.translate(notify._LINE_ENDS) for key, value in values.items()}
    text = "\n".join(f"{key}={value}" for key, value in lines.items())
    assert parse(text.encode()) == lines
