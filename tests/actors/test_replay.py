"""Answers of the replay endpoint."""

from array import array
from pathlib import Path
from random import Random
from sys import getsizeof
from typing import Any

import msgspec
import pytest

from daedalus.actors.replay import REPLY_BYTES_MAX, ReplayIndex
from daedalus.kernel.spool import Spool

OPEN = 2**63 - 1


@pytest.fixture
def spools(tmp_path: Path) -> Any:
    made = {name: Spool.open(tmp_path / name, 1 << 20) for name in ("orderbook", "trades")}
    yield made
    for spool in made.values():
        spool.close()


class Sender:
    """Appends rows named `channel:symbol:seq`."""

    def __init__(self, spools: dict[str, Spool]) -> None:
        self.spools = spools
        self.index = ReplayIndex(spools)  # type: ignore[arg-type]
        self.seqs: dict[tuple[str, str], int] = {}
        self.order: dict[bytes, int] = {}
        self.added = 0

    def skip(self, channel: str, symbol: str, numbers: int) -> None:
        self.seqs[channel, symbol] = self.seqs.get((channel, symbol), 0) + numbers

    def row(self, channel: str, symbol: str = "BTC-USD", *, session: str = "s", pad: int = 0) -> bytes:
        seq = self.seqs[channel, symbol] = self.seqs.get((channel, symbol), 0) + 1
        data = f"{channel}:{symbol}:{seq}".encode() + b" " * pad
        self.order[data] = self.added = self.added + 1
        place = self.spools[channel].append(data)
        assert place is not None
        self.index.add(symbol, channel, (seq, place), session)
        return data

    def ask(self, ranges: dict[str, list[int]], symbol: str = "BTC-USD", session: str = "s") -> Any:
        reply = self.index.answer(msgspec.msgpack.encode([7, symbol, ranges, session]))
        assert reply is not None
        number, ok, records = msgspec.msgpack.decode(reply)
        assert number == 7
        return ok, records


def test_rows_come_merged_by_capture_time_and_of_the_symbol_alone(spools: dict[str, Spool]) -> None:
    sender = Sender(spools)
    rows = []
    for n in range(10):
        rows.append(sender.row("orderbook"))
        sender.row("orderbook", "ETH-USD")
        if n % 3 == 0:
            rows.append(sender.row("trades"))
    assert sender.ask({"orderbook": [1, 10], "trades": [1, 4]}) == (True, rows)
    assert sender.ask({"orderbook": [3, 4]}) == (True, [b"orderbook:BTC-USD:3", b"orderbook:BTC-USD:4"])


def test_an_open_end_means_to_the_newest(spools: dict[str, Spool]) -> None:
    sender = Sender(spools)
    rows = [sender.row("trades") for _ in range(5)]
    assert sender.ask({"trades": [4, OPEN]}) == (True, rows[3:])
    assert sender.ask({"trades": [6, OPEN], "orderbook": [1, OPEN]}) == (True, [])


@pytest.mark.parametrize(
    ("ranges", "symbol", "session"),
    [
        ({"trades": [1, 6]}, "BTC-USD", "s"),
        ({"trades": [1, 2]}, "BTC-USD", "another session"),
        ({"trades": [1, 2]}, "DOGE-USD", "s"),
        ({"ticker": [1, OPEN]}, "BTC-USD", "s"),
    ],
)
def test_what_is_not_all_there_is_not_ok(
    spools: dict[str, Spool], ranges: dict[str, list[int]], symbol: str, session: str
) -> None:
    sender = Sender(spools)
    for _ in range(5):
        sender.row("trades")
    assert sender.ask(ranges, symbol, session)[0] is False


def test_rows_that_were_overwritten_are_gone_and_the_rest_is_given(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "small", 8192)
    sender = Sender({"trades": spool})
    for _ in range(200):
        sender.row("trades", pad=100)
        spool.acknowledge(spool.next_seq - 1)
    ok, records = sender.ask({"trades": [1, 200]})
    assert not ok
    assert records[-1].strip() == b"trades:BTC-USD:200"
    assert sender.ask({"trades": [199, 200]})[0] is True
    spool.close()


def test_an_answer_is_cut_at_its_limit_and_the_rest_can_be_asked_for(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "big", 8 << 20)
    sender = Sender({"trades": spool})
    for _ in range(30):
        sender.row("trades", pad=100_000)
    ok, records = sender.ask({"trades": [1, 30]})
    assert ok
    assert 0 < sum(map(len, records)) <= REPLY_BYTES_MAX
    assert sender.ask({"trades": [len(records) + 1, 30]})[1][0].startswith(b"trades:BTC-USD:11")
    spool.close()


