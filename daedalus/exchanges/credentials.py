"""The key of an exchange: from the environment or from files, and never in a message, a log or a status.

Public market data needs none. `DAEDALUS_COINBASE_API_KEY` and `DAEDALUS_COINBASE_API_SECRET` (the name of
the [exchanges.X] table) outrank the files. A file that is JSON with `name` and `privateKey`, as Coinbase's
developer platform hands it out, holds both.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from daedalus.kernel.telemetry import get_logger

__all__ = ["Credentials", "load_credentials"]

_FILE_BYTES_MAX = 64 * 1024
_EXPOSED = 0o077  # permission bits of others: a secret file has none


class Credentials(msgspec.Struct, frozen=True):
    """A key and its secret. Neither is ever shown."""

    key: str
    secret: str

    def __repr__(self) -> str:
        """Return a text without the values."""
        return "Credentials(key=<redacted>, secret=<redacted>)"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return nothing: rich prints the fields of a Struct without asking its `__repr__`."""
        return []


class _CdpFile(msgspec.Struct, rename={"secret": "privateKey"}):
    name: str
    secret: str


def load_credentials(
    exchange: str, key_file: str = "", secret_file: str = "", environ: Mapping[str, str] | None = None
) -> Credentials | None:
    """Return the key of an exchange; None if nothing is configured.

    Logs `secret_file_exposed` for a file that others than its owner may read or write.

    Args:
        exchange: name of the [exchanges.X] table.
        key_file: file with the key, or with both (JSON `name` and `privateKey`); empty: none.
        secret_file: file with the secret; empty: none.
        environ: the environment; None: the process's own.

    Raises:
        ValueError: only one of the two is there, or a file cannot be read. The message has no value in it.
    """
    environ = os.environ if environ is None else environ
    prefix = "DAEDALUS_" + re.sub(r"[^A-Z0-9]", "_", exchange.upper())
    key, secret = environ.get(f"{prefix}_API_KEY", ""), environ.get(f"{prefix}_API_SECRET", "")
    if not key and key_file:
        key = _read(key_file)
    if not secret and secret_file and not (secret_file == key_file and key.startswith("{")):
        secret = _read(secret_file)
    for text in (key, secret):
        if text.startswith("{"):
            key, secret = _both(exchange, text)
            break
    if not key and not secret:
        return None
    if not key or not secret:
        missing, there = ("secret", "key") if key else ("key", "secret")
        raise ValueError(f"cannot use the credentials of {exchange}: there is a {there} but no {missing}")
    return Credentials(key, secret.replace("\\n", "\n"))  # as environments and .env files spell a PEM


def _read(name: str) -> str:
    path = Path(name)
    try:
        mode = path.stat().st_mode & 0o777
        with path.open(encoding="utf-8") as file:
            text = file.read(_FILE_BYTES_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the secret file {path}: {type(error).__name__}") from None
    if len(text) > _FILE_BYTES_MAX:
        raise ValueError(f"cannot read the secret file {path}: it is longer than {_FILE_BYTES_MAX} bytes")
    if mode & _EXPOSED:
        get_logger().warning("secret_file_exposed", path=str(path), mode=f"{mode:04o}", wanted="0600")
    return text.strip()


def _both(exchange: str, text: str) -> tuple[str, str]:
    try:
        both = msgspec.json.decode(text, type=_CdpFile)
    except (msgspec.DecodeError, RecursionError):
        raise ValueError(
            f"cannot use the credentials of {exchange}: JSON must have the texts name and privateKey"
        ) from None
    return both.name, both.secret
