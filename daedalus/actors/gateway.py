"""The gateway: one address for every strategy. Rows and records in, the public three-part messages out.

It keeps the last message of every topic and gives it to who subscribes, and answers requests beside the
stream: `schema`, `topics`, `last`. Collectors' records are turned into their public form only while somebody
listens. Everything a stranger can make grow has a bound: topics, schemas, subscriptions, requests, and the
last values sent for wide subscriptions.

There are one or two doors of the same stream, each with its own sockets, bounds and ration: the Unix socket,
and TCP. With `keys_dir` the second speaks CURVE to those who have a key, and a guard watches it; beyond
loopback there is no other.
"""

import asyncio
import json
import re
import secrets
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from daedalus import wire
from daedalus.actors import endpoints
from daedalus.actors.keyring import Keyring
from daedalus.kernel.actor import Actor, Context, Drained
from daedalus.kernel.clock import Clock, SystemClock
from daedalus.kernel.errors import FatalError
from daedalus.kernel.guard import Guard
from daedalus.kernel.telemetry import get_logger
from daedalus.kernel.topic import Answers, Broadcast, Subscriber, is_loopback
from daedalus.records import Gap, decode

__all__ = ["Gateway", "Settings", "public_addresses"]

DRAIN_IDLE_S = 0.05  # feature actors have stopped before us: silence this long is the end
WIDE_PER_S = 2000  # last values sent at a door for subscriptions that match more than one topic
GUARDED_SUBSCRIPTIONS_MAX = 4000  # of all keys together
DURATIONS_MAX = 64  # of bars, in one schema


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway is told."""

    exchanges: tuple[str, ...] = ()  # collectors to listen to
    ipc: str = ""  # empty: ipc://{runtime}/gateway.sock
    tcp: str = ""  # empty: none
    keys_dir: str = ""  # of CURVE keys; empty: none, and then no other machine is listened to
    send_hwm: int = 10_000  # messages held for a slow subscriber; beyond: it loses, and sees it by seq
    runtime: str = ""  # empty: the context's
    topics_max: int = 10_000
    schemas_max: int = 1000
    subscriptions_max: int = 10_000  # of all subscribers together


_Settings = Settings  # inside the class the name means the class variable


class _Door:
    """One way in: where it is, who listens there, and what of its ration is left."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens, self._refilled_ns = float(WIDE_PER_S), clock.mono_ns()
        self.broadcast: Broadcast
        self.answers: Answers

    def take_token(self) -> bool:
        """Return whether one more last value of a wide subscription may be sent."""
        now = self._clock.mono_ns()
        grown = self._tokens + (now - self._refilled_ns) * WIDE_PER_S / 1e9
        self._tokens, self._refilled_ns = min(float(WIDE_PER_S), grown), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def close(self) -> None:
        """Close what was opened."""
        for name in ("answers", "broadcast"):
            if hasattr(self, name):
                getattr(self, name).close()


class _RefusedError(Exception):
    """A request that has no answer; the message goes back to who asked."""


