"""What people read: the table, the tree, the words; columns stay in place whatever actors say."""

from typing import Any

import pytest

from daedalus.cli.ctl import text, words
from daedalus.kernel import lifecycle
from tests.cli.ctl_server import actor, document, group, last_exit

TABLE = """\
NAME                     STATE        PID  UPTIME  RST  CPU%  MEM/LIMIT  CORE  MBOX  LAST ERROR
store/writer-trades      running     2211   3h12m    0   8.1  142M/300M  2        4  -
ingest/collector-kraken  backoff 4s     -       -   5!     -     -/300M  2        -  exit 1: boom (12s ago)
2 actors: 1 running, 1 backoff · root 1/3 restarts in 10m · load 0.9 · 61°C · clock synced
"""


def down() -> dict[str, Any]:
    return actor(
        name="ingest/collector-kraken", state="backoff", pid=None, uptime_s=None, cpu_pct=None, mailbox=None,
        backoff={"k": 3, "next_in_s": 4.2}, restarts={"total": 5, "window": 1, "last_1h": 12}, flapping=True,
        last_exit=last_exit(),
    )  # fmt: skip


def test_the_table_is_the_one_of_the_design() -> None:
    assert text.table(document(actor(), down())) == TABLE


def test_wide_adds_its_columns_before_the_last_error() -> None:
    head, row, _ = text.table(document(actor(last_exit=last_exit())), wide=True).splitlines()
    names = [
        "GEN",
        "DESIRED",
        "STRATEGY",
        "BEAT",
        "AGE",
        "FDS",
        "THREADS",
        "LOGDROP",
        "RST1H",
        "EXIT",
        "LAST",
        "ERROR",
    ]
    assert head.split()[9:] == names
    cells = [
        "1",
        "up",
        "one_for_one",
        "0.5s",
        "12",
        "3",
        "0",
        "0",
        "abnormal",
        "exit",
        "1:",
        "boom",
        "(12s",
        "ago)",
    ]
    assert row.split()[9:] == cells


def test_a_state_has_its_substate_in_words() -> None:
    assert "running (paused)" in text.table(document(actor(substate="paused")))


def test_only_the_last_error_is_cut_to_the_terminal() -> None:
    shown = document(actor(last_exit=last_exit(stderr_tail=["x" * 300])))
    for width in (100, 120):
        row = text.table(shown, width=width).splitlines()[1]
        assert len(row) == width
        assert row.endswith("…")
        assert "142M/300M" in row
    narrow = text.table(shown, width=20).splitlines()[1]
    assert narrow.split()[:8] == text.table(shown).splitlines()[1].split()[:8]
    assert "x" * 300 in text.table(shown)


def test_a_character_of_two_columns_counts_as_two() -> None:
    row = text.table(document(actor(last_exit=last_exit(stderr_tail=["断" * 99]))), width=100).splitlines()[1]
    assert words.columns_of(row) <= 100
    assert len(row) < 99


def test_the_last_error_is_the_error_of_the_last_event_that_has_one() -> None:
    tail = ["old", '{"event": "actor_failed", "error": "no such symbol"}', '{"event": "drain_begun"}', " "]
    assert "exit 1: no such symbol (12s ago)" in text.table(
        document(actor(last_exit=last_exit(stderr_tail=tail)))
    )


def test_what_an_actor_says_is_wrong_now_comes_before_why_it_ended_once() -> None:
    shown = actor(last_exit=last_exit(stderr_tail=["old"]), status_text="exchange unreachable\x07")
    row = text.table(document(shown)).splitlines()[1]
    assert row.endswith(r"  exchange unreachable\x07")


def test_nothing_an_actor_says_moves_the_cursor() -> None:
    shown = text.table(document(actor(last_exit=last_exit(stderr_tail=["\x1b[2J\rgone\x07"]))))
    assert "\x1b" not in shown
    assert r"\x1b[2J\rgone\x07" in shown
    line = {"seq": 1, "ts": 0.25, "actor": "g/a", "generation": 1, "stream": "stdout", "text": "a\x1b[31m\tb"}
    assert words.log_line(line).endswith(r".250 g/a │ a\x1b[31m  b")


