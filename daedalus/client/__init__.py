"""Live rows in a strategy: `for row in feed`. Imports zmq and msgspec, and nothing heavy of ours.

    from daedalus.client import subscribe

    with subscribe("binance", "BTC/USDT", features=["microprice", "ofi_sum_5s"]) as feed:
        for row in feed:
            print(row.ts_recv_ns, row["microprice"], row.gap)

The same object works with `async with` and `async for`. Whoever is too slow loses rows and is told so:
`row.gap` counts what was lost before it. `feed.batch()` gives many rows at once, for NumPy and polars.
"""

import re
from collections.abc import Sequence

import zmq

from daedalus.client.batch import Batch
from daedalus.client.feed import Feed
from daedalus.client.find import find_runtime, gateway_address
from daedalus.client.rows import Row, Schema
from daedalus.records import sanitise
from daedalus.wire import RECORD_KINDS

__all__ = ["Batch", "Feed", "Row", "Schema", "find_runtime", "subscribe"]

KINDS = ("feature", "bar", *RECORD_KINDS)
_LOOPBACK = re.compile(r"tcp://(127(\.\d{1,3}){3}|localhost|\[::1\]):\d+")


def subscribe(
    exchange: str | None = None,
    symbol: str | None = None,
    *,
    features: Sequence[str] | None = None,
    kind: str = "feature",
    duration_s: int | None = None,
    endpoint: str | None = None,
    runtime: str | None = None,
    server_key: str | None = None,
    client_keys: tuple[str, str] | None = None,
    timeout_s: float = 10.0,
    idle_timeout_s: float | None = None,
) -> Feed:
    """Return a feed of live rows; it connects when it is entered.

    Args:
        exchange: name of its table in supervisor.toml; None: all.
        symbol: in either spelling, BTC/USDT or BTC-USDT; None: all of the exchange.
        features: the columns wanted, in this order; None: all.
        kind: feature, bar, or a record: book trade ticker depth gap.
        duration_s: the bars' length; None: all that are published.
        endpoint: the gateway's address, ipc://… or tcp://…; None: found in the runtime directory.
        runtime: the runtime directory; None: found as daedalus-ctl finds it.
        server_key: the gateway's public CURVE key (Z85); needed for TCP to another host.
        client_keys: this client's (public, secret) CURVE keys; None: made for the occasion.
        timeout_s: how long to wait for the gateway and the stream when the feed is entered.
        idle_timeout_s: how long to wait for a row; None: for ever.

    Raises:
        ValueError: the arguments contradict each other.
        LookupError: no runtime is found. On entering: an unknown exchange, symbol or feature.
        TimeoutError: on entering: the gateway does not answer.
    """
    if kind not in KINDS:
        raise ValueError(f"cannot subscribe to {kind!r}: the kinds are {', '.join(KINDS)}")
    if symbol is not None and exchange is None:
        raise ValueError(f"cannot subscribe to {symbol} of every exchange: name the exchange")
    if features is not None and (kind not in ("feature", "bar") or not features):
        raise ValueError(f"cannot select features of {kind!r}: name at least one, and only of feature or bar")
    if duration_s is not None and (kind != "bar" or symbol is None or duration_s < 1):
        raise ValueError(f"cannot use duration_s {duration_s}: at least 1 s, of bars, and of one symbol")
    names = [sanitise(name) for name in (exchange, symbol) if name is not None]
    names += [] if duration_s is None else [str(duration_s)]
    address = gateway_address(endpoint, runtime)
    curve = None
    if server_key is not None:
        keys = [key.encode() for key in client_keys] if client_keys else zmq.curve_keypair()
        curve = (server_key.encode(), keys[0], keys[1])
    elif address.startswith("tcp://") and not _LOOPBACK.fullmatch(address):
        raise ValueError(f"cannot subscribe at {address}: another host needs server_key")
    return Feed(
        "/".join([kind, *names, ""]),
        features=features,
        address=address,
        curve=curve,
        timeout_s=timeout_s,
        idle_timeout_s=idle_timeout_s,
    )
