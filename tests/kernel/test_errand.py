"""An errand: a child of the supervisor that does one thing, with the one reaper waiting for it."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from daedalus.kernel import errand
from daedalus.kernel.errand import Done
from daedalus.kernel.reaper import Reaper
from tests.system.tree import alive

pytestmark = pytest.mark.system


def run(*command: str, timeout_s: float = 20.0, environment: dict[str, str] | None = None) -> Done:
    async def main() -> Done:
        reaper = Reaper(lambda: None)
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, reaper.collect)
        return await errand.run(command, reaper, timeout_s=timeout_s, environment=environment)

    return asyncio.run(main())


def script(text: str, **options: object) -> Done:
    return run(sys.executable, "-S", "-c", text, **options)  # type: ignore[arg-type]


def test_it_tells_what_was_said_and_how_it_ended() -> None:
    done = script("import sys; print('x' * 200_000); print('why', file=sys.stderr); sys.exit(3)")
    assert (done.status.code, len(done.stdout), done.ok) == (3, 200_001, False)
    assert done.complaint() == "why"
    assert script("").ok
    assert script("raise SystemExit(4)").complaint() == "exit 4"


def test_one_that_takes_too_long_is_killed_with_its_whole_group() -> None:
    text = "import os, time; pid = os.fork(); pid and os.write(1, b'%d' % pid); time.sleep(300)"
    done = script(text, timeout_s=1.0)
    assert done.status.signal == signal.SIGKILL
    assert "signal 9" in done.complaint()
    assert not alive(int(done.stdout))


def test_what_cannot_be_started_raises_and_leaves_no_descriptor() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            run("/nowhere/program")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_only_the_environment_it_is_given_reaches_it() -> None:
    done = script("import os; print(sorted(os.environ))", environment={"ONLY": "1"})
    assert b"'ONLY'" in done.stdout
    assert b"PATH" not in done.stdout
