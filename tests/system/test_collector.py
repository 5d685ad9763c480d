"""Collectors as real processes: what is sent is stored once, or a gap row says why not."""

import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from daedalus.kernel.errors import EXIT_RECYCLE
from daedalus.records import Trade, decode
from tests.system.cell import DRAIN_S, Cell
from tests.system.tree import wait_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

MODEL = ("--model", "--symbols", "BTC/USDT", "--rate", "100", "--seed", "3")
START_S = 90  # to import ccxt alone takes a loaded machine half a minute
FLAG_SNAPSHOT, FLAG_AFTER_GAP, FLAG_BACKFILLED = 1, 2, 128


@pytest.fixture
def cell(short_tmp: Path) -> Iterator[Callable[..., Cell]]:
    made: list[Cell] = []

    def make(*simulation: str, **options: Any) -> Cell:
        made.append(Cell(short_tmp, *simulation, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def run_for(cell: Cell, count: int) -> None:
    """Let so many trades pass."""
    start = cell.ask()["sent"]["trades"]
    wait_for(f"{count} trades", lambda: cell.ask()["sent"]["trades"] >= start + count)


def check_numbers(rows: list[dict[str, Any]]) -> None:
    """Numbers are gapless from 1 in each session, capture times strictly increasing."""
    by_session: dict[str, list[int]] = {}
    for row in rows:
        by_session.setdefault(row["session_id"], []).append(row["seq"])
    for seqs in by_session.values():
        assert seqs == list(range(1, len(seqs) + 1))
    times = [row["capture_ts"] for row in rows]
    assert all(a < b for a, b in pairwise(times))


def check_trades(cell: Cell, exchange: str) -> None:
    """Every trade sent to a socket is stored exactly once, with the taker's side, or lies in a gap.

    What is sent while a stopping collector has ceased to read lies in the gap that it leaves as its last.
    """
    stored = cell.rows("trades")
    ids = [row["trade_id"] for row in stored]
    assert len(ids) == len(set(ids))
    truth = {str(t["id"]): t for t in cell.truth("trade") if t["exchange"] == exchange}
    place = {number: at for at, number in enumerate(truth)}  # the truth is written in the order of sending
    explained: set[str] = set()
    for gap in cell.gaps("trades"):
        first, last = (
            next((place[row["trade_id"]] for row in stored if row["seq"] == gap[key]), None)
            for key in ("first_seq", "last_seq")
        )
        explained |= set(list(truth)[first:last])
    sent = {number for number, entry in truth.items() if entry["sockets"]}
    assert sent - set(ids) <= explained
    for row in stored:
        entry = truth.get(row["trade_id"])
        if entry is not None:
            assert (row["price"], row["amount"], row["side"]) == (
                entry["price"],
                entry["amount"],
                entry["side"],
            )


def check_last_gap(cell: Cell, channel: str) -> None:
    """A collector that stops says from when on it knows nothing: from its last good message."""
    last, rows = cell.gaps(channel)[-1], cell.rows(channel)
    assert (last["reason"], last["detail"]) == ("restart", "stopped")
    assert (last["first_seq"], last["last_seq"], last["lost_estimate"]) == (rows[-1]["seq"], None, None)
    assert rows[-1]["capture_ts"] <= last["started_at"] <= last["ended_at"]


def check_books(cell: Cell, exchange: str) -> None:
    """Every stored book is the true book after some update, in the order of the updates."""
    tops = {}
    for entry in cell.truth("book"):
        if entry["exchange"] == exchange:
            # Coinbase's books have no number of their own, but each message has one
            numbers = [entry["u"]] if exchange == "binance" else [number for _, number in entry["sent"]]
            tops.update(dict.fromkeys(numbers, (entry["bids"], entry["asks"])))
    compared = 0
    for row in cell.rows("orderbook"):
        if row["exch_seq"] in tops:
            sides = [[[x["price"], x["size"]] for x in row[side][:20]] for side in ("bids", "asks")]
            assert [list(map(list, side)) for side in tops[row["exch_seq"]]] == sides
            compared += 1
    assert compared > 20


@pytest.mark.parametrize("exchange", ["binance", "coinbase"])
def test_every_trade_is_stored_once_and_every_book_is_true(cell: Callable[..., Cell], exchange: str) -> None:
    one = cell(*MODEL)
    one.start_collector(exchange, "BTC/USDT")
    wait_for("the start", lambda: one.ask()["clients"])
    run_for(one, 120)
    one.stop_all()
    check_trades(one, exchange)
    check_books(one, exchange)
    every = sorted((row for c in ("orderbook", "trades", "ticker") for row in one.rows(c)), key=_capture)
    assert all(a < b for a, b in pairwise(map(_capture, every)))
    for channel in ("orderbook", "trades", "ticker"):
        check_numbers(one.rows(channel))
    for channel in ("orderbook", "trades", "ticker"):
        check_last_gap(one, channel)
        assert len(one.gaps(channel)) == 1
    words = {"binance": {"m=true", "m=false"}, "coinbase": {"BUY", "SELL"}}
    assert {row["side_raw"] for row in one.rows("trades")} == words[exchange]


def _capture(row: dict[str, Any]) -> Any:
    return row["capture_ts"]


@pytest.mark.parametrize(
    ("exchange", "kind"), [("binance", "abort"), ("binance", "close"), ("coinbase", "abort")]
)
def test_a_lost_connection_is_a_gap_row_in_each_channel(
    cell: Callable[..., Cell], exchange: str, kind: str
) -> None:
    one = cell(*MODEL)
    one.start_collector(exchange, "BTC/USDT")
    wait_for("a record in each channel", lambda: all(map(one.journalled, one.channels)))
    run_for(one, 40)
    one.fault(kind, exchange)
    wait_for("three gaps", lambda: len(one.events("gap_recorded")) >= 3)
    run_for(one, 60)
    one.stop_all()
    check_trades(one, exchange)
    for channel in ("orderbook", "trades", "ticker"):
        rows = one.rows(channel)
        check_numbers(rows)
        check_last_gap(one, channel)
        (gap, _) = one.gaps(channel)
        assert gap["reason"] == "disconnect"
        before = next(row for row in rows if row["seq"] == gap["first_seq"])
        after = next(row for row in rows if row["seq"] == gap["last_seq"])
        assert gap["last_seq"] == gap["first_seq"] + 1
        assert before["capture_ts"] <= gap["started_at"] <= gap["ended_at"] <= after["capture_ts"]
        assert after["flags"] & FLAG_AFTER_GAP
    assert [row["seq"] for row in one.rows("orderbook") if row["flags"] & FLAG_SNAPSHOT] == [
        1,
        one.gaps("orderbook")[0]["last_seq"],
    ]


@pytest.mark.parametrize("exchange", ["binance", "coinbase"])
def test_a_killed_collector_loses_nothing_it_took_and_its_absence_is_a_row(
    cell: Callable[..., Cell], exchange: str
) -> None:
    one = cell(*MODEL)
    for lives in range(3):
        one.start_collector(exchange, "BTC/USDT")
        wait_for("the start", lambda n=lives: len(one.events("collector_started")) > n)
        wait_for("clients", lambda: one.ask()["clients"])
        wait_for(
            "a record of this life in each channel",
            lambda n=lives: all(len(one.sessions(channel)) > n for channel in one.channels),
        )
        run_for(one, 50)
        if lives < 2:
            one.kill("collector")
            run_for(one, 10)
    one.stop_all()
    stored = one.rows("trades")
    ids = [row["trade_id"] for row in stored]
    assert len(ids) == len(set(ids))
    for channel in ("orderbook", "trades", "ticker"):
        rows = one.rows(channel)
        check_numbers(rows)
        sessions = list(dict.fromkeys(row["session_id"] for row in rows))
        assert len(sessions) == 3
        check_last_gap(one, channel)
        gaps = one.gaps(channel)[:-1]
        assert [(gap["reason"], gap["detail"]) for gap in gaps] == [("restart", None)] * 2
        for number, gap in enumerate(gaps):
            last = [row for row in rows if row["session_id"] == sessions[number]][-1]
            first = next(row for row in rows if row["session_id"] == sessions[number + 1])
            assert (gap["first_seq"], gap["last_seq"]) == (last["seq"], 1)
            assert gap["started_at"] == last["capture_ts"]
            assert gap["ended_at"] <= first["capture_ts"]
            assert first["flags"] & FLAG_AFTER_GAP
    _check_holes_are_covered(one, exchange, stored)


def _check_holes_are_covered(one: Cell, exchange: str, stored: list[dict[str, Any]]) -> None:
    """A trade that is not stored happened inside a gap (the exchange's clock here is our own)."""
    have = {row["trade_id"] for row in stored}
    gaps = one.gaps("trades")
    first = stored[0]["capture_ts"].timestamp()
    for entry in one.truth("trade"):
        at = entry["ts_ns"] / 1e9
        if entry["exchange"] == exchange and str(entry["id"]) not in have and at > first:
            inside = any(
                g["started_at"].timestamp() - 0.5 <= at <= g["ended_at"].timestamp() + 0.5 for g in gaps
            )
            after_the_end = at > stored[-1]["capture_ts"].timestamp()
            assert inside or after_the_end, entry


def test_a_full_spool_sheds_and_says_so(cell: Callable[..., Cell]) -> None:
    one = cell("--model", "--symbols", "BTC/USDT", "--rate", "400", "--seed", "3", channels=("orderbook",))
    one.start_collector("coinbase", "BTC/USDT", spool_mb=0.3)
    wait_for("the start", lambda: one.ask()["clients"])
    run_for(one, 50)
    one.signal("writer-orderbook", signal.SIGSTOP)
    run_for(one, 400)
    one.signal("writer-orderbook", signal.SIGCONT)
    wait_for("the gap", lambda: one.events("gap_recorded"))
    run_for(one, 50)
    one.stop_all()
    rows = one.rows("orderbook")
    check_last_gap(one, "orderbook")
    gaps = one.gaps("orderbook")[:-1]
    assert gaps
    assert {gap["reason"] for gap in gaps} == {"overflow"}
    seqs = [row["seq"] for row in rows]
    holes = [(a, b) for a, b in pairwise(seqs) if b != a + 1]
    assert holes == [(gap["first_seq"], gap["last_seq"]) for gap in gaps]
    assert [gap["lost_estimate"] for gap in gaps] == [b - a - 1 for a, b in holes]
    after = {gap["last_seq"] for gap in gaps}
    assert all(bool(row["flags"] & FLAG_AFTER_GAP) == (row["seq"] in after) for row in rows)


def test_what_a_subscriber_missed_is_replayed(cell: Callable[..., Cell]) -> None:
    one = cell(*MODEL, channels=("trades",))
    one.start_collector("coinbase", "BTC/USDT")
    wait_for("the start", lambda: one.ask()["clients"])
    context = zmq.Context()
    listener, questions = context.socket(zmq.SUB), context.socket(zmq.DEALER)
    try:
        for socket in (listener, questions):
            socket.linger = 0
            socket.rcvtimeo = 10_000
        listener.subscribe(b"trade/coinbase/BTC-USDT/")
        listener.connect(f"ipc://{one.runtime}/pub-coinbase.sock")
        questions.connect(f"ipc://{one.runtime}/replay-coinbase.sock")
        run_for(one, 30)
        topic, data = listener.recv_multipart()
        live = decode(data)
        assert isinstance(live, Trade)
        assert topic == b"trade/coinbase/BTC-USDT/"
        request = [1, "BTC-USDT", {"trades": [1, live.seq]}, live.session_id]
        questions.send(msgspec.msgpack.encode(request))
        number, ok, records = msgspec.msgpack.decode(questions.recv())
        assert (number, ok) == (1, True)
        assert [decode(record).seq for record in records] == list(range(1, live.seq + 1))
        assert records[-1] == data
    finally:
        listener.close()
        questions.close()
        context.term()
    one.stop_all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id": "binanse"}, "near matches: binance"),
        ({"channels": {"trades": ["BTC/USTD"]}}, "near matches: BTC/USDT"),
    ],
)
def test_a_mistake_in_the_configuration_is_fatal_and_explained(
    cell: Callable[..., Cell], options: dict[str, Any], said: str
) -> None:
    one = cell(*MODEL, channels=("trades",))
    one.start_collector("binance", "BTC/USDT", **options)
    assert one.processes.pop("collector").wait(START_S) == 78
    assert said in one.tail()


