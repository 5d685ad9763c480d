"""NDJSON and back: value for value the segment that would have been written at once."""

import base64
import io
import json
import struct
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from daedalus.dataset.convert import convert
from daedalus.dataset.segment import Options
from tests.dataset.makings import book, frame, seal_all, sealed, trade, write_journal
from tests.dataset.test_bronze import RECORDS

NDJSON = Options(raw_format="ndjson")


def lines(path: Path) -> list[dict]:
    with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as plain:
        return [json.loads(line) for line in io.BufferedReader(plain)]


@pytest.mark.parametrize("channel", RECORDS)
def test_what_is_converted_equals_what_was_written_at_once(tmp_path: Path, channel: str) -> None:
    (direct,) = sealed(tmp_path / "a", channel, RECORDS[channel])
    (text,) = sealed(tmp_path / "b", channel, RECORDS[channel], NDJSON)
    out = tmp_path / "out" / "c.parquet"
    assert convert(text, out) == len(RECORDS[channel])
    before, after = pq.read_table(direct, partitioning=None), pq.read_table(out, partitioning=None)
    assert after.schema.equals(before.schema)
    assert after.equals(before)
    assert (
        pq.read_metadata(out).metadata[b"daedalus.schema"]
        == pq.read_metadata(direct).metadata[b"daedalus.schema"]
    )
    assert text.exists()
    assert [path.name for path in out.parent.iterdir()] == ["c.parquet"]


numbers = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(numbers, numbers), max_size=5),
    numbers,
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    st.one_of(st.none(), st.text(max_size=20)),
)
def test_every_bit_of_a_double_every_integer_every_text_and_null_comes_back(
    tmp_path_factory: pytest.TempPathFactory, side: list, price: float, big: int | None, text: str | None
) -> None:
    folder = tmp_path_factory.mktemp("bits")
    (books,) = sealed(folder, "orderbook", [book(1, bids=side, exch_seq=big)], NDJSON)
    (trades,) = sealed(folder, "trades", [trade(1, price=price, info_json=text, exch_seq=big)], NDJSON)
    for name, path in (("b", books), ("t", trades)):
        convert(path, folder / f"{name}.parquet")
    row = pq.read_table(folder / "b.parquet", partitioning=None).to_pylist()[0]
    assert [struct.pack("<2d", level["price"], level["size"]) for level in row["bids"]] == [
        struct.pack("<2d", *level) for level in side
    ]
    assert row["exch_seq"] == big
    row = pq.read_table(folder / "t.parquet", partitioning=None).to_pylist()[0]
    assert struct.pack("<d", row["price"]) == struct.pack("<d", price)
    assert (row["info_json"], row["exch_seq"]) == (text, big)


def test_frames_keep_their_bytes_as_base64(tmp_path: Path) -> None:
    noise = bytes(range(256))
    (path,) = sealed(tmp_path, "frames", [frame(1, text=None, binary=noise), frame(2)], NDJSON)
    first, second = lines(path)
    assert (first["text"], base64.b64decode(first["binary"]), second["binary"]) == (None, noise, None)
    convert(path, tmp_path / "c.parquet")
    assert pq.read_table(tmp_path / "c.parquet", partitioning=None)["binary"].to_pylist() == [noise, None]


def test_many_rows_become_row_groups_of_the_usual_size(tmp_path: Path) -> None:
    write_journal(tmp_path, "trades", _groups(9000))
    (summary,) = seal_all(tmp_path, "trades", NDJSON)
    path = tmp_path / summary["segments"][0]["path"]
    assert convert(path, tmp_path / "c.parquet", Options(row_group_rows=4096)) == 9000
    found = pq.read_metadata(tmp_path / "c.parquet")
    assert [found.row_group(n).num_rows for n in range(found.num_row_groups)] == [4096, 4096, 808]


def _groups(count: int) -> list:
    from tests.dataset.makings import frames_of

    return frames_of([trade(n, ts=None) for n in range(1, count + 1)], 500)


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    (path,) = sealed(tmp_path, "trades", [trade(1)], NDJSON)
    out = tmp_path / "c.parquet"
    out.write_text("mine")
    with pytest.raises(FileExistsError):
        convert(path, out)
    assert out.read_text() == "mine"
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("left", [0, 1, 0.5, 0.9, -1])
def test_a_file_whose_end_is_missing_is_refused_and_nothing_is_made_of_its_beginning(
    tmp_path: Path, left: float
) -> None:
    write_journal(tmp_path, "trades", _groups(9000))
    (summary,) = seal_all(tmp_path, "trades", NDJSON)
    path = tmp_path / summary["segments"][0]["path"]
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left * len(whole)) if 0 < left < 1 else int(left)])
    with pytest.raises(ValueError, match=r"cannot read .* at line \d+: .*(cut off|no row)"):
        convert(path, tmp_path / "c.parquet")
    assert not (tmp_path / "c.parquet").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"price": 1.0}\n', "line 1 has the columns of no channel: price"),
        (b"[1, 2]\n", "at line 1: "),
        (b'{"a": \n', "at line 1: "),
    ],
)
def test_a_file_that_is_no_segment_is_named_with_its_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "x.ndjson.zst"
    path.write_bytes(zstandard.compress(content))
    with pytest.raises(ValueError, match=message):
        convert(path, tmp_path / "c.parquet")
    path.write_bytes(b"not zstd")
    with pytest.raises(ValueError, match=r"cannot read .*x\.ndjson\.zst at line 1"):
        convert(path, tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"does not end in \.ndjson\.zst"):
        convert(tmp_path / "x.json", tmp_path / "c.parquet")
