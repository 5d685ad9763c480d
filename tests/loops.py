"""Real sockets inside a unit test: a bounded loop, and waiting for a condition instead of for time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

BOUND_S = 40  # a loaded machine starves a sealer for long; a hang is a hang


def drive(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run `work` on a new loop; a test that hangs fails after `BOUND_S`."""

    async def bounded() -> Any:
        async with asyncio.timeout(BOUND_S):
            return await work()

    return asyncio.run(bounded())


async def until(condition: Callable[[], Any]) -> None:
    """Return as soon as `condition` holds, letting the loop run meanwhile."""
    while not condition():  # noqa: ASYNC110 - the conditions are sockets and counters, not events
        await asyncio.sleep(0.001)
