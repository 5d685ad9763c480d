"""Rings, pipes and the forwarder: everything bounded, what is lost is counted."""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from daedalus.kernel.forward import BACKLOG_CHARS, TELL_S
from daedalus.kernel.logs import (
    BACKLOG_LINES,
    LARGE_PIPES_MAX,
    LINE_MAX,
    PIPE_BYTES,
    READ_BUDGET,
    RING_BYTES,
    RING_LINES,
    TURN_BUDGET,
    Forwarder,
    Pipe,
    Ring,
)


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
    assert told(b"x" * LINE_MAX, b"\n") == ["x" * LINE_MAX]


def test_a_split_cuts_no_character_in_two_and_a_line_may_end_as_on_windows() -> None:
    text = "x" + "€" * (LINE_MAX // 3 + 1)
    first, second = told(text.encode() + b"\r\n")
    assert first[:-1] + second == text
    assert len(first.encode()) <= LINE_MAX + len("…".encode())


@given(st.lists(st.integers(1, 4), max_size=200), st.integers(0, 3))
def test_any_text_survives_the_split(widths: list[int], shift: int) -> None:
    letters = ["", "a", "é", "€", "😀"]
    text = "b" * (LINE_MAX - 300 + shift) + "".join(letters[width] for width in widths) * 3
    assert "".join(part.removesuffix("…") for part in told(text.encode())) == text


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


async def read_all(output: Forwarder, reader: int, writer: int) -> list[str]:
    """Return the lines that come once somebody reads: what waits, then the end."""
    os.set_blocking(reader, False)
    received = b""
    async with asyncio.timeout(20):
        while output._backlog:
            with contextlib.suppress(BlockingIOError):
                received += os.read(reader, 4096)
            await asyncio.sleep(0)
    output.close()
    os.close(writer)
    while chunk := os.read(reader, 1 << 16):
        received += chunk
    os.close(reader)
    return received.decode().splitlines()


def test_a_backlog_of_long_lines_is_bounded_too_and_no_half_line_is_left() -> None:
    async def body() -> None:
        reader, writer = os.pipe()
        output = Forwarder(writer)
        total = BACKLOG_CHARS // LINE_MAX * 2
        for number in range(total):
            output.write(str(number % 10) * LINE_MAX)
        assert output._written > 0
        assert sum(len(entry.text) for entry in output._backlog) == output._chars <= BACKLOG_CHARS
        lines = await read_all(output, reader, writer)
        assert {(len(line), len(set(line))) for line in lines} == {(LINE_MAX, 1)}
        assert len(lines) + output.dropped == total

    asyncio.run(body())


def test_the_loop_writes_on_as_soon_as_somebody_reads() -> None:
    async def body() -> None:
        reader, writer = os.pipe()
        output = Forwarder(writer)
        for number in range(3000):
            output.write(f"{number:0100d}")
        assert len(output._backlog) > 1000
        lines = await read_all(output, reader, writer)
        assert [int(line) for line in lines] == list(range(3000))
        assert output.dropped == 0

    asyncio.run(body())


def test_drops_are_told_once_a_minute_and_only_when_there_are_more() -> None:
    async def body() -> list[dict[str, object]]:
        reader, writer = os.pipe()
        output = Forwarder(writer)
        output.tell_drops(0.0)
        for now, dropped in ((10.0, 3), (20.0, 5), (10.0 + TELL_S, 5), (500.0, 5)):
            output.dropped = dropped
            output.tell_drops(now)
        output.close()
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            return [json.loads(line) for line in file]

    first, second = asyncio.run(body())
    assert (first["event"], first["level"], first["lines"], first["lines_total"]) == (
        "log_dropped",
        "warning",
        3,
        3,
    )
    assert (second["lines"], second["lines_total"]) == (2, 5)


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
    head = {"event": "actor_printed", "timestamp": "1970-01-01T00:00:00.000000Z", "level": "info"}
    values = {"actor": "g/a", "generation": 1, "stream": "stdout", "line": "plain"}
    assert json.loads(wrapped) == {**head, **values}


# The upgrade in place.


def test_a_ring_is_the_same_after_the_upgrade() -> None:
    old, new = Ring(), Ring()
    for number in range(RING_LINES + 10):
        old.append(number, 3, "stderr", "é" * 10)
    new.load(old.dump())
    assert new.lines == old.lines
    assert new._bytes == old._bytes
    assert new.append(0.0, 4, "stdout", "next").seq == RING_LINES + 11
    old.append(0.0, 4, "stdout", "next")
    assert new.lines == old.lines


def test_a_backlog_goes_on_where_it_was_after_the_upgrade() -> None:
    async def body() -> list[str]:
        reader, writer = os.pipe()
        old = Forwarder(writer)
        for number in range(60):
            old.write(f"{number} " + "x" * 9000)
        assert old._written > 0
        old.dropped = 7
        kept = old.dump()
        old._await(-1)  # both are in one process here, and wait for the same descriptor
        new = Forwarder(writer)
        new.load(kept)
        new.write("last")
        assert (new.dropped, len(new._backlog)) == (7, len(old._backlog) + 1)
        return await read_all(new, reader, writer)

    lines = asyncio.run(body())
    assert [line.partition(" ")[0] for line in lines] == [*map(str, range(60)), "last"]
    assert {len(line) for line in lines[10:60]} == {9003}


def test_a_pipe_changes_hands_within_a_line_and_loses_nothing() -> None:
    async def body() -> tuple[list[str], list[str]]:
        before: list[str] = []
        after: list[str] = []
        old = Pipe(before.append)
        writer = os.dup(old.writer)
        os.write(writer, b"one\ntw")
        old.drain()
        fd, rest = old.release()
        assert os.get_inheritable(fd)
        assert (rest, old.release()) == (b"tw", (-1, b""))
        os.write(writer, b"o\nthr")
        new = Pipe.adopt(fd, rest, after.append)
        assert not os.get_inheritable(fd)
        os.write(writer, b"ee\nlast")
        os.close(writer)
        await new.finish()
        new.close()
        return before, after

    assert asyncio.run(body()) == (["one"], ["two", "three", "last"])


def test_a_pipe_that_had_ended_has_ended_after_the_upgrade_too() -> None:
    async def body() -> list[str]:
        lines: list[str] = []
        pipe = Pipe.adopt(-1, b"", lines.append)
        pipe.drain()
        await pipe.finish()
        return lines

    assert asyncio.run(body()) == []


# Floods.


def test_pipes_are_large_as_long_as_the_kernels_allowance_is_not_in_danger() -> None:
    async def body() -> None:
        pipes = [Pipe(print) for _ in range(LARGE_PIPES_MAX + 1)]
        assert pipes[0]._is_large == (Pipe._large > 0)  # a kernel may refuse
        assert not pipes[-1]._is_large
        for pipe in pipes:
            pipe.close()
        assert Pipe._large == 0

    asyncio.run(body())


def test_a_flood_is_read_in_slices_and_others_have_their_turn() -> None:
    async def body() -> None:
        loud: list[str] = []
        quiet: list[str] = []
        one, other = Pipe(loud.append), Pipe(quiet.append)
        os.set_blocking(one.writer, False)
        assert os.write(one.writer, b"x\n" * (32 * 1024)) == 64 * 1024
        os.write(other.writer, b"hello\n")
        await asyncio.sleep(0)  # both are seen ready
        await asyncio.sleep(0)
        assert quiet == ["hello"]
        assert 0 < len(loud) <= READ_BUDGET
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.get_running_loop().create_task(count())
        await one.finish()
        counting.cancel()
        assert len(loud) == 32 * 1024
        assert turns >= 2
        other.close()

    asyncio.run(body())


def test_many_floods_share_one_turn_and_none_is_left_out() -> None:
    async def body() -> None:
        counts = [0] * 12
        pipes = []

        def count(number: int) -> Callable[[str], None]:
            def printed(text: str) -> None:
                del text
                counts[number] += 2

            return printed

        for number in range(len(counts)):
            pipe = Pipe(count(number))
            os.write(pipe.writer, b"x\n" * (16 * 1024))
            pipes.append(pipe)
        before = 0
        for _ in range(12 * 32 * 1024 // TURN_BUDGET + 8):
            await asyncio.sleep(0)
            assert sum(counts) - before <= TURN_BUDGET
            before = sum(counts)
            assert max(counts) - min(counts) <= 2 * READ_BUDGET
        assert counts == [32 * 1024] * len(counts)
        for pipe in pipes:
            pipe.close()

    asyncio.run(body())


def test_somebody_who_never_stops_writing_does_not_keep_us() -> None:
    async def body() -> int:
        size = 0

        def write_on(text: str) -> None:
            nonlocal size
            size += len(text) + 1
            os.write(writer, text.encode() + b"\n")

        pipe = Pipe(write_on)
        writer = os.dup(pipe.writer)
        os.write(writer, (b"x" * 1023 + b"\n") * 32)
        pipe.drain()
        await pipe.finish()
        os.close(writer)
        return size

    assert PIPE_BYTES <= asyncio.run(body()) < 3 * PIPE_BYTES


def test_the_last_words_on_standard_error_outlive_a_flood_of_output() -> None:
    ring = Ring()
    ring.append(0.0, 1, "stderr", "of an earlier life")
    for number in range(30):
        ring.append(0.0, 2, "stderr", f"why {number}")
    for number in range(1000):
        ring.append(0.0, 2, "stdout", f"line {number}")
    assert ring.stderr_tail(2) == [f"why {number}" for number in range(10, 30)]
    again = Ring()
    again.load(ring.dump())
    assert again.stderr_tail(2) == ring.stderr_tail(2)
    assert ring.stderr_tail(3) == []
