"""A ring read beside its owner: what is whole comes out, once, in order, and nothing else does."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from daedalus.kernel.ringview import RingView
from daedalus.kernel.spool import Spool


def everything(_record: bytes) -> bool:
    return True


def ring(path: Path) -> Spool:
    return Spool.open(path / "a.spool", 1 << 14)


def test_a_view_has_what_the_ring_has_and_then_only_what_came_since(tmp_path: Path) -> None:
    spool = ring(tmp_path)
    for number in range(5):
        spool.append(b"%d" % number)
    view = RingView(spool.path)
    assert view.more(everything) == [b"0", b"1", b"2", b"3", b"4"]
    assert view.more(everything) == []
    spool.append(b"5")
    assert view.more(lambda record: record != b"4") == [b"5"]
    view.close()
    assert view.more(everything) == []
    spool.close()


def test_a_view_needs_no_owner_and_sees_what_is_acknowledged(tmp_path: Path) -> None:
    spool = ring(tmp_path)
    for number in range(3):
        spool.append(b"%d" % number)
    spool.acknowledge(2)
    spool.close()
    assert RingView(spool.path).more(everything) == [b"0", b"1", b"2"]


def test_what_is_no_ring_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(1 << 14))
    (tmp_path / "short").write_bytes(b"DJS1")
    for name in ("zeros", "short", "missing"):
        assert RingView(tmp_path / name).more(everything) == []


def test_a_damaged_record_ends_what_can_be_read(tmp_path: Path) -> None:
    spool = ring(tmp_path)
    for number in range(4):
        spool.append(b"record-%d" % number)
    spool.close()
    data = bytearray(spool.path.read_bytes())
    data[data.index(b"record-2")] ^= 1
    spool.path.write_bytes(data)
    view = RingView(spool.path)
    assert view.more(everything) == [b"record-0", b"record-1"]
    assert (view.first, view.broken) == (b"record-0", False), "what nobody acknowledged may be half written"


def test_a_view_that_was_overtaken_or_stopped_by_damage_says_so(tmp_path: Path) -> None:
    spool = ring(tmp_path)
    for number in range(4):
        spool.append(b"record-%d" % number)
    spool.acknowledge(4)
    slow = RingView(spool.path)
    assert len(slow.more(everything)) == 4
    assert not slow.broken
    for _ in range(40):
        assert spool.append(bytes(2000)) is not None
        spool.acknowledge(spool.next_seq - 1)
    assert slow.more(everything)
    assert slow.broken, "a part of the forty was overwritten before it was read"
    spool.close()
    data = bytearray(spool.path.read_bytes())
    data[-3000:] = bytes(3000)
    spool.path.write_bytes(data)
    damaged = RingView(spool.path)
    damaged.more(everything)
    assert damaged.broken


@given(sizes=st.lists(st.integers(0, 3000), max_size=60), looks=st.sets(st.integers(0, 59), max_size=6))
def test_after_any_number_of_turns_a_view_has_the_rings_newest_records_in_order(
    tmp_path_factory: "object", sizes: list[int], looks: set[int]
) -> None:
    spool = ring(tmp_path_factory.mktemp("ring"))  # type: ignore[attr-defined]
    view, seen, written = RingView(spool.path), [], []
    for number, size in enumerate(sizes):
        record = b"%06d" % number + bytes(size)
        if spool.append(record) is None:
            spool.acknowledge(spool.next_seq - 1)
            assert spool.append(record) is not None
        written.append(record)
        if number in looks:
            seen += view.more(everything)
    seen += view.more(everything)
    numbers = [int(record[:6]) for record in seen]
    assert numbers == sorted(set(numbers))
    assert all(written[int(record[:6])] == record for record in seen)
    there = spool.next_seq - spool.oldest()
    assert seen[-there:] == written[len(written) - there :] if there else not written
    spool.close()
