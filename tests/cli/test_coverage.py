"""`daedalus coverage`: the share, every hole with its cause, and exit codes that scripts can use."""

import json

import pytest
from click.testing import CliRunner

from daedalus.cli.coverage import command
from daedalus.dataset.layout import HOUR_NS, Layout
from daedalus.dataset.symbols import Registry
from tests.dataset.makings import T0, book, entry, gap, seal_all, trade, write_journal

S = 1_000_000_000


def ask(data, *arguments: str, stream: str = "binance:BTC/USDT"):
    return CliRunner().invoke(command, [stream, "--data", str(data), *arguments])


def answer(data, *arguments: str) -> dict:
    done = ask(data, "--json", *arguments)
    assert done.exit_code in (0, 3), done.output
    (channel,) = json.loads(done.output)["channels"]
    return channel


def store(data, *groups, channel: str = "trades") -> None:
    """Seal each group of records in a journal of its own."""
    first = 1
    for number, records in enumerate(groups, 1):
        write_journal(data, channel, [[entry(records, first)]], number)
        seal_all(data, channel)
        first += len(records)


def at(seconds: float, seq: int, **more):
    return trade(seq, ts=T0 + int(seconds * S), **more)


def hole(start: float, end: float, **more):
    return gap(T0 + int(start * S), T0 + int(end * S), session_id="s1", **more)


def test_a_stream_without_holes_exits_0(tmp_path) -> None:
    store(tmp_path, [at(0, 1), at(10, 2)], [at(20, 3)])
    done = ask(tmp_path)
    assert done.exit_code == 0
    assert done.output == (
        "binance:BTC/USDT trades  100.0000%  2026-01-31T14:00:00.000000Z to 2026-01-31T14:00:20.000000Z\n"
    )


def test_every_hole_is_told_with_its_cause_and_exits_3(tmp_path) -> None:
    told = [
        hole(20, 40, reason="disconnect", lost_estimate=None, detail="reset by peer"),
        hole(30, 50, reason="stale"),
    ]
    store(tmp_path, [at(0, 1), at(20, 2), *told, at(100, 3)])
    done = ask(tmp_path)
    assert done.exit_code == 3
    first, second = done.output.splitlines()
    assert first.split()[2] == "70.0000%"
    assert second.split(maxsplit=1) == [
        "2026-01-31T14:00:20.000000Z",
        "30.000 s  disconnect, stale  (reset by peer)",
    ]


def test_numbers_missing_without_a_gap_row_are_unexplained_and_a_fault(tmp_path) -> None:
    store(tmp_path, [at(0, 1), at(10, 2)], [at(30, 7), at(40, 8)])
    found = answer(tmp_path)
    assert (found["share"], found["unexplained"], found["rows"]) == (0.5, 1, 4)
    (cause,) = found["holes"][0]["causes"]
    assert (cause["reason"], cause["lost"], cause["first_seq"], cause["last_seq"]) == ("unexplained", 4, 2, 7)
    done = ask(tmp_path)
    assert "FAULT: 1 unexplained: rows are missing, and no gap row says why" in done.output
    assert done.exit_code == 3


def test_all_channels_that_exist_are_told_also_one_with_gap_rows_alone(tmp_path) -> None:
    store(tmp_path, [at(0, 1), at(10, 2), hole(0, 5, channel="depth")])
    store(tmp_path, [book(1), book(2)], channel="orderbook")
    done = ask(tmp_path, "--json")
    assert [one["channel"] for one in json.loads(done.output)["channels"]] == ["depth", "orderbook", "trades"]
    done = ask(tmp_path, "--json", "--channel", "orderbook")
    assert [one["channel"] for one in json.loads(done.output)["channels"]] == ["orderbook"]


def test_hours_of_two_digits_and_the_turn_of_the_month_are_in_order(tmp_path) -> None:
    """31 January 14:00 to 1 February 20:00: by path day=1 comes before day=31, hour=2 after hour=10."""
    store(tmp_path, [at(hour * 3600, hour + 1) for hour in range(31)])
    assert answer(tmp_path)["share"] == 1.0
    found = answer(tmp_path, "--from", "2026-01-31T20:30", "--to", "2026-02-01T03:30Z")
    assert (found["share"], found["covered_s"]) == (1.0, 7 * 3600)


def test_a_quiet_hour_within_a_session_is_covered_though_no_row_lies_in_it(tmp_path) -> None:
    store(tmp_path, [at(0, 1), at(5 * 3600, 2)])
    found = answer(tmp_path, "--from", "2026-01-31T16:00", "--to", "2026-01-31T17:00")
    assert found["share"] == 1.0


