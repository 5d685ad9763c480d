"""Shipping sealed segments: what has to go, the way there, and the proof that it arrived.

    plan (pure) ─▶ digest ─▶ look up ─▶ write ─▶ look up again: size and checksum ─▶ manifest line (fsync)

A line in `{data}/state/sync/manifest.jsonl` says that an object was verified; without one the file is asked
for again, and found there if it had arrived. So a kill anywhere costs at most one request a file. Local
files are never removed here.
"""

import hashlib
import os
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

import msgspec

from daedalus.dataset.durable import make_directory, sync_directory
from daedalus.dataset.layout import Layout
from daedalus.dataset.objectstore import Digest, ObjectStore, StoreError
from daedalus.dataset.segment import SUFFIX

__all__ = ["Line", "Local", "Manifest", "Round", "backoff", "key_of", "local_files", "plan", "sync_once"]

_ATTEMPTS = 4  # of one file in one round
_BASE_S = 0.5
_CAP_S = 60.0


class Local(NamedTuple):
    """A sealed file."""

    path: str  # below the data directory, with slashes
    size: int  # bytes
    mtime_ns: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the manifest: a verified object."""

    key: str
    path: str
    size: int
    sha256: str
    proof: str  # sha256 | md5: the store's own checksum · read: its content was read back
    at_ms: int


class Round(msgspec.Struct):
    """What one round did."""

    pending: int = 0
    uploaded: int = 0
    uploaded_bytes: int = 0
    present: int = 0  # had arrived before
    failed: int = 0
    outage: bool = False  # the store could not be reached: the rest was left for later
    errors: list[str] = []  # the first few


def key_of(prefix: str, path: str) -> str:
    """Return the key of a file: its path below the data directory, below the prefix.

    >>> key_of("backup/", "raw/ready/a.parquet")
    'backup/raw/ready/a.parquet'
    """
    prefix = prefix.strip("/")
    return f"{prefix}/{path}" if prefix else path


def backoff(attempt: int, draw: float) -> float:
    """Return the pause before an attempt, s: doubling from 0.5, capped at 60, with full jitter upward.

    Args:
        attempt: 1 = the first repetition.
        draw: uniform in [0, 1).
    """
    pause: float = min(_BASE_S * 2.0 ** (attempt - 1), _CAP_S)
    return pause * (1 + draw)


def plan(found: Iterable[Local], done: dict[str, int]) -> list[Local]:
    """Return what has to go, oldest first.

    Args:
        found: sealed files.
        done: path -> size of those verified in the store.
    """
    return sorted(
        (item for item in found if done.get(item.path) != item.size),
        key=lambda item: (item.mtime_ns, item.path),
    )


def local_files(layout: Layout) -> list[Local]:
    """Return the published segments."""
    root = Path(layout.data)
    found = []
    for directory, _, names in os.walk(layout.ready()):
        for name in names:
            if name.startswith("segment_") and name.endswith(tuple(SUFFIX.values())):
                path = Path(directory, name)
                try:
                    status = path.stat()
                except FileNotFoundError:  # taken by another tool since it was listed
                    continue
                found.append(Local(path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns))
    return found


class Manifest:
    """The verified objects of one store. A line counts once it is durable; a torn last line does not."""

    def __init__(self, path: Path, target: str) -> None:
        """Read what there is.

        Args:
            path: the file; made when missing.
            target: names the store and prefix; lines of other targets are other files' business.
        """
        self._path = path
        self._lock = threading.Lock()
        self.target = target
        make_directory(path.parent)
        self.done = self.peek(path, target)
        content = path.read_bytes() if path.exists() else b""
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        sync_directory(path.parent)

    @staticmethod
    def peek(path: Path, target: str) -> dict[str, int]:
        """Return path -> size of what is verified in `target`, changing nothing."""
        done: dict[str, int] = {}
        decoder = msgspec.json.Decoder(dict[str, object])
        for text in path.read_bytes().splitlines() if path.exists() else ():
            try:
                line = decoder.decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError):  # torn by a power cut: its object is asked for
                continue
            if line.get("target") == target:
                done[str(line["path"])] = int(str(line["size"]))
        return done

    def add(self, line: Line) -> None:
        """Append one line, durably."""
        data = msgspec.json.encode({"target": self.target, **msgspec.structs.asdict(line)}) + b"\n"
        with self._lock:
            os.write(self._fd, data)
            os.fsync(self._fd)
            self.done[line.path] = line.size

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class Shipment(NamedTuple):
    """What the uploads of one round share."""

    layout: Layout
    store: ObjectStore
    manifest: Manifest
    prefix: str
    stop: threading.Event
    now_ms: Callable[[], int]
    draw: Callable[[], float] = random.random


def sync_once(shipment: Shipment, max_workers: int, progress: Callable[[Round], None]) -> Round:
    """Send what is not in the store yet; returns when all is tried, or soon after `stop` is set.

    Args:
        shipment: from where to where.
        max_workers: files under way at once.
        progress: told after each file, from this thread.
    """
    todo = deque(plan(local_files(shipment.layout), shipment.manifest.done))
    result = Round(pending=len(todo))
    progress(result)
    with ThreadPoolExecutor(max_workers, thread_name_prefix="sync") as pool:
        running: dict[Future[str], Local] = {}
        while todo or running:
            while todo and len(running) < max_workers and not (shipment.stop.is_set() or result.outage):
                item = todo.popleft()
                running[pool.submit(_ship, shipment, item)] = item
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                _account(result, running.pop(future), future, stopped=shipment.stop.is_set())
                result.pending = len(todo) + len(running)
                progress(result)
    result.pending = len(plan(local_files(shipment.layout), shipment.manifest.done))
    progress(result)
    return result


def _account(result: Round, item: Local, future: "Future[str]", *, stopped: bool) -> None:
    try:
        outcome = future.result()
    except FileNotFoundError:  # taken by another tool before it was sent
        return
    except (StoreError, OSError) as error:
        if not stopped:
            result.failed += 1
            result.outage = result.outage or (isinstance(error, StoreError) and error.transient)
        if len(result.errors) < 8:
            result.errors.append(str(error))
        return
    if outcome == "uploaded":
        result.uploaded += 1
        result.uploaded_bytes += item.size
    else:
        result.present += 1


def _ship(shipment: Shipment, item: Local) -> str:
    """Bring one file into the store and prove it."""
    key = key_of(shipment.prefix, item.path)
    path = Path(shipment.layout.data, item.path)
    digest = Digest.of(path)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            outcome, proof = _arrive(shipment, key, path, digest)
            break
        except StoreError as error:
            if not error.transient or attempt == _ATTEMPTS or shipment.stop.is_set():
                raise
            shipment.stop.wait(backoff(attempt, shipment.draw()))
    line = Line(
        key=key,
        path=item.path,
        size=digest.size,
        sha256=digest.sha256,
        proof=proof,
        at_ms=shipment.now_ms(),
    )
    shipment.manifest.add(line)
    return outcome


def _arrive(shipment: Shipment, key: str, path: Path, digest: Digest) -> tuple[str, str]:
    store = shipment.store
    stored = store.exists(key)
    outcome = "present"
    if stored is None or (stored.size, stored.sha256) != (digest.size, digest.sha256):
        if stored is not None and stored.sha256 not in {None, digest.sha256}:
            raise StoreError(
                f"cannot write {key}: the store holds another object of that name "
                f"({stored.size} bytes, sha256 {stored.sha256}; here {digest.size} bytes, {digest.sha256})",
                transient=False,
            )
        outcome = "uploaded"
        store.write(key, path, digest, shipment.stop.is_set)
        stored = store.exists(key)
    if stored is None or stored.size != digest.size:
        held = "nothing" if stored is None else f"{stored.size} bytes"
        raise StoreError(f"cannot verify {key}: {held} stored, {digest.size} bytes sent", transient=True)
    return outcome, stored.proves(digest) or _read_back(store, key, digest)


def _read_back(store: ObjectStore, key: str, digest: Digest) -> str:
    """The store names no checksum of its own making (parts, encryption): look at the content."""
    found = hashlib.sha256()
    for block in store.read(key):
        found.update(block)
    if found.hexdigest() != digest.sha256:
        store.delete(key)
        raise StoreError(
            f"cannot verify {key}: sha256 {found.hexdigest()} stored, {digest.sha256} sent; removed there",
            transient=True,
        )
    return "read"
