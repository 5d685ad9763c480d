"""What is sent to Binance: names of streams in an address, and requests on an open connection."""

from collections.abc import Sequence
from urllib.parse import quote as quoted

import msgspec

from daedalus.exchanges.adapter import Send

__all__ = ["fitting", "request"]

ADDRESS_MAX = 4_000  # characters of stream names: more is subscribed by message


def fitting(names: list[str]) -> list[str]:
    """Return the first names that together fit into an address."""
    length = 0
    for count, name in enumerate(names):
        length += len(quoted(name, safe="@")) + 1
        if length > ADDRESS_MAX:
            return names[:count]
    return names


def request(number: int, method: str, params: Sequence[str] = ()) -> Send:
    """Return a request on an open connection, whose answer has its number."""
    message: dict[str, object] = {"method": method, "id": number}
    if params:
        message["params"] = params
    return Send(msgspec.json.encode(message))
