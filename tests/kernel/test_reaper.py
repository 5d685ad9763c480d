"""Children of this very process, made for the purpose: who is told, who is buried, who is left for later."""

import os
import subprocess
import sys

import pytest

from daedalus.kernel import process
from daedalus.kernel.reaper import Reaper, Status


def child(command: str) -> int:
    """Start a shell and forget it."""
    return process.release(subprocess.Popen(["/bin/sh", "-c", command]))


def ended(pid: int) -> None:
    """Wait for the end of a child and leave the zombie where it is."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def asked(reaper: Reaper, groups: set[int], actors: list[str]) -> list[int]:
    """Return the strays, as soon as each child has an environment to be known by."""
    while (found := reaper.strays(groups, actors)) is None:
        pass
    return found


@pytest.fixture
def reaper() -> Reaper:
    return Reaper(lambda: None)


@pytest.mark.parametrize(
    ("command", "status"),
    [("exit 3", Status(code=3)), ("kill -KILL $$", Status(signal=9)), ("exit 0", Status(code=0))],
)
def test_a_known_child_is_told_once_with_its_status(reaper: Reaper, command: str, status: Status) -> None:
    pid = child(command)
    told: list[Status] = []
    reaper.watch(pid, told.append)
    ended(pid)
    reaper.collect()
    reaper.collect()
    assert told == [status]


def test_what_it_said_is_heard_before_and_its_group_may_be_ended_while_it_is_a_zombie() -> None:
    story: list[object] = []
    reaper = Reaper(lambda: story.append("heard"))
    pid = child("exit 0")
    reaper.watch(pid, lambda _: story.append(process.start_time(pid)), story.append)
    ended(pid)
    reaper.collect()
    assert story == ["heard", pid, None]  # None: no such process any more


def test_an_unknown_child_is_buried_and_counted(reaper: Reaper) -> None:
    pid = child("exit 0")
    ended(pid)
    reaper.collect()
    assert reaper.orphans_reaped == 1
    assert process.start_time(pid) is None


def test_while_a_pid_is_on_its_way_unknown_ones_wait_and_known_ones_do_not(reaper: Reaper) -> None:
    unknown = child("exit 0")
    ended(unknown)
    known = child("exit 5")
    told: list[Status] = []
    reaper.watch(known, told.append)
    ended(known)
    reaper.expecting = 1
    reaper.collect()
    assert told == [Status(code=5)]
    assert process.start_time(unknown) is not None
    reaper.watch(unknown, told.append)  # here it comes
    reaper.expecting = 0
    reaper.collect()
    assert told[1:] == [Status(code=0)]
    assert reaper.orphans_reaped == 0


def test_a_status_that_somebody_else_took_is_unknown(reaper: Reaper) -> None:
    pid = child("exit 0")
    told: list[Status] = []
    reaper.watch(pid, told.append)
    os.waitpid(pid, 0)
    reaper.collect()
    assert told == [Status()]


def test_stray_children_are_those_of_no_group_and_no_living_actor(reaper: Reaper) -> None:
    def wait(env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "input()"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, env=env, process_group=0)

    marked = os.environ | {"DAEDALUS_ACTOR": "g/a"}
    made = [wait(), wait(), wait(marked)]
    try:
        stray, grouped, others = (item.pid for item in made)
        found = asked(reaper, {grouped}, ["g/a"])
        assert stray in found
        assert grouped not in found
        assert others not in found
        assert others in asked(reaper, {grouped}, [])
    finally:
        for item in made:
            item.kill()
            item.communicate()


def test_a_program_that_is_just_being_started_is_nobodys_stray(reaper: Reaper) -> None:
    """Between two programs a process has no environment: that is no reason to kill it."""
    marked = os.environ | {"DAEDALUS_ACTOR": "g/a"}
    for _ in range(300):
        # `Popen` comes back when the old program is gone, which is before the new one has its environment
        with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, env=marked, process_group=0) as one:
            assert one.pid not in (reaper.strays(set(), ["g/a"]) or [])
            one.kill()
