"""`daedalus keys`: who may subscribe from another machine: make, list and revoke their CURVE keys."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from daedalus.kernel.errors import EXIT_FAILED, EXIT_USAGE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["command"]

_LISTED = ("name", "public", "made_at")


def _common(command: "Callable[..., Any]") -> "Callable[..., Any]":
    """Add the options that all three have."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="JSON on stdout."),
        click.option("--config", type=click.Path(), help="supervisor.toml; its [gateway] names keys_dir."),
        click.option("--keys-dir", type=click.Path(path_type=Path), help="The directory, over the file's."),
    ):
        command = option(command)
    return command


@click.group("keys")
def command() -> None:
    """Keys of those who subscribe over TCP. A running gateway follows every change at once."""


@command.command("make")
@click.argument("name")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the keys to this new file (0600), not to stdout."
)
@_common
def make_key(
    name: str, out: Path | None, keys_dir: Path | None, config: str | None, *, as_json: bool
) -> None:
    """Make a key for the subscriber NAME, let it in, and print what its client needs.

    The secret is shown once and kept nowhere: who loses it gets a new key.
    """
    from daedalus.actors import keyring
    from daedalus.kernel.errors import FatalError

    directory, endpoint = _place(keys_dir, config)
    if out is not None and out.exists():
        _fail(f"cannot write the keys to {out}: it exists")
    fresh = not (directory / "server.secret").exists()
    try:
        key = keyring.make(directory, name)
        server_key = keyring.public_of(keyring.server_secret(directory))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except FileExistsError:
        _fail(f"cannot make the key of {name}: there is one in {directory}; revoke it first")
    except (FatalError, OSError) as error:
        _fail(f"cannot make the key of {name}: {error}")
    if fresh:
        click.echo(f"daedalus: {directory} is new: only a gateway of this keys_dir knows {name}", err=True)
    found = {
        "name": key.name,
        "public": key.public,
        "secret": key.secret,
        "server_key": server_key,
        "endpoint": endpoint,
    }
    if out is not None:
        try:
            fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w") as file:
                file.write(json.dumps(found, indent=1) + "\n")
        except OSError as error:
            keyring.revoke(directory, name)  # nobody has its secret
            _fail(f"cannot write the keys to {out}: {error.strerror}")
        found["secret"], found["out"] = None, str(out)
    _print(found, as_json=as_json)


@command.command("list")
@_common
def list_keys(keys_dir: Path | None, config: str | None, *, as_json: bool) -> None:
    """List the keys in force."""
    from daedalus.actors import keyring

    directory, _ = _place(keys_dir, config)
    if not directory.is_dir():
        _fail(f"cannot list the keys of {directory}: there is no such directory")
    keys, faults = keyring.clients(directory)
    rows = [{"name": key.name, "public": key.public, "made_at": _time(key.made_at)} for key in keys]
    if as_json:
        _write(json.dumps({"keys": rows, "faults": faults}, indent=1))
    else:
        table = [_LISTED, *(tuple(row[name] for name in _LISTED) for row in rows)]
        widths = [max(len(row[at]) for row in table) for at in range(len(_LISTED))]
        for row in table:
            _write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for fault in faults:
        click.echo(f"daedalus: {fault}", err=True)
    if faults:
        sys.exit(EXIT_FAILED)


@command.command("revoke")
@click.argument("name")
@_common
def revoke_key(name: str, keys_dir: Path | None, config: str | None, *, as_json: bool) -> None:
    """Let NAME in no longer. Its connections are hung up on at once; nobody else's are."""
    from daedalus.actors import keyring

    directory, _ = _place(keys_dir, config)
    try:
        keyring.revoke(directory, name)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except FileNotFoundError:
        _fail(f"cannot revoke the key of {name}: there is none in {directory}")
    except OSError as error:
        _fail(f"cannot revoke the key of {name}: {error.strerror}")
    if as_json:
        _write(json.dumps({"name": name, "revoked": True}))
    else:
        _write(f"revoked {name}")


def _place(keys_dir: Path | None, config: str | None) -> tuple[Path, str | None]:
    """Return the directory of the keys and the address they are for, as far as that is known."""
    if keys_dir is not None and config is None:
        return keys_dir, None
    import msgspec

    from daedalus.actors.gateway import Settings
    from daedalus.config import load
    from daedalus.kernel.errors import ConfigError

    try:
        tree = load(config)
    except ConfigError as error:
        _fail("\n".join([str(error), *error.faults]), EXIT_USAGE)
    found = Settings()
    for spec in tree.actors:
        if spec.role == "gateway":
            found = msgspec.msgpack.decode(spec.settings, type=Settings)
    if keys_dir is None and not found.keys_dir:
        raise click.UsageError("no directory of keys is named: set keys_dir in [gateway], or give --keys-dir")
    return keys_dir or Path(found.keys_dir).expanduser(), found.tcp or None


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _write(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        if value is not None:
            _write(f"{name:10}  {value}")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _write(line: str) -> None:
    click.echo(line)


def _fail(message: str, code: int = EXIT_FAILED) -> NoReturn:
    click.echo(f"daedalus: {message}", err=True)
    sys.exit(code)
