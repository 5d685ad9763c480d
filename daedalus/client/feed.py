"""The subscription itself: one SUB socket, read on the spot or on the running loop."""

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from difflib import get_close_matches
from types import TracebackType
from typing import Any, Self

import msgspec
import zmq

from daedalus import wire
from daedalus.client.batch import Batch
from daedalus.client.find import request_address
from daedalus.client.rows import Row, Schema

__all__ = ["Feed"]

HWM = 10_000  # rows held for a strategy that is busy; beyond it the gateway drops and row.gap tells
_RETRY_S = 0.05
_ROWS_PER_TURN = 64  # then the other tasks of the loop get theirs, even if rows never cease
_SHOWN = 12  # known streams in an error message


class Feed:
    """A subscription. Open it with `with` or `async with`, then iterate; the loop ends when it is closed."""

    def __init__(
        self,
        topic: str,
        *,
        features: Sequence[str] | None,
        address: str,
        curve: tuple[bytes, bytes, bytes] | None,
        timeout_s: float,
        idle_timeout_s: float | None,
    ) -> None:
        """Store what is wanted; `subscribe` is the public way. Nothing is connected yet."""
        self.schema = Schema("", ())  # of the first stream that was found; filled when the feed is opened
        self.address = address
        self._topic = topic
        self._features = features
        self._curve = curve
        self._timeout_s = timeout_s
        self._idle_ms = None if idle_timeout_s is None else int(idle_timeout_s * 1000)
        self._socket: zmq.Socket[bytes] | None = None
        self._closed = False
        self._schemas: dict[
            str, tuple[Schema, list[int] | None]
        ] = {}  # id -> selected columns, where they are
        self._since_turn = 0
        self._held: tuple[list[bytes], wire.Header, int] | None = None  # put back by a batch
        self._positions: dict[bytes, tuple[str, int]] = {}  # topic -> session, seq

    # --- opening and closing

    def __enter__(self) -> Self:
        self._closed = False
        self._connect()
        try:
            self._find()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._closed = False
        self._connect()
        try:
            await asyncio.to_thread(self._find)
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the subscription. A second call does nothing."""
        self._closed = True
        if self._socket is not None:
            self._socket.close(0)
            self._socket = None

    def _new_socket(self, kind: int) -> "zmq.Socket[bytes]":
        created: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
        created.setsockopt(zmq.LINGER, 0)
        created.setsockopt(zmq.RCVHWM, HWM)
        created.setsockopt(zmq.RECONNECT_IVL, 20)
        created.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        if self._curve is not None:
            created.curve_serverkey, created.curve_publickey, created.curve_secretkey = self._curve
        return created

    def _connect(self) -> None:
        if self._socket is None and not self._closed:
            self._socket = self._new_socket(zmq.SUB)
            self._socket.setsockopt(zmq.SUBSCRIBE, self._topic.encode())
            self._socket.connect(self.address)

    def _find(self) -> None:
        """Wait until the gateway answers and knows the stream. May run in a thread: it shares no socket."""
        deadline = time.monotonic() + self._timeout_s
        kind, _, stream = self._topic.partition("/")
        one_schema = (kind, self._topic.count("/")) in (("feature", 3), ("bar", 4))
        if kind not in ("feature", "bar"):
            self.schema = Schema("", wire.record_columns(kind))
        while True:
            if one_schema:
                ok, value = self._ask("schema", self._topic, deadline)
                if ok:
                    self.schema = self._learn(value)
                    return
            ok, known = self._ask("topics", None, deadline)
            found = ok and any(topic.partition("/")[2].startswith(stream) for topic in known)
            if found and not one_schema:
                return
            if time.monotonic() + _RETRY_S >= deadline:
                raise LookupError(self._unknown(known if ok else []))
            time.sleep(_RETRY_S)

    def _unknown(self, known: list[str]) -> str:
        wanted, prefix = self._topic.strip("/").partition("/")[2], "feature/"
        streams = sorted({topic.strip("/").partition("/")[2] for topic in known if topic.startswith(prefix)})
        streams = streams or sorted({topic.strip("/").partition("/")[2] for topic in known})
        shown = ", ".join(streams[:_SHOWN]) + (
            f" and {len(streams) - _SHOWN} more" if len(streams) > _SHOWN else ""
        )
        near = get_close_matches(wanted, streams, 1, 0.7)
        hint = f"; did you mean {near[0]}?" if near else ""
        return (
            f"cannot subscribe to {wanted}: not published within {self._timeout_s:g} s{hint}; "
            f"known: {shown or 'nothing yet'}"
        )

    # --- questions

    def _ask(self, command: str, arg: str | None, deadline: float) -> tuple[bool, Any]:
        """Ask the gateway on a socket of its own. Raises TimeoutError when nobody answers."""
        asking = self._new_socket(zmq.DEALER)
        try:
            asking.connect(request_address(self.address))
            asking.send(msgspec.msgpack.encode([1, command, arg]))
            if not asking.poll(max(1, int((deadline - time.monotonic()) * 1000))):
                raise TimeoutError(
                    f"cannot reach the gateway at {self.address}: no answer within {self._timeout_s:g} s; "
                    "is daedalus-supervisor running?"
                )
            _, ok, value = msgspec.msgpack.decode(asking.recv(), type=tuple[int | None, bool, Any])
        finally:
            asking.close(0)
        return ok, value

    def _learn(self, announced: Any) -> Schema:
        full = msgspec.convert(announced, Schema, strict=False)
        if self._features is None:
            self._schemas[full.id] = (full, None)
        else:
            selected = full.select(self._features)
            self._schemas[full.id] = (selected, [full.names.index(name) for name in self._features])
        return self._schemas[full.id][0]

    def _fetch(self, schema_id: str) -> None:
        """Fetch the schema of a row: another symbol's, or its actor has other parameters now."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            ok, value = self._ask("schema", schema_id, deadline)
            if ok:
                schema = self._learn(value)
                self.schema = self.schema if self.schema.names else schema
                return
            if time.monotonic() + _RETRY_S >= deadline:
                raise LookupError(str(value))
            time.sleep(_RETRY_S)

    # --- rows

    def _next_message(self) -> tuple[list[bytes], wire.Header, int] | None:
        """Return the next message that is new with what was lost before it; None: none has arrived."""
        if self._held is not None and self._socket is not None:
            held, self._held = self._held, None
            return held
        while self._socket is not None:
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return None
            topic = parts[0]
            header = wire.decode_header(parts[1])
            if header.version != wire.VERSION:
                name, version = topic.decode(), header.version
                raise ValueError(f"cannot read {name}: version {version} of the wire, not {wire.VERSION}")
            session_id, seq = self._positions.get(topic, (None, 0))
            if session_id == header.session_id and header.seq <= seq:
                continue  # a last value sent again
            self._positions[topic] = (header.session_id, header.seq)
            if session_id is None:
                return parts, header, 0  # whoever joins late has lost nothing
            return parts, header, header.seq - 1 - (seq if session_id == header.session_id else 0)
        return None

    def _row(self, parts: list[bytes], header: wire.Header, gap: int) -> Row:
        topic, _, payload = parts
        if header.schema_id is None:
            schema = Schema("", wire.record_columns(header.kind))
            return Row(topic, header, msgspec.msgpack.decode(payload), schema, gap)
        schema, where = self._schemas[header.schema_id]
        values = memoryview(payload).cast("d")
        if where is not None:
            values = memoryview(array("d", [values[at] for at in where]))
        return Row(topic, header, values, schema, gap)

    def _idle(self) -> TimeoutError:
        seconds = (self._idle_ms or 0) / 1000
        return TimeoutError(f"cannot go on with {self._topic}: no row for {seconds:g} s")

    def __iter__(self) -> Iterator[Row]:
        self._connect()
        return self

    def __next__(self) -> Row:
        """Wait for the next row. Raises TimeoutError after idle_timeout_s, LookupError for a lost schema."""
        while self._socket is not None:
            found = self._next_message()
            if found is not None:
                parts, header, gap = found
                if header.schema_id is not None and header.schema_id not in self._schemas:
                    self._fetch(header.schema_id)
                return self._row(parts, header, gap)
            if not self._socket.poll(self._idle_ms):
                raise self._idle()
        raise StopIteration

    def batch(self, max_rows: int = 1000, timeout_s: float = 1.0) -> Batch:
        """Return the rows of the next `timeout_s` seconds as one block, as soon as there are `max_rows`.

        All are of one schema: where it changes the batch ends, and the next one goes on. None lost between.

        Raises:
            TypeError: the feed is of records, whose values are of many kinds.
            LookupError: for a lost schema.
        """
        made, deadline = self._new_batch(max_rows), time.monotonic() + timeout_s
        while self._socket is not None and len(made) < max_rows:
            found = self._next_message()
            if found is None:
                left = deadline - time.monotonic()
                if left <= 0 or not self._socket.poll(int(left * 1000) + 1):
                    break
                continue
            if found[1].schema_id is not None and found[1].schema_id not in self._schemas:
                self._fetch(found[1].schema_id)
            if not self._put(made, found):
                break
        return made

    async def batch_async(self, max_rows: int = 1000, timeout_s: float = 1.0) -> Batch:
        """As `batch`, on the running loop."""
        made, loop = self._new_batch(max_rows), asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self._socket is not None and len(made) < max_rows:
            found = self._next_message()
            if found is None:
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._readable(self._socket)
                except TimeoutError:
                    break
                continue
            if found[1].schema_id is not None and found[1].schema_id not in self._schemas:
                await asyncio.to_thread(self._fetch, found[1].schema_id)
            if not self._put(made, found):
                break
        return made

    def _new_batch(self, max_rows: int) -> Batch:
        self._connect()
        kind = self._topic.partition("/")[0]
        if kind not in ("feature", "bar"):
            raise TypeError(f"cannot make a batch of {kind}: only rows of features and bars are numbers")
        if max_rows < 1:
            raise ValueError(f"cannot make a batch of {max_rows} rows: at least 1")
        return Batch(max_rows)

    def _put(self, made: Batch, found: tuple[list[bytes], wire.Header, int]) -> bool:
        row = self._row(*found)
        if made.add(row):
            return True
        self._held = found
        return False

    def __aiter__(self) -> AsyncIterator[Row]:
        self._connect()
        return self

    async def __anext__(self) -> Row:
        """As `__next__`, on the running loop."""
        while self._socket is not None:
            found = self._next_message()
            if found is not None:
                self._since_turn += 1
                if self._since_turn >= _ROWS_PER_TURN:
                    self._since_turn = 0
                    await asyncio.sleep(0)
                parts, header, gap = found
                if header.schema_id is not None and header.schema_id not in self._schemas:
                    await asyncio.to_thread(self._fetch, header.schema_id)
                return self._row(parts, header, gap)
            await self._readable(self._socket)
        raise StopAsyncIteration

    async def _readable(self, subscribed: "zmq.Socket[bytes]") -> None:
        # The descriptor is edge-triggered: it is armed by the receive that found nothing, just before this.
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        descriptor: int = subscribed.FD
        loop.add_reader(descriptor, _set, ready)
        try:
            async with asyncio.timeout(None if self._idle_ms is None else self._idle_ms / 1000):
                await ready
        except TimeoutError:
            raise self._idle() from None
        finally:
            loop.remove_reader(descriptor)


def _set(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
