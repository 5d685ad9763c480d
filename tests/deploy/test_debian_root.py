"""The install script as root in an unpacked Debian, with its useradd, its shell and its owners."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.install import install, make_source, snapshot

ROOT = os.environ.get("DAEDALUS_DEBIAN_ROOT", "")  # without one this file is not collected: see conftest

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

INSIDE = Path("/source")  # where the source tree lies for who is in there
# What useradd and userdel write anew, with their copies and locks.
ACCOUNTS = tuple(f"etc/{name}" for name in ("passwd", "group", "shadow", "gshadow", "sub", ".pwd.lock"))


@pytest.fixture(scope="module")
def debian() -> Iterator[Path]:
    """A minimal Debian, with our source tree in it."""
    path = Path(ROOT)
    make_source(path / "source")
    yield path
    shutil.rmtree(path / "source")


def inside(debian: Path, *command: str, user: str = "root") -> subprocess.CompletedProcess[str]:
    words = ["chroot", f"--userspec={user}", str(debian), *command]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def run(debian: Path, *args: str) -> str:
    done = install(INSIDE, *args, inside=debian, DAEDALUS_SYSTEMD="254")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_install_twice_use_and_uninstall_leaves_debian_as_it_was(debian: Path) -> None:
    untouched = snapshot(debian)
    said = run(debian, "--dry-run")
    assert "would make user daedalus" in said
    assert snapshot(debian) == untouched

    said = run(debian)
    assert "next: edit /etc/daedalus/supervisor.toml" in said
    entry = inside(debian, "getent", "passwd", "daedalus").stdout.split(":")
    assert entry[5:] == ["/var/lib/daedalus", "/usr/sbin/nologin\n"]
    assert int(entry[2]) < 1000  # a system user
    ids = (int(entry[2]), int(entry[3]))
    data, config = debian / "var/lib/daedalus", debian / "etc/daedalus/supervisor.toml"
    assert (data.stat().st_uid, data.stat().st_gid) == ids
    assert (config.stat().st_uid, config.stat().st_gid) == (0, ids[1])

    # The service's user reads its configuration, writes its data, and neither the other way round.
    assert inside(debian, "cat", "/etc/daedalus/supervisor.toml", user="daedalus:daedalus").returncode == 0
    assert inside(debian, "cat", "/etc/daedalus/supervisor.toml", user="nobody:nogroup").returncode != 0
    assert inside(debian, "touch", "/var/lib/daedalus/x", user="daedalus:daedalus").returncode == 0
    assert inside(debian, "touch", "/etc/daedalus/x", user="daedalus:daedalus").returncode != 0
    assert inside(debian, "touch", "/opt/daedalus/venv/x", user="daedalus:daedalus").returncode != 0
    script = inside(
        debian, "test", "-x", "/opt/daedalus/venv/bin/daedalus-supervisor", user="daedalus:daedalus"
    )
    assert script.returncode == 0

    installed = snapshot(debian)
    assert run(debian).splitlines()[-4:-3] == ["0 change(s)"]
    assert snapshot(debian) == installed

    run(debian, "--uninstall")
    assert (data / "x").exists()
    assert inside(debian, "getent", "passwd", "daedalus").returncode == 0
    run(debian, "--uninstall", "--purge")
    assert inside(debian, "getent", "passwd", "daedalus").returncode != 0
    after = snapshot(debian, but=ACCOUNTS)
    new = [path for path in after.keys() - untouched.keys() if not (debian / path).is_dir()]
    assert new == []
    assert untouched.keys() - after.keys() == {path for path in untouched if path.startswith(ACCOUNTS)}
    changed = [path for path, entry in after.items() if untouched.get(path, entry) != entry]
    assert [path for path in changed if not path.startswith("var/log/")] == []
