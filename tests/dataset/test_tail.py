"""What is stored behind a record: from ring, journal and segment, each once, in the order of capture."""

import io
import subprocess
import sys
from pathlib import Path
from struct import unpack
from typing import Any

import msgspec
import pytest

from daedalus.dataset.layout import Layout
from daedalus.dataset.seal import seal_channel
from daedalus.dataset.segment import Options
from daedalus.dataset.tail import Wanted, tail
from daedalus.kernel.journal import Entry, Journal, Mark
from daedalus.kernel.spool import Spool
from daedalus.records import Gap, decode, encode
from daedalus.wire import channel as channel_of
from tests.market import Fact, Tape

CHANNELS = ("orderbook", "trades", "ticker")


class Stored:
    """One collector's records on their way to Parquet."""

    def __init__(self, base: Path) -> None:
        self.layout = Layout(data=str(base / "data"))
        self.rings: dict[str, Spool] = {}
        self._base = base
        self.more = False
        self._journals: dict[str, Journal] = {}
        self._numbers: dict[str, int] = {}
        for channel in CHANNELS:
            self.layout.active(channel).mkdir(parents=True)

    def ring(self, *records: Any) -> None:
        for record in records:
            channel = channel_of(record)
            if channel not in self.rings:
                self.rings[channel] = Spool.open(self._base / f"{channel}.spool", 1 << 18)
            self.rings[channel].append(encode(record))

    def journal(self, *records: Any, sender: str = "binance") -> None:
        for record in records:
            channel = channel_of(record)
            if channel not in self._journals:
                number = self._numbers[channel] = self._numbers.get(channel, 0) + 1
                self._journals[channel] = Journal(self.layout.active(channel), number, {})
            seq = 0 if isinstance(record, Gap) else record.seq
            marks = {record.symbol: Mark(record.ts_recv, seq, record.session_id)}
            blob = msgspec.msgpack.encode([record])
            self._journals[channel].append([Entry(sender, "ccxt", 1, 1, 1, 0, marks, blob)])

    def seal(self, raw_format: str = "parquet") -> None:
        for channel, journal in self._journals.items():
            journal.close()
            told = list(seal_channel(self.layout, channel, Options(raw_format=raw_format)))
            assert all("error" not in one for one in told), told
        self._journals.clear()

    def behind(self, last: Fact, **more: Any) -> list[Any]:
        wanted = Wanted(
            exchange="binance",
            symbol="BTC-USDT",
            channels=CHANNELS,
            session_id=last.session_id,
            after=last.ts_recv,
            rings={channel: str(spool.path) for channel, spool in self.rings.items()},
            **more,
        )
        blobs, self.more = tail(self.layout, wanted)
        return [decode(blob) for blob in blobs]

    def close(self) -> None:
        for spool in self.rings.values():
            spool.close()
        for journal in self._journals.values():
            journal.abandon()


@pytest.fixture
def stored(tmp_path: Path) -> Any:
    made = Stored(tmp_path)
    yield made
    made.close()


