"""Reading by question: only what is asked for, in every spelling, with one schema whatever is there."""

from datetime import UTC, date, datetime

import polars as pl
import pytest
from click.testing import CliRunner

import daedalus
from daedalus.cli.query import command
from daedalus.dataset.columns import COLUMNS, columns_of
from daedalus.dataset.layout import HOUR_NS, Layout
from daedalus.dataset.scan import files
from daedalus.dataset.symbols import Registry
from tests.dataset.makings import (
    T0,
    depth,
    entry,
    event,
    frame,
    gap,
    instrument,
    seal_all,
    sealed,
    trade,
    write_journal,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two exchanges, two symbols, three hours (14, 15, 16), one row at the start of each, and a gap."""
    root = tmp_path_factory.mktemp("lake")
    groups = []
    for sender, source in (("binance", "ccxt"), ("coinbase", "native")):
        records = [
            trade(1 + hour, ts=T0 + hour * HOUR_NS, symbol=symbol, exchange=sender)
            for hour in range(3)
            for symbol in ("BTC-USDT", "ETH-USDT")
        ]
        groups.append([entry([*records, gap(exchange=sender)], 1, sender=sender, source=source)])
    write_journal(root, "trades", groups)
    seal_all(root, "trades")
    return root


@pytest.mark.parametrize(
    ("question", "rows", "read"),
    [
        ({}, 12, 12),
        ({"exchange": "binance"}, 6, 6),
        ({"symbol": "BTC/USDT"}, 6, 6),
        ({"symbol": "BTC-USDT", "exchange": "coinbase"}, 3, 3),
        ({"source": "native"}, 6, 6),
        ({"start": "2026-01-31T15:00:00Z"}, 8, 8),
        ({"end": "2026-01-31T15:00"}, 4, 4),
        ({"start": datetime(2026, 1, 31, 14, 0, 1, tzinfo=UTC), "end": "2026-01-31T16:00:00+00:00"}, 4, 8),
        ({"start": "2026-01-31T15:30:00+01:00", "end": "2026-01-31T15:59:00+01:00"}, 0, 4),
        ({"start": date(2026, 2, 1)}, 0, 0),
        ({"end": date(2026, 2, 1)}, 12, 12),
        ({"symbol": "DOGE/USDT"}, 0, 0),
    ],
)
def test_only_the_partitions_asked_for_are_read(data, question, rows, read):
    assert daedalus.scan(data, "trades", **question).collect().height == rows
    assert len(files(data, "trades", **question)) == read


def test_c15_a_symbol_is_found_under_every_name_it_ever_had_and_never_under_anothers(tmp_path):
    """On one exchange A/B-C has an alias, because its own name is A/B:C's; on the other it has that name."""
    groups = [
        [entry([trade(1, symbol="A-B-C"), trade(2, symbol="SPOT"), trade(3, symbol="OLD")], 1)],
        [entry([trade(4, symbol="A-B-C", exchange="okx")], 1, sender="okx")],
    ]
    write_journal(tmp_path, "trades", groups)
    seal_all(tmp_path, "trades")
    registry = Registry.load(Layout(data=str(tmp_path)))
    for exchange, raw, name in (
        *(("binance", "A/B:C", None), ("binance", "A/B-C", "OLD")),
        *(("binance", "A/B-C", "SPOT"), ("okx", "A/B-C", None)),
    ):
        registry.claim(exchange, raw, name)
    registry.save()

    def found(**question) -> list[int]:
        return sorted(daedalus.scan(tmp_path, "trades", **question).collect()["seq"])

    assert found(symbol="A/B:C", exchange="binance") == [1]
    assert found(symbol="A/B-C", exchange="binance") == found(symbol="A/B-C", source="ccxt")[:2] == [2, 3]
    assert found(symbol="A/B-C") == [2, 3, 4]
    assert found(symbol="SPOT") == [2]
    (tmp_path / "state/symbols.json").write_text("?")  # who asks moves nothing and goes by the copy
    assert found(symbol="A/B-C") == [2, 3, 4]
    assert (tmp_path / "state/symbols.json").read_text() == "?"


def test_the_end_itself_is_not_in_the_answer(tmp_path):
    half = T0 + HOUR_NS // 2
    write_journal(tmp_path, "trades", [[entry([trade(1, ts=half - 1000), trade(2, ts=half)], 1)]])
    seal_all(tmp_path, "trades")
    at = "2026-01-31T14:30"
    assert daedalus.scan(tmp_path, "trades", end=at).collect()["seq"].to_list() == [1]
    assert daedalus.scan(tmp_path, "trades", start=at).collect()["seq"].to_list() == [2]


def test_an_empty_answer_has_the_schema_of_a_full_one(data):
    full = daedalus.scan(data, "trades").collect_schema()
    assert daedalus.scan(data, "trades", symbol="NO-SUCH").collect_schema() == full
    for channel in COLUMNS:
        assert daedalus.scan(data, channel).collect_schema().names() == [name for name, _ in COLUMNS[channel]]


def test_gaps_are_scanned_by_their_start(data):
    assert daedalus.scan(data, "gaps", start="2026-01-31T14:00", end="2026-01-31T14:01").collect().height == 2
    assert daedalus.scan(data, "gaps", start="2026-01-31T14:01").collect().height == 0


def test_padded_directories_are_read(data, tmp_path):
    (source,) = files(data, "trades", exchange="binance", symbol="BTC-USDT", end="2026-01-31T15:00")
    padded = Layout(data=str(tmp_path)).ready("ccxt", "trades") / (
        "exchange=binance/symbol=BTC-USDT/year=2026/month=01/day=31/hour=14/segment_20260131T14_00001.parquet"
    )
    padded.parent.mkdir(parents=True)
    padded.write_bytes(source.read_bytes())
    assert (
        daedalus.scan(tmp_path, "trades", start="2026-01-31T14:00", end="2026-01-31T15:00").collect().height
        == 1
    )
    assert daedalus.scan(tmp_path, "trades", start="2026-01-31T15:00").collect().height == 0


def test_c13_segments_of_older_and_later_versions_are_one_table(data, tmp_path):
    first, second, *_ = files(data, "trades", exchange="binance", symbol="BTC-USDT")
    for source in (first, second):
        target = tmp_path / source.relative_to(data)
        target.parent.mkdir(parents=True)
        frame = pl.read_parquet(source, hive_partitioning=False)
        later = frame.with_columns(pl.lit(1).alias("of_a_later_version"))
        (frame.drop("side_raw", "flags") if source is first else later).write_parquet(target)
    found = daedalus.scan(tmp_path, "trades").collect()
    assert found["side_raw"].to_list() == [None, "m=true"]
    assert found.columns == [name for name, _ in COLUMNS["trades"]]


def test_drafts_and_hidden_directories_are_not_read(tmp_path):
    root = Layout(data=str(tmp_path)).ready("ccxt", "trades")
    for name in (".staging/exchange=x", "exchange=binance"):
        (root / name).mkdir(parents=True)
    (root / ".staging/exchange=x/a.parquet").write_bytes(b"half")
    (root / "exchange=binance/.b.parquet").write_bytes(b"half")
    assert daedalus.scan(tmp_path, "trades").collect().height == 0


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (("orderbok",), {}, "cannot scan the channel 'orderbok'"),
        (("trades",), {"tier": "platinum"}, "cannot scan the tier 'platinum'"),
        (("trades",), {"start": "yesterday"}, "cannot read the time 'yesterday'"),
        (("trades",), {"symbol": ""}, "cannot use the name ''"),
    ],
)
def test_a_wrong_question_is_named(data, arguments, options, error):
    with pytest.raises(ValueError, match=error):
        daedalus.scan(data, *arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((3,), {}, "channel=3: a text is expected, not int"),
        (("trades",), {"symbol": ["BTC/USDT"]}, "symbol=.* a text is expected, not list"),
        (("trades",), {"exchange": b"binance"}, "exchange=.* not bytes"),
        (("trades",), {"tier": None}, "tier=None"),
        (("trades",), {"start": 1700000000}, "cannot read the time 1700000000: .* not int"),
        (("trades",), {"end": ("2026",)}, "cannot read the time .* not tuple"),
    ],
)
def test_an_argument_of_a_wrong_type_is_named(data, arguments, options, error):
    with pytest.raises(TypeError, match=error):
        daedalus.scan(data, *arguments, **options)