def test_an_exchange_that_is_not_there_is_waited_for(cell: Callable[..., Cell]) -> None:
    one = cell(*MODEL, channels=("trades",))
    one.start_collector("coinbase", "BTC/USDT", ws_url="ws://127.0.0.1:9/nothing", reconnect_cap_s=0.2)
    wait_for("attempts", lambda: len(one.events("connection_lost")) >= 3)
    time.sleep(0.1)
    assert one.processes["collector"].poll() is None
    one.stop_all()
    (gap,) = one.gaps("trades")
    assert (gap["first_seq"], gap["last_seq"], gap["reason"]) == (None, None, "disconnect")


def test_c01_a_collector_makes_way_and_no_trade_comes_twice_even_over_a_reboot(
    cell: Callable[..., Cell],
) -> None:
    """The runtime directory is a tmpfs: after a reboot only the data directory knows what was stored."""
    one = cell(*MODEL, channels=("orderbook", "trades"))
    one.start_collector("coinbase", "BTC/USDT")
    wait_for("the start", lambda: one.ask()["clients"])
    run_for(one, 60)
    one.signal("collector", signal.SIGUSR1)
    assert one.processes.pop("collector").wait(DRAIN_S + 20) == EXIT_RECYCLE, one.tail()
    assert one.events("collector_recycled")[0]["why"] == "asked to"
    for spool in (one.runtime / "spool").iterdir():
        spool.unlink()
    run_for(one, 20)
    one.start_collector("coinbase", "BTC/USDT")
    wait_for("the second start", lambda: len(one.events("collector_started")) > 1 and one.ask()["clients"])
    run_for(one, 60)
    one.stop_all()
    check_trades(one, "coinbase")
    for channel in ("orderbook", "trades"):
        check_numbers(one.rows(channel))
        check_last_gap(one, channel)
        stopped, absent, _ = one.gaps(channel)
        assert (stopped["detail"], absent["detail"], absent["reason"]) == ("stopped", None, "restart")
        assert stopped["ended_at"] == absent["started_at"] < absent["ended_at"]
        assert stopped["first_seq"] == absent["first_seq"]
    told_again = [entry["ids"] for entry in one.truth("snapshot") if entry["channel"] == "market_trades"]
    before = {row["trade_id"] for row in one.rows("trades") if row["capture_ts"] < stopped["ended_at"]}
    assert before & set(map(str, told_again[-1])), "the exchange told again what was stored"


def test_full_books_and_raw_messages_are_stored_beside_the_rest(cell: Callable[..., Cell]) -> None:
    one = cell(*MODEL, channels=("depth", "trades", "frames"))
    channels = {"depth": ["BTC/USDT"], "trades": ["BTC/USDT"]}
    one.start_collector("coinbase", channels=channels, raw_capture="frames")
    wait_for("the start", lambda: one.ask()["clients"])
    run_for(one, 60)
    one.stop_all()
    check_trades(one, "coinbase")
    depth, frames = one.rows("depth"), one.rows("frames")
    for channel, rows in (("depth", depth), ("frames", frames)):
        check_numbers(rows)
        check_last_gap(one, channel)
    assert [row["kind"] for row in depth] == ["snapshot"] + ["update"] * (len(depth) - 1)
    assert depth[0]["flags"] & FLAG_SNAPSHOT
    words = [msgspec.json.decode(row["text"]) for row in frames]
    assert sum(word["channel"] == "l2_data" for word in words) == len(depth)
    assert [word["sequence_num"] for word in words] == list(range(len(words)))
