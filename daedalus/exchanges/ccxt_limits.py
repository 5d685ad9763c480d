"""How fast an exchange may be asked, beside or in place of ccxt's own pace.

ccxt's leaky bucket has no burst, and fills only while somebody waits: a Binance book of 5000 levels costs
whoever comes next 2.5 s, so that after a lost connection every book, and every missed trade, would come one
after the other. Binance counts weight per minute; here a quarter of that may be spent at once. On its
websockets ccxt would send 20 messages a second, where 5 are allowed.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from daedalus.exchanges.bucket import Bucket
from daedalus.exchanges.ccxt_options import CcxtOptions

__all__ = ["Throttle", "allowed", "paced", "sends", "slowed"]

# New sockets, or subscriptions where a socket carries them all, from one address: (how many, in s). The
# exchanges' own documents; Binance has one socket for each subscription.
_ALLOWED = {
    "binance": (300.0, 300.0),
    "coinbase": (8.0, 1.0),
    "kraken": (150.0, 600.0),
    "okx": (3.0, 1.0),
}
_ALLOWED_ELSE = (60.0, 10.0)
_SENDS = {
    "binanceusdm": (10.0, 1.0),
    "binancecoinm": (10.0, 1.0),
    "binance": (5.0, 1.0),
    "coinbase": (8.0, 1.0),
}
_UNLIMITED = (60_000.0, 1.0)
_LOOPBACK = ("127.", "localhost", "[::1]")
_WINDOW_S = 60.0


class Throttle:
    """A bucket in the place of ccxt's throttler, of an exchange or of a websocket."""

    def __init__(self, bucket: Bucket) -> None:
        """Take from `bucket`."""
        self.bucket = bucket
        self.loop: Any = None  # ccxt sets it

    async def __call__(self, cost: float | None = None) -> None:
        """Wait for what a request costs."""
        await self.bucket.take(1.0 if cost is None else float(cost))


def allowed(options: CcxtOptions) -> tuple[float, float]:
    """Return how many subscriptions the exchange allows, in how many seconds; a simulator allows them all."""
    if options.allowed is not None:
        return options.allowed
    if _simulated(options):
        return _UNLIMITED
    known = next((limit for name, limit in _ALLOWED.items() if options.id.startswith(name)), None)
    return known or _ALLOWED_ELSE


def paced(options: CcxtOptions, rate_limit_ms: float) -> Throttle | None:
    """Return the throttle of an exchange's requests where ccxt's will not do.

    Args:
        options: of which exchange.
        rate_limit_ms: ccxt's: a request of cost 1 is allowed every so many milliseconds.
    """
    if _simulated(options):
        return Throttle(Bucket(*_UNLIMITED))
    if not options.id.startswith("binance") or rate_limit_ms <= 0:
        return None
    per_s = 1000.0 / rate_limit_ms / options.share
    # capacity + rate x window is the allowance; half of the burst is left to the process before this one
    burst = per_s * _WINDOW_S / 4
    return Throttle(Bucket(max(burst, 1.0), per_s * 0.75, fill=burst / 2))


def slowed(throttler: Any, share: int) -> None:
    """Slow ccxt's own throttler down to 1/share of an exchange's pace.

    Its rolling window is made longer, not emptier: a request that costs more than a window holds would never
    be made.
    """
    config = throttler.config
    config["refillRate"] /= share
    config["windowSize"] *= share


def sends(exchange_id: str) -> Throttle | None:
    """Return the throttle of what is sent on a new websocket; None: ccxt's own."""
    known = next((limit for name, limit in _SENDS.items() if exchange_id.startswith(name)), None)
    return None if known is None else Throttle(Bucket.own(known))


def _simulated(options: CcxtOptions) -> bool:
    return any(_is_loopback(text) for text in _texts(options.overrides.get("urls")))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for below in value.values():
            yield from _texts(below)


def _is_loopback(url: str) -> bool:
    scheme, _, rest = url.partition("://")
    return scheme in ("ws", "wss") and rest.startswith(_LOOPBACK)
