"""Log lines on a terminal: columns for people, whatever actors print."""

import asyncio
import json
import os
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.kernel.columns import columns, parse, safe
from daedalus.kernel.lines import dump, escape, level_of, stamp
from daedalus.kernel.logs import Forwarder, Line

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
AT = time.mktime((2026, 2, 3, 14, 5, 6, 0, 0, -1))


def forwarded(text: str, *, people: bool) -> str:
    """Return what becomes of a line that an actor printed."""

    async def body() -> bytes:
        reader, writer = os.pipe()
        output = Forwarder(writer, people=people)
        output.actor_line("g/a", Line(1, AT, 1, "stderr", text))
        output.close()
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            return file.read()

    return asyncio.run(body()).decode()


def test_time_event_and_actor_come_first_then_the_values() -> None:
    shown = columns({"event": "link_lost", "rows": 3, "why": "no route", "at": AT, "actor": "g/a", "x": None})
    assert shown == '14:05:06 link_lost                g/a rows=3 why="no route"'


def test_a_traceback_is_indented_below() -> None:
    shown = columns({"event": "failed", "at": AT, "level": "error", "exception": "Traceback\n  File x\nE: y"})
    assert shown.splitlines() == [
        "14:05:06 failed                   level=error", "    Traceback", "      File x", "    E: y",
    ]  # fmt: skip


def test_a_line_of_an_actor_is_shown_like_the_supervisors_own() -> None:
    line = '{"event": "writer_started", "actor": "g/a", "timestamp": "2026-02-03T14:05:06Z", "n": 1}'
    assert forwarded(line, people=True)[8:] == " writer_started           g/a n=1\n"
    assert forwarded(line, people=False) == line + "\n"


@pytest.mark.parametrize(
    "text",
    ["", "plain", "{", '{"event": "cut', '{"event": 1}', '["event"]', '{"no": 1}', "{" * 16000,
     '{"event":' * 1600, '{"event": ' + "9" * 5000 + "}"],
)  # fmt: skip
def test_what_is_no_event_is_wrapped_and_breaks_nothing(text: str) -> None:
    told = json.loads(forwarded(text, people=False))
    head = {"event": "actor_printed", "timestamp": stamp(AT), "level": "info", "actor": "g/a"}
    assert told == {**head, "generation": 1, "stream": "stderr", "line": text}
    assert forwarded(text, people=True).startswith(
        "14:05:06 actor_printed            g/a generation=1 stream=stderr"
    )


@given(
    st.dictionaries(
        st.sampled_from(["timestamp", "at", "actor", "level", "exception", "stderr_tail", "x"]), VALUES
    )
)
def test_any_event_becomes_printable_lines(values: dict[str, Any]) -> None:
    lines = columns({"event": "e", **values}).split("\n")
    assert all(line.isprintable() for line in lines)
    assert all(line.startswith("    ") for line in lines[1:])


@given(st.text())
def test_any_text_is_an_event_or_none(text: str) -> None:
    assert parse(text) is None


def test_nothing_moves_the_cursor_of_the_terminal() -> None:
    assert "\x1b" not in forwarded('{"event": "x\\u001b[2J", "\\u001b": "\\u009b1m"}', people=True)
    assert "\x1b" not in forwarded("\x1b[2Jgone", people=True)


def test_json_lines_move_no_cursor_either_and_mean_the_same() -> None:
    event = '{"event": "x\x9b2J", "why": "\x7f\u2028\u202e", "who": "\U0001f600\u00e9"}\r'
    shown = forwarded(event, people=False).removesuffix("\n")
    assert shown.isprintable()
    assert json.loads(shown) == json.loads(event)
    for printed in ("\x1b[2Jgone", "10%\r20%", "\x9b2J"):
        shown = forwarded(printed, people=False).removesuffix("\n")
        assert shown.isprintable()
        assert json.loads(shown)["line"] == printed


@given(st.dictionaries(st.text(), VALUES))
def test_an_event_is_one_printable_line_and_reads_back(values: dict[str, Any]) -> None:
    line = dump({**values, "event": "e"})
    assert line.isprintable()
    assert repr(json.loads(line)) == repr({**values, "event": "e"})
    spaced = json.dumps({**values, "event": "e"}, ensure_ascii=False, indent=1)
    assert escape(spaced).isprintable()
    assert repr(json.loads(escape(spaced))) == repr(json.loads(spaced))


@given(st.text())
def test_safe_text_is_printable_and_what_is_printable_is_left_alone(text: str) -> None:
    assert safe(text).isprintable()
    assert not text.isprintable() or safe(text) == text


def test_how_grave_an_event_is_depends_on_what_it_is() -> None:
    assert level_of("tree_started", {}) == "info"
    assert level_of("actor_hang", {}) == "warning"
    assert level_of("actor_stuck", {}) == "error"
    assert [level_of("actor_exit", {"class": name}) for name in ("requested", "abnormal")] == [
        "info",
        "warning",
    ]
