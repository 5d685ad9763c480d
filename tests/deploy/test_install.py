"""The install script in a root of its own: nothing twice, nothing lost, nothing left."""

import subprocess
from pathlib import Path

import pytest

from tests.deploy.install import install, make_source, snapshot

CONFIG = "etc/daedalus/supervisor.toml"
UNIT = "etc/systemd/system/daedalus.service"
DROP_IN = "etc/systemd/system/daedalus.service.d/10-systemd-254.conf"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def done(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_a_dry_run_says_everything_and_does_nothing(source: Path, root: Path) -> None:
    said = done(install(source, "--root", str(root), "--dry-run"))
    assert snapshot(root) == {}
    told = [line.removeprefix("would ") for line in said.splitlines() if line.startswith("would ")]
    really = done(install(source, "--root", str(root))).splitlines()
    assert told == [line for line in really if line.partition(" ")[0] in ("make", "write", "point")]
    assert really[-1] == f"{len(told)} change(s)"


def test_a_second_run_changes_nothing(source: Path, root: Path) -> None:
    done(install(source, "--root", str(root)))
    before = snapshot(root)
    assert done(install(source, "--root", str(root))).splitlines()[-1] == "0 change(s)"
    assert snapshot(root) == before


def test_what_is_installed_is_what_is_shipped(source: Path, root: Path) -> None:
    done(install(source, "--root", str(root)))
    pi4 = source / "deploy" / "pi4"
    for path, shipped in {
        CONFIG: source / "supervisor.toml",
        UNIT: pi4 / "daedalus.service",
        "etc/systemd/journald.conf.d/50-daedalus.conf": pi4 / "journald.conf",
        "etc/sysctl.d/50-daedalus.conf": pi4 / "sysctl.conf",
    }.items():
        assert (root / path).read_text() == shipped.read_text(), path
    assert (root / CONFIG).stat().st_mode & 0o777 == 0o640
    assert (root / "var/lib/daedalus").stat().st_mode & 0o777 == 0o750


def test_programs_go_by_the_link_that_an_upgrade_moves(source: Path, root: Path) -> None:
    done(install(source, "--root", str(root)))
    link = root / "opt/daedalus/venv"
    first = link.readlink()
    assert (link / "bin/daedalus-supervisor").read_text() == "#!/opt/daedalus/venv/bin/python\necho straw\n"
    for number in (2, 3):
        (source / "daedalus" / "__init__.py").write_text(f"version = {number}\n")
        done(install(source, "--root", str(root)))
    third = link.readlink()
    assert third != first
    # the release before stays: it runs until `reexec`, and one can go back to it
    assert len(list((root / "opt/daedalus/releases").iterdir())) == 2
    assert not (root / "opt/daedalus" / first).exists()


def test_an_environment_that_cannot_be_made_leaves_the_old_one_in_place(source: Path, root: Path) -> None:
    done(install(source, "--root", str(root)))
    before = snapshot(root)
    (source / "daedalus" / "__init__.py").write_text("new\n")
    failed = install(source, "--root", str(root), STRAW_PIP="1")
    assert failed.returncode == 1
    assert "cannot install what requirements.lock names" in failed.stderr
    assert {path for path, entry in snapshot(root).items() if before.get(path) != entry} == set()


def test_a_changed_configuration_is_kept_and_the_new_one_laid_beside(source: Path, root: Path) -> None:
    done(install(source, "--root", str(root), "--no-venv"))
    (root / CONFIG).write_text("# mine\n")
    assert done(install(source, "--root", str(root), "--no-venv")).splitlines()[-1] == "0 change(s)"
    (source / "supervisor.toml").write_text("# newer\n")
    said = done(install(source, "--root", str(root), "--no-venv"))
    assert f"kept: /{CONFIG} was changed" in said
    assert (root / CONFIG).read_text() == "# mine\n"
    assert (root / f"{CONFIG}.new").read_text() == "# newer\n"
    assert done(install(source, "--root", str(root), "--no-venv")).splitlines()[-1] == "0 change(s)"


def test_an_unchanged_configuration_follows_the_shipped_one(source: Path, root: Path) -> None:
    done(install(source, "--root", str(root), "--no-venv"))
    (source / "supervisor.toml").write_text("# newer\n")
    done(install(source, "--root", str(root), "--no-venv"))
    assert (root / CONFIG).read_text() == "# newer\n"


def test_a_newer_systemd_gets_its_words_and_an_older_one_is_spared_them(source: Path, root: Path) -> None:
    done(install(source, "--root", str(root), "--no-venv", DAEDALUS_SYSTEMD="257"))
    assert "RestartSteps=" in (root / DROP_IN).read_text()
    done(install(source, "--root", str(root), "--no-venv", DAEDALUS_SYSTEMD="252"))
    assert not (root / DROP_IN).exists()


def test_another_prefix_is_where_the_unit_looks(source: Path, root: Path) -> None:
    done(install(source, "--root", str(root), "--prefix=/srv/dd"))
    unit = (root / UNIT).read_text()
    assert "ExecStart=/srv/dd/venv/bin/daedalus-supervisor start" in unit
    assert "/opt/daedalus" not in unit
    assert (root / "srv/dd/venv/bin/daedalus-ctl").exists()


def test_uninstall_keeps_data_and_purge_keeps_nothing(source: Path, root: Path) -> None:
    done(install(source, "--root", str(root), DAEDALUS_SYSTEMD="257"))
    data = root / "var/lib/daedalus/raw"
    data.write_text("precious")
    before = snapshot(root)
    done(install(source, "--root", str(root), "--uninstall", "--dry-run"))
    assert snapshot(root) == before
    assert "kept: /var/lib/daedalus" in done(install(source, "--root", str(root), "--uninstall"))
    left = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}
    assert left == {CONFIG, "var/lib/daedalus/raw"}
    assert done(install(source, "--root", str(root), "--uninstall")).splitlines()[-1] == "0 change(s)"
    done(install(source, "--root", str(root), "--uninstall", "--purge"))
    assert [path for path in root.rglob("*") if not path.is_dir()] == []


