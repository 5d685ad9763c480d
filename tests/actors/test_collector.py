"""What a collector refuses, and how its outlets shed."""

import asyncio
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from daedalus.actors import channel as channel_module
from daedalus.actors.channel import Outlet, describe
from daedalus.actors.collector import Collector
from daedalus.actors.session import Session
from daedalus.actors.sidewatch import SideWatch
from daedalus.actors.sources import CollectorSettings, check
from daedalus.exchanges.adapter import BookFact, Now, Stream, TickerFact, TradeFact
from daedalus.kernel.actor import Context
from daedalus.kernel.errors import FatalError
from daedalus.kernel.journal import Mark
from daedalus.records import Gap, encode, pack_side

T = 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"adapter": "nativ"}, "cannot use the adapter 'nativ'"),
        ({"channels": {"trade": ["A/B"]}}, "did you mean trades?"),
        ({"channels": {"trades": []}}, "no channel has a symbol"),
        ({"channels": {"trades": ["A/B", "a-b"]}}, "the same file name as 'A/B'"),
        ({"channels": {"trades": [".."]}}, "cannot use the name '..'"),
        ({"raw_capture": "all"}, "cannot capture raw 'all': off, info or frames"),
        ({"adapter": "ccxt", "channels": {"trade": ["A/B"]}}, "did you mean trades?"),
        ({"adapter": "ccxt", "channels": {"gaps": ["A/B"]}}, "cannot collect the channel 'gaps'"),
        ({"adapter": "ccxt", "channels": {"../x": ["A/B"]}}, "cannot collect the channel '../x'"),
        ({"channels": {"mark_price": ["A/B"]}}, "cannot collect the channel 'mark_price'"),
        ({"aliases": {"A/B": "A/B"}}, "cannot use the alias 'A/B'"),
        ({"channels": {"trades": ["A/B"], "ticker": ["a-b"]}}, 'aliases] "a-b" = "a-b-2"'),
        ({"warn_pct": 1}, "cannot use the disk marks warn 1 %"),
    ],
)
def test_what_cannot_be_collected_is_refused_with_its_name(change: dict[str, Any], said: str) -> None:
    good: dict[str, Any] = {
        "exchange": "x",
        "adapter": "native",
        "runtime": "/r",
        "channels": {"trades": ["A/B"]},
    }
    check(CollectorSettings(**good))
    with pytest.raises(FatalError) as error:
        check(CollectorSettings(**(good | change)))
    assert said in str(error.value)


class FakeLink:
    """Appends to the spool and never sends."""

    def __init__(self, _address: str, *, spool: Any, **_: Any) -> None:
        self.spool = spool

    def append(self, record: bytes, _stream: str, _mark: Mark) -> bool:
        return self.spool.append(record) is not None

    def close(self) -> None:
        pass


@pytest.fixture
def outlet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(channel_module, "LinkSender", FakeLink)

    def make(channel: str) -> Outlet:
        made = Outlet(
            channel,
            exchange="x",
            source="native",
            runtime=str(tmp_path),
            spool_bytes=1 << 16,
            batch=(64, 5),
            on_welcome=lambda marks, seams: heard.append((marks, seams)),
        )
        opened.append(made)
        return made

    opened: list[Outlet] = []
    heard: list[Any] = []
    make.heard = heard  # type: ignore[attr-defined]
    yield make
    for made in opened:
        made.close()


MARK = Mark(T, 1, "s")
GAP = Gap(
    exchange="x",
    symbol="A-B",
    collected_at=0,
    ts_recv=T,
    channel="trades",
    started_at=T,
    ended_at=T,
    session_id="s",
    first_seq=1,
    last_seq=2,
    reason="overflow",
    lost_estimate=None,
    detail=None,
)


def fill(outlet: Outlet) -> float:
    while outlet.has_room() and outlet.store(b"x" * 100, "A-B", MARK):
        pass
    return outlet.spool.fill


def test_books_leave_room_and_trades_take_the_last(outlet: Any) -> None:
    assert 0.9 < fill(outlet("orderbook")) < 0.99
    assert fill(outlet("trades")) > 0.99


