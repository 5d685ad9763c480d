"""Shipping without a network: what goes, in which order, and what counts as arrived."""

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus.dataset.layout import Layout
from daedalus.dataset.objectstore import Digest, LocalStore, Stored, StoreError
from daedalus.dataset.sync import Local, Manifest, Round, Shipment, backoff, plan, sync_once


class Flaky(LocalStore):
    """A store that fails as often as told, or lies."""

    def __init__(
        self, root: Path, failures: int = 0, *, transient: bool = True, lie: bytes | None = None
    ) -> None:
        super().__init__(root)
        self.failures = failures
        self.transient = transient
        self.lie = lie
        self.writes: list[str] = []

    def write(self, key, path, digest, stopping):
        if self.failures > 0:
            self.failures -= 1
            raise StoreError(f"cannot write {key}: no route", transient=self.transient)
        self.writes.append(key)
        super().write(key, path, digest, stopping)
        if self.lie is not None:
            self._path(key).write_bytes(self.lie)

    def exists(self, key):
        found = super().exists(key)
        return None if found is None else Stored(found.size, Digest.of(self._path(key)).sha256)


class Impatient(threading.Event):
    """An event nobody waits for: pauses between attempts cost no time."""

    def wait(self, timeout=None):  # noqa: ARG002 - the point
        return self.is_set()


def lake(root: Path, count: int = 3) -> Path:
    """`count` segments and things that are none."""
    ready = Layout(data=str(root)).ready("ccxt", "trades")
    ready.mkdir(parents=True)
    for number in range(1, count + 1):
        (ready / f"segment_20260131T14_{number:05d}.parquet").write_bytes(b"x" * number)
    (ready / ".segment_draft.parquet").write_bytes(b"x")
    (ready / "notes.txt").write_bytes(b"x")
    return root


def shipment(data: Path, store, target: str = "t") -> Shipment:
    layout = Layout(data=str(data))
    manifest = Manifest(layout.state() / "sync" / "manifest.jsonl", target)
    return Shipment(layout, store, manifest, "p", Impatient(), lambda: 0, lambda: 0.0)


def send(data: Path, store, target: str = "t") -> Round:
    opened = shipment(data, store, target)
    try:
        return sync_once(opened, 2, lambda _: None)
    finally:
        opened.manifest.close()


def test_every_segment_arrives_once_and_nothing_else(tmp_path):
    store = Flaky(tmp_path / "store")
    lake(tmp_path / "data")
    first, second = send(tmp_path / "data", store), send(tmp_path / "data", store)
    assert (first.uploaded, first.uploaded_bytes, first.pending) == (3, 6, 0)
    assert (second.uploaded, second.present, len(store.writes)) == (0, 0, 3)
    assert min(store.writes) == "p/raw/ready/ccxt/trades/segment_20260131T14_00001.parquet"
    assert len(list((tmp_path / "data").rglob("segment_2026*"))) == 3, "local files stay"


def test_a_lost_manifest_costs_a_look_and_no_upload(tmp_path):
    store = Flaky(tmp_path / "store")
    send(lake(tmp_path / "data"), store)
    (tmp_path / "data/state/sync/manifest.jsonl").unlink()
    again = send(tmp_path / "data", store)
    assert (again.present, again.uploaded) == (3, 0)


def test_a_torn_manifest_line_does_not_count(tmp_path):
    store = Flaky(tmp_path / "store")
    send(lake(tmp_path / "data"), store)
    path = tmp_path / "data/state/sync/manifest.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    again = send(tmp_path / "data", store)
    assert (again.present, again.uploaded) == (1, 0)
    assert len(path.read_bytes().splitlines()) == 3


def test_another_destination_has_its_own_lines(tmp_path):
    send(lake(tmp_path / "data"), Flaky(tmp_path / "one"), "one")
    assert send(tmp_path / "data", Flaky(tmp_path / "two"), "two").uploaded == 3


def test_a_passing_trouble_is_retried(tmp_path):
    result = send(lake(tmp_path / "data", 1), Flaky(tmp_path / "store", failures=3))
    assert (result.uploaded, result.failed) == (1, 0)


def test_an_outage_leaves_the_rest_for_later_and_nothing_is_lost(tmp_path):
    store = Flaky(tmp_path / "store", failures=10_000)
    away = send(lake(tmp_path / "data", 20), store)
    assert (away.outage, away.uploaded, away.pending) == (True, 0, 20)
    assert 10_000 - store.failures <= 4 * 4, "an outage is not hammered at"
    store.failures = 0
    assert send(tmp_path / "data", store).uploaded == 20


def test_a_refusal_is_not_repeated_and_does_not_stop_the_others(tmp_path):
    result = send(lake(tmp_path / "data", 3), Flaky(tmp_path / "store", failures=1, transient=False))
    assert (result.failed, result.uploaded, result.outage, result.pending) == (1, 2, False, 1)


@pytest.mark.parametrize("lie", [b"", b"y", b"xx"])
def test_an_object_that_is_not_the_file_never_reaches_the_manifest(tmp_path, lie):
    result = send(lake(tmp_path / "data", 1), Flaky(tmp_path / "store", lie=lie))
    assert (result.uploaded, result.failed) == (0, 1)
    assert (tmp_path / "data/state/sync/manifest.jsonl").read_bytes() == b""


def test_an_object_of_another_content_is_never_overwritten(tmp_path):
    store = LocalStore(tmp_path / "store")
    other = tmp_path / "other"
    other.write_bytes(b"theirs")
    key = "p/raw/ready/ccxt/trades/segment_20260131T14_00001.parquet"
    store.write(key, other, Digest.of(other), lambda: False)
    result = send(lake(tmp_path / "data", 1), store)
    assert (result.failed, result.outage) == (1, False)
    assert "another object of that name" in result.errors[0]
    assert b"".join(store.read(key)) == b"theirs"


def test_a_stop_takes_no_new_file(tmp_path):
    opened = shipment(lake(tmp_path / "data"), Flaky(tmp_path / "store"))
    opened.stop.set()
    assert sync_once(opened, 2, lambda _: None).uploaded == 0
    opened.manifest.close()


@given(
    st.lists(
        st.tuples(st.text("abc", min_size=1), st.integers(0, 5), st.integers(0, 9)), unique_by=lambda t: t[0]
    )
)
def test_the_plan_is_oldest_first_and_only_what_is_missing(found):
    items = [Local(*values) for values in found]
    done = {item.path: item.size for item in items[::2]}
    todo = plan(items, done)
    assert sorted(todo) == sorted(items[1::2])
    assert [item.mtime_ns for item in todo] == sorted(item.mtime_ns for item in todo)


def test_pauses_double_and_are_capped():
    assert [backoff(n, 0.0) for n in (1, 2, 3, 20)] == [0.5, 1.0, 2.0, 60.0]
    assert backoff(1, 0.5) == 0.75
