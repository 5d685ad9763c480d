"""The few effects on which "stored" rests: fsync of files and directories, rename without replacing.

Rename is atomic but not durable (the directory has to be synced as well), and plain rename replaces
silently. Everything here is safe to do twice.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

__all__ = [
    "locked",
    "make_directory",
    "publish",
    "remove",
    "replace",
    "sync_directory",
    "sync_file",
    "written_bytes",
]

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def sync_file(path: Path) -> None:
    """Make the content of `path` durable."""
    _sync(path, os.O_RDONLY)


def sync_directory(path: Path) -> None:
    """Make the names in `path` durable."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path) -> None:
    """Make `path` and its missing parents, all of them durable."""
    missing = []
    current = path
    while not current.exists():
        missing.append(current)
        current = current.parent
    path.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_directory(made.parent)


def publish(source: Path, target: Path) -> None:
    """Give `source` the name `target`, durably, and never in place of another file.

    Doing it again after a crash finishes it: `target` may already be the same file.

    Raises:
        FileExistsError: another file has that name.
        OSError: the two lie in different file systems, or the disk fails.
    """
    make_directory(target.parent)
    if not _rename_noreplace(source, target):
        try:
            os.link(source, target)
        except FileExistsError:
            if not source.samefile(target):
                raise
        sync_directory(target.parent)
        source.unlink()
    sync_directory(target.parent)
    sync_directory(source.parent)


def _rename_noreplace(source: Path, target: Path) -> bool:
    """Rename by renameat2; False where the C library or the file system cannot."""
    call = _renameat2()
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED or (number == errno.EEXIST and source.samefile(target)):
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


@cache
def _renameat2() -> "ctypes._NamedFuncPointer | None":
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return call


def replace(path: Path, content: bytes) -> None:
    """Write `content` to `path`, all or nothing, and durable."""
    draft = path.with_name(f".{path.name}.tmp")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    sync_directory(path.parent)


def remove(path: Path) -> None:
    """Remove `path` durably; that it is gone already is fine."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    sync_directory(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock on `path`, waiting for it; the file is made when missing."""
    make_directory(path.parent)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def written_bytes() -> int | None:
    """Return the bytes that this process had disks write, in whole pages; None: the kernel does not count.

    A small append costs a whole page each time it is made durable: that is what wears out an SD card.
    """
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("write_bytes:")), None)
