"""Conformance tests share trees, and leave the long ones to those who ask for them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.harness import Tree

HERE = Path(__file__).parent


def lacks_memory_controller() -> str:
    """Return why no memory limit can be set on groups of ours, "" when it can."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line.split("::", 1)[1] for line in lines if line.startswith("0::")), "")
    here = Path("/sys/fs/cgroup") / own.lstrip("/")
    try:
        there = "memory" in (here / "cgroup.controllers").read_text().split()
    except OSError:
        return "no cgroup v2 here"
    if not there:
        return "no memory controller in our cgroup"
    return "" if os.access(here, os.W_OK) else "our cgroup is not delegated to us"


def lacks_systemd() -> str:
    """Return why no unit can be started, "" when it can."""
    comm = Path("/proc/1/comm").read_text().strip()
    return "" if comm == "systemd" else f"PID 1 is {comm}, not systemd"


def lacks_root() -> str:
    """Return why no other user can be played, "" when they can."""
    return "" if os.geteuid() == 0 else "we are not root"


NEEDS = {
    "needs_cgroup_memory": lacks_memory_controller,
    "needs_systemd": lacks_systemd,
    "needs_root": lacks_root,
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with the reason, what this machine cannot do; README.md tells how to run it by hand."""
    for name, lacks in NEEDS.items():
        if item.get_closest_marker(name) and (reason := lacks()):
            pytest.skip(f"{reason}: see tests/conformance/README.md")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect `soak` unless the -m expression speaks of it; `-m "system"` alone must not mean it."""
    if "soak" in (config.option.markexpr or ""):
        return
    long = [item for item in items if HERE in item.path.parents and item.get_closest_marker("soak")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture
def tree() -> Iterator[Tree]:
    """A tree of this test alone, not yet started."""
    one = Tree()
    yield one
    one.close()


@pytest.fixture(scope="module")
def plant() -> Iterator[Callable[[], Tree]]:
    """A maker of trees that live as long as the module: started together, so that waiting overlaps."""
    planted: list[Tree] = []

    def make() -> Tree:
        planted.append(Tree())
        return planted[-1]

    yield make
    for one in planted:
        one.close()
