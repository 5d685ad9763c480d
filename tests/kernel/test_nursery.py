"""Orders to a zygote that is dead, deaf or well."""

import asyncio
import base64
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from daedalus.kernel import bootstrap, zygote
from daedalus.kernel.nursery import Born, Nursery, order_of
from daedalus.kernel.reaper import Reaper, Status
from daedalus.kernel.spec import ActorSpec, Tree

pytestmark = pytest.mark.system


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


class Ward:
    """A nursery with one zygote and a reaper on the loop; every child is waited for."""

    def __init__(self, runtime: Path) -> None:
        self.tree = Tree(runtime=str(runtime), data=str(runtime), groups=(), actors=())
        self.reaper = Reaper(lambda: None)
        self.reports: list[str] = []
        self.nursery = Nursery({"light": ()}, self.reaper, lambda name, **_: self.reports.append(name))
        self.births: list[Born] = []
        self.ends: dict[int, asyncio.Future[Status]] = {}

    def register(self, born: Born) -> None:
        self.births.append(born)
        self.ends[born.pid] = asyncio.get_running_loop().create_future()
        self.reaper.watch(born.pid, self.ends[born.pid].set_result)

    async def make(self, padding: int = 0) -> Born:
        spec = ActorSpec(
            name="g/a",
            group="g",
            target="tests.kernel.test_actor:Story",
            settings=msgspec.msgpack.encode({"start": "leave" + " " * padding}),
            heartbeat_interval_s=0.0,
        )
        order = order_of(spec, 1, self.tree, sorted(os.sched_getaffinity(0)))
        assert base64.b64decode(order["settings"]) == spec.settings
        with Path(os.devnull).open("wb") as null:  # noqa: ASYNC230 - instant
            return await self.nursery.make(order, "light", null.fileno(), null.fileno(), self.register)

    async def left_with(self, born: Born) -> Status:
        async with asyncio.timeout(20):
            return await self.ends[born.pid]

    async def until(self, check: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not check():  # noqa: ASYNC110 - what is waited for happens in other processes
                await asyncio.sleep(0.01)


def ward(runtime: Path, body: Callable[[Ward], Awaitable[None]]) -> None:
    async def life() -> None:
        here = Ward(runtime)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, here.reaper.collect)
        bootstrap.become_subreaper()
        here.nursery.start()
        try:
            await body(here)
        finally:
            here.nursery.close()
            await here.until(lambda: here.nursery.pids()["light"] is None)
            for born in here.births:
                os.close(born.pidfd)
            bootstrap._prctl(bootstrap._PR_SET_CHILD_SUBREAPER, 0)

    asyncio.run(life())


def test_one_order_ends_in_one_registered_worker_that_is_ours(tmp_path: Path) -> None:
    async def body(here: Ward) -> None:
        born = await here.make()
        assert (born.via, here.births) == ("zygote", [born])
        assert (await here.left_with(born)).code == 0

    ward(tmp_path, body)


def test_an_order_to_a_dead_zygote_is_carried_out_once_by_a_fresh_interpreter(tmp_path: Path) -> None:
    async def body(here: Ward) -> None:
        await here.until(lambda: "zygote_started" in here.reports)
        zygote_pid = here.nursery.pids()["light"]
        assert zygote_pid is not None
        os.kill(zygote_pid, signal.SIGKILL)  # its death is not heard of before the order is sent
        born = await here.make()
        assert (born.via, here.births) == ("exec", [born])
        assert (await here.left_with(born)).code == 0
        await here.until(lambda: here.reports.count("zygote_started") == 2)
        again = await here.make()
        assert again.via == "zygote"
        await here.left_with(again)

    ward(tmp_path, body)


def test_a_deaf_zygote_is_waited_for_only_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daedalus.kernel.nursery.HANDSHAKE_TIMEOUT_S", 0.2)

    async def body(here: Ward) -> None:
        await here.until(lambda: "zygote_started" in here.reports)
        zygote_pid = here.nursery.pids()["light"]
        assert zygote_pid is not None
        os.kill(zygote_pid, signal.SIGSTOP)
        born = await here.make()
        assert (born.via, here.births) == ("exec", [born])
        os.kill(zygote_pid, signal.SIGCONT)  # the worker it makes now finds that nobody waits
        assert (await here.left_with(born)).code == 0
        await here.until(lambda: here.reaper.orphans_reaped == 1)
        assert here.births == [born]

    ward(tmp_path, body)


def test_an_order_too_large_for_a_zygote_goes_to_a_fresh_interpreter(tmp_path: Path) -> None:
    async def body(here: Ward) -> None:
        born = await here.make(padding=zygote.ORDER_MAX)
        assert born.via == "exec"
        await here.left_with(born)

    ward(tmp_path, body)
