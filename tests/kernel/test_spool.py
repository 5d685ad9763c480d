"""The spool against a model, and against death at every moment."""

import os
import random
import signal
import struct
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daedalus.kernel.spool import Spool

PAGE = 4096


def fresh(path: Path, capacity: int = PAGE) -> Spool:
    return Spool.open(path / "s.spool", capacity)


def everything(spool: Spool) -> list[bytes]:
    found: list[bytes] = []
    while (at := spool.oldest() + len(found)) < spool.next_seq:
        found += spool.read(at, 50)
    return found


def test_sequences_begin_at_one_and_have_no_gaps(tmp_path: Path) -> None:
    spool = fresh(tmp_path)
    assert [spool.append(b"x") for _ in range(5)] == [1, 2, 3, 4, 5]
    assert spool.next_seq == 6
    spool.close()


def test_full_of_unacknowledged_records_refuses_and_takes_again_after_an_acknowledgement(
    tmp_path: Path,
) -> None:
    spool = fresh(tmp_path)
    taken = 0
    while spool.append(bytes(100)) is not None:
        taken += 1
    assert taken == PAGE // 116
    assert spool.fill > 0.95
    assert spool.append(bytes(100)) is None
    spool.acknowledge(taken // 2)
    assert spool.append(bytes(100)) == taken + 1
    assert spool.fill < 0.6
    spool.close()


def test_a_record_larger_than_the_ring_is_refused(tmp_path: Path) -> None:
    spool = fresh(tmp_path)
    assert spool.append(bytes(PAGE)) is None
    assert spool.append(bytes(PAGE - 16)) == 1
    spool.close()


def test_acknowledged_records_stay_readable_until_overwritten(tmp_path: Path) -> None:
    spool = fresh(tmp_path)
    for number in range(20):
        spool.append(bytes([number]) * 50)
    spool.acknowledge(20)
    assert spool.fill == 0.0
    assert spool.read(3, 2) == [bytes([2]) * 50, bytes([3]) * 50]
    for _ in range(60):
        spool.append(bytes(50))
    assert spool.oldest() > 3
    assert spool.read(3, 2) == []
    spool.close()


def test_reading_is_bounded_by_count_and_bytes_but_gives_at_least_one(tmp_path: Path) -> None:
    spool = fresh(tmp_path)
    for _ in range(10):
        spool.append(bytes(100))
    assert len(spool.read(1, 4)) == 4
    assert len(spool.read(1, 100, 250)) == 2
    assert len(spool.read(1, 100, 10)) == 1
    assert spool.read(11, 1) == []
    spool.close()


def test_an_acknowledgement_never_goes_back_nor_beyond_what_was_appended(tmp_path: Path) -> None:
    spool = fresh(tmp_path)
    for _ in range(5):
        spool.append(b"x")
    spool.acknowledge(3)
    spool.acknowledge(2)
    spool.acknowledge(6)
    assert spool.acked == 3
    spool.close()


def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    spool = fresh(tmp_path)
    with pytest.raises(BlockingIOError, match=r"cannot open the spool .* another process owns it"):
        fresh(tmp_path)
    spool.close()
    fresh(tmp_path).close()


def test_no_room_is_an_error_at_open_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"cannot make the spool .* No space left"):
        fresh(tmp_path)
    monkeypatch.undo()
    fresh(tmp_path).close()


def test_too_small_a_ring_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="10 bytes, at least 4096"):
        fresh(tmp_path, 10)


def test_another_capacity_begins_afresh_only_when_all_is_acknowledged(tmp_path: Path) -> None:
    spool = fresh(tmp_path)
    epoch = spool.epoch
    spool.append(b"kept")
    spool.close()
    spool = fresh(tmp_path, 4 * PAGE)
    assert (spool.epoch, spool.capacity_bytes, spool.read(1, 1)) == (epoch, PAGE, [b"kept"])
    spool.acknowledge(1)
    spool.close()
    spool = fresh(tmp_path, 4 * PAGE)
    assert spool.epoch != epoch
    assert (spool.capacity_bytes, spool.next_seq) == (4 * PAGE, 1)
    spool.close()


def test_after_a_reboot_the_ring_is_begun_afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = fresh(tmp_path)
    epoch = spool.epoch
    spool.append(b"x")
    spool.close()
    monkeypatch.setattr("daedalus.kernel.spool._boot_id", lambda: b"another boot")
    spool = fresh(tmp_path)
    assert (spool.epoch == epoch, spool.next_seq) == (False, 1)
    spool.close()


