"""Forty broken files: each fault in its line, with its key, its message and its cure, all of them at once."""

from pathlib import Path
from typing import NamedTuple

import pytest

from daedalus import config

TABLE = Path(__file__).with_name("broken_files.txt")


class Expected(NamedTuple):
    """One line of the table."""

    line: int | None
    path: str
    message: str
    hint: str


def cases() -> dict[str, tuple[str, list[Expected]]]:
    """Return name -> (text, faults)."""
    found = {}
    for block in TABLE.read_text(encoding="utf-8").split("\n=== ")[1:]:
        name, _, rest = block.partition("\n")
        text, _, faults = rest.partition("\n---\n")
        found[name] = (text + "\n", [expected(line) for line in faults.splitlines() if line])
    found["nested too deeply"] = (
        "[supervisor]\nx = " + "[" * 5000 + "]" * 5000 + "\n",
        found["nested too deeply"][1],
    )
    return found


def expected(line: str) -> Expected:
    number, path, message, hint = line.split(" | ")
    return Expected(None if number == "-" else int(number), "" if path == "-" else path, message, hint)


CASES = cases()


def test_there_are_forty_broken_files() -> None:
    assert len(CASES) >= 40


@pytest.mark.parametrize("name", CASES)
def test_every_fault_of_a_broken_file_is_told_with_its_place_and_cure(name: str, tmp_path: Path) -> None:
    text, faults = CASES[name]
    file = tmp_path / "supervisor.toml"
    file.write_text(text, encoding="utf-8")
    report = config.report(file, runtime="/tmp/dd-test")
    told = [fault.text("f") for fault in report.faults]
    assert report.tree is None
    assert [(fault.line, fault.path) for fault in report.faults] == [one[:2] for one in faults], told
    for fault, (_, _, message, hint) in zip(report.faults, faults, strict=True):
        assert fault.level == "error"
        assert message == "*" or message in fault.message, told
        assert hint == "*" or (fault.hint == "" if hint == "-" else hint in fault.hint), told