def test_a_renumbered_ring_and_a_new_session_are_begun_afresh(spools: dict[str, Spool]) -> None:
    sender = Sender(spools)
    sender.row("trades")
    spools["trades"].renew()
    sender.row("trades")
    assert sender.ask({"trades": [1, 2]})[0] is False
    assert sender.ask({"trades": [2, 2]}) == (True, [b"trades:BTC-USD:2"])
    sender.row("trades", session="t")
    assert sender.ask({"trades": [2, 2]})[0] is False


def test_rows_that_are_overwritten_are_missed_by_an_open_end_too(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "small", 8192)
    sender = Sender({"trades": spool})
    for _ in range(3):
        sender.row("trades", "QUIET-USD")
    for _ in range(200):
        sender.row("trades", pad=100)
        spool.acknowledge(spool.next_seq - 1)
    assert sender.ask({"trades": [2, OPEN]}, "QUIET-USD") == (False, [])
    assert sender.ask({"trades": [4, OPEN]}, "QUIET-USD") == (True, [])
    spool.renew()
    sender.row("trades")
    assert sender.ask({"trades": [2, OPEN]}, "QUIET-USD") == (False, [])
    spool.close()


def test_places_of_a_ring_that_was_renumbered_are_forgotten_before_the_next_row(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "ring", 1 << 14)
    sender = Sender({"trades": spool})
    for number in range(10):
        sender.row("trades", "A" if number % 2 else "B")
    spool.acknowledge(5)
    spool.renew()
    assert sender.ask({"trades": [1, 2]}, "A") == (False, [])
    spool.close()


@pytest.mark.parametrize("seed", range(4))
def test_every_answer_is_that_of_a_plain_list_of_all_rows(tmp_path: Path, seed: int) -> None:
    """Many chunks, numbers that jump (also further than 32 bits), rings that go round."""
    random = Random(seed)
    spools = {name: Spool.open(tmp_path / name, 16384) for name in ("orderbook", "trades")}
    sender = Sender(spools)
    told: dict[str, dict[str, dict[int, tuple[int, bytes]]]] = {s: {n: {} for n in spools} for s in "ABC"}
    for step in range(6000):
        symbol, channel = random.choice("AAAAAABBC"), random.choice(("orderbook", "trades", "trades"))
        sender.skip(channel, symbol, random.choices((0, 1, 2**33), (5000, 5, 1))[0])
        data = sender.row(channel, symbol, pad=random.choice((0, 0, 200)))
        spool = spools[channel]
        told[symbol][channel][sender.seqs[channel, symbol]] = (spool.next_seq - 1, data)
        if random.random() < 0.1:
            spool.acknowledge(spool.next_seq - 1)
        if step % 50:
            continue
        ranges, wanted, complete = {}, [], True
        for name, rows in told[symbol].items():
            if not rows:
                continue
            last = max(rows)
            first = max(last - random.randrange(300), 1)
            end = random.choice((last, last - random.randrange(100), OPEN))
            ranges[name] = [first, end]
            asked = [rows.get(number) for number in range(first, min(end, last) + 1)]
            there = [row for row in asked if row is not None and row[0] >= spools[name].oldest()]
            complete = complete and len(there) == len(asked)
            wanted += [row[1] for row in there]
        ok, records = sender.ask(ranges, symbol)
        assert (ok, sorted(records)) == (complete, sorted(wanted))
        assert records == sorted(records, key=sender.order.__getitem__)
    for spool in spools.values():
        spool.close()


def test_the_index_is_as_large_as_the_ring_and_does_not_grow_when_that_has_gone_round(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "ring", 1 << 20)
    sender = Sender({"trades": spool})

    def held() -> tuple[int, int]:
        chunks = [chunk for rows in sender.index._rows.values() for chunk in rows.chunks]
        cells = [chunk.cells for chunk in chunks]
        size = sum(map(getsizeof, [*cells, *chunks]))
        return sum(chunk.count for chunk in chunks), size

    sizes = []
    for _ in range(12):
        for _ in range(4096):
            sender.row("trades", f"S{sender.added % 4}")
            spool.acknowledge(spool.next_seq - 1)
        sizes.append(held())
    in_ring = spool.next_seq - spool.oldest()
    assert in_ring < 40_000 < spool.next_seq  # it has gone round
    rows, size = sizes[-1]
    whole = [c.cells for rows in sender.index._rows.values() for c in rows.chunks[:-1]]
    assert max(len(cells) * cells.itemsize for cells in whole) == 512  # the largest of small objects …
    assert max(map(getsizeof, whole)) == getsizeof(array("H")) + 512  # … with nothing to spare
    assert in_ring <= rows <= in_ring + 4 * 128
    assert size <= 8 * rows
    assert sizes[-1][1] <= sizes[-3][1] * 1.01
    spool.close()


@pytest.mark.parametrize("raw", [b"", b"\xff", b"\x94\x01\xa2\xff\xff", msgspec.msgpack.encode([1, 2])])
def test_noise_is_not_answered(spools: dict[str, Spool], raw: bytes) -> None:
    assert ReplayIndex(spools).answer(raw) is None  # type: ignore[arg-type]