def test_renewing_takes_the_unacknowledged_along_under_new_numbers(tmp_path: Path) -> None:
    spool = fresh(tmp_path)
    epoch = spool.epoch
    for number in range(6):
        spool.append(bytes([number]))
    spool.acknowledge(4)
    spool.renew()
    assert spool.epoch != epoch
    assert (spool.acked, spool.read(1, 9)) == (0, [b"\x04", b"\x05"])
    spool.close()


def test_a_closed_spool_takes_and_gives_nothing(tmp_path: Path) -> None:
    spool = fresh(tmp_path)
    spool.append(b"x")
    spool.close()
    assert spool.append(b"y") is None
    assert spool.read(1, 1) == []
    assert spool.next_seq == 2


def test_a_ring_broken_among_the_acknowledged_is_begun_afresh(tmp_path: Path) -> None:
    spool = fresh(tmp_path)
    epoch = spool.epoch
    for _ in range(8):
        spool.append(bytes(100))
    spool.acknowledge(8)
    spool.close()
    data = bytearray((tmp_path / "s.spool").read_bytes())
    struct.pack_into("<Q", data, PAGE + 3 * 116 + 8, 999)  # the fourth record's sequence
    (tmp_path / "s.spool").write_bytes(data)
    spool = fresh(tmp_path)
    assert spool.epoch != epoch  # else sequences would be used twice
    spool.close()


