"""What the connections of one native exchange have in common: options, allowances, counters, a turn.

An exchange counts by address: new connections and REST weights belong to all connections together, and to
the ones that follow them, so that a storm of reconnects stays within the limits.
"""

import asyncio
from urllib.parse import urlsplit

import msgspec

from daedalus.exchanges.adapter import Limits
from daedalus.exchanges.bucket import Bucket
from daedalus.exchanges.rest import Rest

__all__ = ["Shared", "SocketOptions", "shown"]


class SocketOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How connections behave. Durations in seconds unless the name says otherwise."""

    url: str
    rest_url: str = ""
    keepalive_s: float = 12.0
    stale_min_s: float = 10.0
    stale_max_s: float = 120.0
    reconnect_base_s: float = 0.5
    reconnect_cap_s: float = 300.0
    rotate_after_h: float = 23.0
    backfill: bool = True
    raw_capture: str = "off"  # off | info | frames
    handshake_s: float = 10.0
    ready_s: float = 60.0  # a second connection has so long to become ready
    instruments_after_s: float = 5.0  # after the first connection


class Shared:
    """One for each exchange of a process."""

    def __init__(self, options: SocketOptions, limits: Limits, share: int = 1) -> None:
        """Begin with what a new process may assume (see `bucket`).

        Args:
            options: of every connection.
            limits: the exchange's own.
            share: 1/share of what it allows an address is ours.
        """
        self.options = options
        self.age_s = limits.age_s
        self.sends = limits.sends
        self.connects = Bucket.shared(limits.connects, share=share)
        rest = Bucket.shared(limits.rest, share=share)
        self.rest = Rest(options.rest_url, rest, base_s=options.reconnect_base_s)
        self.turn = asyncio.Lock()  # of who replaces its connection: never two at once
        self.connects_made = 0
        self.faults = 0  # that ended a connection, or kept one from being opened
        self.resyncs = 0  # faults of some streams that their connection outlived
        self.backfilled = 0  # trades
        self.rotations = 0
        self.sends_waited = 0


def shown(url: str) -> str:
    """Return an address as logs may show it: without a password or a query.

    >>> shown("wss://me:secret@proxy.example:8443/ws?token=1")
    'wss://proxy.example:8443/ws'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
