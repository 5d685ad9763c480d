"""The doctor: each fact of the machine gets the level it deserves, and advice exactly when there is some."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daedalus.kernel import doctor, doctor_board, timesync
from daedalus.kernel.doctor import Check, examine

DATA, RUNTIME = "/var/lib/daedalus", "/run/daedalus"
ETC, DROP_IN = "/etc/systemd/journald.conf", "systemd/journald.conf.d"
DISK = "21 1 179:2 / / rw,noatime - ext4 /dev/mmcblk0p2 rw\n"
RUN = "22 21 0:5 / /run rw - tmpfs tmpfs rw,mode=755\n"
CGROUP2 = "23 21 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max processes             7000                 7000                 processes
Max open files            {soft:<20} 524288               files
"""


class Machine:
    """A root directory to examine: a Pi in good order, to be spoilt by the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.put("/proc/self/mountinfo", DISK + RUN + CGROUP2)
        self.put("/proc/self/cgroup", "0::/system.slice/daedalus.service\n")
        self.put("/proc/self/limits", LIMITS.format(soft="4096"))
        self.put("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n")
        self.put("/proc/pressure/io", "some avg10=0.00 avg60=1.25 avg300=0.00 total=1\nfull avg10=0.00\n")
        self.put("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
        self.put("/sys/fs/cgroup/system.slice/daedalus.service/cgroup.controllers", "cpu memory pids\n")
        self.put("/run/systemd/timesync/synchronized", "")
        self.put("/run/systemd/journal/socket", "")
        self.put("/etc/systemd/journald.conf", "[Journal]\n#Storage=auto\n")
        self.put("/sys/class/watchdog/watchdog0/state", "active\n")
        self.put("/sys/class/watchdog/watchdog0/timeout", "15\n")
        self.put("/sys/class/thermal/thermal_zone0/temp", "51234\n")
        self.put(f"{DATA}/raw/ready/native/trades/exchange=x/segment.parquet", "")
        self.program("throttled=0x0")
        (root / RUNTIME.lstrip("/")).mkdir()

    def put(self, path: str, text: str) -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def remove(self, path: str) -> None:
        (self.root / path.lstrip("/")).unlink()

    def program(self, says: str) -> None:
        self.put("/usr/bin/vcgencmd", f'#!/bin/sh\n[ "$*" = get_throttled ] && echo "{says}"\n').chmod(0o755)

    def examined(self, **places: str | None) -> dict[str, Check]:
        checks = examine(**{"data": DATA, "runtime": RUNTIME, "root": self.root, **places})
        assert len({check.name for check in checks}) == len(checks)
        for check in checks:
            assert check.level in ("ok", "warn", "bad", "unknown")
            assert check.value
            assert check.level in ("ok", "unknown") or check.advice, check
        return {check.name: check for check in checks}

    def level(self, name: str, **places: str | None) -> str:
        return self.examined(**places)[name].level


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(timesync, "_kernel_says_so", lambda: False)
    disk(monkeypatch, free_pct=50.0)
    return Machine(tmp_path)


def disk(monkeypatch: pytest.MonkeyPatch, *, free_pct: float, inodes_pct: float = 50.0) -> None:
    found = SimpleNamespace(f_frsize=4096, f_blocks=1_000_000, f_bavail=int(10_000 * free_pct))
    found.f_files, found.f_favail = 1000, int(10 * inodes_pct)
    monkeypatch.setattr(doctor, "_statvfs", lambda _path: found)


# --- the whole --------------------------------------------------------------------------------------------


def test_a_machine_in_good_order_has_nothing_to_be_told(machine: Machine) -> None:
    checks = machine.examined()
    assert {check.level for check in checks.values()} == {"ok"}
    assert [check.advice for check in checks.values() if check.advice] == []
    assert list(checks) == [
        "python", "pidfd", "cgroup", "memory cgroup", "open files", "time sync", "data free", "data on",
        "segments", "disk stalls", "runtime on", "swap", "watchdog", "journal", "throttling", "temperature",
    ]  # fmt: skip


def test_an_empty_machine_is_unknown_and_never_ok_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timesync, "_kernel_says_so", lambda: False)
    checks = {check.name: check for check in examine(data=None, runtime=None, root=tmp_path)}
    good = {name for name, check in checks.items() if check.level == "ok"}
    assert good == {"python", "pidfd"}
    assert all("Traceback" not in check.value for check in checks.values())


def test_this_machine_can_be_examined() -> None:
    checks = examine(data=os.getcwd(), runtime="/tmp")  # noqa: PTH109 - a string is asked for
    assert {type(check) for check in checks} == {Check}
    assert next(check for check in checks if check.name == "pidfd").level == "ok"


def test_the_doctor_is_light() -> None:
    import subprocess

    heavy = ("asyncio", "msgspec", "pydantic", "zmq", "subprocess", "ctypes", "psutil", "logging")
    script = "import sys; import daedalus.kernel.doctor; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & set(heavy)


# --- the system -------------------------------------------------------------------------------------------


def test_an_old_python_is_bad(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda: (3, 10, 4))
    assert machine.examined()["python"] == Check("python", "bad", "3.10.4", "install Python 3.11 or newer")


def test_a_kernel_without_pidfd_is_bad(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refused)
    assert machine.level("pidfd") == "bad"


def test_the_memory_cgroup_is_seen_by_controllers_and_never_by_the_command_line(machine: Machine) -> None:
    machine.put("/proc/cmdline", "cgroup_disable=memory cgroup_enable=memory cgroup_memory=1\n")
    assert machine.level("memory cgroup") == "ok"
    for path in ("/sys/fs/cgroup/", "/sys/fs/cgroup/system.slice/daedalus.service/"):
        machine.put(f"{path}cgroup.controllers", "cpu pids\n")
    found = machine.examined()["memory cgroup"]
    assert (found.level, found.value) == ("warn", "off")
    assert "append `cgroup_enable=memory cgroup_memory=1`" in found.advice
    assert "/boot/firmware/cmdline.txt" in found.advice


def test_a_memory_controller_that_is_not_delegated_is_no_matter_of_the_boot(machine: Machine) -> None:
    machine.put("/sys/fs/cgroup/system.slice/daedalus.service/cgroup.controllers", "cpu pids\n")
    checks = machine.examined()
    assert "Delegate=cpu memory pids" in checks["memory cgroup"].advice
    assert "cmdline" not in checks["memory cgroup"].advice
    assert (checks["cgroup"].level, checks["cgroup"].value) == ("warn", "cpu pids (this shell)")


def test_without_cgroup_v2_nothing_is_claimed_of_memory(machine: Machine) -> None:
    machine.put("/proc/self/cgroup", "4:memory:/m\n")
    checks = machine.examined()
    assert (checks["cgroup"].level, checks["memory cgroup"].level) == ("warn", "unknown")


def test_a_running_supervisor_is_looked_at_in_place_of_the_shell(machine: Machine) -> None:
    machine.put("/proc/self/cgroup", "0::/user.slice\n")
    machine.put("/sys/fs/cgroup/user.slice/cgroup.controllers", "pids\n")
    assert machine.level("cgroup") == "warn"
    machine.put("/proc/777/cgroup", "0::/system.slice/daedalus.service/supervisor\n")
    machine.put("/proc/777/limits", LIMITS.format(soft="1024"))
    machine.put(f"{RUNTIME}/lock", "777\n")
    checks = machine.examined()
    assert checks["cgroup"].value == "cpu memory pids (supervisor 777)"
    assert (checks["open files"].level, checks["open files"].value) == ("warn", "1024")
    machine.put(f"{RUNTIME}/lock", "778\n")  # long gone
    assert machine.examined()["cgroup"].value == "pids (this shell)"


@pytest.mark.parametrize(
    ("soft", "level"), [("4096", "ok"), ("4095", "warn"), ("unlimited", "ok"), ("?", "unknown")]
)
def test_open_files_want_4096(machine: Machine, soft: str, level: str) -> None:
    machine.put("/proc/self/limits", LIMITS.format(soft=soft))
    assert machine.level("open files") == level


def test_a_clock_that_nobody_set_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.remove("/run/systemd/timesync/synchronized")
    assert machine.level("time sync") == "warn"
    monkeypatch.setattr(timesync, "_kernel_says_so", lambda: True)
    assert machine.level("time sync") == "ok"


# --- data and runtime -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "inodes", "level"),
    [
        (10.0, 50, "ok"),
        (9.99, 50, "warn"),
        (5.0, 50, "warn"),
        (4.99, 50, "bad"),
        (0, 50, "bad"),
        (50, 4, "warn"),
    ],
)
def test_free_space_warns_below_10_percent_and_is_bad_below_5(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, free: float, inodes: float, level: str
) -> None:
    disk(monkeypatch, free_pct=free, inodes_pct=inodes)
    assert machine.level("data free") == level


def test_data_that_are_not_there_yet_are_judged_by_the_disk_they_will_be_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def statvfs(path: Path) -> Any:
        asked.append(path)
        return os.statvfs(machine.root)

    monkeypatch.setattr(doctor, "_statvfs", statvfs)
    machine.examined(data="/var/lib/other/data")
    assert asked == [machine.root / "var/lib"]


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("9 1 0:9 / /var/lib rw - tmpfs none rw\n", "warn"),
        ("9 1 0:9 / /var/lib/daedalus rw - ext4 /dev/sda1 rw\n", "ok"),
        ("9 1 0:9 / /var/lib/daedalus rw - ext4 /dev/sda1 rw,nobarrier\n", "warn"),
        ("9 1 0:9 / /var/lib/daedalus rw - vfat /dev/sda1 rw\n", "warn"),
        ("9 1 0:9 / /var/lib/daedalus rw - fuse.sshfs x rw\n", "warn"),
        ("9 1 0:9 / /var/lib/daedal rw - tmpfs none rw\n", "ok"),  # another directory
        ("9 1 0:9 / /var rw - tmpfs none rw\n10 1 0:9 / /var rw - ext4 /dev/sda1 rw\n", "ok"),  # over it
        ("damaged\n", "ok"),
    ],
)
def test_data_want_a_file_system_that_keeps_what_it_is_given(machine: Machine, line: str, level: str) -> None:
    machine.put("/proc/self/mountinfo", DISK + line)
    assert machine.level("data on") == level


def test_a_link_is_judged_by_where_it_leads(machine: Machine) -> None:
    (machine.root / "srv").symlink_to(machine.root / "run")
    assert machine.level("data on", data="/srv/data") == "warn"


def test_no_segments_found_is_told_when_there_are_journals(machine: Machine) -> None:
    assert machine.level("segments", data="/nothing") == "unknown"
    machine.put("/new/raw/active/trades/0001.journal", "")
    found = machine.examined(data="/new")["segments"]
    assert (found.level, "max_segment_age_s" in found.advice) == ("warn", True)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("some avg10=0 avg60=19.99 avg300=0 total=0\n", "ok"),
        ("some avg10=0 avg60=20.00 avg300=0 total=0\n", "warn"),
        ("", "unknown"),
        ("some avg60=x\n", "unknown"),
    ],
)
def test_slow_writes_are_seen_by_the_kernels_account_of_waiting(
    machine: Machine, text: str, level: str
) -> None:
    machine.put("/proc/pressure/io", text)
    assert machine.level("disk stalls") == level


def test_a_runtime_directory_on_the_card_is_told(machine: Machine) -> None:
    assert machine.level("runtime on", runtime="/var/tmp/run") == "warn"


@pytest.mark.parametrize(
    ("area", "level"),
    [("/dev/zram0", "ok"), ("/dev/mmcblk0p3", "warn"), ("/var/swap", "warn"), ("/run/swap", "ok")],
)
def test_swap_on_the_card_is_told(machine: Machine, area: str, level: str) -> None:
    machine.put("/proc/swaps", f"Filename\tType\tSize\tUsed\tPriority\n{area}   file\t1\t0\t-2\n")
    assert machine.level("swap") == level


# --- the board --------------------------------------------------------------------------------------------


def test_a_watchdog_that_nobody_feeds_is_told(machine: Machine) -> None:
    assert machine.examined()["watchdog"].value == "active, 15 s"
    machine.put("/sys/class/watchdog/watchdog0/state", "inactive\n")
    assert "RuntimeWatchdogSec" in machine.examined()["watchdog"].advice
    machine.remove("/sys/class/watchdog/watchdog0/state")
    assert machine.examined()["watchdog"].value == "none"
    machine.put("/dev/watchdog0", "")
    assert machine.level("watchdog") == "warn"


@pytest.mark.parametrize(
    ("files", "level", "value"),
    [
        ({ETC: "Storage=persistent\n"}, "warn", "persistent, no bound"),
        ({ETC: "Storage=volatile\n"}, "ok", "volatile (a reboot loses it)"),
        ({"/var/log/journal/x": ""}, "warn", "auto: persistent, no bound"),
        ({"/var/log/journal/x": "", f"/etc/{DROP_IN}/a.conf": "SystemMaxUse = 50M"}, "ok",
         "auto: persistent, at most 50M"),
        ({ETC: "Storage=persistent\n", f"/usr/lib/{DROP_IN}/50.conf": "Storage=volatile\n"}, "ok",
         "volatile (a reboot loses it)"),
        ({f"/usr/lib/{DROP_IN}/50.conf": "Storage=persistent\n",
          f"/etc/{DROP_IN}/50.conf": "Storage=volatile\n"}, "ok", "volatile (a reboot loses it)"),
        ({f"/usr/lib/{DROP_IN}/90.conf": "Storage=persistent\nSystemMaxUse=\n",
          f"/etc/{DROP_IN}/50.conf": "Storage=volatile\nSystemMaxUse=9M\n"}, "warn", "persistent, no bound"),
    ],
)  # fmt: skip
def test_the_journal_is_judged_by_its_last_word(
    machine: Machine, files: dict[str, str], level: str, value: str
) -> None:
    for path, text in files.items():
        machine.put(path, text)
    found = machine.examined()["journal"]
    assert (found.level, found.value) == (level, value)


@pytest.mark.parametrize(
    ("says", "level", "value"),
    [
        ("throttled=0x0", "ok", "never"),
        ("throttled=0x50005", "bad", "now: under-voltage, throttled"),
        ("throttled=0x80000", "warn", "since the start: soft temperature limit"),
        ("throttled=0x20002", "bad", "now: frequency capped"),
        ("VCHI initialization failed", "unknown", "vcgencmd does not say"),
    ],
)
def test_throttling_is_decoded(machine: Machine, says: str, level: str, value: str) -> None:
    machine.program(says)
    found = machine.examined()["throttling"]
    assert (found.level, found.value) == (level, value)
    assert ("5.1 V" in found.advice) == ("under-voltage" in value)


def test_a_firmware_that_does_not_answer_is_not_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_board, "VCGENCMD_TIMEOUT_S", 0.05)
    machine.put("/usr/bin/vcgencmd", "#!/bin/sh\nexec sleep 60\n").chmod(0o755)
    assert machine.level("throttling") == "unknown"


def test_heat_is_told(machine: Machine) -> None:
    assert machine.examined()["temperature"].value == "51 °C"
    machine.put("/sys/class/thermal/thermal_zone0/temp", "80000\n")
    assert machine.level("temperature") == "warn"
