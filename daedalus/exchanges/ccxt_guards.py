"""What must be seen in a raw message before ccxt's own handlers see it. Pure, one guard a connection.

    Coinbase    sequence_num counts every message of a connection, heartbeats included; ccxt ignores it, and
                after 20 lost frames 816 of 816 of its books were wrong without an error
    OKX         a book's prevSeqId is the seqId before; ccxt looks at it when the live book is changed already
    Kraken      a refused subscription that names no request: ccxt drops the message and waits for ever

Binance's own sequence (U, u, pu) is checked by ccxt, in time.
"""

from collections.abc import Mapping
from typing import Any

from daedalus.exchanges.adapter import Fault

__all__ = ["HEARTBEATS", "BrokenSequenceError", "Guard", "Request", "guard_of", "trades_before"]

_COINBASE = {"coinbase", "coinbaseadvanced"}
_OKX = {"okx", "okxus", "myokx"}
_OKX_BOOKS = {"books", "books-l2-tbt", "books50-l2-tbt", "books-rpi"}
_ACKNOWLEDGING = {*_COINBASE, *_OKX, "kraken", "binance", "binanceus", "binanceusdm", "binancecoinm"}
HEARTBEATS = {
    name: {"type": "subscribe", "product_ids": [], "channel": "heartbeats"} for name in sorted(_COINBASE)
}
"""What to send once on a new connection, so that the exchange speaks every second."""

_IDS = ("id", "req_id", "reqid", "reqId")
_DETAIL_MAX = 200
_BOOKS_MAX = 5_000  # of one connection: more than OKX lets it subscribe to
_NAME_MAX = 64  # characters of an instrument


class BrokenSequenceError(Exception):
    """A guard refuses a message: what it belongs to cannot be trusted any more."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the words of the fault that follows."""
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def fault(self, streams: tuple[Any, ...]) -> Fault:
        """Return the fault of a connection that carries `streams`."""
        return Fault(streams, self.reason, self.detail)  # type: ignore[arg-type]


class Guard:
    """Lets everything through: exchanges without numbers of their own."""

    def check(self, message: Any) -> None:
        """Look at a decoded message.

        Raises:
            BrokenSequenceError: something before it is missing, or it is an error ccxt does not see.
        """


class _Coinbase(Guard):
    def __init__(self) -> None:
        self._last: int | None = None

    def check(self, message: Any) -> None:
        number = message.get("sequence_num") if isinstance(message, dict) else None
        if not isinstance(number, int):
            return
        last, self._last = self._last, number
        if last is not None and number != last + 1:
            raise BrokenSequenceError("sequence", f"sequence_num {number} after {last}")


class _Okx(Guard):
    def __init__(self) -> None:
        self._last: dict[tuple[str, str], int] = {}

    def check(self, message: Any) -> None:
        arg = message.get("arg") if isinstance(message, dict) else None
        if not isinstance(arg, dict) or arg.get("channel") not in _OKX_BOOKS:
            return
        key = (arg["channel"], str(arg.get("instId")))
        for update in message.get("data") or ():
            number, before = _whole(update.get("seqId")), _whole(update.get("prevSeqId"))
            if number is None:
                continue
            if message.get("action") == "snapshot":
                if key not in self._last and (len(self._last) >= _BOOKS_MAX or len(key[1]) > _NAME_MAX):
                    detail = f"{key[1]} {key[0]}: nobody asked for book {len(self._last) + 1} of a connection"
                    raise BrokenSequenceError("error", detail[:_DETAIL_MAX])
                self._last[key] = number
                continue
            last = self._last.get(key)
            if last is None or before != last:
                raise BrokenSequenceError(
                    "sequence", f"{key[1]} {key[0]}: prevSeqId {before} after seqId {last}"
                )
            self._last[key] = number


class _Kraken(Guard):
    def check(self, message: Any) -> None:
        if isinstance(message, dict) and message.get("success") is False:
            raise BrokenSequenceError("error", f"refused: {message.get('error')}"[:_DETAIL_MAX])


def guard_of(exchange_id: str) -> Guard:
    """Return the guard of a new connection."""
    if exchange_id in _COINBASE:
        return _Coinbase()
    if exchange_id in _OKX:
        return _Okx()
    return _Kraken() if exchange_id == "kraken" else Guard()


def trades_before(exchange_id: str, message: Any) -> bool:
    """Return whether the trades of a message happened before its subscription: a snapshot of recent ones."""
    if not isinstance(message, dict):
        return False
    if exchange_id == "kraken":
        return message.get("type") == "snapshot"
    if exchange_id in _COINBASE:
        events = message.get("events")
        return isinstance(events, list) and any(
            isinstance(event, dict) and event.get("type") == "snapshot" for event in events
        )
    return False


class Request:
    """A subscription on its way: which message says that it is in force.

    An acknowledgement counts as the first good message after a gap. One that is not understood does not:
    then the gap lasts until the stream itself speaks, which is late but never wrong.
    """

    def __init__(self, exchange_id: str, message: Mapping[str, Any], sent_ns: int) -> None:
        """Take the message that was sent, and when (monotonic, ns)."""
        self.sent_ns = sent_ns
        self.understood = exchange_id in _ACKNOWLEDGING
        self.confirmed = False
        self._ids = {name: str(message[name]) for name in _IDS if message.get(name) is not None}
        args = message.get("args")
        self._left = [arg for arg in args if isinstance(arg, dict)] if isinstance(args, list) else []
        self._coinbase = message if exchange_id in _COINBASE else None

    @classmethod
    def of(cls, exchange_id: str, message: Any, sent_ns: int) -> "Request | None":
        """Return the request that a message is; None: a ping, or nothing that subscribes."""
        if not isinstance(message, dict):
            return None
        words = {str(message.get(key, "")).lower() for key in ("op", "method", "type", "event")}
        return None if words & {"ping", "pong", "login", "auth"} else cls(exchange_id, message, sent_ns)

    def answered(self, message: Any) -> bool:
        """Return whether the subscription is in force, given one more decoded message."""
        if not self.confirmed and isinstance(message, dict):
            self.confirmed = self._by_id(message) or self._by_arg(message) or self._by_list(message)
        return self.confirmed

    def _by_id(self, message: dict[str, Any]) -> bool:
        return any(str(message.get(name)) == number for name, number in self._ids.items())

    def _by_arg(self, message: dict[str, Any]) -> bool:
        """OKX answers each argument by itself."""
        arg = message.get("arg")
        if not self._left or message.get("event") != "subscribe" or not isinstance(arg, dict):
            return False
        self._left = [
            mine for mine in self._left if any(arg.get(key) != value for key, value in mine.items())
        ]
        return not self._left

    def _by_list(self, message: dict[str, Any]) -> bool:
        """Coinbase answers with the list of everything that is subscribed."""
        if self._coinbase is None or message.get("channel") != "subscriptions":
            return False
        events = message.get("events")
        event = events[0] if isinstance(events, list) and events and isinstance(events[0], dict) else {}
        there = event.get("subscriptions")
        names = there.get(self._coinbase.get("channel"), ()) if isinstance(there, dict) else ()
        wanted = self._coinbase.get("product_ids") or ()
        # a product that is another's alias is acknowledged under either name
        return all(name in names or name.removesuffix("C") in names for name in wanted)


def _whole(value: object) -> int | None:
    if isinstance(value, str) and value.lstrip("-").isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
