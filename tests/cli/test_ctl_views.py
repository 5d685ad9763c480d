"""The commands that look: what they ask, print and exit with."""

import json
from pathlib import Path
from typing import Any

import pytest

from daedalus.cli.ctl import doctor
from daedalus.cli.ctl.connection import Refused
from tests.cli.ctl_server import Fault, Server, actor, ctl, document, group, last_exit, run


def test_status_exits_3_when_something_shown_is_not_as_it_is_wanted(runtime_dir: Path) -> None:
    shown = [
        document(actor()),
        document(actor(state="backoff")),
        document(actor(state="stopped", desired="down")),
    ]
    with Server(runtime_dir, {"status": lambda _: shown.pop(0)}) as server:
        assert [ctl(server, "status").returncode for _ in range(3)] == [0, 3, 0]


def test_status_through_a_pipe_is_never_cut(runtime_dir: Path) -> None:
    shown = document(actor(state="backoff", last_exit=last_exit(stderr_tail=["x" * 300])))
    with Server(runtime_dir, {"status": shown}) as server:
        assert "x" * 300 in ctl(server, "status", COLUMNS="80").stdout


def test_watch_shows_it_again_until_the_supervisor_goes(runtime_dir: Path) -> None:
    shown = iter([document(actor()), document(actor(state="held"))])

    def status(_: dict[str, Any]) -> Any:
        return next(shown, Fault("unreachable"))

    with Server(runtime_dir, {"status": status}) as server:
        done = ctl(server, "status", "--watch", "0.1", "--json")
    items = map(json.loads, done.stdout.splitlines())
    assert [item["actors"][0]["state"] for item in items] == ["running", "held"]
    assert done.returncode == 7


def test_tree_spec_and_count_print_for_people_and_for_programs(runtime_dir: Path) -> None:
    values = {"name": "g/a", "shutdown_s": "infinity", "cpus": [2]}
    counts = {"specs": 3, "active": 2, "supervisors": 1, "workers": 2}
    with Server(runtime_dir, {"status": document(actor()), "spec": values, "count": counts}) as server:
        assert (
            ctl(server, "tree").stdout.splitlines()[1]
            == "└─ store  running  one_for_one  0/5 restarts in 1m00s"
        )
        assert ctl(server, "spec", "g/a").stdout == 'name = "g/a"\nshutdown_s = "infinity"\ncpus = [2]\n'
        assert ctl(server, "count").stdout == "specs=3 active=2 supervisors=1 workers=2\n"
        for words, answer in (
            (("spec", "g/a"), values),
            (("count", "g"), counts),
            (("tree",), document(actor())),
        ):
            assert json.loads(ctl(server, *words, "--json").stdout) == answer
    assert server.asked("spec") == [{"actors": ["g/a"]}] * 2
    assert server.asked("count") == [{"group": None}, {"group": "g"}]


STATS = {
    "actors": [
        {
            "name": "ingest/collector-kraken", "role": "collector", "age_s": 12.4,
            "stats": {"records": 120411, "trades": {"spool_fill": 0.25, "oldest_s": None}, "reconnects": 2},
        },
        {"name": "ops/x", "role": "foreign", "age_s": None, "stats": None},
    ]
}  # fmt: skip


def test_stats_are_a_block_per_actor_and_the_health_of_collectors(runtime_dir: Path) -> None:
    shown = document(
        actor(name="ingest/collector-kraken", role="collector"), actor(role="collector", state="held")
    )
    with Server(runtime_dir, {"stats": STATS, "status": shown}) as server:
        done = ctl(server, "stats", "ingest", "x")
        as_json = ctl(server, "stats", "--json")
    assert done.stdout == (
        "ingest/collector-kraken  collector  (12s ago)\n"
        "  records            120411\n"
        "  trades.spool_fill  0.25\n"
        "  trades.oldest_s    -\n"
        "  reconnects         2\n"
        "\n"
        "ops/x  foreign\n"
        "  has reported nothing\n"
        "\n"
        "Health: 1/2 collectors healthy\n"
    )
    assert json.loads(as_json.stdout) == STATS
    assert server.asked("stats") == [{"select": ["ingest", "x"]}, {"select": []}]