def test_a_data_directory_of_a_wrong_type_is_named():
    with pytest.raises(TypeError, match="data=None: a path is expected"):
        daedalus.scan(None, "trades")


@pytest.mark.parametrize("tier", ["silver", "gold"])
def test_a_tier_that_holds_nothing_is_empty_and_can_be_asked(data, tier):
    frame = daedalus.scan(data, "orderbook", tier=tier, exchange="binance", start="2026-01-31")
    assert frame.collect().height == 0
    assert frame.collect_schema().names() == ["exchange", "symbol", "year", "month", "day", "hour"]
    assert frame.filter(pl.col("hour") == 3).collect().height == 0


def test_hours_come_in_the_order_of_time(tmp_path):
    """By path, day 1 comes before day 31 and hour 2 after hour 14."""
    rows = [trade(hour + 1, ts=T0 + hour * HOUR_NS) for hour in range(31)]
    write_journal(tmp_path, "trades", [[entry(rows, 1)]])
    seal_all(tmp_path, "trades")
    assert daedalus.scan(tmp_path, "trades").collect()["seq"].to_list() == list(range(1, 32))


@pytest.mark.parametrize(
    ("channel", "records", "rows"),
    [
        ("depth", [depth(1, "snapshot", bids=[(1, 2)]), depth(2)], 2),
        ("bidask", [event(1), event(2)], 2),
        ("frames", [frame(1), frame(3)], 2),
        ("instruments", [instrument(), instrument(1), trade(1)], 2),
    ],
)
def test_every_kind_of_table_is_scanned(tmp_path, channel, records, rows):
    sealed(tmp_path, "trades" if channel == "instruments" else channel, records)
    found = daedalus.scan(tmp_path, channel).collect()
    assert (found.height, found.columns) == (rows, [name for name, _ in columns_of(channel)])


