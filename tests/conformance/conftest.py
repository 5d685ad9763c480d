"""Conformance tests share trees, and leave the long ones to those who ask for them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.harness import Tree

HERE = Path(__file__).parent


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
