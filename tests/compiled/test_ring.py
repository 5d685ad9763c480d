"""The compiled ring against its own source, byte for byte, and against a list."""

import random
import struct
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import daedalus.compiled
from daedalus.compiled import ring as compiled

PAGE = 4096
EPOCH = 0x1234_5678_9ABC_DEF0


def load_source(name: str) -> ModuleType:
    """Run a module of the room as Python, whatever the package gives."""
    spec = spec_from_file_location(f"{name}_from_source", Path(daedalus.compiled.__path__[0]) / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


source = load_source("ring")

sizes = st.integers(0, 40) | st.integers(0, 900) | st.just(PAGE - 16) | st.integers(PAGE - 20, 2 * PAGE)
steps = st.lists(
    st.tuples(st.just("append"), sizes)
    | st.tuples(st.sampled_from(["acknowledge", "read"]), st.floats(0, 1))
    | st.tuples(st.sampled_from(["recover", "tear"]), st.integers(0, 255)),
    max_size=150,
)


def seen(ring) -> tuple[object, ...]:
    return (ring.epoch, ring.next_seq, ring.acked, ring.oldest(), ring.fill)


@pytest.mark.skipif(not compiled.COMPILED, reason="nothing is compiled here")
@settings(max_examples=300, deadline=None)
@given(steps=steps, pages=st.integers(1, 3), warmed=st.integers(0, 60))
def test_compiled_and_source_leave_the_same_bytes_and_give_the_same_answers(
    steps: list, pages: int, warmed: int
) -> None:
    memories = [bytearray((1 + pages) * PAGE), bytearray((1 + pages) * PAGE)]
    rings = [module.Ring(memory, PAGE) for module, memory in zip((compiled, source), memories, strict=True)]
    for ring in rings:
        ring.begin(EPOCH)
        ring._save()
    work = [("append", 150), ("acknowledge", 1.0)] * warmed + steps
    for number, (verb, value) in enumerate(work):
        one, other = rings
        if verb == "append":
            record = bytes([number & 255]) * value
            assert one.append(record) == other.append(record)
        elif verb == "acknowledge":
            seq = one.acked + round(value * (one.next_seq - 1 - one.acked))
            one.acknowledge(seq)
            other.acknowledge(seq)
        elif verb == "read":
            seq = one.oldest() + round(value * (one.next_seq - one.oldest()))
            assert one.read(seq, 7, 2000) == other.read(seq, 7, 2000)
        else:
            if verb == "tear":  # what a kill leaves, or worse
                for memory in memories:
                    memory[PAGE + value * (pages * PAGE // 256)] ^= 0x55
            rings = [
                module.Ring(memory, PAGE) for module, memory in zip((compiled, source), memories, strict=True)
            ]
            if len({ring.recover(EPOCH) for ring in rings}) != 1:
                pytest.fail("one recovered and the other did not")
            one, other = rings
            if one.next_seq <= one.acked:
                break  # refused: the owner begins afresh
        assert seen(one) == seen(other)
        assert memories[0] == memories[1]


@pytest.mark.parametrize("module", [compiled, source], ids=["compiled", "source"])
def test_the_checksum_is_that_of_zlib_at_every_length(module: ModuleType) -> None:
    """Compiled, on a processor that can, it is computed in blocks of 64 and 16 bytes."""
    rng = random.Random(5)
    memory = bytearray(5 * PAGE)
    for epoch, size in [(rng.getrandbits(63), size) for size in (*range(300), 1023, 4096, 16300)]:
        ring = module.Ring(memory, PAGE)
        ring.begin(epoch)
        record = rng.randbytes(size)
        assert ring.append(record) == 1
        expected = crc32(record, crc32(epoch.to_bytes(8, "little")) ^ 1)
        assert memory[PAGE : PAGE + 16] == struct.pack("<IIQ", size, expected, 1)
        assert memory[PAGE + 16 : PAGE + 16 + size] == record
