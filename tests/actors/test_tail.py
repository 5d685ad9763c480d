"""Asking what is stored: an answer in pieces, asked again for the rest, and what becomes of a bad one."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from daedalus.actors.stream import Tail
from daedalus.actors.tail import Bronze
from daedalus.records import encode
from tests.loops import drive
from tests.market import Tape

_CHILD = """#!{python}
import json, struct, sys
wanted = json.loads(sys.argv[sys.argv.index("--wanted") + 1])
rows = [row for row in json.load(open({rows!r})) if row[0] > wanted["after"]]
for _, text in rows[:{at_once}]:
    blob = bytes.fromhex(text)
    sys.stdout.buffer.write(struct.pack("<I", len(blob)) + blob)
{end}
sys.exit(3 if len(rows) > {at_once} else 0)
"""


def asked(tmp_path: Path, records: list[Any], after: int, *, at_once: int = 3, end: str = "") -> list[Any]:
    """Return what is delivered: (records, more) of each piece."""
    rows, child = tmp_path / "rows", tmp_path / "child"
    rows.write_text(json.dumps([[record.ts_recv, encode(record).hex()] for record in records]))
    child.write_text(_CHILD.format(python=sys.executable, rows=str(rows), at_once=at_once, end=end))
    child.chmod(0o700)
    told: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("daedalus.actors.tail.sys.executable", str(child))
        bronze = Bronze(str(tmp_path), str(tmp_path), "binance", "BTC-USDT", ("orderbook", "trades"))
        drive(lambda: bronze.ask(Tail("s1", after), lambda piece, more: told.append((piece, more))))
    return told


def test_what_is_more_than_one_answer_is_asked_for_behind_the_last_record(tmp_path: Path) -> None:
    records = Tape().of("btbtbtbt")
    told = asked(tmp_path, records, records[0].ts_recv)
    assert [record for piece, _ in told for record in piece] == records[1:]
    assert [more for _, more in told] == [True, True, True, False]


@pytest.mark.parametrize("end", ["sys.exit(1)", "sys.stdout.buffer.write(b'xx'); sys.exit(0)"])
def test_a_child_that_fails_or_breaks_off_is_told_after_what_was_whole(tmp_path: Path, end: str) -> None:
    records = Tape().of("btb")
    told = asked(tmp_path, records, 0, end=end)
    assert told == [(records, True), (None, False)]
