"""Answers of the replay endpoint."""

from pathlib import Path
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
    """Appends rows named `channel:symbol:seq`, one microsecond apart."""

    def __init__(self, spools: dict[str, Spool]) -> None:
        self.spools = spools
        self.index = ReplayIndex(spools)  # type: ignore[arg-type]
        self.seqs: dict[tuple[str, str], int] = {}
        self.ts = 0

    def row(self, channel: str, symbol: str = "BTC-USD", *, session: str = "s", pad: int = 0) -> bytes:
        seq = self.seqs[channel, symbol] = self.seqs.get((channel, symbol), 0) + 1
        self.ts += 1000
        data = f"{channel}:{symbol}:{seq}".encode() + b" " * pad
        place = self.spools[channel].append(data)
        assert place is not None
        self.index.add(symbol, channel, (seq, self.ts, place), session)
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


@pytest.mark.parametrize("raw", [b"", b"\xff", b"\x94\x01\xa2\xff\xff", msgspec.msgpack.encode([1, 2])])
def test_noise_is_not_answered(spools: dict[str, Spool], raw: bytes) -> None:
    assert ReplayIndex(spools).answer(raw) is None  # type: ignore[arg-type]
