"""One line of the control socket: requests read, replies written.

    request  {"v":1,"id":any,"cmd":"stop","args":{…},"timeout":s}
    reply    {"v":1,"id":…,"ok":true,"result":…}  or  {…,"ok":false,"error":{"code","message","actor"}}

A streamed reply has "more":true in all lines but the last.
"""

import contextlib
import math
from typing import Any

import msgspec

from daedalus.kernel.commands import COMMANDS, STREAMS
from daedalus.kernel.errors import ControlError

__all__ = ["Request", "id_in", "parse_request", "reply_line"]


class Request(msgspec.Struct, frozen=True):
    """One request."""

    cmd: str
    v: int = 1
    id: Any = None
    args: dict[str, Any] = {}
    timeout: float | None = None


class _Named(msgspec.Struct):
    id: Any = None


def parse_request(line: bytes) -> Request:
    """Return the request in a line.

    Raises:
        ControlError: it is none (code usage).
    """
    try:
        request = msgspec.json.decode(line, type=Request)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ControlError("usage", f"cannot read the request: {error}") from None
    if request.v != 1:
        raise ControlError("usage", f"cannot speak version {request.v} of the protocol: this is version 1")
    if request.cmd not in COMMANDS and request.cmd not in STREAMS:
        known = ", ".join(sorted((*COMMANDS, *STREAMS)))
        raise ControlError("usage", f"cannot do {request.cmd!r:.40}: the commands are {known}")
    if request.timeout is not None and not 0 <= request.timeout < math.inf:
        raise ControlError("usage", f"cannot wait {request.timeout:g} s: a timeout is 0 or more")
    return request


def id_in(line: bytes) -> Any:
    """Return the id of a request that is wrong in another way."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(line, type=_Named).id
    return None


def reply_line(
    request_id: Any, *, result: Any = None, error: ControlError | None = None, more: bool = False
) -> bytes:
    """Return the line that answers a request."""
    reply: dict[str, Any] = {"v": 1, "id": request_id, "ok": error is None}
    if error is not None:
        reply["error"] = {"code": error.code, "message": str(error), "actor": error.actor}
    else:
        reply["result"] = result
    if more:
        reply["more"] = True
    return msgspec.json.encode(reply) + b"\n"
