"""Where things lie: the file, the data, the runtime directory. Pure, but for the working directory."""

import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from daedalus.kernel.locate import default_runtime

__all__ = ["Runtime", "candidates", "data_dir", "runtime_dir"]


class Runtime(NamedTuple):
    """The runtime directory and whether a logout deletes it."""

    path: str
    volatile: bool  # it lies in $XDG_RUNTIME_DIR


def candidates(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return where supervisor.toml is looked for when no --config is given."""
    if env.get("DAEDALUS_CONFIG"):
        return (env["DAEDALUS_CONFIG"],)
    return ("./supervisor.toml", "/etc/daedalus/supervisor.toml")


def _first(value: str) -> str:
    return value.partition(":")[0]  # systemd joins several directories with colons


def _absolute(path: str) -> str:
    # not resolved: a link that the user made keeps its name in messages and in `status`
    return os.path.normpath(Path.cwd() / Path(path).expanduser())


def data_dir(flag: str | None, configured: str, env: Mapping[str, str]) -> str:
    """Return the absolute data directory; relative paths count from the working directory."""
    return _absolute(flag or configured or _first(env.get("STATE_DIRECTORY", "")) or "./data")


def runtime_dir(flag: str | None, configured: str, env: Mapping[str, str], uid: int) -> Runtime:
    """Return the absolute runtime directory; what is used when none is named is the kernel's to say."""
    xdg = env.get("XDG_RUNTIME_DIR", "")
    path = _absolute(flag or configured or default_runtime(env, uid))
    return Runtime(path, bool(xdg) and path.startswith(_absolute(xdg) + "/"))