def test_d32_instruments_are_daily_and_show_when_a_tick_size_changed(tmp_path):
    sealed(tmp_path, "trades", [instrument(0), instrument(1), instrument(2, tick_size=0.1)])
    days = daedalus.scan(tmp_path, "instruments", symbol="BTC/USDT").select("day", "tick_size").collect()
    assert days.rows() == [(31, 0.01), (1, 0.01), (2, 0.1)]
    later = daedalus.scan(tmp_path, "instruments", start="2026-02-02").collect()
    assert later["tick_size"].to_list() == [0.1]


def test_channels_that_nobody_collected_yet_are_empty_and_others_unknown(data):
    assert daedalus.scan(data, "ohlcv").collect_schema().names() == [name for name, _ in columns_of("ohlcv")]
    with pytest.raises(ValueError, match="cannot scan the channel 'mark_price'"):
        daedalus.scan(data, "mark_price")


# --- gaps -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gappy(tmp_path_factory):
    """Trades each minute from 14:00 to 17:59; gaps of two symbols, one of them over hours."""
    root = tmp_path_factory.mktemp("gappy")
    minute = HOUR_NS // 60
    rows = [trade(n + 1, ts=T0 + n * minute, symbol=s) for n in range(240) for s in ("BTC-USDT", "ETH-USDT")]
    told = [
        gap(T0 + 10 * minute, T0 + 12 * minute),
        gap(T0 + 11 * minute, T0 + 100 * minute),
        gap(T0 + 200 * minute, T0 + 200 * minute),
        gap(T0 + 5 * minute, T0 + 6 * minute, symbol="ETH-USDT"),
        gap(T0, T0 + 240 * minute, channel="orderbook"),
    ]
    write_journal(root, "trades", [[entry([*rows, *told], 1)]])
    seal_all(root, "trades")
    return root


def test_rows_are_marked_that_lie_in_a_gap_of_their_own_stream(gappy):
    found = daedalus.scan(gappy, "trades", gaps="mark").collect()
    in_gap = found.filter(pl.col("in_gap"))
    minutes = {
        symbol: sorted(((ts.hour - 14) * 60 + ts.minute) for ts in rows["capture_ts"])
        for (symbol,), rows in in_gap.group_by("symbol")
    }
    assert minutes == {"BTC-USDT": list(range(11, 100))}
    assert found["in_gap"].null_count() == 0
    assert found.drop("in_gap").equals(daedalus.scan(gappy, "trades").collect())


@pytest.mark.parametrize(
    ("gaps", "marked"),
    [
        ([(2, 4)], [3]),  # 2 is the last good row, 4 the first
        ([(2, 2)], []),
        ([(2, 2), (2, 4), (4, 4)], [3]),
        ([(2, 4), (4, 6)], [3, 5]),  # one good row between two gaps
        ([(2, 4), (3, 6)], [3, 4, 5]),
        ([(2, 6), (3, 4), (6, 6)], [3, 4, 5]),
        ([(3, 3), (2, 4)], [3]),
        ([(2, 3)], []),
    ],
)
def test_neither_the_last_good_row_before_a_gap_nor_the_first_behind_it_lies_in_it(tmp_path, gaps, marked):
    rows = [trade(n, ts=T0 + n * 10**9) for n in range(1, 8)]
    told = [gap(T0 + first * 10**9, T0 + last * 10**9) for first, last in gaps]
    write_journal(tmp_path, "trades", [[entry([*rows, *told], 1)]])
    seal_all(tmp_path, "trades")
    found = daedalus.scan(tmp_path, "trades", gaps="mark").collect()
    assert found.filter(pl.col("in_gap"))["capture_ts"].dt.second().to_list() == marked