class Gateway(Actor):
    """One process per runtime."""

    Settings: ClassVar[type[msgspec.Struct]] = Settings
    settings: _Settings

    def __init__(self, settings: _Settings, context: Context, clock: Clock | None = None) -> None:
        super().__init__(settings, context)
        self._runtime = settings.runtime or context.runtime
        self._clock = clock or SystemClock()
        self._session_id = secrets.token_hex(8)  # for gaps, which are numbered here
        self._rows: dict[bytes, list[bytes]] = {}  # topic -> last message
        self._positions: dict[bytes, tuple[str, int]] = {}  # topic -> session, seq of the last message
        self._records: dict[bytes, bytes] = {}  # topic -> last record, as its collector published it
        self._gap_seq: dict[bytes, int] = {}
        self._schemas: dict[str, msgspec.Raw] = {}  # id -> MessagePack of the announced JSON
        self._schema_of: dict[bytes, str] = {}  # feature topic -> schema id
        self._doors: list[_Door] = []
        self._rows_in = self._records_in = self._transformed = self._bad = self._refused = self._limited = 0

    async def start(self) -> None:
        """Listen to strategies first, then to publishers, which may come and go in any order.

        Raises:
            FatalError: an address is in use, or reachable from outside without encryption.
        """
        public, requests = public_addresses(self.settings, self._runtime)
        guard = None
        if self.settings.keys_dir and self.settings.tcp:
            self._keyring = Keyring(Path(self.settings.keys_dir), lambda key: self._guard.cut(key.encode()))
            guard = self._guard = Guard(self._keyring.secret, self._keyring.knows, clock=self._clock)
        self._open(public[0], requests[0], None)
        for address, beside in zip(public[1:], requests[1:], strict=True):
            self._open(address, beside, guard)
        self._features = Subscriber(
            self._row_received, topics=[b""], bind_to=endpoints.gateway_in(self._runtime)
        )
        self._collectors = Subscriber(
            self._record_received,
            topics=[f"{kind}/".encode() for kind in wire.RECORD_KINDS],
            connect_to=[endpoints.pub(self._runtime, exchange) for exchange in self.settings.exchanges],
        )
        get_logger().info(
            "gateway_started",
            addresses=public,
            requests=requests,
            keys=None if guard is None else len(self._keyring),
        )

    def _open(self, address: str, beside: str, guard: Guard | None) -> None:
        door = _Door(self._clock)
        self._doors.append(door)
        most = self.settings.subscriptions_max
        door.broadcast = Broadcast(
            [address],
            on_subscribe=lambda prefix: self._subscribed(door, prefix),
            send_hwm=self.settings.send_hwm,
            subscriptions_max=most if guard is None else min(most, GUARDED_SUBSCRIPTIONS_MAX),
            guard=guard,
        )
        door.answers = Answers([beside], self.answer, guard=guard)

    def _send(self, message: list[bytes]) -> None:
        for door in self._doors:
            if door.broadcast.listeners(message[0]):
                door.broadcast.send(message)

    def _listened(self, topic: bytes) -> bool:
        return any(door.broadcast.listeners(topic) for door in self._doors)

    def _row_received(self, parts: list[bytes]) -> None:
        self._rows_in += 1
        try:
            topic, header_bytes, payload = parts
            header = wire.decode_header(header_bytes)
            if header.kind == "schema":
                self._keep_schema(topic, header.schema_id or "", payload)
                return
        except (ValueError, msgspec.DecodeError):
            self._bad += 1
            return
        if topic not in self._rows and len(self._rows) >= self.settings.topics_max:
            self._refused += 1
            return
        session_id, seq = self._positions.get(topic, ("", 0))
        if session_id == header.session_id and header.seq <= seq:
            return  # a feature actor repeats its last row when it sees us come
        self._positions[topic] = (header.session_id, header.seq)
        self._rows[topic] = parts
        self._send(parts)

    def _keep_schema(self, topic: bytes, schema_id: str, payload: bytes) -> None:
        value = json.loads(payload)
        topics = [b"feature/" + topic.partition(b"/")[2]]
        if isinstance(value, dict) and value.get("kind") == "bar":
            topics = [b"bar/" + topic.partition(b"/")[2] + b"%d/" % seconds for seconds in _durations(value)]
        self._schemas.pop(schema_id, None)
        while len(self._schemas) >= self.settings.schemas_max:
            del self._schemas[next(iter(self._schemas))]
        self._schemas[schema_id] = msgspec.Raw(msgspec.msgpack.encode(value))
        for described in topics:
            if described in self._schema_of or len(self._schema_of) < self.settings.topics_max:
                self._schema_of[described] = schema_id

    def _record_received(self, parts: list[bytes]) -> None:
        self._records_in += 1
        if len(parts) != 2:
            self._bad += 1
            return
        topic, record = parts
        if topic not in self._records and len(self._records) >= self.settings.topics_max:
            self._refused += 1
            return
        self._records[topic] = record
        if topic.startswith(b"gap/"):
            self._gap_seq[topic] = self._gap_seq.get(topic, 0) + 1
        if self._listened(topic):
            message = self._public(topic, record)
            if message is not None:
                self._send(message)

    def _public(self, topic: bytes, blob: bytes) -> list[bytes] | None:
        try:
            record = decode(blob)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._bad += 1
            return None
        if isinstance(record, Gap):
            record = msgspec.structs.replace(record, session_id=self._session_id)
        kind = topic.partition(b"/")[0].decode()
        header, payload = wire.public(kind, record, self._clock.wall_ns(), self._gap_seq.get(topic))
        self._transformed += 1
        return [topic, header, payload]

    def _last(self, topic: bytes) -> list[bytes] | None:
        if topic in self._rows:
            return self._rows[topic]
        return self._public(topic, self._records[topic]) if topic in self._records else None

    def _subscribed(self, door: _Door, prefix: bytes) -> None:
        """Give the newcomer the last values of what it asked for.

        The first goes to it alone. libzmq can do that once for each subscription; of a wide one the rest goes
        to everyone who listens to those topics, who drop it by its number, so it is rationed.
        """
        topics = [topic for kept in (self._rows, self._records) for topic in kept if topic.startswith(prefix)]
        for topic in topics:
            message = self._last(topic)
            if message is None or door.broadcast.welcome(message):
                continue
            if not door.take_token():
                self._limited += 1
                break
            door.broadcast.send(message)

    def answer(self, request: bytes) -> bytes:
        """Answer `[id, command, arg]` with `[id, ok, value]`; value is a message when ok is false.

        Never raises: the bytes are a stranger's.
        """
        number: Any = None
        ok, value = False, None
        try:
            number, command, arg = msgspec.msgpack.decode(request, type=tuple[int | str | None, str, Any])
            ok, value = True, self._answer(command, arg)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            value = f"cannot read the request: {error}; it is [id, command, arg]"
        except _RefusedError as error:
            ok, value = False, str(error)
        return msgspec.msgpack.encode([number, ok, value])

    def _answer(self, command: str, arg: Any) -> Any:
        if command not in ("schema", "topics", "last"):
            raise _RefusedError(f"cannot answer {command[:40]!r}: the commands are schema, topics, last")
        if command == "topics" and arg is None:
            arg = ""
        if not isinstance(arg, str):
            raise _RefusedError(f"cannot answer {command}: its argument is text, not {type(arg).__name__}")
        if command == "topics":
            known = {*self._rows, *self._records, *self._schema_of}
            return sorted(text for topic in known if (text := topic.decode(errors="replace")).startswith(arg))
        key = arg.encode(errors="replace")
        if command == "schema":
            schema_id = self._schema_of.get(key, arg)
            if schema_id in self._schemas:
                return self._schemas[schema_id]
            raise _RefusedError(
                f"cannot find the schema {arg[:100]!r}: none of that id or topic was announced"
            )
        message = self._last(key)
        if message is None:
            raise _RefusedError(
                f"cannot find a last value of {arg[:100]!r}: nothing was published under that topic"
            )
        return message

    async def drain(self) -> Drained:
        """Pass on what has arrived; feature actors and collectors have stopped before us."""
        seen, before = -1, self._rows_in + self._records_in
        while seen != self._rows_in + self._records_in:
            seen = self._rows_in + self._records_in
            await asyncio.sleep(DRAIN_IDLE_S)
        return Drained(0, seen - before)

    async def stop(self) -> None:
        """Close the sockets; messages just sent go out for 200 ms more."""
        for name in ("_collectors", "_features", "_guard", "_keyring"):
            if hasattr(self, name):
                getattr(self, name).close()
        for door in self._doors:
            door.close()

    def stats(self) -> dict[str, int | float | str | None]:
        """Return counters."""
        broadcasts = [door.broadcast for door in self._doors]
        answers = [door.answers for door in self._doors]
        return {
            "rows": self._rows_in,
            "records": self._records_in,
            "transformed": self._transformed,
            "sent": sum(broadcast.sent for broadcast in broadcasts),
            "topics": len(self._rows) + len(self._records),
            "topics_max": self.settings.topics_max,
            "schemas": len(self._schemas),
            "subscriptions": sum(broadcast.subscriptions for broadcast in broadcasts),
            "subscriptions_max": self.settings.subscriptions_max,
            "refused": sum(broadcast.refused for broadcast in broadcasts) + self._refused,
            "limited": self._limited,
            "answered": sum(answered.answered for answered in answers),
            "unanswered": sum(answered.dropped for answered in answers),
            "bad": self._bad,
            **(self._guard.stats() | {"tcp_keys": len(self._keyring)} if hasattr(self, "_guard") else {}),
        }


