"""The list is complete: each of the 70 cases has a test of its number, and README.md says where."""

import re
from pathlib import Path

HERE = Path(__file__).parent
PURE = HERE.parent / "kernel"
CASES = [f"C{number:02}" for number in range(1, 71)]


def cases_in(files: list[Path]) -> dict[str, set[str]]:
    """Return case -> the files that have a test of that number."""
    found: dict[str, set[str]] = {}
    for file in files:
        for number in re.findall(r"^def test_c(\d\d)_", file.read_text(), re.MULTILINE):
            found.setdefault(f"C{number}", set()).add(file.stem)
    return found


def black_box() -> dict[str, set[str]]:
    return cases_in(sorted(HERE.glob("test_c[0-9]*.py")))


def pure() -> dict[str, set[str]]:
    return cases_in(sorted(PURE.glob("test_conformance*.py")))


def rows() -> dict[str, list[str]]:
    """Return the cells of the table in README.md by case."""
    lines = [line.strip("| ").split("|") for line in (HERE / "README.md").read_text().splitlines()]
    return {
        cells[0].strip(): [cell.strip() for cell in cells] for cells in lines if cells[0].strip() in CASES
    }


def test_every_case_of_the_list_has_a_test_of_its_number() -> None:
    assert sorted(black_box() | pure()) == CASES


def test_every_case_is_tried_against_a_running_tree() -> None:
    assert sorted(black_box()) == CASES


def test_the_page_has_a_row_for_each_case_and_names_its_file() -> None:
    told, there = rows(), black_box()
    assert sorted(told) == CASES
    wrong = {case: cells[3] for case, cells in told.items() if {cells[3].strip("`")} != there[case]}
    assert wrong == {}
    also = pure()
    stale = {case: cells[2] for case, cells in told.items() if not named(cells[2]) <= also.get(case, set())}
    assert stale == {}


def named(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", cell))