def exact(records: list[Fact]) -> list[Fact]:
    """Return them with the exchange's time as bronze has it, in whole milliseconds."""
    ms = 1_000_000
    return [msgspec.structs.replace(one, ts_event=(one.ts_event or 0) // ms * ms) for one in records]


@pytest.mark.parametrize("raw_format", ["parquet", "ndjson"])
def test_records_come_from_segment_journal_and_ring_once_and_in_the_order_of_capture(
    stored: Stored, raw_format: str
) -> None:
    records = exact(Tape().of("btbktbtkbtbktb"))
    stored.journal(*records[:6])
    stored.seal(raw_format)
    stored.journal(*records[4:10])
    stored.ring(*records[7:])
    assert stored.behind(records[1]) == records[2:]


def test_other_symbols_exchanges_and_gap_rows_are_left_out(stored: Stored) -> None:
    tape = Tape()
    records = exact(tape.of("btb"))
    other, far = Tape(symbol="BTC-USDT-USDT"), Tape(exchange="kraken")
    stored.ring(*other.of("bt"), tape.gap(), *records)
    stored.journal(*far.of("bt"), sender="kraken")
    stored.journal(tape.gap(), *records)
    assert stored.behind(records[0]) == records[1:]


def test_the_end_of_a_session_and_the_beginning_of_the_next_stop_before_the_record_that_was_heard(
    stored: Stored,
) -> None:
    old, new = Tape(), Tape(session_id="s2")
    before = exact(old.of("btbt"))
    new.us = old.us + 1_000_000
    after = exact(new.of("btbt"))
    stored.journal(*before)
    stored.ring(*before[2:], *after)
    heard = after[2]
    found = stored.behind(before[0], until_session=heard.session_id, until=heard.ts_recv)
    assert found == [*before[1:], *after[:2]]


def test_a_hole_of_one_session_is_read_and_no_session_after_it(stored: Stored) -> None:
    old, new = Tape(), Tape(session_id="s2")
    before = exact(old.of("btbtb"))
    new.us = old.us + 1_000_000
    stored.ring(*before, *new.of("bt"))
    assert stored.behind(before[0], until_session="s1", until=before[3].ts_recv) == before[1:3]


def test_a_session_that_began_after_a_clock_step_backwards_is_read_after_the_one_before(
    stored: Stored,
) -> None:
    old, new = Tape(), Tape(session_id="s2")
    before = exact(old.of("btb"))
    new.us = old.us - 3_600_000_000
    after = exact(new.of("btb"))
    stored.ring(*before, *after)
    found = stored.behind(before[0], until_session="s2", until=after[2].ts_recv)
    assert found == [*before[1:], *after[:2]]


def test_without_a_record_to_stop_at_nothing_younger_than_the_first_look_is_taken(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trade that came while rings were read must not come without the book before it."""
    from daedalus.kernel.ringview import RingView

    records = exact(Tape().of("btbt"))
    stored.ring(*records[:2])
    more = RingView.more
    calls = []

    def slowly(view: RingView, keep: Any) -> list[bytes]:
        calls.append(1)
        found = more(view, keep)
        if len(calls) == 2:
            stored.journal(records[3])  # of the second channel alone
        return found

    monkeypatch.setattr(RingView, "more", slowly)
    assert stored.behind(records[0]) == records[1:2]


def test_a_journal_that_is_torn_or_gone_costs_nothing_that_is_elsewhere(stored: Stored) -> None:
    records = exact(Tape().of("bbb"))
    stored.journal(*records[:2])
    stored.ring(*records[1:])
    path = next(stored.layout.active("orderbook").glob("*.open"))
    data = bytearray(path.read_bytes())
    end = len(data.rstrip(b"\0"))
    data[end - 3 : end] = b"\0\0\0"
    path.write_bytes(data)
    assert stored.behind(records[0]) == records[1:]


def test_a_ring_that_goes_back_far_enough_needs_no_journal(stored: Stored) -> None:
    records = exact(Tape().of("bbbtt"))
    stored.ring(*records)
    for channel in ("orderbook", "trades"):
        path = stored.layout.active(channel) / "journal_00000001.closed"
        path.write_bytes(b"never looked at" * 1000)
        path.chmod(0)
    with pytest.MonkeyPatch.context() as patch:
        looked: list[Any] = []

        def contents(data: Any) -> list[Any]:
            looked.append(data)
            return []

        patch.setattr("daedalus.dataset.tail.contents", contents)
        assert stored.behind(records[1]) == records[2:]
        assert len(looked) == 1, "of the trades: their ring begins later"


def test_of_too_much_the_oldest_are_told_and_the_rest_when_asked_again(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daedalus.dataset.tail.BYTES_MAX", 2000)
    records = exact(Tape().of("btbktb" * 20))
    stored.journal(*records[:60])
    stored.ring(*records[50:])
    at = 0
    questions = 0
    while True:
        found = stored.behind(records[at])
        assert found == records[at + 1 : at + 1 + len(found)]
        at += len(found)
        questions += 1
        if not stored.more:
            break
    assert at == len(records) - 1
    assert questions > 5


def test_the_program_writes_lengths_and_records(stored: Stored) -> None:
    records = exact(Tape().of("btb"))
    stored.journal(*records)
    wanted = {
        "exchange": "binance", "symbol": "BTC-USDT", "channels": CHANNELS, "session_id": "s1",
        "after": records[0].ts_recv,
    }  # fmt: skip
    command = [sys.executable, "-m", "daedalus.dataset.tail", "--data", stored.layout.data]
    done = subprocess.run(
        [*command, "--wanted", msgspec.json.encode(wanted).decode()],
        capture_output=True,
        check=True,
        timeout=60,
    )
    out, found = io.BytesIO(done.stdout), []
    while head := out.read(4):
        found.append(decode(out.read(*unpack("<I", head))))
    assert found == records[1:]
    failed = subprocess.run([*command, "--wanted", "{}"], capture_output=True, check=False, timeout=60)
    assert failed.returncode == 1
    assert failed.stderr.startswith(b"cannot read what is stored: ")