def _durations(schema: dict[str, Any]) -> list[int]:
    """Return the durations of bars a schema speaks of, in seconds."""
    found = schema.get("durations_s")
    if (
        not isinstance(found, list)
        or len(found) > DURATIONS_MAX
        or not all(type(one) is int for one in found)
    ):
        raise ValueError(
            f"cannot keep a schema of bars: durations_s is at most {DURATIONS_MAX} whole seconds"
        )
    return found


def public_addresses(settings: _Settings, runtime: str) -> tuple[list[str], list[str]]:
    """Return where strategies subscribe, and where they ask.

    Raises:
        FatalError: a TCP address is malformed, or other machines could reach it unencrypted.
    """
    ipc = settings.ipc or endpoints.gateway(runtime)
    public, requests = [ipc], [f"{ipc}.req"]
    if settings.tcp:
        matched = re.fullmatch(r"(tcp://.+):(\d{1,5})", settings.tcp)
        if matched is None or not 0 < int(matched[2]) < 65535:
            raise FatalError(f"cannot listen on {settings.tcp}: it must be tcp://HOST:PORT, port 1 to 65534")
        if not is_loopback(settings.tcp) and not settings.keys_dir:
            raise FatalError(
                f"cannot listen on {settings.tcp}: an address that other machines reach needs CURVE keys; "
                "name keys_dir in [gateway] and make them with `daedalus keys make`, or use tcp://127.0.0.1:PORT"
            )
        public.append(settings.tcp)
        requests.append(f"{matched[1]}:{int(matched[2]) + 1}")
    return public, requests
