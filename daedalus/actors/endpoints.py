"""Where actors meet: the one place that spells the names below the runtime directory.

ZeroMQ endpoints are returned as addresses (`ipc://…`), everything else as a path. The functions are pure;
nothing is created and nothing is looked up.
"""

__all__ = [
    "control",
    "gateway",
    "gateway_in",
    "gateway_req",
    "link",
    "notify",
    "pub",
    "replay",
    "spool",
    "spool_dir",
]


def _address(runtime: str, name: str) -> str:
    # inside the function: who only wants a path (the supervisor) does not load zmq
    from daedalus.kernel.mailbox import ipc_address

    return ipc_address(f"{runtime}/{name}")


def control(runtime: str) -> str:
    """Return the path of the supervisor's control socket."""
    return f"{runtime}/control.sock"


def notify(runtime: str) -> str:
    """Return the path of the supervisor's notify socket."""
    return f"{runtime}/notify.sock"


def link(runtime: str, channel: str) -> str:
    """Return the address of a writer's ROUTER, where collectors' links connect.

    Raises:
        ValueError: the path is over 107 bytes. So do all functions that return an address.
    """
    return _address(runtime, f"link-{channel}.sock")


def pub(runtime: str, exchange: str) -> str:
    """Return the address of a collector's PUB: `[topic, record]` in capture order."""
    return _address(runtime, f"pub-{exchange}.sock")


def replay(runtime: str, exchange: str) -> str:
    """Return the address of a collector's ROUTER that answers with records still in its spools."""
    return _address(runtime, f"replay-{exchange}.sock")


def gateway_in(runtime: str) -> str:
    """Return the address of the gateway's SUB, where feature actors' PUB sockets connect."""
    return _address(runtime, "gateway-in.sock")


def gateway(runtime: str) -> str:
    """Return the address of the gateway's XPUB, where strategies subscribe."""
    return _address(runtime, "gateway.sock")


def gateway_req(runtime: str) -> str:
    """Return the address of the gateway's ROUTER: schema, topics, last."""
    return _address(runtime, "gateway.sock.req")


def spool_dir(runtime: str) -> str:
    """Return the directory of all spools."""
    return f"{runtime}/spool"


def spool(runtime: str, exchange: str, channel: str, data_id: str = "") -> str:
    """Return the path of the spool of one collector and channel; `data_id`: of the data set it is for."""
    return f"{spool_dir(runtime)}/{exchange}-{channel}{'.' if data_id else ''}{data_id}.spool"
