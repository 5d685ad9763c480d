"""Control groups with real processes in them: whatever session a grandchild goes to, it does not get away.

They need a cgroup2 mount that we may write to; no controller is needed.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daedalus.kernel import cgroups
from daedalus.kernel.cgroups import Cgroups, Leaf, own_directory
from tests.conftest import REQUIRE_ALL, ROOT

pytestmark = pytest.mark.system


def _writable_cgroup2() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            candidates = [own_directory(), Path(fields[4])]
            for path in candidates:
                if (
                    path is not None
                    and os.access(path, os.W_OK)
                    and os.access(path / "cgroup.procs", os.W_OK)
                ):
                    return path
    return None


@pytest.fixture
def real() -> Iterator[Path]:
    """A cgroup of our own below one we may write to; empty and gone afterwards."""
    above = _writable_cgroup2()
    if above is None:
        if REQUIRE_ALL and os.geteuid() != 0:
            pytest.xfail("no cgroup2 directory that this user may write to: only root can ask for one")
        pytest.skip("no cgroup2 mount that may be written to")
    path = above / f"daedalus-test-{os.getpid()}"
    path.mkdir()
    try:
        yield path
    finally:
        for leaf in (Leaf(child) for child in path.iterdir() if child.is_dir()):
            leaf.kill()
            emptied(leaf)
            leaf.remove()
        path.rmdir()


def emptied(leaf: Leaf) -> bool:
    """Wait for the kernel's word that nobody is left, at most 20 s."""
    with contextlib.suppress(FileNotFoundError), (leaf.path / "cgroup.events").open() as events:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        deadline = time.monotonic() + 20.0
        while leaf.populated() and time.monotonic() < deadline:
            poll.poll(1000)
    return not leaf.populated()


ESCAPES = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    while True:
        time.sleep(60)
time.sleep(60)
"""
ENTERS = "import os, sys; os.write(int(sys.argv[1]), b'0'); exec(sys.argv[2])"


@contextlib.contextmanager
def escaping(leaf: Leaf) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A leader in the leaf, and its grandchild in a session of its own."""
    fd = leaf.open_procs_fd()
    assert fd is not None
    argv = [sys.executable, "-c", ENTERS, str(fd), ESCAPES]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, pass_fds=[fd], process_group=0) as leader:
        os.close(fd)
        try:
            assert leader.stdout is not None
            yield leader, int(leader.stdout.readline())
        finally:
            leader.kill()


@pytest.mark.parametrize("by_kernel", [True, False])
def test_a_grandchild_with_a_session_of_its_own_does_not_get_away(
    real: Path, by_kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaf = Cgroups(real).leaf("store/writer")
    if not by_kernel:  # as before Linux 5.14
        write = cgroups._write
        monkeypatch.setattr(
            cgroups, "_write", lambda path, text: path.name != "cgroup.kill" and write(path, text)
        )
    with escaping(leaf) as (leader, grandchild):
        assert sorted(cgroups._pids(leaf.path) or []) == sorted([leader.pid, grandchild])
        os.killpg(leader.pid, signal.SIGKILL)
        leader.wait(20)
        assert leaf.populated()  # the group's signal did not reach it
        assert not leaf.remove()
        assert leaf.kill()
        assert emptied(leaf)
        assert leaf.remove()
        assert not leaf.path.exists()
    with contextlib.suppress(OSError):  # reaped by whoever adopted it
        assert Path(f"/proc/{grandchild}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_leaf_that_never_was_is_empty_and_one_can_be_used_again(real: Path) -> None:
    leaf = Cgroups(real).leaf("a")
    assert (leaf.populated(), leaf.remove()) == (False, True)
    for _ in range(2):
        with escaping(leaf):
            assert leaf.populated()
            assert leaf.kill()
            assert emptied(leaf)
    assert leaf.remove()


def test_add_moves_a_process_and_says_so_when_there_is_none(real: Path) -> None:
    leaf = Cgroups(real).leaf("a")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        try:
            assert leaf.add(child.pid)
            assert cgroups._pids(leaf.path) == [child.pid]
        finally:
            child.kill()
    assert emptied(leaf)
    assert not leaf.add(child.pid)  # reaped: the number is nobody's


def test_sweep_ends_what_an_earlier_supervisor_left_and_spares_the_rest(real: Path) -> None:
    mine = Cgroups(real)
    other = Leaf(real / "other")
    with escaping(mine.leaf("a")), escaping(other) as (stranger, _):
        (real / "actor-empty").mkdir()
        assert mine.sweep() == ["actor-a"]
        assert emptied(mine.leaf("a"))
        assert mine.sweep() == []
        assert mine.leaves() == []
        assert stranger.poll() is None
        assert other.kill()
        assert emptied(other)


PREPARES = """
import os, sys
from pathlib import Path
from daedalus.kernel.cgroups import Cgroups
mine = Cgroups.find(os.environ)
print(mine is not None and mine.prepare(), sorted(mine.controllers), mine.has_memory)
print(Path("supervisor/cgroup.procs").read_text().split() == [str(os.getpid())])
"""


def test_prepare_moves_a_real_process_and_takes_the_controllers_there_are(real: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PREPARES],
        env={**os.environ, "DAEDALUS_CGROUP": str(real), "PYTHONPATH": str(ROOT)},
        cwd=real,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    there = set((real / "cgroup.controllers").read_text().split()) & set(cgroups.CONTROLLERS)
    assert done.stdout.split("\n")[:2] == [f"True {sorted(there)} {'memory' in there}", "True"]