def test_a_gap_that_began_hours_before_the_question_marks_its_rows(gappy):
    question = {"symbol": "BTC/USDT", "start": "2026-01-31T15:30", "end": "2026-01-31T15:50"}
    found = daedalus.scan(gappy, "trades", gaps="mark", **question).collect()
    assert found["in_gap"].to_list() == [True] * 10 + [False] * 10
    assert daedalus.gaps(gappy, "trades", **question).collect().height == 1
    assert daedalus.scan(gappy, "gaps", **question).collect().height == 0  # by its beginning it is not there


def test_gaps_of_a_stretch_of_time_are_those_that_overlap_it(gappy):
    def asked(**question) -> list[int]:
        rows = daedalus.gaps(gappy, "trades", symbol="BTC/USDT", **question).collect()
        return [round((at.timestamp() * 1e9 - T0) / (HOUR_NS // 60)) for at in rows["started_at"]]

    assert asked() == [10, 11, 200]
    assert asked(end="2026-01-31T14:11") == [10]
    assert asked(start="2026-01-31T14:12") == [11, 200]
    assert asked(start="2026-01-31T17:20", end="2026-01-31T17:20:01") == [200]
    assert asked(start="2026-01-31T17:21") == []
    assert daedalus.gaps(gappy).collect().height == 5


def test_a_data_set_without_gap_rows_marks_nothing(tmp_path):
    sealed(tmp_path, "trades", [trade(1)])
    assert daedalus.scan(tmp_path, "trades", gaps="mark").collect()["in_gap"].to_list() == [False]
    with pytest.raises(ValueError, match="gaps='drop': 'mark', or None"):
        daedalus.scan(tmp_path, "trades", gaps="drop")


def test_a_missing_data_directory_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such directory"):
        daedalus.scan(tmp_path / "no", "trades")


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_query_answers_sql_over_the_tables_in_json_lines(data, engine):
    sql = (
        "select symbol, count(*) as n from trades where exchange = 'binance' group by symbol order by symbol"
    )
    done = CliRunner().invoke(command, [sql, "--data", str(data), "--engine", engine])
    assert (done.exit_code, done.output) == (0, '{"symbol":"BTC-USDT","n":3}\n{"symbol":"ETH-USDT","n":3}\n')


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_query_sees_tables_that_hold_nothing(data, engine):
    done = CliRunner().invoke(command, ["select * from ticker", "--data", str(data), "--engine", engine])
    assert (done.exit_code, done.output) == (0, "")


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_query_looks_into_a_directory(data, engine):
    done = CliRunner().invoke(
        command, [str(data / "raw/ready/ccxt/trades"), "--engine", engine, "--limit", "2"]
    )
    assert (done.exit_code, len(done.output.splitlines())) == (0, 2)


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
@pytest.mark.parametrize(
    "sql",
    [
        "select * from nonsense",
        "select nope from trades",
        "select * frm trades",
        "merge into trades using x on a=b when matched then delete",
        "select unknown_function(seq) from trades",
    ],
)
def test_a_query_the_engine_does_not_understand_is_one_line_and_exit_2(data, engine, sql):
    done = CliRunner().invoke(command, [sql, "--data", str(data), "--engine", engine])
    assert done.exit_code == 2
    (line,) = [line for line in done.output.splitlines() if line.startswith("Error: ")]
    assert line.startswith(f"Error: cannot query {sql}: ")
    assert len(line) < 400
    assert not any(sign in done.output for sign in ("Span(", "TokenWithSpan", "PROJECT")), done.output


def test_what_is_no_question_is_refused_in_plain_words(data):
    done = CliRunner().invoke(command, ["create index i on trades (seq)", "--data", str(data)])
    assert (done.exit_code, "polars answers SELECT, not CREATE" in done.output) == (2, True)


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_query_sees_every_channel_that_is_stored(tmp_path, engine):
    sealed(tmp_path, "funding_rate", [event(1, "funding_rate")])
    sealed(tmp_path, "depth", [depth(1, "snapshot", bids=[(1, 2)])])
    for sql in ("select count(*) as n from funding_rate", "select count(*) as n from depth"):
        done = CliRunner().invoke(command, [sql, "--data", str(tmp_path), "--engine", engine])
        assert (done.exit_code, done.output) == (0, '{"n":1}\n')


def test_a_path_that_is_not_there_is_a_usage_error():
    done = CliRunner().invoke(command, ["no/such/file.parquet"])
    assert done.exit_code == 2
    assert "no such Parquet file" in done.output
