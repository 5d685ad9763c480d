"""The open frame: what is in it, and when the sender is called."""

import sys
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daedalus.compiled import outbox as compiled
from daedalus.compiled.ring import Ring
from tests.compiled.test_ring import load_source

source = load_source("outbox")
both = pytest.mark.parametrize("module", [compiled, source], ids=["compiled", "source"])
PAGE = 4096


def made(module: ModuleType, pages: int = 20):
    ring = Ring(bytearray((1 + pages) * PAGE), PAGE)
    ring.begin(7)
    calls: list[object] = []

    class Sender(module.Outbox):
        def opened(self) -> None:
            calls.append("opened")

        def filled(self, count: int) -> None:
            calls.append(count)

    return ring, Sender(ring), calls


@both
@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(0, 9) | st.integers(0, 6000), max_size=20))
def test_the_frame_is_its_records_one_behind_the_other(module: ModuleType, sizes: list[int]) -> None:
    _, box, _ = made(module, 40)
    records = [bytes([number]) * size for number, size in enumerate(sizes)]
    for record in records:
        assert box.append(record, "k", record)
    whole = b"".join(records)
    assert box.frame_bytes == len(whole)
    assert box.frame[compiled.FRONT : compiled.FRONT + len(whole)] == whole
    assert box.frame_notes == ({"k": records[-1]} if records else {})


@both
def test_the_sender_is_called_with_the_first_record_and_when_there_is_enough(module: ModuleType) -> None:
    _, box, calls = made(module)
    box.look_at, box.look_bytes = 3, 100
    for _ in range(4):
        box.append(b"x" * 10, "k", 1)
    assert calls == ["opened", 3, 4]
    box.frame_first, box.frame_bytes = 5, 0  # as a sender closes it
    box.append(b"x" * 100, "k", 1)
    assert calls[3:] == ["opened", 1]


@both
def test_what_the_ring_refuses_is_not_in_the_frame(module: ModuleType) -> None:
    ring, box, _ = made(module, 1)
    while box.append(b"x" * 1000, "k", ring.next_seq):
        pass
    assert (ring.next_seq, box.refused, box.frame_bytes, box.frame_notes) == (5, 1, 4000, {"k": 4})


@both
def test_a_record_in_the_frame_is_a_copy_and_not_kept(module: ModuleType) -> None:
    _, box, _ = made(module)
    record = bytes(5000)
    before = sys.getrefcount(record)
    box.append(record, "k", None)
    assert sys.getrefcount(record) == before