def test_nothing_of_the_configuration_or_the_environment_is_printed(source: Path, root: Path) -> None:
    (source / "supervisor.toml").write_text('api_key_file = "hunter2"\n')
    first = install(source, "--root", str(root), AWS_SECRET_ACCESS_KEY="hunter2")
    (root / CONFIG).write_text('api_key_file = "hunter2, changed"\n')
    (source / "supervisor.toml").write_text('api_key_file = "hunter2, newer"\n')
    second = install(source, "--root", str(root), AWS_SECRET_ACCESS_KEY="hunter2")
    assert "hunter2" not in first.stdout + first.stderr + second.stdout + second.stderr
    assert (root / f"{CONFIG}.new").stat().st_mode & 0o077 == 0o040


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (["--wrong"], 2, "unknown --wrong"),
        (["--prefix"], 2, "needs a directory"),
        (["--root", "relative"], 2, "must be absolute"),
        (["--prefix", "/opt/a b"], 2, "letters, digits"),
        (["--prefix", "/usr"], 2, "a directory of its own"),
        (["--prefix", "/opt/../usr"], 2, "a directory of its own"),
        (["--purge"], 2, "goes with --uninstall"),
        (["--root", "/nowhere/at/all"], 1, "no such directory"),
    ],
)
def test_wrong_options_are_refused_with_the_reason(
    source: Path, args: list[str], code: int, word: str
) -> None:
    refused = install(source, *args)
    assert refused.returncode == code
    assert word in refused.stderr
    assert refused.stdout == ""


def test_help_is_the_head_of_the_script(source: Path) -> None:
    said = done(install(source, "--help"))
    for word in ("--dry-run", "--uninstall", "--purge", "--root DIR", "--prefix DIR", "DAEDALUS_PYTHON"):
        assert word in said