records = st.binary(max_size=40) | st.integers(0, 900).map(bytes)
steps = st.lists(
    st.tuples(st.just("append"), records)
    | st.tuples(st.sampled_from(["acknowledge", "read"]), st.floats(0, 1))
    | st.tuples(st.just("reopen"), st.none()),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(steps=steps, pages=st.integers(1, 3), warmed=st.integers(0, 60))
def test_the_ring_behaves_as_a_list(
    tmp_path_factory: pytest.TempPathFactory, steps: list, pages: int, warmed: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = fresh(folder, pages * PAGE)
    model: list[bytes] = []
    for number in range(warmed):  # so that wraps are common
        model.append(bytes([number]) * 150)
        assert spool.append(model[-1]) == len(model)
        spool.acknowledge(len(model))
    for verb, value in steps:
        if verb == "append":
            seq = spool.append(value)
            if seq is None:
                # Never with half of the ring free; a larger record may find no room at the wrap.
                waiting = sum(len(record) + 16 for record in model[spool.acked :])
                assert waiting + 2 * (len(value) + 16) + PAGE // 1024 > spool.capacity_bytes
            else:
                model.append(value)
                assert seq == len(model)
        elif verb == "acknowledge":
            spool.acknowledge(spool.acked + round(value * (len(model) - spool.acked)))
        elif verb == "read":
            oldest = spool.oldest()
            assert oldest <= spool.acked + 1
            if oldest <= len(model):
                seq = oldest + round(value * (len(model) - oldest))
                got = spool.read(seq, 10)
                assert got == model[seq - 1 : seq - 1 + len(got)]
                assert got
        else:
            before = (spool.epoch, spool.next_seq, spool.acked, spool.oldest())
            spool.close()
            spool = fresh(folder, pages * PAGE)
            assert (spool.epoch, spool.next_seq, spool.acked, spool.oldest()) == before
        assert 0.0 <= spool.fill <= 1.0
    assert everything(spool) == model[spool.oldest() - 1 :]
    spool.close()


@pytest.mark.parametrize("seed", range(40))
def test_a_reader_that_follows_is_not_led_astray_by_an_overwritten_wrap(tmp_path: Path, seed: int) -> None:
    """It remembers the place behind what it read last, and the ring may have gone round since."""
    rng = random.Random(seed)
    spool = fresh(tmp_path, 2 * PAGE)
    model: list[bytes] = []
    for _ in range(400):
        record = rng.randbytes(rng.choice([0, 10, 100, rng.randrange(900), rng.randrange(3500)]))
        if spool.append(record) is not None:
            model.append(record)
        if rng.random() < 0.3:
            spool.acknowledge(rng.randint(spool.acked, len(model)))
        if rng.random() < 0.3 and (oldest := spool.oldest()) <= len(model):
            seq = rng.choice([oldest, rng.randint(oldest, len(model))])
            got = spool.read(seq, rng.choice([1, 20, 400]))
            assert got
            assert got == model[seq - 1 : seq - 1 + len(got)]
    spool.close()


def uncompiled(name: str) -> ModuleType:
    """Run the source of a module, though a compiled one lies beside it, as a module of nobody else's."""
    found = find_spec(name)
    assert found is not None
    assert found.origin is not None
    source = Path(found.origin).parent / f"{name.rpartition('.')[2]}.py"
    spec = spec_from_file_location(name, source)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Stores:
    """A map that remembers its stores, so that a test can stop after any byte of any of them."""

    def __init__(self, ring) -> None:
        self.ring = ring
        self.log: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return len(self.ring)

    def __getitem__(self, key):
        return self.ring[key]

    def __setitem__(self, key, value) -> None:
        self.log.append((key.start or 0, bytes(value)))
        self.ring[key] = value

    def __getattr__(self, name):
        return getattr(self.ring, name)


class PackInto:
    """`struct.Struct` whose pack_into goes through the remembering map."""

    def __init__(self, inner: struct.Struct) -> None:
        self.inner = inner
        self.size = inner.size

    def pack_into(self, ring, offset: int, *values: int) -> None:
        ring[offset : offset + self.size] = self.inner.pack(*values)

    def unpack_from(self, ring, offset: int):
        return self.inner.unpack_from(ring.ring if isinstance(ring, Stores) else ring, offset)

    def pack(self, *values: int) -> bytes:
        return self.inner.pack(*values)


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_store_the_ring_holds_exactly_the_whole_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Stops in the middle of every store of a run with wraps, overwriting and acknowledgements.

    The ring runs uncompiled here, where each store can be seen; tests/compiled/test_ring.py shows that the
    compiled one leaves the same bytes.
    """
    ring = uncompiled("daedalus.compiled.ring")
    monkeypatch.setitem(sys.modules, "daedalus.compiled.ring", ring)
    module = uncompiled("daedalus.kernel.spool")
    monkeypatch.setattr(ring, "_RECORD", PackInto(ring._RECORD))
    monkeypatch.setattr(ring, "_CRC", PackInto(ring._CRC))
    rng = random.Random(seed)
    spool = module.Spool.open(tmp_path / "s.spool", PAGE)
    image = bytearray((tmp_path / "s.spool").read_bytes())
    stores = Stores(spool._map)
    spool._map = stores  # type: ignore[assignment]
    # (number of stores seen, records accepted, acknowledged) after each call
    history = [(0, 0, 0)]
    model: list[bytes] = []
    for _ in range(130):
        if rng.random() < 0.7:
            record = rng.randbytes(rng.choice([0, 30, 200, 700]))
            if spool.append(record) is not None:
                model.append(record)
        else:
            spool.acknowledge(rng.randint(spool.acked, len(model)))
        history.append((len(stores.log), len(model), spool.acked))
    epoch = spool.epoch
    spool._map = stores.ring
    spool.close()
    crash = tmp_path / "crash"
    crash.mkdir()
    at = 0
    for number, (offset, data) in enumerate(stores.log):
        while history[at + 1][0] <= number:
            at += 1
        _, accepted, acked = history[at]
        for cut in {0, len(data) // 2, max(len(data) - 1, 0)}:
            torn = bytearray(image)
            torn[offset : offset + cut] = data[:cut]
            (crash / "s.spool").write_bytes(torn)
            left = fresh(crash)
            assert left.epoch == epoch
            # What was accepted is there; the record whose append was cut off may be.
            assert accepted <= left.next_seq - 1 <= accepted + 1
            assert left.acked in {acked, history[at + 1][2]}
            assert left.oldest() <= left.acked + 1
            assert everything(left) == model[left.oldest() - 1 : left.next_seq - 1]
            left.close()
        image[offset : offset + len(data)] = data


PROGRAM = """
import os, sys
from daedalus.kernel.spool import Spool
spool = Spool.open(sys.argv[1], 1 << 16)
print(spool.next_seq, flush=True)
while True:
    seq = spool.next_seq
    if spool.append(seq.to_bytes(8, "little") * (1 + seq % 40)) is None or seq % 100 == 0:
        spool.acknowledge(seq - 50)
    os.write(1, seq.to_bytes(8, "little"))
"""


@pytest.mark.system
def test_a_killed_owner_leaves_every_record_it_was_told_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "s.spool"
    rng = random.Random(7)
    for _ in range(8):
        owner = subprocess.Popen([sys.executable, "-c", PROGRAM, str(path)], stdout=subprocess.PIPE)
        assert owner.stdout is not None
        owner.stdout.readline()
        told = owner.stdout.read(8 * rng.randrange(500, 8000))
        owner.send_signal(signal.SIGKILL)
        told += owner.stdout.read()
        owner.stdout.close()
        owner.wait()
        last = int.from_bytes(told[len(told) // 8 * 8 - 8 : len(told) // 8 * 8], "little")
        spool = Spool.open(path, 1 << 16)
        assert last <= spool.next_seq - 1 <= last + 1
        for offset, record in enumerate(everything(spool)):
            seq = spool.oldest() + offset
            assert record == seq.to_bytes(8, "little") * (1 + seq % 40)
        spool.close()
