"""The shipped unit as systemd reads it."""

import configparser
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.deploy.install import PI4, ROOT

ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze: install the package systemd")


def directives(path: Path) -> dict[str, list[str]]:
    """Return the values of each directive, in order."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def analyze(*args: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run([ANALYZE, *args], capture_output=True, text=True, timeout=60, check=False)


def systemd_version() -> int:
    found = re.search(r"systemd (\d+)", analyze("--version").stdout)
    assert found is not None
    return int(found[1])


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with programs that exist here."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("daedalus-supervisor", "daedalus-ctl"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    path = tmp_path / "daedalus.service"
    text = (PI4 / "daedalus.service").read_text()
    path.write_text(text.replace("/opt/daedalus/venv/bin", str(programs)))
    return path


@needs_systemd
def test_systemd_finds_nothing_to_say_about_the_unit(unit: Path) -> None:
    if systemd_version() >= 254:
        drop_in = Path(f"{unit}.d")
        drop_in.mkdir()
        shutil.copy(PI4 / "daedalus.service.d-254.conf", drop_in / "10-systemd-254.conf")
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
def test_a_wrong_word_would_be_found(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("KillMode=mixed", "KillMode=mixd"))
    assert "kill mode" in analyze("verify", "--man=no", str(unit)).stderr


@needs_systemd
def test_exposure_is_at_most_two(unit: Path) -> None:
    done = analyze("security", "--offline=true", "--threshold=20", "--no-pager", str(unit))
    assert done.returncode == 0, done.stdout
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) <= 2.0


@needs_systemd
def test_what_actors_need_of_the_kernel_is_allowed_after_all() -> None:
    """Denied as sets; placement, priority, clock and the group of the socket are allowed by name."""
    allowed, denied, again = directives(PI4 / "daedalus.service")["SystemCallFilter"]
    assert (allowed, denied) == ("@system-service", "~@privileged @resources")
    listed = analyze("syscall-filter", "--no-pager", "@resources", "@privileged", "@chown", "@clock").stdout
    needed = {"sched_setaffinity", "setpriority", "ioprio_set", "clock_adjtime", "adjtimex", "fchownat"}
    assert needed <= set(listed.split())  # else there were no need to name them
    assert needed <= set(again.split())


def test_directives_are_those_that_the_supervisor_counts_on() -> None:
    found = directives(PI4 / "daedalus.service")
    expected = {
        "Type": "notify", "NotifyAccess": "main", "WatchdogSec": "30", "Restart": "always", "RestartSec": "5",
        "RestartPreventExitStatus": "78", "StartLimitIntervalSec": "0", "KillMode": "mixed",
        "Delegate": "cpu memory pids", "OOMPolicy": "continue", "OOMScoreAdjust": "-500", "User": "daedalus",
        "RuntimeDirectory": "daedalus", "RuntimeDirectoryMode": "0700", "RuntimeDirectoryPreserve": "restart",
        "StateDirectory": "daedalus", "LogRateLimitIntervalSec": "0", "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "", "ProtectSystem": "strict", "UMask": "0077",
        "SystemCallErrorNumber": "EPERM",
    }  # fmt: skip
    assert {key: found.get(key) for key in expected} == {key: [value] for key, value in expected.items()}
    forbidden = {
        "PrivateUsers",
        "ProcSubset",
        "MemoryDenyWriteExecute",
        "ProtectControlGroups",
        "ProtectClock",
    }
    assert forbidden | {"ExecStopPost", "DynamicUser"} & found.keys() == forbidden


def test_the_unit_waits_as_long_as_the_configuration_says() -> None:
    config = tomllib.loads((ROOT / "supervisor.toml").read_text(encoding="utf-8"))
    (wait_s,) = directives(PI4 / "daedalus.service")["TimeoutStopSec"]
    assert config["supervisor"]["stop_timeout_s"] == float(wait_s)


@pytest.mark.parametrize("name", ["daedalus.service.d-254.conf", "journald.conf"])
def test_drop_ins_have_sections_and_values(name: str) -> None:
    parser = configparser.ConfigParser()
    parser.read(PI4 / name)
    assert [len(parser[section]) > 0 for section in parser.sections()] == [True]


def test_kernel_settings_exist_on_this_kernel() -> None:
    lines = [line for line in (PI4 / "sysctl.conf").read_text().splitlines() if not line.startswith("#")]
    for line in lines:
        key, _, value = (part.strip() for part in line.partition("="))
        assert value.isdecimal(), line
        # what belongs to the network lies in a namespace, and may be hidden from a container
        assert key.startswith("net.") or Path("/proc/sys", key.replace(".", "/")).exists(), line


def test_the_runbook_names_every_file_and_step() -> None:
    text = (PI4 / "README.md").read_text(encoding="utf-8")
    for path in PI4.iterdir():
        assert path.name in text, path.name
    for word in (
        "## Install",
        "## Upgrade",
        "reexec",
        "## Back up",
        "## Replace the card",
        "## Read `doctor`",
        "## Uninstall",
    ):
        assert word in text, word
