"""Recordings: what is read, what is refused, and what a lap does to ids and times."""

import gzip
import itertools
import json
from pathlib import Path

import pytest

from daedalus.kernel.errors import ConfigError
from daedalus.simulator.binance_tape import BinanceTape
from daedalus.simulator.coinbase_tape import CoinbaseTape
from daedalus.simulator.market import Depth, Market, Quote, Reset, Trades
from daedalus.simulator.recording import LAP_PAUSE_NS, align, lines, parse_argument
from tests.simulator.makings import (
    E0,
    T0,
    binance_lines,
    coinbase_lines,
    depth,
    snapshot,
    trade,
    write,
)


def _binance(path: Path, *, loop: bool = False) -> BinanceTape:
    tape = BinanceTape("BTC/USDT", [path])
    align([tape], loop=loop)
    return tape


def test_plain_and_gzipped_files_read_alike(tmp_path: Path) -> None:
    plain = write(tmp_path / "a", binance_lines())
    packed = tmp_path / "b"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert list(lines(plain)) == list(lines(packed))
    assert next(lines(plain))[0] == T0


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("nofile", "write FILE:SYMBOL"),
        (":BTC/USDT", "write FILE:SYMBOL"),
        ("x.gz:", "write FILE:SYMBOL"),
        ("x.gz:btcusdt", "BASE/QUOTE in capitals"),
        ("/nowhere/x.gz:BTC/USDT", "no such file"),
    ],
)
def test_a_bad_argument_is_refused_in_words(argument: str, words: str) -> None:
    with pytest.raises(ConfigError, match="cannot") as error:
        parse_argument(argument)
    assert words in str(error.value)
    assert any(part in str(error.value) for part in argument.split(":"))


