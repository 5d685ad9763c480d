"""What all tests share: recordings, short directories, and a watch on leftover processes."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from daedalus import config
    from daedalus.kernel.spec import Tree

ROOT = Path(__file__).resolve().parent.parent
REQUIRE_ALL = os.environ.get("DAEDALUS_REQUIRE") == "all"

# how long an example takes is the machine's business of the moment: 200 ms are soon over where others work
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def recordings_path() -> Path:
    """Return where recordings of real exchanges are looked for."""
    return Path(os.environ.get("DAEDALUS_RECORDINGS", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recordings; the test is skipped where it is missing."""
    path = recordings_path()
    if not path.is_dir():
        pytest.skip(f"no recordings at {path}: set DAEDALUS_RECORDINGS")
    return path


@pytest.fixture
def read(tmp_path: Path):
    """Return what reads a text as a supervisor.toml and reports on it."""
    from daedalus import config

    def read(text: str, **options: Any) -> "config.Report":
        file = tmp_path / "supervisor.toml"
        file.write_text(text)
        return config.report(file, **{"data": str(tmp_path), "runtime": "/tmp/dd-test", **options})

    return read


@pytest.fixture
def tree_of(read):
    """Return what reads a text as a supervisor.toml without faults and gives its tree."""

    def tree_of(text: str, **options: Any) -> "Tree":
        report = read(text, **options)
        assert report.faults == ()
        assert report.tree is not None
        return report.tree

    return tree_of


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A directory with a short path, 0700: a socket address holds 107 bytes, tmp_path alone takes 80."""
    path = Path(tempfile.mkdtemp(prefix="dd-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def runtime_dir(short_tmp: Path) -> Path:
    """A runtime directory as the supervisor makes it: 0700 and short."""
    path = short_tmp / "run"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture(autouse=True)
def _fresh_logging() -> Iterator[None]:
    """A test that runs an actor configures logging to its own captured stderr, which is closed after it."""
    yield
    if (structlog := sys.modules.get("structlog")) is not None:
        structlog.reset_defaults()


def _children() -> set[int]:
    """Return the pids of this process's children, zombies left out."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            for pid in (task / "children").read_text().split():
                if _runs(int(pid)):
                    found.add(int(pid))
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(autouse=True)
def _no_process_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves a child process behind fails, and the child is ended."""
    if not Path("/proc/self/task").exists():
        yield
        return
    before = _children()
    yield
    left = _children() - before
    deadline = time.monotonic() + 2.0
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left &= _children()
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, f"{request.node.name} left processes behind: {sorted(left)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """With DAEDALUS_REQUIRE=all a skip is a failure: the machine was to have everything.

    But for what no machine of ours has: tests marked `needs_…` (tests/conformance/README.md lists them).
    """
    report = yield
    special = any(mark.name.startswith("needs_") for mark in item.iter_markers())
    if (
        REQUIRE_ALL
        and not special
        and report.skipped
        and not hasattr(report, "wasxfail")
        and call.excinfo is not None
    ):
        report.outcome = "failed"
        report.longrepr = f"skipped although DAEDALUS_REQUIRE=all: {call.excinfo.value}"
    return report
