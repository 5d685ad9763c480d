"""The key indicators: their thresholds, whom they name, and what nobody reports."""

from typing import Any

import pytest

from daedalus.kernel import health

MIB = 1024 * 1024


def actor(name: str = "g/a", **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "state": "running",
        "substate": "",
        "desired": "up",
        "restarts": {"total": 0, "window": 0, "last_1h": 0},
        "mem": {"anon": 10 * MIB, "warn": None, "soft": None, "hard": 100 * MIB},
        "fds": 12,
        "log_dropped": 0,
        **fields,
    }


def judged(
    *actors: dict[str, Any],
    stats: dict[str, dict[str, Any]] | None = None,
    groups: tuple[dict[str, Any], ...] = (),
    age_s: float | None = 1.0,
    lag_ms: float = 1.0,
    **host: Any,
) -> dict[str, Any]:
    """Return the report on these actors."""
    host = {"load_1m": 0.1, "temperature_c": 50.0, "clock_synced": True, **host}
    shown = actors or (actor(),)
    status = {
        "supervisor": {"loop_lag_ms": lag_ms, "host": host},
        "actors": list(shown),
        "groups": list(groups),
    }
    told = [
        {"name": item["name"], "role": "x", "age_s": age_s, "stats": (stats or {}).get(item["name"])}
        for item in shown
    ]
    return health.report(status, {"actors": told})


def one(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in report["indicators"] if item["name"] == name)


def test_a_quiet_tree_is_healthy_and_what_nobody_reports_is_no_worry() -> None:
    report = judged()
    assert report["ok"] is True
    assert {item["level"] for item in report["indicators"]} == {"ok"}
    assert one(report, "spool_fill") == {
        "name": "spool_fill",
        "level": "ok",
        "value": None,
        "limit": 50,
        "unit": "%",
        "text": "nobody reports it",
    }
    for item in report["indicators"]:
        assert set(item) == {"name", "level", "value", "limit", "unit", "text"}


@pytest.mark.parametrize(
    ("fill", "level"), [(0.499, "ok"), (0.5, "warn"), (0.799, "warn"), (0.8, "bad"), (1, "bad")]
)
def test_queues_are_judged_by_the_fullest(fill: float, level: str) -> None:
    report = judged(
        actor("g/a"), actor("g/b"),
        stats={"g/a": {"trades.spool_fill": 0.1}, "g/b": {"orderbook.spool_fill": fill, "note": "x"}},
    )  # fmt: skip
    found = one(report, "spool_fill")
    assert (found["level"], found["value"], report["ok"]) == (level, round(fill * 100, 3), level != "bad")
    assert found["text"].startswith("g/b: ") is (level != "ok")


def test_what_was_lost_is_summed_and_bad_at_the_first() -> None:
    stats = {"g/a": {"trades.BTC/USD.shed": 2, "trades.ETH/USD.shed": 3}, "g/b": {"shed": 0}}
    found = one(judged(actor("g/a"), actor("g/b"), stats=stats), "records_shed")
    assert (found["level"], found["value"], found["limit"]) == ("bad", 5, 1)
    assert found["text"].startswith("g/a: ")


def test_streams_that_are_down_and_the_fullest_disk_are_named_connections_that_ended_are_no_damage() -> None:
    stats = {"g/a": {"open_gaps": 3, "faults": 34, "disk_free_pct": 9.5}, "g/b": {"disk_free_pct": 40.0}}
    report = judged(actor(), actor("g/b"), stats=stats)
    down, disk = one(report, "streams_down"), one(report, "disk_used")
    assert (down["value"], down["level"]) == (3, "warn")
    assert down["text"].startswith("g/a: ")
    assert (disk["value"], disk["level"]) == (90.5, "warn")
    assert disk["text"].startswith("g/a: ")
    assert one(report, "parse_errors")["value"] is None
    assert one(judged(stats={"g/a": {"disk_free_pct": 4.9}}), "disk_used")["level"] == "bad"


def test_a_flag_or_a_text_is_no_number() -> None:
    assert one(judged(stats={"g/a": {"shed": True, "bad": "5"}}), "records_shed")["value"] is None


def test_who_should_run_and_does_not_is_named() -> None:
    report = judged(
        actor("g/a", state="backoff"), actor("g/b", state="stopped", desired="down"),
        actor("g/c", state="done"), actor("g/d", state="starting"),
        groups=({"name": "h", "state": "failed"},),
    )  # fmt: skip
    assert (one(report, "actors_diverging")["value"], one(report, "actors_diverging")["level"]) == (1, "bad")
    assert one(report, "actors_diverging")["text"].startswith("g/a: ")
    assert one(report, "groups_failed")["text"].startswith("h: ")


def test_memory_is_judged_in_all_and_against_each_limit() -> None:
    def sized(anon: int | None, **limits: Any) -> dict[str, Any]:
        return actor(mem={"anon": anon, "warn": None, "soft": None, "hard": None, **limits})

    assert one(judged(sized(3000 * MIB)), "memory_total")["level"] == "bad"
    assert one(judged(sized(2999 * MIB)), "memory_total")["level"] == "warn"
    assert one(judged(sized(None)), "memory_total")["value"] is None
    assert one(judged(sized(90, soft=100, hard=1000)), "memory_of_limit")["level"] == "warn"
    assert one(judged(sized(90)), "memory_of_limit")["value"] is None


def test_the_machine_is_judged_too() -> None:
    report = judged(temperature_c=80.0, clock_synced=False, lag_ms=500.0)
    assert one(report, "temperature")["level"] == "bad"
    assert one(report, "clock_unsynced")["level"] == "warn"
    assert one(report, "supervisor_lag")["level"] == "warn"
    unknown = judged(temperature_c=None, clock_synced=None)
    assert one(unknown, "temperature")["value"] is one(unknown, "clock_unsynced")["value"] is None


def test_silence_of_who_works_is_a_warning_and_of_who_is_paused_is_not() -> None:
    assert one(judged(age_s=181.0), "stats_age")["level"] == "warn"
    assert one(judged(actor(substate="paused"), age_s=181.0), "stats_age")["value"] is None
    assert one(judged(age_s=None), "stats_age")["level"] == "ok"


def test_restarts_files_and_dropped_lines_name_the_worst() -> None:
    report = judged(
        actor("g/a", fds=400, log_dropped=2),
        actor("g/b", restarts={"total": 20, "window": 1, "last_1h": 10}),
    )
    assert one(report, "restarts_last_hour")["level"] == "bad"
    assert one(report, "restarts_last_hour")["text"].startswith("g/b: ")
    assert (one(report, "open_files")["level"], one(report, "open_files")["value"]) == ("warn", 400)
    assert one(report, "log_lines_dropped")["text"].startswith("g/a: ")


def test_an_empty_tree_can_be_judged() -> None:
    status = {"supervisor": {"loop_lag_ms": 0.0, "host": {}}, "actors": [], "groups": []}
    assert health.report(status, {"actors": []})["ok"] is True


def test_names_are_unique_and_thresholds_in_order() -> None:
    names = [indicator.name for indicator in health.INDICATORS]
    assert len(set(names)) == len(names)
    assert all(0 < indicator.warn <= indicator.bad and indicator.advice for indicator in health.INDICATORS)
