"""What the README shows of the results, and what it leaves to them."""

from bench import __main__ as bench
from bench import table
from bench.figure import figure


def test_a_figure_that_is_not_for_the_table_is_kept_and_not_shown() -> None:
    found = bench.figures({"told": figure(1.23456, "ms", 2.0), "kept": figure(5, "MB", table=False)})
    assert found["told"]["value"] == 1.235
    assert found["kept"]["value"] == 5
    result = {
        "name": "supervision",
        "machine": {"cpu": "c", "cores": 2, "python": "3.11"},
        "calibration": {"bytecode_mops": 20.0},
        "figures": found,
    }
    rendered = table.render([result])
    assert "| supervision | told | 1.235 ms | ≤ 2 ms | met |" in rendered
    assert "kept" not in rendered


def test_a_native_adapter_costs_at_most_a_third_of_ccxt_for_the_same_messages() -> None:
    """As it was last measured: a time that is measured here would be the machine's of the moment."""
    (collect,) = [result for result in table.results() if result["name"] == "collect"]
    found = collect["figures"]["ccxt_to_native"]
    assert found["value"] >= found["target"] == 3.0
    for kind in ("book", "trade", "quote"):
        assert collect["figures"][f"native_{kind}"]["value"] < collect["figures"][f"ccxt_{kind}"]["value"]
