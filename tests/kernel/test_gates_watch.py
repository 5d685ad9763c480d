"""The watch over gates: it looks when the kernel says so, and does nothing while nobody is held."""

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daedalus.kernel import gates
from daedalus.kernel.gates import Watch, is_open, parse
from daedalus.kernel.inotify import Inotify
from tests.loops import drive, until


class Looks:
    """A watch, and how often it said that looking is worth it."""

    def __init__(self) -> None:
        self.count = 0
        self.watch = Watch(self._changed)

    def _changed(self) -> None:
        self.count += 1

    def follow(self, *texts: str) -> None:
        self.watch.follow(parse(text) for text in texts)

    async def settled(self) -> int:
        """Let everything that is ready happen, then forget and return the count."""
        for _ in range(5):
            await asyncio.sleep(0)
        count, self.count = self.count, 0
        return count

    async def told(self) -> None:
        """Wait for at least one look, and for the rest of it."""
        await until(lambda: self.count)
        await self.settled()


def fds() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


def test_nothing_is_armed_while_nothing_is_followed_and_all_is_given_back(tmp_path: Path) -> None:
    async def work() -> None:
        looks = Looks()
        before = fds()
        assert looks.watch.armed == ()
        looks.watch.look()
        assert await looks.settled() == 0
        looks.follow("time-sync", "net:default-route", f"path:{tmp_path}/x", "actor:a=running")
        assert set(looks.watch.armed) == {"inotify", "mounts", "netlink", "timer"}
        looks.follow("actor:a=running")
        assert (looks.watch.armed, fds()) == ((), before)
        looks.follow()
        looks.watch.close()
        assert (looks.watch.armed, fds()) == ((), before)

    drive(work)


def test_each_gate_arms_only_what_it_needs(tmp_path: Path) -> None:
    async def work() -> None:
        looks = Looks()
        for text, expected in {
            "time-sync": ("timer",),
            "net:default-route": ("netlink",),
            f"path:{tmp_path}/x": ("inotify", "mounts"),
            "actor:a=running": (),
        }.items():
            looks.follow(text)
            assert looks.watch.armed == expected
        looks.watch.close()

    drive(work)


def test_what_is_new_is_looked_at_once_more_and_what_is_not_is_left() -> None:
    async def work() -> None:
        looks = Looks()
        looks.follow("actor:a=running")
        looks.follow("actor:a=running", "actor:b=running")
        assert looks.count == 0  # never from within
        assert await looks.settled() == 1
        looks.follow("actor:b=running", "actor:a=running")
        looks.follow("actor:b=running")
        assert await looks.settled() == 0
        for _ in range(3):
            looks.watch.look()
        assert await looks.settled() == 1
        looks.watch.look()
        looks.watch.close()
        assert await looks.settled() == 0

    drive(work)


def test_a_file_that_appears_is_told_and_one_beside_it_is_not(tmp_path: Path) -> None:
    async def work() -> None:
        looks = Looks()
        looks.follow(f"path:{tmp_path}/x")
        await looks.settled()
        (tmp_path / "beside").touch()
        (tmp_path / "beside").rename(tmp_path / "still-beside")
        assert await looks.settled() == 0
        (tmp_path / "still-beside").rename(tmp_path / "x")
        await looks.told()
        looks.watch.close()

    drive(work)


def test_directories_on_the_way_may_appear_later_and_go_again(tmp_path: Path) -> None:
    async def work() -> None:
        looks = Looks()
        looks.follow(f"path:{tmp_path}/a/b/x")
        await looks.settled()
        (tmp_path / "a").mkdir()
        await looks.told()
        (tmp_path / "a/b").mkdir()
        await looks.told()
        (tmp_path / "a/b").rename(tmp_path / "a/away")  # its watch would go with it
        await looks.told()
        (tmp_path / "a/away/x").touch()
        assert await looks.settled() == 0
        (tmp_path / "a/c").mkdir()
        (tmp_path / "a/c/x").touch()
        assert await looks.settled() == 0
        (tmp_path / "a/c").rename(tmp_path / "a/b")
        await looks.told()
        assert is_open(parse(f"path:{tmp_path}/a/b/x"), lambda _name: None)
        looks.watch.close()

    drive(work)


