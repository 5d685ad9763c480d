"""The syncer: ships sealed segments to an object store, round by round, beside everything else.

Blocking work runs in a thread of its own; the loop only waits and beats. An outage is nobody else's
trouble: files stay where they are, the pause grows, and the rest of the tree does not notice.
"""

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from daedalus.dataset.layout import Layout
from daedalus.dataset.objectstore import S3Settings, S3Store
from daedalus.dataset.sync import Manifest, Round, Shipment, backoff, sync_once
from daedalus.kernel.actor import Actor, Context, Drained
from daedalus.kernel.errors import FatalError
from daedalus.kernel.telemetry import get_logger

__all__ = ["Settings", "Syncer", "shipment", "target_of"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`[sync]`, and where the data are."""

    data: str
    bucket: str
    prefix: str = ""
    endpoint_url: str = ""
    region: str = ""
    path_style: bool = False
    ca_file: str = ""
    checksum: str = "when_supported"
    max_workers: int = 8
    multipart_mb: int = 8
    interval_s: float = 300.0


def target_of(settings: Settings) -> str:
    """Return the name of a destination in the manifest."""
    return f"{settings.endpoint_url or 's3:/'}/{settings.bucket}/{settings.prefix.strip('/')}".rstrip("/")


def shipment(settings: Settings, stop: threading.Event) -> Shipment:
    """Open the store and the manifest. Blocking: boto3 is imported here.

    Raises:
        ValueError: the settings name no usable store.
    """
    layout = Layout(data=settings.data)
    names = S3Settings.__struct_fields__
    store = S3Store(S3Settings(**{name: getattr(settings, name) for name in names}))
    manifest = Manifest(layout.state() / "sync" / "manifest.jsonl", target_of(settings))
    return Shipment(layout, store, manifest, settings.prefix, stop, lambda: time.time_ns() // 1_000_000)


class Syncer(Actor):
    """Ships what is sealed, every `interval_s`, and again sooner while the store is away."""

    Settings = Settings

    def __init__(self, settings: Any, context: Context) -> None:
        super().__init__(settings, context)
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="syncer")
        self._shipment: Shipment | None = None
        self._work: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._round = Round()
        self._uploaded = self._uploaded_bytes = self._failed = self._rounds = 0
        self._outages = 0  # rounds in a row that ended in an outage
        self._pause_s = 0.0
        self._last_error: str | None = None
        self._last_success_ms: int | None = None

    async def start(self) -> None:
        """Open the store and begin."""
        if not self.settings.bucket:
            raise FatalError("cannot sync: [sync] bucket is not set")
        loop = asyncio.get_running_loop()
        try:
            opened = await loop.run_in_executor(self._pool, shipment, self.settings, self._stop)
        except ValueError as error:
            raise FatalError(f"cannot sync to {target_of(self.settings)}: {error}") from error
        self._shipment = opened
        self._work = self.spawn(self._rounds_forever(opened))

    async def _rounds_forever(self, opened: Shipment) -> None:
        loop = asyncio.get_running_loop()
        log = get_logger()
        while not self._stop.is_set():
            found = await loop.run_in_executor(
                self._pool, sync_once, opened, self.settings.max_workers, self._progress
            )
            self._account(found)
            log.info(
                "sync_finished",
                uploaded=found.uploaded,
                uploaded_bytes=found.uploaded_bytes,
                present=found.present,
                failed=found.failed,
                pending=found.pending,
                outage=found.outage,
                error=found.errors[0] if found.errors else None,
                pause_s=round(self._pause_s, 3),
            )
            try:
                async with asyncio.timeout(self._pause_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _progress(self, found: Round) -> None:
        """Called in the worker thread; one assignment, so the loop may look at any time."""
        self._round = found

    def _account(self, found: Round) -> None:
        self._rounds += 1
        self._uploaded += found.uploaded
        self._uploaded_bytes += found.uploaded_bytes
        self._failed += found.failed
        if found.failed:
            self._last_error = found.errors[0]
        else:
            self._last_success_ms = time.time_ns() // 1_000_000
        self._outages = self._outages + 1 if found.outage else 0
        self._pause_s = self.settings.interval_s
        if self._outages:
            self._pause_s = min(backoff(self._outages, random.random()), self.settings.interval_s)  # noqa: S311
        self._round = Round(pending=found.pending)

    async def drain(self) -> Drained:
        """Take no new file; what is under way ends, or stops after its current part."""
        before = self._uploaded
        self._stop.set()
        self._wake.set()
        if self._work is not None:
            await self._work
        return Drained(self._round.pending, self._uploaded - before)

    async def stop(self) -> None:
        """Close the manifest; what has not ended is picked up at the next start."""
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._shipment is not None and (self._work is None or self._work.done()):
            self._shipment.manifest.close()

    def mailbox(self) -> int:
        """Return how many sealed files wait to be shipped."""
        return self._round.pending

    def stats(self) -> dict[str, int | float | str | None]:
        """Return what was shipped and what stands in the way."""
        return {
            "rounds": self._rounds,
            "pending": self._round.pending,
            "uploaded": self._uploaded + self._round.uploaded,
            "uploaded_bytes": self._uploaded_bytes + self._round.uploaded_bytes,
            "failed": self._failed + self._round.failed,
            "outages": self._outages,
            "pause_s": round(self._pause_s, 3),
            "last_error": self._last_error,
            "last_success_ms": self._last_success_ms,
        }
