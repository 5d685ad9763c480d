"""`daedalus convert`: files and directories of JSON lines to Parquet, once, and again without harm."""

import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

import daedalus
from daedalus.cli.convert import command
from daedalus.dataset.segment import Options
from tests.dataset.makings import sealed, trade

NDJSON = Options(raw_format="ndjson")


@pytest.fixture
def segment(tmp_path) -> Path:
    (path,) = sealed(tmp_path / "data", "trades", [trade(1), trade(2)], NDJSON)
    return path


def run(*arguments: object):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_a_file_is_converted_beside_itself_and_can_be_scanned(tmp_path, segment) -> None:
    assert daedalus.scan(tmp_path / "data", "trades").collect().height == 0
    done = run(segment)
    assert (done.exit_code, done.output) == (0, "1 files (2 rows) converted, 0 were there, 0 failed\n")
    assert daedalus.scan(tmp_path / "data", "trades").collect()["seq"].to_list() == [1, 2]
    assert segment.exists()


def test_again_changes_nothing(segment) -> None:
    run(segment)
    (made,) = segment.parent.glob("*.parquet")
    before = made.stat().st_ino
    done = run(segment)
    assert (done.exit_code, done.output) == (0, "0 files (0 rows) converted, 1 were there, 0 failed\n")
    assert made.stat().st_ino == before


def test_a_directory_is_converted_below_another_with_its_partitions(tmp_path, segment) -> None:
    done = run(tmp_path / "data", "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0
    (one,) = json.loads(done.output)["files"]
    made = tmp_path / "out/ccxt/trades" / segment.relative_to(tmp_path / "data/raw/ready/ccxt/trades").parent
    assert (one["rows"], Path(one["out"])) == (2, made / "segment_20260131T14_00001.parquet")
    assert pl.read_parquet(one["out"], hive_partitioning=False).height == 2


def test_a_loose_file_lands_in_the_directory_itself(tmp_path, segment) -> None:
    loose = tmp_path / "mine.ndjson.zst"
    loose.write_bytes(segment.read_bytes())
    assert run(loose, "--out", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out/mine.parquet").exists()


def test_a_damaged_file_fails_and_the_others_are_converted(segment) -> None:
    bad = segment.with_name("segment_20260131T14_00002.ndjson.zst")
    bad.write_bytes(segment.read_bytes()[:8] + b"\xff" * 40)
    done = run(segment.parent)
    assert done.exit_code == 1
    assert "1 files (2 rows) converted, 0 were there, 1 failed" in done.output
    assert f"cannot read {bad}" in done.output
    assert not bad.with_name("segment_20260131T14_00002.parquet").exists()


def test_what_is_no_such_file_is_told(tmp_path) -> None:
    assert run(tmp_path).exit_code == 2
    assert run(tmp_path / "no.ndjson.zst").exit_code == 2
    (tmp_path / "x.txt").write_text("x")
    done = run(tmp_path / "x.txt")
    assert (done.exit_code, "its name does not end in .ndjson.zst" in done.output) == (1, True)
