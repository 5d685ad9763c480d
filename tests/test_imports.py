"""What importing costs, held by lists of modules: a number of milliseconds would be a test of the machine."""

import subprocess
import sys

import pytest

HEAVY = {
    *("aiohttp", "boto3", "botocore", "ccxt", "click", "duckdb", "numpy", "pandas", "picows", "polars"),
    *("psutil", "pyarrow", "pydantic", "prometheus_client", "rich", "structlog", "zstandard"),
}
# structlog takes rich along where it is installed; a zygote pays for both once.
LOGGING = {"structlog", "rich"}


def loaded(statement: str) -> set[str]:
    """Return the top-level modules in a fresh interpreter after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("daedalus", set()),
        ("daedalus.records", set()),
        ("daedalus.client", set()),
        ("daedalus.features", set()),
        ("daedalus.kernel.spec", set()),
        ("daedalus.config", set()),
        ("daedalus.cli.ctl", {"click"}),
        ("daedalus.cli.data", {"click"}),
        ("daedalus.cli.supervisor", {"click"}),
        ("daedalus.cli.subscribe", {"click"}),
        ("daedalus.cli.query", {"click"}),
        ("daedalus.kernel.supervisor", LOGGING),
        ("daedalus.kernel.actor", LOGGING),
        ("daedalus.actors.gateway", LOGGING),
        ("daedalus.actors.feature", LOGGING),
        ("daedalus.actors.writer", {*LOGGING, "zstandard"}),
        ("daedalus.actors.collector", {*LOGGING, "zstandard"}),
        ("daedalus.actors.syncer", LOGGING),
    ],
)
def test_importing_loads_nothing_heavy(module: str, allowed: set[str]) -> None:
    assert loaded(f"import {module}") & HEAVY <= allowed


def test_the_control_program_loads_neither_zmq_nor_msgspec_nor_asyncio() -> None:
    assert loaded("import daedalus.cli.ctl") & {"zmq", "msgspec", "asyncio", *HEAVY - {"click"}} == set()


def test_the_client_loads_zmq_and_msgspec_alone() -> None:
    modules = loaded("import daedalus.client")
    assert modules & HEAVY == set()
    assert {"zmq", "msgspec"} <= modules


@pytest.mark.parametrize(
    "module",
    [
        *("daedalus", "daedalus.client", "daedalus.records", "daedalus.config", "daedalus.cli.supervisor"),
        *("daedalus.actors.collector", "daedalus.actors.writer", "daedalus.actors.feature"),
        *("daedalus.actors.gateway", "daedalus.kernel.supervisor", "daedalus.features"),
    ],
)
def test_importing_starts_no_thread_and_prints_nothing(module: str) -> None:
    code = f"import {module}, threading; assert threading.active_count() == 1"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