def test_shedding_ends_with_some_inertia(outlet: Any) -> None:
    books = outlet("orderbook")
    fill(books)
    ring = books.spool
    ring.acknowledge(ring.next_seq // 10)
    assert not books.has_room()
    ring.acknowledge(ring.next_seq // 2)
    assert books.has_room()


def test_a_gap_row_without_room_is_owed_and_paid_later(outlet: Any) -> None:
    trades = outlet("trades")
    fill(trades)
    while trades.store(b"", "A-B", MARK):
        pass
    assert trades.store_gap(GAP, MARK) is None
    assert trades.settle() == []
    trades.spool.acknowledge(trades.spool.next_seq // 2)
    assert trades.settle() == [(GAP, encode(GAP))]
    assert not trades.owed


@pytest.mark.parametrize(
    ("change", "untold"),
    [
        (None, True),
        ({"session_id": "B", "started_at": T}, False),  # B told it itself
        ({"session_id": "C", "started_at": T, "ended_at": T + 50}, False),  # a later process did
        ({"session_id": "B", "started_at": T + 60, "ended_at": T + 70}, True),  # a gap within B
        ({"session_id": "A", "started_at": T, "ended_at": T + 20}, True),  # A ended while disconnected
        ({"session_id": "B", "started_at": T, "symbol": "C-D"}, True),
    ],
)
def test_a_seam_in_the_spool_is_told_unless_a_gap_row_tells_it(
    outlet: Any, change: dict[str, Any] | None, *, untold: bool
) -> None:
    before = outlet("trades")
    key = Stream("A/B", "trades")
    session = Session("x", [key], "s", T)
    before.store(encode(session.row(session.streams[key], trade("buy", 1.0), Now(T, 0, 0))), "A-B", MARK)
    if change is not None:
        before.store_gap(msgspec.structs.replace(GAP, **change), MARK)
    before.close()
    after = outlet("trades")
    seam = ("A-B", Mark(T, 9, "A"), Mark(T + 50, 1, "B"))
    after._seams.append(seam)
    after._welcomed({})
    assert outlet.heard == [({}, [seam] if untold else [])]


def test_a_gap_row_beyond_the_bound_is_counted_and_told_once(
    outlet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "_OWED_MAX", 2)
    told: list[str] = []
    monkeypatch.setattr(
        channel_module, "get_logger", lambda: SimpleNamespace(error=lambda e, **_: told.append(e))
    )
    trades = outlet("trades")
    fill(trades)
    while trades.store(b"", "A-B", MARK):
        pass
    gaps = [msgspec.structs.replace(GAP, first_seq=number) for number in range(4)]
    for gap in gaps:
        trades.store_gap(gap, MARK)
    assert (trades.owed_dropped, told) == (2, ["gap_row_dropped"])
    assert [gap for gap, _ in trades.owed] == gaps[2:]


class DrainingLink(FakeLink):
    """A writer takes everything when the link drains."""

    unacknowledged = 0

    async def drain(self) -> int:
        self.spool.acknowledge(self.spool.next_seq - 1)
        return 0


def test_gap_rows_that_are_owed_are_stored_once_the_links_have_drained(outlet: Any, tmp_path: Path) -> None:
    trades = outlet("trades")
    trades.link = DrainingLink("", spool=trades.spool)
    fill(trades)
    while trades.store(b"", "A-B", MARK):
        pass
    assert trades.store_gap(GAP, MARK) is None
    settings = CollectorSettings(
        exchange="x", adapter="native", runtime=str(tmp_path), channels={"trades": ["A/B"]}
    )
    collector = Collector(settings, Context(name="c", drain_s=1.0))
    collector._outlets = {"trades": trades}
    collector.intake.open(collector._outlets, SimpleNamespace(publish=lambda _: None))
    collector._adapter = SimpleNamespace(close=partial(asyncio.sleep, 0), hooks=None)
    count = trades.spool.next_seq - 1
    assert asyncio.run(collector.drain()).flushed == count + 1
    assert not trades.owed


def test_a_row_in_the_spool_tells_its_mark_and_a_gap_row_tells_none() -> None:
    key = Stream("A/B", "trades")
    session = Session("x", [key], "s", T)
    row = session.row(session.streams[key], trade("buy", 1.0), Now(T, 0, 0))
    assert describe(encode(row)) == ("A-B", Mark(T, 1, "s"))
    assert describe(encode(GAP)) is None


def trade(side: str, price: float) -> TradeFact:
    return TradeFact(
        symbol="A/B",
        trade_id=None,
        ts_event=None,
        side=side,
        side_raw=None,
        price=price,
        amount=1.0,
        cost=None,
    )


def test_sides_are_compared_with_the_newest_quotes_and_doubted_once() -> None:
    watch = SideWatch()
    book = BookFact(
        symbol="A/B", ts_event=None, nonce=None, bids=pack_side([(100, 1)]), asks=pack_side([(101, 1)])
    )
    later = T + 200_000_000
    watch.see(trade("buy", 100.0), T)  # nothing to compare with
    watch.see(book, T)
    for _ in range(60):
        watch.see(trade("buy", 100.0), T + 50_000_000)  # too fresh: perhaps the trade's own doing
    for _ in range(60):
        watch.see(trade("buy", 100.0), later)
    assert (watch.lowest(), watch.suspects()) == (None, [])
    watch.see(TickerFact(symbol="A/B", bid=100.0, ask=101.0), later)
    for _ in range(60):
        watch.see(trade("buy", 100.0), later + 100_000_000)
    assert watch.lowest() == 0.0
    assert watch.suspects() == [("A/B", 0.0)]
    assert watch.suspects() == []


def test_the_quotes_of_another_symbol_say_nothing_of_a_trade() -> None:
    watch = SideWatch()
    other = BookFact(
        symbol="C/D", ts_event=None, nonce=None, bids=pack_side([(100, 1)]), asks=pack_side([(101, 1)])
    )
    watch.see(other, T)
    for _ in range(60):
        watch.see(trade("buy", 100.0), T + 200_000_000)
    assert (watch.lowest(), watch.suspects()) == (None, [])
