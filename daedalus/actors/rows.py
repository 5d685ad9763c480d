"""A fact and its stamp -> the record that is stored. Pure; one function per kind."""

from collections.abc import Callable
from typing import Any, NamedTuple

from daedalus.exchanges.adapter import (
    BookFact,
    DepthFact,
    EventFact,
    Fact,
    InstrumentFact,
    Now,
    TickerFact,
    TradeFact,
)
from daedalus.records import BookSnapshot, Depth, Event, Instrument, Row, Ticker, Trade

__all__ = ["Stamp", "make_instrument", "make_row"]


class Stamp(NamedTuple):
    """What only the collector knows of a row."""

    exchange: str
    symbol: str  # sanitised
    session_id: str
    clock_ok: bool
    ts_recv: int  # ns UTC
    seq: int
    flags: int


def _book(fact: BookFact, now: Now, stamp: Stamp) -> BookSnapshot:
    return BookSnapshot(
        exchange=stamp.exchange,
        symbol=stamp.symbol,
        collected_at=now.wall_ms,
        ts_recv=stamp.ts_recv,
        ts_event=fact.ts_event,
        nonce=fact.nonce,
        bids=fact.bids,
        asks=fact.asks,
        symbol_raw=fact.symbol,
        seq=stamp.seq,
        session_id=stamp.session_id,
        capture_mono_ns=now.mono_ns,
        clock_ok=stamp.clock_ok,
        exch_seq=fact.exch_seq,
        flags=stamp.flags,
    )


def _trade(fact: TradeFact, now: Now, stamp: Stamp) -> Trade:
    return Trade(
        exchange=stamp.exchange,
        symbol=stamp.symbol,
        collected_at=now.wall_ms,
        ts_recv=stamp.ts_recv,
        trade_id=fact.trade_id,
        ts_event=fact.ts_event,
        side=fact.side,
        price=fact.price,
        amount=fact.amount,
        cost=fact.cost,
        info_json=fact.info_json,
        symbol_raw=fact.symbol,
        seq=stamp.seq,
        session_id=stamp.session_id,
        capture_mono_ns=now.mono_ns,
        clock_ok=stamp.clock_ok,
        exch_seq=fact.exch_seq,
        flags=stamp.flags,
        side_raw=fact.side_raw,
    )


def _ticker(fact: TickerFact, now: Now, stamp: Stamp) -> Ticker:
    return Ticker(
        exchange=stamp.exchange,
        symbol=stamp.symbol,
        collected_at=now.wall_ms,
        ts_recv=stamp.ts_recv,
        bid=fact.bid,
        ask=fact.ask,
        bid_volume=fact.bid_volume,
        ask_volume=fact.ask_volume,
        last=fact.last,
        open=fact.open,
        high=fact.high,
        low=fact.low,
        close=fact.close,
        vwap=fact.vwap,
        base_volume=fact.base_volume,
        quote_volume=fact.quote_volume,
        change=fact.change,
        percentage=fact.percentage,
        ts_event=fact.ts_event,
        info_json=fact.info_json,
        symbol_raw=fact.symbol,
        seq=stamp.seq,
        session_id=stamp.session_id,
        capture_mono_ns=now.mono_ns,
        clock_ok=stamp.clock_ok,
        exch_seq=fact.exch_seq,
        flags=stamp.flags,
    )


def _depth(fact: DepthFact, now: Now, stamp: Stamp) -> Depth:
    return Depth(
        exchange=stamp.exchange,
        symbol=stamp.symbol,
        collected_at=now.wall_ms,
        ts_recv=stamp.ts_recv,
        ts_event=fact.ts_event,
        nonce=fact.nonce,
        kind=fact.kind,
        first_exch_seq=fact.first_exch_seq,
        bids=fact.bids,
        asks=fact.asks,
        symbol_raw=fact.symbol,
        seq=stamp.seq,
        session_id=stamp.session_id,
        capture_mono_ns=now.mono_ns,
        clock_ok=stamp.clock_ok,
        exch_seq=fact.exch_seq,
        flags=stamp.flags,
    )


def _event(fact: EventFact, now: Now, stamp: Stamp) -> Event:
    return Event(
        exchange=stamp.exchange,
        symbol=stamp.symbol,
        collected_at=now.wall_ms,
        ts_recv=stamp.ts_recv,
        channel=fact.channel,
        ts_event=fact.ts_event,
        method=fact.method,
        data_json=fact.data_json,
        symbol_raw=fact.symbol,
        seq=stamp.seq,
        session_id=stamp.session_id,
        capture_mono_ns=now.mono_ns,
        clock_ok=stamp.clock_ok,
        exch_seq=fact.exch_seq,
        flags=stamp.flags,
    )


_MAKERS: dict[type, Callable[[Any, Now, Stamp], Row]] = {
    BookFact: _book,
    TradeFact: _trade,
    TickerFact: _ticker,
    DepthFact: _depth,
    EventFact: _event,
}


def make_row(fact: Fact, now: Now, stamp: Stamp) -> Row:
    """Return the record of a fact."""
    return _MAKERS[type(fact)](fact, now, stamp)


def make_instrument(fact: InstrumentFact, now: Now, stamp: Stamp) -> Instrument:
    """Return the record of what an exchange says of a market."""
    return Instrument(
        exchange=stamp.exchange,
        symbol=stamp.symbol,
        collected_at=now.wall_ms,
        ts_recv=stamp.ts_recv,
        exchange_symbol=fact.exchange_symbol,
        kind=fact.kind,
        base=fact.base,
        quote=fact.quote,
        settle=fact.settle,
        tick_size=fact.tick_size,
        lot_size=fact.lot_size,
        min_amount=fact.min_amount,
        min_cost=fact.min_cost,
        contract_size=fact.contract_size,
        active=fact.active,
        info_json=fact.info_json,
        symbol_raw=fact.symbol,
        session_id=stamp.session_id,
    )
