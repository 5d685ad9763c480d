"""`daedalus register`: the names of symbols, for people and programs, and whether the stored rows agree."""

import json

import pytest
from click.testing import CliRunner

from daedalus.cli.register import command
from tests.dataset.makings import sealed, trade


def run(data, *arguments: str):
    return CliRunner().invoke(command, [*arguments, "--data", str(data)])


def test_a_name_is_added_listed_and_added_again_without_change(tmp_path) -> None:
    for _ in range(2):
        done = run(tmp_path, "add", "binance", "BTC/USDT:USDT")
        assert (done.exit_code, done.output) == (0, "BTC-USDT-USDT\n")
    done = run(tmp_path, "list", "--json")
    assert json.loads(done.output) == {
        "symbols": [
            {
                "exchange": "binance",
                "symbol": "BTC/USDT:USDT",
                "name": "BTC-USDT-USDT",
                "type": "swap",
                "base": "BTC",
                "quote": "USDT",
                "settle": "USDT",
                "former": [],
            }
        ]
    }
    assert run(tmp_path, "list").output.splitlines()[1].split() == [
        *("binance", "BTC/USDT:USDT", "BTC-USDT-USDT", "swap", "BTC", "USDT", "USDT", "-")
    ]
    assert run(tmp_path, "list", "okx", "--json").output == '{"symbols":[]}\n'


def test_d10_a_taken_name_is_refused_and_an_alias_is_the_cure(tmp_path) -> None:
    run(tmp_path, "add", "binance", "A/B:C")
    done = run(tmp_path, "add", "binance", "A/B-C")
    assert (done.exit_code, "that is 'A/B:C'" in done.output) == (2, True)
    done = run(tmp_path, "add", "binance", "A/B-C", "--name", "A-B-SPOT", "--type", "spot", "--json")
    assert (done.exit_code, json.loads(done.output)["name"]) == (0, "A-B-SPOT")


def test_stored_rows_that_nobody_registered_are_found_and_added(tmp_path) -> None:
    sealed(tmp_path, "trades", [trade(1), trade(2, symbol="PERP", symbol_raw="BTC/USDT:USDT")])
    done = run(tmp_path, "check")
    assert done.exit_code == 3
    assert "symbol=PERP: 'BTC/USDT:USDT' of binance is not in the registry" in done.output
    assert run(tmp_path, "check", "--fix").exit_code == 0
    done = run(tmp_path, "check", "--json")
    assert (done.exit_code, json.loads(done.output)) == (0, {"ok": True, "findings": []})
    names = {
        row["symbol"]: row["name"] for row in json.loads(run(tmp_path, "list", "--json").output)["symbols"]
    }
    assert names == {"BTC/USDT": "BTC-USDT", "BTC/USDT:USDT": "PERP"}


def test_two_symbols_in_one_directory_are_a_fault_that_cannot_be_added_away(tmp_path) -> None:
    sealed(tmp_path, "trades", [trade(1), trade(2, symbol_raw="BTC/USDT-")])
    done = run(tmp_path, "check", "--fix", "--json")
    assert done.exit_code == 3
    (finding,) = [one for one in json.loads(done.output)["findings"] if not one["fixed"]]
    assert finding["message"] == "rows of 'BTC/USDT-' lie under the name of 'BTC/USDT'"


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_a_name_that_is_no_directory_is_a_usage_error(tmp_path, name) -> None:
    assert run(tmp_path, "add", "binance", "A/B", "--name", name).exit_code == 2


@pytest.mark.parametrize("symbol", ["FOO", "BTC-USDT", "btc/usdt", "/USDT", ""])
def test_what_is_no_symbol_is_refused_with_the_form_wanted(tmp_path, symbol) -> None:
    done = run(tmp_path, "add", "binance", symbol)
    assert done.exit_code == 2
    assert f'cannot use {symbol!r}: write the symbol in ccxt\'s unified form, "BTC/USDT"' in done.output
    assert run(tmp_path, "list", "--json").output == '{"symbols":[]}\n'


def test_a_directory_that_is_not_there_is_named(tmp_path) -> None:
    for arguments in (["list"], ["check"], ["add", "a", "B/C"]):
        done = run(tmp_path / "no", *arguments)
        assert (done.exit_code, "no such directory" in done.output) == (1, True)
