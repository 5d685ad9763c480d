"""Where the gateway is: the runtime directory, as daedalus-ctl finds it, and the addresses in it."""

import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

__all__ = ["candidates", "find_runtime", "gateway_address", "request_address"]

_SUN_PATH_MAX = 107


_PRIVATE = (0o700, 0o710, 0o711, 0o750)  # the wider ones let a Unix group reach the control socket


def _temporary() -> str:
    return f"/tmp/daedalus-{os.geteuid()}"  # noqa: S108 - refused below unless it is ours and 0700


def candidates(environ: Mapping[str, str]) -> list[str]:
    """Return the directories looked into, in order: those of `daedalus-ctl`, without importing its kernel."""
    named = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    session = environ.get("XDG_RUNTIME_DIR")
    found = [named, "/run/daedalus", str(Path(session) / "daedalus") if session else "", _temporary()]
    return [place for place in found if place]


def find_runtime(runtime: str | None = None) -> str:
    """Return the runtime directory: `runtime`, $DAEDALUS_RUNTIME, or the first live one of the usual.

    Raises:
        LookupError: none is live, or the one in /tmp is not ours alone.
    """
    named = runtime or os.environ.get("DAEDALUS_RUNTIME")
    if named:
        return str(Path(named).absolute())
    places = candidates(os.environ)
    for place in places:
        if place == _temporary():
            _check_trusted(place)
        if any(_listens(f"{place}/{name}") for name in ("control.sock", "gateway.sock")):
            return place
    tried = ", ".join(dict.fromkeys(places))
    raise LookupError(f"cannot find a running daedalus: none of {tried} is live; give runtime=")


def _check_trusted(place: str) -> None:
    # anybody may make a directory in /tmp, and listen there
    if Path(place).exists():
        found = Path(place).lstat()
        mode = stat.S_IMODE(found.st_mode)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or mode not in _PRIVATE:
            raise LookupError(
                f"cannot trust {place}: uid {found.st_uid}, mode {mode:04o}; it must be a directory of "
                f"uid {os.geteuid()} with mode 0700, 0710 or 0750"
            )


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (OSError, ValueError):
            return False
        return True


def request_address(address: str) -> str:
    """Return where the gateway at `address` answers questions."""
    if not address.startswith("tcp://"):
        return f"{address}.req"
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + 1}"


def gateway_address(endpoint: str | None, runtime: str | None) -> str:
    """Return the gateway's address: `endpoint` as it is, or the socket in the runtime directory.

    Raises:
        ValueError: the path is over 107 bytes, or the address is neither ipc:// nor tcp://HOST:PORT.
        LookupError: no runtime is found.
    """
    address = endpoint or f"{find_runtime(runtime)}/gateway.sock"
    if "://" not in address:
        address = f"ipc://{address}"
    scheme, _, place = address.partition("://")
    if scheme == "tcp" and place.rpartition(":")[2].isdecimal():
        return address
    if scheme != "ipc":
        raise ValueError(f"cannot subscribe at {address}: it must be ipc://PATH or tcp://HOST:PORT")
    length = len(f"{place}.req".encode())
    if length > _SUN_PATH_MAX:
        raise ValueError(
            f"cannot use the socket path {place}.req: {length} bytes, at most {_SUN_PATH_MAX}; "
            "choose a shorter runtime directory"
        )
    return address
