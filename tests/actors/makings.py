"""An intake on a bench: real spools, links that only append, a clock in the hand, a listening publisher."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from daedalus.actors import channel as channel_module
from daedalus.actors.channel import Outlet
from daedalus.actors.intake import Intake
from daedalus.exchanges.adapter import BookFact, DepthFact, EventFact, Fault, Stream, TickerFact, TradeFact
from daedalus.kernel.clock import ManualClock
from daedalus.kernel.journal import Mark
from daedalus.records import AnyRecord, Flag, Gap, decode, pack_side

BTC = "BTC/USD"
START = 1_700_000_000_000_000_000
DISCONNECT = "disconnect"


class AppendingLink:
    """Appends to the spool, keeps the marks, never sends."""

    unacknowledged = 0

    def __init__(self, _address: str, *, spool: Any, **_: Any) -> None:
        self.spool = spool
        self.marks: dict[str, Mark] = {}

    def append(self, record: bytes, stream: str, mark: Mark) -> bool:
        if self.spool.append(record) is None:
            return False
        self.marks[stream] = mark
        return True

    def close(self) -> None:
        pass


class Listener:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.heard: list[tuple[bytes, bytes]] = []
        self.sent = 0

    def publish(self, parts: Sequence[bytes]) -> None:
        self.sent += 1
        self.heard.append((parts[0], parts[1]))


class Bench:
    """One process of a collector, without sockets. Several in turn share a directory, as after a restart."""

    def __init__(
        self,
        directory: Path,
        *keys: Stream,
        exchange: str = "x",
        spool_bytes: int = 1 << 20,
        asked: bool = True,
    ) -> None:
        self.clock = ManualClock(START)
        self.listener = Listener()
        self.intake = Intake(exchange, keys, self.clock)
        channels = dict.fromkeys(key.channel for key in keys)
        self.outlets = {
            channel: Outlet(
                channel,
                exchange=exchange,
                source="native",
                runtime=str(directory),
                spool_bytes=spool_bytes,
                batch=(64, 5),
                on_welcome=lambda *_: None,
            )
            for channel in channels
        }
        self.intake.open(self.outlets, self.listener)  # type: ignore[arg-type]
        if asked:
            self.intake.session.asked_at = self.intake.capture().ts_recv
        for channel in channels:
            self.intake.welcomed(channel, {}, [])

    @property
    def session(self) -> Any:
        return self.intake.session

    def take(self, *facts: Any, after_s: float = 0.001) -> None:
        """Let one message arrive, a little later."""
        self.clock.advance(after_s)
        self.intake.take(self.intake.capture(), facts)

    def lose(self, *keys: Stream, reason: Any = DISCONNECT, after_s: float = 0.001) -> None:
        self.clock.advance(after_s)
        self.intake.lost(Fault(keys, reason, "gone"), None)

    def records(self, channel: str = "trades") -> list[AnyRecord]:
        """Return what a channel's spool holds, in order."""
        spool = self.outlets[channel].spool
        found: list[AnyRecord] = []
        at = spool.oldest()
        while some := spool.read(at, 1024):
            found += [decode(one) for one in some]
            at += len(some)
        return found

    def rows(self, channel: str = "trades") -> list[Any]:
        return [one for one in self.records(channel) if not isinstance(one, Gap)]

    def gaps(self, channel: str = "trades") -> list[Gap]:
        return [one for one in self.records(channel) if isinstance(one, Gap)]

    def acknowledge(self) -> None:
        """Let the writers have stored everything."""
        for outlet in self.outlets.values():
            outlet.spool.acknowledge(outlet.spool.next_seq - 1)

    def close(self) -> None:
        for outlet in self.outlets.values():
            outlet.close()


def trade(
    number: int | None, *, symbol: str = BTC, flags: int = 0, ts_event: int | None = START
) -> TradeFact:
    return TradeFact(
        symbol=symbol,
        trade_id=None if number is None else str(number),
        ts_event=ts_event,
        side="buy",
        side_raw="BUY",
        price=100.0,
        amount=2.0,
        cost=200.0,
        flags=flags,
    )


def backfilled(number: int | None, **changes: Any) -> TradeFact:
    return trade(number, flags=int(Flag.BACKFILLED), **changes)


def book(bid: float = 100.0, ask: float = 101.0, *, symbol: str = BTC, flags: int = 0) -> BookFact:
    return BookFact(
        symbol=symbol,
        ts_event=START,
        nonce=None,
        bids=pack_side([(bid, 1.0)]),
        asks=pack_side([(ask, 1.0)]),
        flags=flags,
    )


def depth(kind: Any = "update", nonce: int = 1) -> DepthFact:
    return DepthFact(
        symbol=BTC,
        ts_event=START,
        nonce=nonce,
        kind=kind,
        first_exch_seq=nonce,
        bids=pack_side([(100.0, float(nonce))]),
        asks=pack_side([(101.0, 1.0)]),
        flags=int(Flag.SNAPSHOT) if kind == "snapshot" else 0,
    )


def event(channel: str = "bidask") -> EventFact:
    return EventFact(symbol=BTC, channel=channel, method="watchBidsAsks", ts_event=START, data_json="{}")


def ticker(**values: Any) -> TickerFact:
    return TickerFact(symbol=BTC, ts_event=START, **values)


@pytest.fixture
def make_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a maker of benches that share one directory; each call ends the one before."""
    monkeypatch.setattr(channel_module, "LinkSender", AppendingLink)
    made: list[Bench] = []

    def make(*keys: Stream, **options: Any) -> Bench:
        if made:
            made[-1].close()
        made.append(Bench(tmp_path, *keys, **options))
        return made[-1]

    yield make
    made[-1].close()