def indicator(level: str) -> dict[str, Any]:
    return {"name": "loop_lag", "level": level, "value": 3.0, "limit": 200, "unit": "ms", "text": "keeps up"}


@pytest.mark.parametrize(("level", "exit_code"), [("ok", 0), ("warn", 0), ("bad", 3)])
def test_health_is_a_table_and_3_when_something_is_bad(runtime_dir: Path, level: str, exit_code: int) -> None:
    unknown = {"name": "spool_fill", "level": "ok", "value": None, "limit": None, "unit": "%", "text": ""}
    report = {"ok": level != "bad", "indicators": [indicator(level), unknown]}
    with Server(runtime_dir, {"health": report}) as server:
        done = ctl(server, "health")
        as_json = ctl(server, "health", "--json")
    assert (done.returncode, as_json.returncode) == (exit_code, exit_code)
    assert done.stdout.splitlines()[1].split() == ["loop_lag", level, "3", "ms", "200", "ms", "keeps", "up"]
    assert done.stdout.splitlines()[2].split() == ["spool_fill", "ok", "-", "-"]
    assert json.loads(as_json.stdout) == report


def test_doctor_works_without_a_supervisor(tmp_path: Path) -> None:
    done = run("doctor", "--runtime", str(tmp_path), "--data", str(tmp_path), "--json")
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 3)
    assert report["checks"][-1]["name"] == "supervisor"
    assert report["checks"][-1]["value"] == f"cannot reach a supervisor: no socket {tmp_path}/control.sock"
    row, advice = run("doctor", "--runtime", str(tmp_path)).stdout.splitlines()[-2:]
    assert row.split()[:2] == ["supervisor", "unknown"]
    assert advice == "    start it, or name its --runtime"


def test_doctor_asks_the_supervisor_where_its_places_are(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from daedalus.cli.ctl.program import ctl as program
    from daedalus.kernel import doctor as machine

    asked: list[tuple[str, str]] = []

    def examine(*, data: str, runtime: str) -> list[machine.Check]:
        asked.append((data, runtime))
        return [machine.Check("disk", "bad", "1 % free", "make room")]

    monkeypatch.setattr(machine, "examine", examine)
    with Server(runtime_dir, {"status": document(actor(), runtime=str(runtime_dir), data="/d")}):
        done = CliRunner().invoke(program, ["doctor", "--socket", str(runtime_dir / "control.sock")])
    assert asked == [("/d", str(runtime_dir))]
    assert done.exit_code == 3
    assert done.output.splitlines()[1].split() == ["disk", "bad", "1", "%", "free"]
    assert done.output.splitlines()[2] == "    make room"


@pytest.mark.parametrize(
    ("shown", "name", "level"),
    [
        (document(actor()), "supervisor", "ok"),
        (document(actor(), loop_lag_ms=300.0), "supervisor loop", "warn"),
        (document(actor(), loop_lag_ms=3000.0), "supervisor loop", "bad"),
        (document(actor(), zygotes=[{"name": "ccxt", "pid": None}]), "zygotes", "warn"),
        (document(actor(), log_dropped=3), "supervisor log", "warn"),
        (document(actor(state="failed")), "tree", "warn"),
        (document(actor()), "tree", "ok"),
    ],
)
def test_doctor_judges_what_a_supervisor_says(shown: dict[str, Any], name: str, level: str) -> None:
    assert {check["name"]: check["level"] for check in doctor.of_supervisor(shown, None)}[name] == level


def test_doctor_finds_a_supervisor_that_hangs_bad_and_one_that_is_not_there_unknown() -> None:
    for code, level in (("timeout", "bad"), ("unreachable", "unknown"), ("denied", "unknown")):
        assert [check["level"] for check in doctor.of_supervisor(None, Refused(code, "it"))] == [level]


def test_a_group_that_failed_shows(runtime_dir: Path) -> None:
    shown = document(actor())
    shown["groups"].append(group(name="g", parent="root", state="failed", substate="intensity"))
    with Server(runtime_dir, {"status": shown}) as server:
        done = ctl(server, "status")
    assert done.returncode == 3
    assert "group g failed (intensity)" in done.stdout
