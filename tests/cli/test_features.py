"""`daedalus features`: every column is listed in the order of the row and can be described."""

import json

import pytest
from click.testing import CliRunner

from daedalus.cli.features import command
from daedalus.features.engine import FeatureEngine

FIELDS = {"name", "unit", "formula", "null", "window_s", "warmup", "paper"}


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(command, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_the_list_is_the_row() -> None:
    schema = FeatureEngine().schema
    code, out, _ = run("list", "--json")
    listed = json.loads(out)
    assert code == 0
    assert [one["name"] for one in listed] == list(schema.names)
    assert [one["unit"] for one in listed] == list(schema.units)
    assert [one["window_s"] for one in listed] == list(schema.windows)
    assert all(set(one) == FIELDS for one in listed)
    lines = run("list")[1].splitlines()
    assert lines[0].split() == ["name", "unit", "window", "warmup"]
    assert [line.split()[0] for line in lines[1:]] == list(schema.names)


def test_a_column_is_described_in_words_and_in_json() -> None:
    code, out, _ = run("describe", "ofi_sum_5s")
    assert code == 0
    labels = ["name", "unit", "definition", "no value", "window", "warm-up", "source"]
    assert [line[:12].strip() for line in out.splitlines() if line[:12].strip()] == labels
    assert "5 s" in out
    code, out, _ = run("describe", "ofi_sum_5s", "--json")
    found = json.loads(out)
    assert (code, set(found), found["window_s"]) == (0, FIELDS, 5)


def test_every_listed_column_can_be_described() -> None:
    schema = FeatureEngine().schema
    for name in (*schema.names[::29], schema.names[-1], "ofi_L3"):
        assert json.loads(run("describe", name, "--json")[1])["name"] == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mid_prise", "cannot describe 'mid_prise': there is no such column; did you mean mid_price?"),
        ("zzzz", "see `daedalus features list`"),
    ],
)
def test_an_unknown_column_exits_1_with_the_nearest(name: str, message: str) -> None:
    code, out, err = run("describe", name, "--json")
    assert (code, out) == (1, "")
    assert message in err
