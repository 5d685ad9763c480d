"""The sealer is modest beside the live path, and not when the writer waits for its end."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from daedalus.actors import sealing as module
from daedalus.actors.sealing import Sealing
from tests.loops import drive, until

pytestmark = pytest.mark.system

MODEST = "import os; from daedalus.dataset import seal; seal._be_modest(urgent={}); print(os.nice(0))"


def test_a_sealer_that_begins_while_the_writer_waits_keeps_its_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    program = tmp_path / "sealer"
    program.write_text(f'#!/bin/sh\necho "$(nice) $*" >> {told}\n')
    program.chmod(0o700)
    monkeypatch.setattr(module.sys, "executable", str(program))
    lowered: list[int] = []
    monkeypatch.setattr(module.os, "setpriority", lambda _which, _pid, nice: lowered.append(nice))

    async def work() -> None:
        left = [1]

        def waiting() -> int:
            left[0] -= 1
            return left[0] + 1

        sealing = Sealing(["--data", "d"], waiting)
        task = asyncio.ensure_future(sealing.run())
        sealing.want()
        await until(sealing._idle.is_set)
        left[0] = 2
        await sealing.finish()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    drive(work)
    modest, urgent = told.read_text().splitlines()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert modest.endswith(f"--parent {os.getpid()}")
    assert lowered == [10]
    assert urgent == f"{own} -m daedalus.dataset.seal --data d --parent {os.getpid()} --urgent"


@pytest.mark.parametrize(("urgent", "least"), [(True, 0), (False, 10)])
def test_the_program_lowers_its_own_priority_unless_it_is_urgent(urgent: bool, least: int) -> None:
    done = subprocess.run([sys.executable, "-c", MODEST.format(urgent)], capture_output=True, check=True)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert int(done.stdout) == max(own, least)
