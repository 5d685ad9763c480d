"""Stages that close their truth logs when the test is over."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulator.stage import Stage


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def one(**more: Any) -> Stage:
        made.append(Stage(tmp_path, **more))
        return made[-1]

    yield one
    for stage in made:
        stage.exchange.truth.close()
