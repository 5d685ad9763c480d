"""The journal's protocol, spoken to a journal of the test's own."""

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.kernel import forward
from daedalus.kernel.journald import Journal, encode, is_journal
from daedalus.kernel.logs import Forwarder, Line


def decode(data: bytes) -> dict[str, str]:
    """Return the fields of an entry, read the way the journal reads it."""
    found = {}
    while data:
        head, _, data = data.partition(b"\n")
        key, separator, value = head.partition(b"=")
        if not separator:
            (size,) = struct.unpack_from("<Q", data)
            value, data = data[8 : 8 + size], data[8 + size :]
            assert data[:1] == b"\n"
            data = data[1:]
        found[key.decode()] = value.decode()
    return found


class FakeJournal:
    """The socket of a journal, read when the test says so."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)

    def read(self) -> list[dict[str, str]]:
        """Return the entries that have come."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data, fds, _, _ = socket.recv_fds(self.socket, 1 << 20, 2)
                for fd in fds:
                    seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
                    assert data == b""
                    assert seals == 0xF  # seal, shrink, grow, write: anything less is refused
                    data += os.pread(fd, os.fstat(fd).st_size, 0)
                    os.close(fd)
                found.append(decode(data))
        return found


@pytest.fixture
def journal(short_tmp: Path) -> Iterator[FakeJournal]:
    found = FakeJournal(short_tmp / "journal")
    yield found
    found.socket.close()


@pytest.fixture
def nowhere(short_tmp: Path) -> Iterator[int]:
    """A file in place of standard error."""
    fd = os.open(short_tmp / "stderr", os.O_CREAT | os.O_RDWR)
    yield fd
    os.close(fd)


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]*", fullmatch=True), TEXT))
def test_any_fields_arrive_as_they_were(fields: dict[str, str]) -> None:
    assert decode(encode(fields)) == fields


def test_only_the_stream_that_systemd_named_is_the_journal(nowhere: int) -> None:
    found = os.fstat(nowhere)
    assert is_journal(nowhere, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
    assert not is_journal(nowhere, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})
    assert not is_journal(nowhere, {})
    assert not is_journal(-1, {"JOURNAL_STREAM": ""})


def test_the_journal_is_taken_when_standard_error_is_it(
    nowhere: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.fstat(nowhere)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    assert Forwarder(nowhere)._journal is not None
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    assert Forwarder(nowhere)._journal is None


def test_lines_and_events_carry_their_fields(journal: FakeJournal, nowhere: int) -> None:
    output = Forwarder(nowhere, journal=Journal(journal.path))
    said = '{"event": "seal_failed", "level": "error", "actor": "store/w"}'
    output.actor_line("store/w", Line(1, 0.0, 4, "stderr", said))
    output.actor_line("own/x", Line(1, 0.0, 2, "stdout", "plain \x1b[1mwords"))
    output.event("actor_hang", at=0.0, actor="own/x", generation=2, timeout_s=6.0)
    output.event("tree_started", at=0.0, actors=2)
    output.close()
    first, second, third, fourth = journal.read()
    assert first == {
        "MESSAGE": said,
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "daedalus",
        "DAEDALUS_ACTOR": "store/w",
        "DAEDALUS_GENERATION": "4",
        "DAEDALUS_STREAM": "stderr",
        "DAEDALUS_EVENT": "seal_failed",
    }
    assert second["MESSAGE"] == r"plain \x1b[1mwords"
    assert (second["PRIORITY"], second["DAEDALUS_STREAM"]) == ("6", "stdout")
    assert (third["PRIORITY"], third["DAEDALUS_EVENT"], third["DAEDALUS_ACTOR"]) == (
        "4",
        "actor_hang",
        "own/x",
    )
    assert set(fourth) == {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "DAEDALUS_EVENT"}
    assert os.fstat(nowhere).st_size == 0


def test_an_entry_too_large_for_a_datagram_goes_by_sealed_memory(journal: FakeJournal, nowhere: int) -> None:
    output = Forwarder(nowhere, journal=Journal(journal.path))
    before = len(list(Path("/proc/self/fd").iterdir()))
    output.event("actor_exit", at=0.0, stderr_tail=["x" * 16_384] * 20, note="a\nb")
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 1  # the socket alone
    (entry,) = journal.read()
    assert len(entry["MESSAGE"]) > 20 * 16_384
    output.close()


def test_a_busy_journal_costs_the_oldest_entries_and_is_served_when_it_reads(
    journal: FakeJournal, nowhere: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "BACKLOG_LINES", 50)

    async def body() -> list[str]:
        output = Forwarder(nowhere, journal=Journal(journal.path))
        total = 0
        while output.dropped < 10:
            output.write(str(total))
            total += 1
        received: list[str] = []
        async with asyncio.timeout(20):
            while output._backlog:
                received += [entry["MESSAGE"] for entry in journal.read()]
                await asyncio.sleep(0)
        received += [entry["MESSAGE"] for entry in journal.read()]
        assert len(received) == total - output.dropped
        assert received[-50:] == [str(number) for number in range(total - 50, total)]
        output.close()
        return received

    received = asyncio.run(body())
    assert received == sorted(received, key=int)
    assert os.fstat(nowhere).st_size == 0


def test_a_journal_with_a_new_socket_is_found_again(journal: FakeJournal, nowhere: int) -> None:
    output = Forwarder(nowhere, journal=Journal(journal.path))
    output.write("one")
    assert [entry["MESSAGE"] for entry in journal.read()] == ["one"]
    journal.socket.close()
    Path(journal.path).unlink()
    again = FakeJournal(Path(journal.path))
    output.write("two")
    assert [entry["MESSAGE"] for entry in again.read()] == ["two"]
    again.socket.close()
    output.close()


def test_without_a_journal_lines_go_to_standard_error_until_it_is_back(
    journal: FakeJournal, nowhere: int
) -> None:
    output = Forwarder(nowhere, journal=Journal(journal.path))
    journal.socket.close()
    output.write("lost?")
    Path(journal.path).unlink()
    output.write("not lost")
    assert os.pread(nowhere, 100, 0) == b"lost?\nnot lost\n"
    assert output.dropped == 0
    again = FakeJournal(Path(journal.path))
    output.write("back")
    assert [entry["MESSAGE"] for entry in again.read()] == ["back"]
    again.socket.close()
    output.close()