def test_a_directory_that_appears_while_it_is_looked_for_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Inotify.watch
    raced: list[str] = []

    def late(self: Inotify, path: str, mask: int) -> int | None:
        number = watch(self, path, mask)
        if number is None and not raced:  # just after we found that it is not there
            raced.append(path)
            Path(path).mkdir()
        return number

    monkeypatch.setattr(Inotify, "watch", late)

    async def work() -> None:
        looks = Looks()
        looks.follow(f"path:{tmp_path}/a/x")
        assert looks.watch.armed == ("inotify", "mounts")
        await looks.settled()
        (tmp_path / "a/x").touch()
        await looks.told()
        looks.watch.close()

    drive(work)
    assert raced == [f"{tmp_path}/a"]


def test_a_link_is_followed_to_where_it_leads(tmp_path: Path) -> None:
    async def work() -> None:
        (tmp_path / "dev").mkdir()
        (tmp_path / "link").symlink_to("dev/real")
        looks = Looks()
        looks.follow(f"path:{tmp_path}/link")
        await looks.settled()
        (tmp_path / "dev/real").touch()
        await looks.told()
        looks.watch.close()

    drive(work)


def test_without_inotify_a_timer_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inotify, "open", classmethod(lambda _cls: None))
    monkeypatch.setattr(gates, "LOOK_S", 0.01)

    async def work() -> None:
        looks = Looks()
        looks.follow(f"path:{tmp_path}/x")
        assert "timer" in looks.watch.armed
        await looks.settled()
        await looks.told()
        await looks.told()
        looks.watch.close()
        assert looks.watch.armed == ()

    drive(work)


def test_a_directory_that_cannot_be_watched_is_looked_at_by_the_timer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inotify, "watch", lambda _self, _path, _mask: None)

    async def work() -> None:
        looks = Looks()
        looks.follow(f"path:{tmp_path}/x")
        assert "timer" in looks.watch.armed
        looks.watch.close()

    drive(work)


def test_the_clock_is_looked_at_again_and_again_and_only_while_it_is_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gates, "LOOK_S", 0.01)

    async def work() -> None:
        looks = Looks()
        looks.follow("time-sync", "actor:a=running")
        await looks.settled()
        await looks.told()
        await looks.told()
        looks.follow("actor:a=running")
        assert looks.watch.armed == ()
        looks.watch.close()

    drive(work)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The kernel's end of the broadcast of routes."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    monkeypatch.setattr(gates, "_broadcast", lambda: ours)
    yield theirs
    theirs.close()
    ours.close()


def test_the_broadcasts_of_both_kinds_of_routes_are_asked_for() -> None:
    with gates._broadcast() as asked:
        assert asked.getsockname()[1] == 0x440  # RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE
        assert (asked.getblocking(), asked.get_inheritable()) == (False, False)


def test_a_change_of_routes_is_told(kernel: socket.socket) -> None:
    async def work() -> None:
        looks = Looks()
        looks.follow("net:default-route")
        assert await looks.settled() == 1
        kernel.send(b"a route came")
        await looks.told()
        kernel.send(b"a route went")
        await looks.told()
        assert await looks.settled() == 0
        looks.watch.close()

    drive(work)


class Overrun(socket.socket):
    def recv(self, *args: Any) -> bytes:
        super().recv(*args)
        raise OSError(errno.ENOBUFS, "No buffer space available")


def test_lost_news_is_news(kernel: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    overrun = Overrun(fileno=gates._broadcast().detach())
    monkeypatch.setattr(gates, "_broadcast", lambda: overrun)

    async def work() -> None:
        looks = Looks()
        looks.follow("net:default-route")
        await looks.settled()
        kernel.send(b"x")
        await looks.told()
        looks.watch.close()

    drive(work)


def test_where_the_broadcast_is_refused_a_timer_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(gates, "_broadcast", refused)

    async def work() -> None:
        looks = Looks()
        looks.follow("net:default-route")
        assert looks.watch.armed == ("timer",)
        looks.watch.close()

    drive(work)
