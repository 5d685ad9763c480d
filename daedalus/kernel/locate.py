"""Where the runtime directory is: one answer for the supervisor that makes it and the clients that seek it.

Standard library only; the control client imports it.
"""

import os
import re
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

__all__ = [
    "SOCKET_PATH_MAX",
    "candidates",
    "check_trusted",
    "default_runtime",
    "find_socket",
    "is_live",
    "is_loopback",
]

SOCKET_PATH_MAX = 107  # bytes of a Unix socket's path
SYSTEM = "/run/daedalus"
_PRIVATE = (0o700, 0o710, 0o711, 0o750)  # the wider ones let a Unix group reach the control socket


def _temporary(uid: int) -> str:
    return f"/tmp/daedalus-{uid}"  # noqa: S108 - refused below unless it is ours and 0700


def _named(environ: Mapping[str, str]) -> list[str]:
    # systemd joins several directories with colons
    return [environ["RUNTIME_DIRECTORY"].split(":")[0]] if environ.get("RUNTIME_DIRECTORY") else []


def _own(environ: Mapping[str, str], uid: int) -> list[str]:
    xdg = environ.get("XDG_RUNTIME_DIR")
    return [*([f"{xdg}/daedalus"] if xdg else []), _temporary(uid)]


def default_runtime(environ: Mapping[str, str], uid: int | None = None) -> str:
    """Return the directory that a supervisor of user `uid` (ours) uses when none is configured."""
    return (_named(environ) + _own(environ, os.geteuid() if uid is None else uid))[0]


def candidates(environ: Mapping[str, str]) -> list[str]:
    """Return the directories a client looks into, in order."""
    return [*_named(environ), SYSTEM, *_own(environ, os.geteuid())]


def check_trusted(directory: str) -> None:
    """Refuse a directory in a place where anybody may make one.

    Raises:
        PermissionError: it is not a directory of ours that only we can change.
        FileNotFoundError: it is not there.
    """
    found = Path(directory).lstat()
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or mode not in _PRIVATE:
        raise PermissionError(
            f"cannot trust {directory}: uid {found.st_uid}, mode {mode:04o}; it must be a directory of "
            f"uid {os.geteuid()} with mode 0700, 0710 or 0750"
        )


def is_live(path: str) -> bool:
    """Return whether somebody listens on the Unix socket at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1.0)
        try:
            sock.connect(path)
        except (OSError, ValueError):
            return False
    return True


def find_socket(environ: Mapping[str, str], *, path: str = "", runtime: str = "") -> str:
    """Return the path of the control socket to use.

    Args:
        environ: the environment.
        path: the socket itself, if it was named.
        runtime: its directory, if that was named.

    Raises:
        ValueError: the path does not fit in a socket address.
        FileNotFoundError: nothing was named and no supervisor listens anywhere.
        PermissionError: what there is cannot be trusted.
    """
    named = path or (runtime and f"{runtime}/control.sock")
    if not named and environ.get("DAEDALUS_RUNTIME"):
        named = f"{environ['DAEDALUS_RUNTIME']}/control.sock"
    if named:
        size = len(os.fsencode(named))
        if size > SOCKET_PATH_MAX:
            raise ValueError(f"cannot use the socket path {named}: {size} bytes, at most {SOCKET_PATH_MAX}")
        return named
    tried = []
    for directory in candidates(environ):
        candidate = f"{directory}/control.sock"
        if directory == _temporary(os.geteuid()) and Path(directory).exists():
            check_trusted(directory)
        if is_live(candidate):
            return candidate
        tried.append(directory)
    raise FileNotFoundError(f"cannot reach a supervisor: none listens in {', '.join(dict.fromkeys(tried))}")


def is_loopback(address: str) -> bool:
    """Return whether a ZeroMQ address cannot be reached from another machine."""
    loopback = r"tcp://(127(\.\d{1,3}){3}|localhost|\[::1\]):[^:]+"
    return not address.startswith("tcp://") or re.fullmatch(loopback, address) is not None