@pytest.mark.parametrize("kind", ["normal", "requested", "recycle"])
def test_an_end_that_was_planned_is_no_error(kind: str) -> None:
    row = text.table(document(actor(last_exit=last_exit(**{"class": kind})))).splitlines()[1]
    assert row.endswith("  -")


def test_colours_only_when_asked_and_columns_stay() -> None:
    plain = text.table(document(actor()))
    assert "\x1b" not in plain
    coloured = text.table(document(actor()), color=True)
    assert coloured != plain
    assert coloured.replace("\x1b[32m", "").replace("\x1b[0m", "") == plain


@pytest.mark.parametrize("state", lifecycle.STATES)
@pytest.mark.parametrize("desired", ["up", "down"])
def test_status_diverges_when_a_wanted_state_is_missed(state: str, desired: str) -> None:
    good = state in ("running", "done", "ignored") or (desired == "down" and state != "stuck")
    assert text.diverges(document(actor(state=state, desired=desired))) is not good


def test_a_failed_group_diverges_and_is_named() -> None:
    shown = document(actor())
    shown["groups"].append(group(name="g", parent="root", state="failed", substate="intensity"))
    assert text.diverges(shown)
    assert "group g failed (intensity)" in text.table(shown).splitlines()[-1]


def test_what_a_group_that_is_done_took_with_it_does_not_diverge() -> None:
    shown = document(actor(parent="inner", state="stopped", desired="up"))
    shown["groups"].append(group(name="g", parent="root", state="done"))
    shown["groups"].append(group(name="inner", parent="g", state="stopped"))
    assert not text.diverges(shown)
    shown["groups"][-2]["state"] = "stopped"
    assert text.diverges(shown)


def test_the_states_are_those_of_the_life_cycle() -> None:
    assert text.STATES == lifecycle.STATES


def test_the_tree_has_branches_strategies_and_windows() -> None:
    shown = document(
        actor(),
        actor(name="store/writer-book", pid=None, state="stopped"),
        actor(name="live/g", parent="live"),
    )
    shown["groups"].append(group(name="live", parent="root", strategy="rest_for_one"))
    assert text.tree(shown) == (
        "root  running  one_for_one  1/3 restarts in 10m\n"
        "├─ store  running  one_for_one  0/5 restarts in 1m00s\n"
        "│  ├─ writer-trades  running  pid 2211\n"
        "│  └─ writer-book  stopped\n"
        "└─ live  running  rest_for_one  1/3 restarts in 10m\n"
        "   └─ g  running  pid 2211\n"
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (0, "0s"), (59.9, "59s"), (60, "1m00s"), (720, "12m"), (11520, "3h12m"), (450000, "5d5h")],
)
def test_spans(seconds: float | None, shown: str) -> None:
    assert words.span(seconds) == shown


def test_sizes() -> None:
    assert [words.size(n) for n in (None, 512 << 10, 142 << 20, 3 << 29)] == ["-", "512K", "142M", "1.5G"]


def test_a_grid_is_as_wide_as_what_it_holds_and_cuts_the_last_column() -> None:
    rows = [("a", "bbbb", "cccccc"), ("aa", "b", "c")]
    assert words.grid(("X", "Y", "Z"), rows) == "X   Y     Z\na   bbbb  cccccc\naa  b     c\n"
    assert words.grid(("X", "Y", "Z"), rows, width=13).splitlines()[1] == "a   bbbb  cc…"


def test_an_event_is_one_line_with_its_values() -> None:
    event = {
        "seq": 7, "ts": 0.0, "mono": 1.0, "type": "exit", "actor": "g/a", "generation": 2,
        "class": "abnormal", "code": 1, "signal": None, "message": "exit\n1", "stderr_tail": ["x"],
    }  # fmt: skip
    line = words.event_line(event)
    assert line.startswith("     7 ")
    assert line.endswith(r"exit               g/a gen 2 class=abnormal code=1 message=exit\n1")
