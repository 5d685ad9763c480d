"""The keys of `[gateway] keys_dir`: the gateway's own secret, and the public key of each subscriber.

    keys_dir/server.secret        the gateway's secret key, 0600; made when first needed
    keys_dir/clients/NAME.pub     one subscriber's public key; its secret is printed once and kept nowhere

A key is one line of 40 characters (Z85). A file is put there whole, by rename, and is in force when it is
there: the gateway watches the directory. Removing it is the revocation.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from daedalus.kernel.errors import FatalError
from daedalus.kernel.inotify import APPEARS, GONE, Inotify
from daedalus.kernel.telemetry import get_logger
from daedalus.kernel.zap import new_keys, public_of

__all__ = ["Key", "Keyring", "clients", "make", "public_of", "revoke", "server_secret"]

KEYS_MAX = 10_000
LOOK_AGAIN_S = 5.0  # where there is no inotify
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_Z85 = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_WRITTEN = 0x00000008 | 0x00000040 | 0x00000200  # IN_CLOSE_WRITE | IN_MOVED_FROM | IN_DELETE


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A subscriber's key."""

    name: str
    public: str  # Z85
    secret: str = ""  # Z85; known when it was just made
    made_at: float = 0.0  # seconds since 1970, UTC


def server_secret(directory: Path) -> str:
    """Return the gateway's secret key; it is made when there is none.

    Raises:
        FatalError: it cannot be read or made, is no key, or others than its owner may read it.
    """
    path = directory / "server.secret"
    try:
        for folder in (directory, directory / "clients"):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _belong(folder, folder.parent)
        with contextlib.suppress(FileExistsError):
            _create(path, new_keys()[1])
        mode = path.stat().st_mode & 0o777
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise FatalError(f"cannot use the key of the gateway {path}: {error.strerror}") from error
    if mode & 0o077:
        raise FatalError(f"cannot use the key of the gateway {path}: mode {mode:04o}, it must be 0600")
    if not _Z85.fullmatch(text):
        raise FatalError(f"cannot use the key of the gateway {path}: not 40 characters of Z85")
    return text


def make(directory: Path, name: str) -> Key:
    """Make a key for the subscriber `name`, let it in, and return it with its secret.

    Raises:
        ValueError: the name cannot be a file's.
        FileExistsError: there is a key of that name.
        FatalError: the gateway's key cannot be used.
        OSError: the files cannot be written.
    """
    _check(name)
    server_secret(directory)
    public, secret = new_keys()
    _create(_path(directory, name), public)
    return Key(name=name, public=public, secret=secret)


def revoke(directory: Path, name: str) -> None:
    """Remove the key of `name`. A running gateway hangs up on its connections at once.

    Raises:
        ValueError: the name cannot be a file's.
        FileNotFoundError: there is none.
        OSError: it cannot be removed.
    """
    _check(name)
    _path(directory, name).unlink()
    _sync(directory / "clients")


def clients(directory: Path) -> tuple[list[Key], list[str]]:
    """Return the keys in force, by name, and what is wrong with other files there."""
    found, faults = [], []
    for path in sorted((directory / "clients").glob("*.pub")):
        if path.name.startswith("."):
            continue
        try:
            found.append(_read(path))
        except (OSError, ValueError) as error:
            faults.append(f"cannot read the key {path}: {error}")
    return found, faults


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"cannot name a key {name[:80]!r}: letters, digits and . _ - from a letter or digit, at most 64"
        )


def _path(directory: Path, name: str) -> Path:
    return directory / "clients" / f"{name}.pub"


def _read(path: Path) -> Key:
    name = path.name.removesuffix(".pub")
    _check(name)
    with path.open("rb") as file:
        text = file.read(200).decode(errors="replace").strip()
        made_at = os.fstat(file.fileno()).st_mtime
    if not _Z85.fullmatch(text):
        raise ValueError("not 40 characters of Z85")
    return Key(name=name, public=text, made_at=made_at)


def _create(path: Path, key: str) -> None:
    """Write a new file, private and whole, and never in place of another."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "w") as file:
            _belong(fd, path.parent)
            file.write(f"{key}\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        draft.unlink()
    _sync(path.parent)


def _belong(made: Path | int, directory: Path) -> None:
    """Give what root makes to the owner of the directory it is in: the gateway is to read it.

    A file by its descriptor, and no link is followed: that owner could put another's file in its place.
    """
    if os.geteuid() == 0:
        above = directory.stat()
        if isinstance(made, int):
            os.fchown(made, above.st_uid, above.st_gid)
        else:
            os.chown(made, above.st_uid, above.st_gid, follow_symlinks=False)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Keyring:
    """The subscribers let in now, kept up with the directory on the running loop."""

    def __init__(self, directory: Path, revoked: Callable[[str], Any]) -> None:
        """Read the keys.

        Args:
            directory: keys_dir.
            revoked: called with a public key (Z85) that is no longer good.

        Raises:
            FatalError: the gateway's key cannot be used.
        """
        directory = directory.expanduser()
        self.secret = server_secret(directory)
        self._directory, self._revoked = directory, revoked
        self._names: dict[bytes, str] = {}  # public key -> name
        self._faults: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._news = Inotify.open()
        if self._news is not None:
            self._loop.add_reader(self._news.fd, self._changed)
        self._look_again()

    def __len__(self) -> int:
        return len(self._names)

    def knows(self, public: bytes) -> bool:
        """Return whether a public key (Z85) is let in."""
        return public in self._names

    def _changed(self) -> None:
        if self._news is not None and self._news.read():
            self._load()

    def _look_again(self) -> None:
        """Look even where there is a watch: it is of a directory, and another may stand in its place now."""
        if self._news is not None:
            self._news.watch(str(self._directory / "clients"), APPEARS | GONE | _WRITTEN)
        self._load()  # after the watch: what changes from here on is heard
        self._timer = self._loop.call_later(LOOK_AGAIN_S, self._look_again)

    def _load(self) -> None:
        keys, faults = clients(self._directory)
        if len(keys) > KEYS_MAX:
            faults.append(f"cannot use {len(keys)} keys of {self._directory}: at most {KEYS_MAX}")
        before, self._names = self._names, {key.public.encode(): key.name for key in keys[:KEYS_MAX]}
        log = get_logger()
        for fault in faults:
            if fault not in self._faults:
                log.warning("key_refused", cause=fault)
        self._faults = faults
        for public, name in self._names.items():
            if public not in before:
                log.info("key_added", name=name)
        for public, name in before.items():
            if public not in self._names:
                log.info("key_revoked", name=name, connections=self._revoked(public.decode()))

    def close(self) -> None:
        """End the watch."""
        if self._timer is not None:
            self._timer.cancel()
        if self._news is not None:
            self._loop.remove_reader(self._news.fd)
            self._news.close()
