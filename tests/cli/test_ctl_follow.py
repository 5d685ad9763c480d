"""Events and logs: what is asked for, how lines look, and what is said when something is missing."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daedalus.cli.ctl.follow import moment
from tests.cli.ctl_server import Server, Stream, ctl, run


def event(seq: int, **values: Any) -> dict[str, Any]:
    return {"seq": seq, "ts": 0.0, "mono": 1.0, "type": "ready", "actor": "g/a", "generation": 1} | values


def line(seq: int, text: str, **values: Any) -> dict[str, Any]:
    return {"actor": "g/a", "seq": seq, "ts": 0.5, "generation": 1, "stream": "stdout", "text": text} | values


def test_events_are_lines_or_json_lines(runtime_dir: Path) -> None:
    items = [event(121), event(122, type="exit", code=1)]
    with Server(runtime_dir, {"events": Stream(items)}) as server:
        done = ctl(server, "events", "--since", "120")
        as_json = ctl(server, "events", "--json")
    assert done.returncode == 0
    assert re.fullmatch(
        r" +121 \d\d:\d\d:00\.000 ready +g/a gen 1\n +122 .* exit +g/a gen 1 code=1\n", done.stdout
    )
    assert done.stderr == ""
    assert [json.loads(text) for text in as_json.stdout.splitlines()] == items
    assert server.asked("events") == [{"since": 120, "follow": False}, {"since": 0, "follow": False}]


def test_events_that_are_no_longer_known_are_told(runtime_dir: Path) -> None:
    with Server(runtime_dir, {"events": Stream([event(130), event(133)])}) as server:
        done = ctl(server, "events", "--since", "120")
        fresh = ctl(server, "events", "--json")
    assert done.stderr.splitlines() == [
        "daedalus-ctl: 9 events after 120 are no longer known",
        "daedalus-ctl: 2 events after 130 are no longer known",
    ]
    assert fresh.stderr.splitlines() == ["daedalus-ctl: 2 events after 130 are no longer known"]


@pytest.mark.parametrize("command", ["events", "logs"])
def test_who_follows_is_left_with_7_when_the_stream_ends(runtime_dir: Path, command: str) -> None:
    item = event(1) if command == "events" else line(1, "x")
    with Server(runtime_dir, {command: Stream([item])}) as server:
        done = ctl(server, command, "-f")
    assert done.returncode == 7
    assert done.stdout.count("\n") == 1
    assert done.stderr == f"daedalus-ctl: cannot follow {command} any longer: the supervisor has left\n"
    assert server.asked(command)[0]["follow"] is True


# a supervisor in a process of its own, that answers one request with one item and dies
MORTAL = """
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("up", flush=True)
peer, _ = server.accept()
peer.recv(65536)
peer.sendall(b'{"v":1,"id":1,"ok":true,"more":true,"result":' + sys.argv[2].encode() + b'}' + bytes([10]))
"""


@pytest.mark.parametrize("command", ["events", "logs"])
def test_who_follows_is_left_with_7_when_the_supervisor_dies(runtime_dir: Path, command: str) -> None:
    item = json.dumps(event(1) if command == "events" else line(1, "x"))
    path = str(runtime_dir / "control.sock")
    words = [sys.executable, "-c", MORTAL, path, item]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        done = run(command, "-f", "--socket", path)
    assert done.returncode == 7
    assert done.stdout.count("\n") == 1
    assert done.stderr == f"daedalus-ctl: cannot follow {command} any longer: the supervisor has left\n"


def parts(*streams: Stream) -> Callable[[dict[str, Any]], Stream]:
    """Answer the first request with the first stream, and so on."""
    left = list(streams)
    return lambda _: left.pop(0)


def test_events_go_on_after_a_supervisor_that_replaced_its_program(runtime_dir: Path) -> None:
    answer = parts(Stream([event(1), event(2)], ends=False), Stream([event(3)]))
    with Server(runtime_dir, {"events": answer}) as server:
        done = ctl(server, "events", "-f", "--json")
    assert [json.loads(text)["seq"] for text in done.stdout.splitlines()] == [1, 2, 3]
    assert done.returncode == 7
    assert server.asked("events") == [{"since": 0, "follow": True}, {"since": 2, "follow": True}]


def test_lines_go_on_after_it_and_none_comes_twice(runtime_dir: Path) -> None:
    before = [line(1, "one"), line(1, "other", actor="g/b", ts=0.75)]
    after = [line(1, "other", actor="g/b", ts=0.75), line(2, "two", ts=0.75), line(4, "four", ts=2.0)]
    answer = parts(Stream(before, ends=False), Stream(after))
    with Server(runtime_dir, {"logs": answer}) as server:
        done = ctl(server, "logs", "-f", "-n", "5", "g")
    texts = [text.partition(" │ ")[2] for text in done.stdout.splitlines()]
    assert texts == ["one", "other", "two", "--- 1 line lost ---", "four"]
    first = {"actors": ["g"], "lines": 5, "follow": True, "since": None}
    assert server.asked("logs") == [first, first | {"lines": None, "since": 0.75}]


def test_a_stream_that_is_not_followed_and_breaks_is_7(runtime_dir: Path) -> None:
    with Server(runtime_dir, {"events": Stream([event(1)], ends=False)}) as server:
        done = ctl(server, "events")
    assert done.returncode == 7
    assert len(server.asked("events")) == 1


def test_a_line_has_its_time_and_actor_and_a_restart_its_mark(runtime_dir: Path) -> None:
    items = [
        line(1, "one"),
        {"actor": "g/a", "ts": 1.25, "generation": 4, "event": "started"},
        line(2, "two", generation=4),
    ]
    with Server(runtime_dir, {"logs": Stream(items)}) as server:
        done = ctl(server, "logs", "g/a", "-f")
    shown = [re.sub(r"^\d\d:\d\d:", "", text) for text in done.stdout.splitlines()]
    assert shown == ["00.500 g/a │ one", "01.250 g/a │ --- gen 4 started ---", "00.500 g/a │ two"]


def test_lines_that_were_missed_are_counted(runtime_dir: Path) -> None:
    items = [line(5, "five"), line(1, "other", actor="g/b"), line(9, "nine")]
    with Server(runtime_dir, {"logs": Stream(items)}) as server:
        done = ctl(server, "logs", "-f")
    assert [text.partition(" │ ")[2] for text in done.stdout.splitlines()] == [
        "five",
        "other",
        "--- 3 lines lost ---",
        "nine",
    ]


def test_json_lines_are_what_the_supervisor_sent(runtime_dir: Path) -> None:
    items = [line(1, "a\x1b[2J"), {"actor": "g/a", "ts": 1.25, "generation": 4, "event": "started"}]
    with Server(runtime_dir, {"logs": Stream(items)}) as server:
        for option in (("-o", "json"), ("--json",)):
            done = ctl(server, "logs", *option)
            assert done.returncode == 0
            assert [json.loads(text) for text in done.stdout.splitlines()] == items


@pytest.mark.parametrize(
    ("words", "lines", "since"),
    [
        ((), 100, None),
        (("-n", "5"), 5, None),
        (("--since", "1970-01-01T00:01:40Z"), None, 100.0),
        (("--since", "1970-01-01T00:01:40Z", "-n", "5"), 5, 100.0),
    ],
)
def test_so_many_lines_are_asked_for(
    runtime_dir: Path, words: tuple[str, ...], lines: int | None, since: float | None
) -> None:
    with Server(runtime_dir, {"logs": Stream([])}) as server:
        assert ctl(server, "logs", "g", *words).returncode == 0
    assert server.asked("logs") == [{"actors": ["g"], "lines": lines, "follow": False, "since": since}]


NOW = datetime(2026, 2, 3, 14, 5, 30).astimezone()


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("10m", NOW - timedelta(minutes=10)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("1.5d", NOW - timedelta(hours=36)),
        ("14:05", NOW.replace(second=0)),
        ("9:00", NOW.replace(hour=9, minute=0, second=0)),
        ("14:05:30.250", NOW.replace(microsecond=250000) - timedelta(days=1)),
        ("23:00", NOW.replace(hour=23, minute=0, second=0) - timedelta(days=1)),
        ("2026-02-01", datetime(2026, 2, 1).astimezone()),
        ("2026-02-03 09:00", NOW.replace(hour=9, minute=0, second=0)),
        ("2026-02-03T09:00:00+02:00", datetime(2026, 2, 3, 7, tzinfo=UTC)),
    ],
)
def test_a_moment_is_what_a_person_means(words: str, meant: datetime) -> None:
    assert moment(words, NOW.timestamp()) == pytest.approx(meant.timestamp(), abs=1e-3)


@pytest.mark.parametrize("words", ["", "yesterday", "10", "10x", "25:00", "m", "2026-13-01"])
def test_a_moment_that_is_none_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match="cannot read the time"):
        moment(words, NOW.timestamp())
