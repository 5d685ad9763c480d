"""The control endpoint's commands: what POST /ctl takes, and what it answers.

{"cmd": "start"}   {"cmd": "pause"}   {"fault": NAME, "exchange": …, …: the menu}
"""

from typing import Any

import msgspec

from daedalus.kernel.errors import ConfigError
from daedalus.simulator.exchange import Exchange
from daedalus.simulator.menu import read_order

__all__ = ["command"]


def command(exchange: Exchange, body: bytes) -> tuple[int, dict[str, Any]]:
    """Carry out one command; return the status and the answer.

    `{"cmd": "fault", "kind": NAME}` is the older spelling of a fault.
    """
    try:
        what = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _refused(f"cannot read the command: {error}")
    name = what.pop("cmd", "fault" if "fault" in what else None)
    if name == "fault":
        kind = what.pop("kind", None)
        what.setdefault("fault", kind)
        try:
            order = read_order(what, exchange.places)
        except ConfigError as error:
            return _refused(str(error))
        return 200, {"ok": True, "connections": len(exchange.order(order))}
    if name == "start":
        exchange.start()
    elif name == "pause":
        exchange.pause()
    else:
        return _refused(f"unknown command {name!r}: there are start, pause, fault")
    return 200, {"ok": True, "state": str(exchange.playhead.state)}


def _refused(why: str) -> tuple[int, dict[str, Any]]:
    return 400, {"ok": False, "error": why}
