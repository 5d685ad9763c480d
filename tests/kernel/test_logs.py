"""Rings, pipes and the forwarder: everything bounded, what is lost is counted."""

import asyncio
import json
import os

from hypothesis import given
from hypothesis import strategies as st

from daedalus.kernel.logs import BACKLOG_LINES, LINE_MAX, RING_BYTES, RING_LINES, Forwarder, Pipe, Ring


@given(st.lists(st.integers(0, RING_BYTES), max_size=600))
def test_a_ring_keeps_the_newest_lines_within_both_bounds(sizes: list[int]) -> None:
    ring = Ring()
    for size in sizes:
        ring.append(0.0, 1, "stderr", "x" * size)
    assert ring.count == len(sizes)
    kept = [line.seq for line in ring.lines]
    assert kept == list(range(len(sizes) - len(kept) + 1, len(sizes) + 1))
    assert len(kept) <= RING_LINES
    assert sum(len(line.text) for line in ring.lines) <= RING_BYTES or len(kept) == 1


def test_the_tail_is_of_one_generation_and_of_stderr() -> None:
    ring = Ring()
    ring.append(0.0, 1, "stderr", "before")
    ring.append(0.0, 2, "stdout", "other")
    for number in range(30):
        ring.append(0.0, 2, "stderr", str(number))
    assert ring.stderr_tail(2) == [str(number) for number in range(10, 30)]


def told(*chunks: bytes) -> list[str]:
    """Return the lines of a pipe whose writer wrote these chunks and died before anything was read."""

    async def body() -> list[str]:
        lines: list[str] = []
        pipe = Pipe(lines.append)
        for chunk in chunks:
            os.write(pipe.writer, chunk)
        pipe.close_writer()
        pipe.drain()
        pipe.close()
        pipe.close()
        return lines

    return asyncio.run(body())


def test_the_last_lines_are_told_before_the_end_even_without_a_newline() -> None:
    assert told(b"one\ntw", b"o\nlast words") == ["one", "two", "last words"]
    assert told() == []


def test_a_long_line_is_split_and_marked_and_bad_bytes_are_replaced() -> None:
    first, second = told(b"x" * (LINE_MAX + 5) + b"\n")
    assert (len(first), first[-1], second) == (LINE_MAX + 1, "…", "xxxxx")
    assert told(b"\xff\n") == ["\ufffd"]


def test_a_reader_that_sleeps_costs_the_oldest_lines_and_never_blocks() -> None:
    async def body() -> None:
        reader, writer = os.pipe()
        output = Forwarder(writer)
        text = "x" * 200
        results = [output.write(f"{number} {text}") for number in range(BACKLOG_LINES + 2000)]
        assert output.dropped == results.count(False) > 0
        received = b""
        os.set_blocking(reader, False)
        while output._backlog or not received.endswith(b"\n"):
            received += os.read(reader, 1 << 16)
            output._flush()
        output.close()
        os.close(writer)
        while chunk := os.read(reader, 1 << 16):
            received += chunk
        os.close(reader)
        lines = received.decode().splitlines()
        numbers = [int(line.split()[0]) for line in lines]
        assert numbers[-1] == BACKLOG_LINES + 1999
        assert len(numbers) == len(results) - output.dropped
        assert numbers == sorted(numbers)

    asyncio.run(body())


def test_nobody_reading_any_more_is_counted_and_survived() -> None:
    async def body() -> None:
        reader, writer = os.pipe()
        os.close(reader)
        output = Forwarder(writer)
        output.write("gone")
        assert output.dropped == 1
        output.close()
        os.close(writer)

    asyncio.run(body())


def test_events_pass_as_they_are_and_other_lines_are_wrapped() -> None:
    async def body() -> list[str]:
        reader, writer = os.pipe()
        output, ring = Forwarder(writer), Ring()
        output.actor_line("g/a", ring.append(0.0, 1, "stderr", '{"event": "x"}'))
        output.actor_line("g/a", ring.append(0.0, 1, "stdout", "plain"))
        output.close()
        os.close(writer)
        received = os.read(reader, 1 << 16).decode().splitlines()
        os.close(reader)
        return received

    as_it_is, wrapped = asyncio.run(body())
    assert as_it_is == '{"event": "x"}'
    expected = {"event": "actor_printed", "at": 0.0, "actor": "g/a", "stream": "stdout", "line": "plain"}
    assert json.loads(wrapped) == expected
