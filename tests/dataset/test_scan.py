"""Reading by question: only what is asked for, in every spelling, with one schema whatever is there."""

from datetime import UTC, date, datetime

import polars as pl
import pytest
from click.testing import CliRunner

import daedalus
from daedalus.cli.query import command
from daedalus.dataset.columns import COLUMNS
from daedalus.dataset.layout import HOUR_NS, Layout
from daedalus.dataset.scan import files
from tests.dataset.makings import T0, entry, gap, seal_all, trade, write_journal


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


def test_segments_without_later_columns_read_as_null(data, tmp_path):
    first, second, *_ = files(data, "trades", exchange="binance", symbol="BTC-USDT")
    for source in (first, second):
        target = tmp_path / source.relative_to(data)
        target.parent.mkdir(parents=True)
        frame = pl.read_parquet(source, hive_partitioning=False)
        (frame.drop("side_raw", "flags") if source is first else frame).write_parquet(target)
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
def test_a_wrong_query_is_one_line_and_exit_1(data, engine):
    done = CliRunner().invoke(command, ["select * from nonsense", "--data", str(data), "--engine", engine])
    assert done.exit_code == 1
    assert "cannot query select * from nonsense" in done.output


def test_a_path_that_is_not_there_is_a_usage_error():
    done = CliRunner().invoke(command, ["no/such/file.parquet"])
    assert done.exit_code == 2
    assert "no such Parquet file" in done.output