def test_an_argument_may_have_colons_in_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a:b", [])
    assert parse_argument(f"{path}:ETH/USDT") == (path, "ETH/USDT")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "it is empty"),
        (["nonsense"], "line 1 is not a receive time"),
        ([binance_lines()[0], "1723161253000000000"], "line 2 is not a receive time"),
        ([depth(1, 1, [], [], 0)], "no depth snapshot in it"),
        ([depth(1, 1, [], [], 0).replace("btcusdt", "ethusdt"), snapshot(1, 1)], "it holds ethusdt"),
        ([depth(1, 1, [], [], 0).replace('"U"', '"pu":0,"U"'), snapshot(1, 1)], "USD-M futures"),
        ([depth(1, 1, [], [], 0)[:-3], snapshot(1, 1)], "cannot play"),
        ([trade(1, "1", 0).replace('"t":1', '"t":null'), snapshot(1, 1)], "`$.t`"),
    ],
)
def test_a_bad_recording_is_refused_in_words(tmp_path: Path, content: list[str], words: str) -> None:
    path = write(tmp_path / "bad", content)
    with pytest.raises(ConfigError) as error:
        _binance(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_a_torn_gzip_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "torn.gz"
    path.write_bytes(gzip.compress("\n".join(binance_lines()).encode())[:-20])
    with pytest.raises(ConfigError, match=r"cannot read .*torn\.gz after line"):
        _binance(path)


def test_the_book_opens_as_the_snapshot_and_steps_are_found(tmp_path: Path) -> None:
    tape = _binance(write(tmp_path / "a", binance_lines()))
    opening = tape.opening()
    assert opening.last_id == 11
    assert opening.bids == [("100.10", "1.0"), ("100.00", "2.0")]
    assert (tape.price_step, tape.size_step) == ("0.1", "0.1")


def test_bodies_are_kept_byte_for_byte(tmp_path: Path) -> None:
    content = binance_lines()
    tape = _binance(write(tmp_path / "a", content))
    bodies = [line.partition('"data":')[2][:-1].encode() for line in content if '"data":' in line]
    assert [event.raw for event in tape.events()] == bodies


def test_events_say_what_the_messages_say(tmp_path: Path) -> None:
    tape = _binance(write(tmp_path / "a", binance_lines()))
    events = list(tape.events())
    made = [event.trades[0] for event in events if isinstance(event, Trades)]
    assert [(t.trade_id, t.taker, t.ts_ns) for t in made] == [
        (500, "sell", (E0 + 49) * 10**6),
        (501, "buy", (E0 + 1049) * 10**6),
    ]
    assert [event.at_ns for event in events][:3] == [0, 50_000_000, 100_000_000]
    assert [e.update_id for e in events if isinstance(e, Quote)] == [13, 17]


def test_updates_before_the_snapshot_change_nothing_and_the_one_across_it_does(tmp_path: Path) -> None:
    tape = _binance(write(tmp_path / "a", binance_lines()))
    market = Market(tape)
    ids, asks = [], []
    for event in tape.events():
        market.apply(event)
        ids.append(market.book.last_id)
        asks.append(market.book.asks(9))
    assert ids == [11, 11, 12, 12, 13, 13, 17, 17]
    assert asks[0] == [("100.20", "1.5"), ("100.30", "2.5")]
    assert asks[-1] == [("100.30", "3.5")]


def test_laps_go_on_without_a_hole(tmp_path: Path) -> None:
    tape = _binance(write(tmp_path / "a", binance_lines()), loop=True)
    market = Market(tape)
    end = [*binance_lines()]
    events = [market.apply(event) for event in itertools.islice(tape.events(), 3 * len(end))]
    updates = [event for event in events if isinstance(event, Depth)]
    for before, after in itertools.pairwise(updates):
        assert after.first_id == before.last_id + 1
        assert after.ts_ns > before.ts_ns
    ids = [trade.trade_id for event in events if isinstance(event, Trades) for trade in event.trades]
    assert ids == list(range(500, 500 + len(ids)))
    assert [event.at_ns for event in events] == sorted(event.at_ns for event in events)
    assert not any(isinstance(event, Reset) for event in events)
    assert max(event.at_ns for event in events) > 2 * tape.lap_ns
    assert tape.lap_ns == 1_210_000_000 + LAP_PAUSE_NS


def test_each_lap_begins_with_the_recorded_book(tmp_path: Path) -> None:
    tape = _binance(write(tmp_path / "a", binance_lines()), loop=True)
    market = Market(tape)
    opening = tape.opening()
    for event in itertools.islice(tape.events(), 40):
        market.apply(event)
        if isinstance(event, Reset):
            assert (market.book.bids(9), market.book.asks(9)) == (opening.bids, opening.asks)
    assert market.book.last_id > 17


def test_a_second_file_continues_the_first_whatever_their_order(tmp_path: Path) -> None:
    content = binance_lines()
    first, second = write(tmp_path / "z", content[:6]), write(tmp_path / "y", content[6:])
    whole = _binance(write(tmp_path / "a", content))
    tape = BinanceTape("BTC/USDT", [second, first])
    align([tape], loop=False)
    assert list(tape.events()) == list(whole.events())


def test_tapes_share_their_beginning(tmp_path: Path) -> None:
    early = BinanceTape("BTC/USDT", [write(tmp_path / "1", binance_lines())])
    late = BinanceTape("BTC/USDT", [write(tmp_path / "2", binance_lines()[2:])])
    align([late, early], loop=False)
    assert next(late.events()).at_ns == 100_000_000
    assert early.lap_ns == late.lap_ns


def test_exchanges_recorded_at_the_same_time_keep_their_distance_and_others_begin_together(
    tmp_path: Path,
) -> None:
    def tapes(later_ns: int) -> tuple[BinanceTape, CoinbaseTape]:
        moved = [line.partition(" ") for line in coinbase_lines()]
        path = write(tmp_path / "c", [f"{int(at) + later_ns} {message}" for at, _, message in moved])
        return BinanceTape("BTC/USDT", [write(tmp_path / "b", binance_lines())]), CoinbaseTape(
            "SKL/USD", [path]
        )

    spot, advanced = tapes(later_ns=200_000_000)
    align([spot, advanced], loop=True)
    assert advanced.start_ns == spot.start_ns
    assert advanced.lap_ns == spot.lap_ns
    spot, advanced = tapes(later_ns=10**17)
    align([spot, advanced], loop=True)
    assert advanced.start_ns == spot.start_ns + 10**17
    assert next(iter(advanced.events())).at_ns < 10**9
    assert advanced.lap_ns < spot.lap_ns


def test_coinbase_lines_become_events_of_one_product(tmp_path: Path) -> None:
    tape = CoinbaseTape("SKL/USD", [write(tmp_path / "c", coinbase_lines())])
    align([tape], loop=False)
    opening = tape.opening()
    assert [trade.trade_id for trade in opening.trades] == [70]
    events = list(tape.events())
    assert [type(event) for event in events] == [Depth, Trades, Depth]
    assert [(e.first_id, e.last_id) for e in events if isinstance(e, Depth)] == [(2, 2), (3, 3)]
    made = events[1].trades[0]
    assert (made.trade_id, made.taker, made.price) == (71, "buy", "0.791"), "the recorded side is the maker's"
    assert made.ts_ns == 1_618_677_817_121_358_000
    assert events[2].bids == [("0.7909", "1")]


def test_coinbase_laps_go_on(tmp_path: Path) -> None:
    tape = CoinbaseTape("SKL/USD", [write(tmp_path / "c", coinbase_lines())])
    align([tape], loop=True)
    market = Market(tape)
    events = [market.apply(event) for event in itertools.islice(tape.events(), 11)]
    updates = [event for event in events if isinstance(event, Depth)]
    assert [update.last_id for update in updates] == list(range(2, 2 + len(updates)))
    ids = [trade.trade_id for event in events if isinstance(event, Trades) for trade in event.trades]
    assert ids == [71, 72, 73]
    assert (market.book.bids(9), market.book.asks(9)) != ([], [])


def test_a_product_that_is_not_recorded_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "c", coinbase_lines())
    with pytest.raises(ConfigError, match="as YFI/USD: no snapshot of it"):
        CoinbaseTape("YFI/USD", [path])


