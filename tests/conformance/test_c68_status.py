"""C68: the status document in every state that can be brought about, its exit codes, no colours in a pipe.

`stuck` needs a process that survives SIGKILL, `killing` lasts no longer than the kernel takes: the pure tests
have both.
"""

import json
from collections.abc import Callable

import pytest

from tests.cli.schema import faults as unpublished
from tests.conformance.harness import Tree, probe
from tests.conformance.status_schema import faults

pytestmark = pytest.mark.system

LONG = {"drain_s": 120.0, "shutdown_s": 120.0}
DIVERGE = ("held", "starting", "degraded", "backoff", "failed", "draining", "stopping")
AS_WISHED = ("running", "stopped", "done", "ignored")


@pytest.fixture(scope="module")
def zoo(plant: Callable[[], Tree]) -> Tree:
    """A tree with an actor in each state, named after it."""
    one = plant().start(
        probe("z/running"),
        probe("z/stopped"),
        probe("z/done", restart="transient"),
        probe("z/ignored", "--ignore"),
        probe("z/failed"),
        probe("z/backoff", backoff={"base_s": 100.0, "cap_s": 100.0, "jitter": 0.0}),
        probe("z/degraded", "--alloc", 200, "--alloc-max", 40, memory_warn="30M"),
        probe("z/draining", "--drain", 600, **LONG),
        probe("z/stopping", "--ignore-term", drain_signal=None, **LONG),
        probe("z/held", requires=["path:/no/such/device"]),
        probe("z/starting", "--ready-after", "inf", start_timeout_s=200.0),
        wait=False,
    )
    one.until("answer", one.answering)
    one.wait_running("z/backoff", "z/stopping", "z/draining")
    one.call("stop", "z/stopped")
    one.leave("z/done", 0)
    one.leave("z/failed", 78)
    one.leave("z/backoff", 1)
    one.wait_running("z/backoff", generation=2)
    one.leave("z/backoff", 1)
    one.call("stop", "z/draining", "z/stopping", wait=False)
    yield one
    assert one.process is not None
    one.process.kill()
    one.process.wait()


@pytest.mark.parametrize("state", [*AS_WISHED, *DIVERGE])
def test_c68_the_document_holds_in_every_state_and_the_exit_code_tells(zoo: Tree, state: str) -> None:
    shown = zoo.wait_state(f"z/{state}", state)
    whole = zoo.status()
    assert faults(whole) == []
    assert unpublished(whole) == []
    assert shown["desired"] == ("down" if state in ("stopped", "draining", "stopping") else "up")
    done = zoo.ctl("--json", "status", f"z/{state}")
    document = json.loads(done.stdout)
    assert [actor["name"] for actor in document["actors"]] == [f"z/{state}"]
    assert faults(document) == []
    assert unpublished(document) == []
    if state in {"stopping", "draining"}:
        return  # on its way to where it is wanted: neither code is promised
    assert done.returncode == (3 if state in DIVERGE else 0)


def test_c68_exit_codes_of_the_whole_of_an_unknown_name_and_of_nobody_there(zoo: Tree) -> None:
    assert zoo.ctl("status").returncode == 3
    assert zoo.ctl("status", "z/nobody").returncode == 4
    assert zoo.ctl("--runtime", str(zoo.directory / "none"), "status").returncode == 7
    assert zoo.ctl("status", "--no-such-option").returncode == 2
    assert zoo.ctl("wait", "z/held", "--for", "running", "--timeout", "0.3").returncode == 5
    assert zoo.ctl("wait", "z/failed", "--for", "failed").returncode == 0


@pytest.mark.parametrize(
    "words", [("status",), ("status", "--wide"), ("tree",), ("events",), ("logs", "z/running")]
)
def test_c68_a_pipe_gets_no_escape_codes(zoo: Tree, words: tuple[str, ...]) -> None:
    done = zoo.ctl(*words)
    assert done.returncode in (0, 3)
    assert "\x1b" not in done.stdout + done.stderr


def test_c68_errors_go_to_stderr_and_data_to_stdout(zoo: Tree) -> None:
    done = zoo.ctl("--json", "stop", "z/nobody")
    assert (done.returncode, done.stdout) == (4, "")
    error = json.loads(done.stderr)
    assert (error["ok"], error["error"]["code"]) == (False, "not_found")
    assert error["error"]["message"].startswith("cannot ")


def test_c68_events_are_numbered_without_a_gap(zoo: Tree) -> None:
    numbers = [event["seq"] for event in zoo.events()]
    assert numbers == list(range(1, len(numbers) + 1))
    done = zoo.ctl("--json", "events", "--since", str(numbers[-3]))
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()][:2] == numbers[-2:]