def test_a_hole_that_began_hours_before_the_question_reaches_into_it(tmp_path) -> None:
    gap_row = hole(60, 5 * 3600, reason="restart", first_seq=1, last_seq=1)
    store(tmp_path, [at(0, 1)], [gap_row, at(5 * 3600, 1, session="s2"), at(6 * 3600, 2, session="s2")])
    found = answer(tmp_path, "--from", "2026-01-31T16:00", "--to", "2026-01-31T20:00")
    assert [(one["from"], one["to"]) for one in found["holes"]] == [
        ("2026-01-31T16:00:00.000000Z", "2026-01-31T19:00:00.000000Z")
    ]
    assert (found["share"], found["unexplained"]) == (0.25, 0)


def test_a_session_whose_beginning_lies_before_the_question_is_no_fault(tmp_path) -> None:
    store(tmp_path, [at(hour * 3600, hour + 1) for hour in range(10)])
    found = answer(tmp_path, "--from", "2026-01-31T20:00", "--to", "2026-01-31T22:00")
    assert (found["share"], found["unexplained"]) == (1.0, 0)


def test_before_and_after_is_not_collected(tmp_path) -> None:
    store(tmp_path, [at(600, 1), at(1200, 2)])
    found = answer(tmp_path, "--from", "2026-01-31T14:00", "--to", "2026-01-31T15:00")
    assert (found["share"], found["not_collected_s"], found["holes"]) == (1 / 6, 3000, [])
    assert ask(tmp_path, "--from", "2026-01-31T14:00").exit_code == 3


def test_rows_under_a_former_name_belong_to_the_symbol(tmp_path) -> None:
    store(tmp_path, [at(0, 1), at(10, 2)], [at(20, 3, symbol="PERP")])
    registry = Registry.load(Layout(data=str(tmp_path)))
    registry.claim("binance", "BTC/USDT")
    registry.claim("binance", "BTC/USDT", "PERP")
    registry.save()
    found = answer(tmp_path)
    assert (found["rows"], found["share"]) == (3, 1.0)


@pytest.mark.parametrize(
    ("arguments", "stream", "code", "words"),
    [
        ([], "binance", 2, "write EXCHANGE:SYMBOL"),
        ([], ":BTC/USDT", 2, "write EXCHANGE:SYMBOL"),
        (["--from", "yesterday"], "binance:BTC/USDT", 2, "cannot read the time 'yesterday'"),
        (["--from", "2026-02-01", "--to", "2026-01-01"], "binance:BTC/USDT", 2, "the end is not after"),
        ([], "binance:ETH/USDT", 1, "nothing is stored in"),
        ([], "binance:ETH/USDT", 1, "; journals that are not sealed yet are not read"),
        ([], "binance:../etc", 2, "no leading dot"),
        (["--channel", "depth"], "binance:BTC/USDT", 1, "nothing of depth is stored"),
    ],
)
def test_what_cannot_be_answered_says_so(tmp_path, arguments, stream, code, words) -> None:
    store(tmp_path, [at(0, 1)])
    done = ask(tmp_path, *arguments, stream=stream)
    assert (done.exit_code, words in done.output) == (code, True), done.output


def test_a_file_that_cannot_be_read_fails_and_is_named(tmp_path) -> None:
    store(tmp_path, [at(0, 1)])
    (path,) = (tmp_path / "raw/ready/ccxt/trades").rglob("*.parquet")
    path.write_bytes(b"no parquet")
    done = ask(tmp_path)
    assert (done.exit_code, "cannot read what" in done.output) == (1, True)
    assert CliRunner().invoke(command, ["a:b", "--data", str(tmp_path / "no")]).exit_code == 1


def test_a_year_of_hours_is_read_by_three_columns_and_a_question_reads_its_hours_alone(tmp_path) -> None:
    from daedalus.dataset.ledger import evidence

    store(tmp_path, [at(hour * 3600, hour + 1) for hour in range(30)])
    layout, steps = Layout(data=str(tmp_path)), []
    assert HOUR_NS
    from daedalus.dataset.scan import instant

    evidence(
        layout, "trades", "binance", ["BTC-USDT"],
        start=instant("2026-01-31T20:00"), end=instant("2026-01-31T22:00"),
        step=lambda done, of: steps.append((done, of)),
    )  # fmt: skip
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]  # two hours, and the nearest on either side