@pytest.mark.parametrize("name", ["btcusdt", "ethusdt"])
def test_a_real_recording_has_no_holes_over_a_lap(recordings: Path, name: str) -> None:
    tape = BinanceTape(f"{name[:3].upper()}/USDT", [recordings / "binance_spot" / f"{name}_20240808.gz"])
    align([tape], loop=True)
    assert tape.price_step == "0.01"
    updates, ids = [], []
    for event in tape.events():
        if event.at_ns > tape.lap_ns + 2_000_000_000:
            break
        if isinstance(event, Trades):
            ids.append(event.trades[0].trade_id)
        elif isinstance(event, Depth):
            updates.append((event.first_id, event.last_id))
        elif isinstance(event, Reset):
            updates.append((event.last_id, event.last_id))
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(updates))
    assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_the_real_book_agrees_with_the_recorded_best_quotes(recordings: Path) -> None:
    """Truth inside the data: the book's top is the last quote with u not above the depth's."""
    tape = BinanceTape("ETH/USDT", [recordings / "binance_spot" / "ethusdt_20240808.gz"])
    align([tape], loop=False)
    market = Market(tape)
    quotes: list[Quote] = []
    compared = wrong = 0
    for event in tape.events():
        market.apply(event)
        if isinstance(event, Quote):
            quotes.append(event)
        elif isinstance(event, Depth) and event.last_id == market.book.last_id and quotes:
            known = [quote for quote in quotes if quote.update_id <= event.last_id]
            if known:
                compared += 1
                wrong += market.best() != (known[-1].bid, known[-1].ask)
                quotes = quotes[len(known) - 1 :]
    assert compared > 3000
    assert wrong <= 1


def test_json_of_makings_is_what_binance_sends() -> None:
    stream = json.loads(trade(1, "2", 0).partition(" ")[2])
    assert stream["data"]["e"] == "trade"
