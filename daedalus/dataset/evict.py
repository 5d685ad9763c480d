"""Making room: sealed bronze that the object store has is removed, oldest first, and never another file.

What proves it is a line of the sync manifest, of whichever store, with the size that the file has here. A
file without one is not touched, however full the disk is.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from daedalus.dataset.durable import make_directory
from daedalus.dataset.layout import Layout
from daedalus.dataset.sync import Local, local_files

__all__ = ["Evicted", "choose", "evict", "verified"]

_BATCH = 64  # files between two looks at the free space


class Evicted(NamedTuple):
    """What was removed."""

    files: int
    bytes: int


class _Line(msgspec.Struct):
    """What of a line of the manifest is looked at."""

    path: str
    size: int


def choose(found: Iterable[Local], done: Mapping[str, int]) -> list[Local]:
    """Return what may go, oldest hour first.

    Args:
        found: sealed files.
        done: path -> size of those verified in a store.
    """
    return sorted((item for item in found if done.get(item.path) == item.size), key=_age)


def _age(item: Local) -> tuple[str, str]:
    """By the hour in the name, `segment_20260203T14_…`: the time of a file changes when it is copied."""
    return item.path.rpartition("/")[2], item.path


def verified(path: Path) -> dict[str, int]:
    """Return path -> size of what the sync manifest says is verified, in any store."""
    done: dict[str, int] = {}
    decoder = msgspec.json.Decoder(_Line)
    try:
        with path.open("rb") as file:
            for text in file:
                with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):  # torn by a power cut
                    line = decoder.decode(text)
                    done[line.path] = line.size
    except FileNotFoundError:
        pass
    return done


def evict(layout: Layout, enough: Callable[[], bool]) -> Evicted:
    """Remove verified segments until there is enough room, or none is left.

    Of several processes that want to, one does, and the others find nothing to do.

    Args:
        layout: the data set.
        enough: asked after every few files.

    Raises:
        OSError: the file system is read-only, or fails.
    """
    files = freed = 0
    with _alone(layout.state() / "evict.lock") as mine:
        if mine:
            done = verified(layout.state() / "sync" / "manifest.jsonl")
            for number, item in enumerate(choose(local_files(layout), done) if done else ()):
                if number % _BATCH == 0 and enough():
                    break
                path = Path(layout.data, item.path)
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                    files += 1
                    freed += item.size
                _prune(path.parent, layout.ready())
    return Evicted(files, freed)


def _prune(directory: Path, root: Path) -> None:
    """Remove the directories that are empty now, below `root`. The writers make them again."""
    while directory != root:
        try:
            directory.rmdir()
        except OSError:  # something is in it, or came into it just now
            return
        directory = directory.parent


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    make_directory(path.parent)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
