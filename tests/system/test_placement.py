"""Which cores processes may run on: read back from the kernel."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from daedalus.kernel.spec import ActorSpec
from tests.system.probe_tree import ProbeTree, probe

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: nothing to tell apart"),
]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[ProbeTree]:
    running = ProbeTree(tmp_path)
    yield running
    running.close()


def allowed(pid: int) -> set[int]:
    """Return Cpus_allowed_list of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    text = next(line.split()[1] for line in lines if line.startswith("Cpus_allowed_list:"))
    bounds = [part.partition("-") for part in text.split(",")]
    return {core for low, _, high in bounds for core in range(int(low), int(high or low) + 1)}


def test_the_supervisor_and_its_zygotes_are_pinned_and_their_actors_are_not(tree: ProbeTree) -> None:
    available = sorted(os.sched_getaffinity(0))
    first, last = available[0], available[-1]
    program = {"command": ("/bin/sleep", "300"), "ready": "spawn", "heartbeat_timeout_s": 0.0, "group": "g"}
    large = probe("g/exec", tree.trace, padding="x" * (200 << 10))
    tree.start(
        probe("g/free", tree.trace),
        probe("g/there", tree.trace, {"cpus": (last,)}),
        large,  # an order too large for a zygote: made by a fresh interpreter
        ActorSpec(name="g/sleep", **program),
        ActorSpec(name="g/sleep-there", cpus=(last,), **program),
        supervisor_cpus=(first,),
    )
    actors = tree.until_running("g/free", "g/there", "g/exec", "g/sleep", "g/sleep-there")
    supervisor = tree.status()["supervisor"]
    assert allowed(supervisor["pid"]) == {first}
    assert [allowed(zygote["pid"]) for zygote in supervisor["zygotes"]] == [{first}]
    via = {event["actor"]: event["via"] for event in tree.events("spawn")}
    assert (via["g/free"], via["g/exec"], via["g/sleep"]) == ("zygote", "exec", "command")
    for name in ("g/free", "g/exec", "g/sleep"):
        assert allowed(actors[name]["pid"]) == set(available), name
    for name in ("g/there", "g/sleep-there"):
        assert allowed(actors[name]["pid"]) == {last}, name
    assert tree.stop() == 0


def test_without_a_wish_nobody_is_pinned(tree: ProbeTree) -> None:
    tree.start(probe("g/free", tree.trace))
    pid = tree.until_running("g/free")["g/free"]["pid"]
    assert allowed(tree.status()["supervisor"]["pid"]) == allowed(pid) == os.sched_getaffinity(0)
    assert tree.stop() == 0
