"""`./run` and the suite: the set-up step says what is missing, and sums are right."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import calibration, table
from tests import suite

ROOT = Path(__file__).resolve().parent.parent


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(ROOT / "run"), *args]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **env}, timeout=120, check=False
    )


def test_run_without_a_command_explains_itself() -> None:
    done = run()
    assert done.returncode == 2
    for word in ("./run CMD", "./run demo", "./run test", "./run bench", "./run lock", "DAEDALUS_PYTHON"):
        assert word in done.stdout


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_run_explains_itself_when_asked_without_setting_anything_up(word: str) -> None:
    done = run(word, DAEDALUS_PYTHON="python9.9")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == run().stdout


def test_run_with_an_interpreter_that_is_not_there_says_so() -> None:
    done = run("true", DAEDALUS_PYTHON="python9.9")
    assert done.returncode == 2
    assert "cannot find the interpreter 'python9.9'" in done.stderr


def test_run_refuses_a_python_that_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\necho 3.9\n")
    old.chmod(0o755)
    done = run("true", DAEDALUS_PYTHON=str(old))
    assert done.returncode == 2
    assert "cannot use Python 3.9: 3.11 or newer is needed" in done.stderr


def test_run_names_the_package_when_venv_is_missing(tmp_path: Path) -> None:
    # a checkout of its own, whose interpreter has no ensurepip, as on a fresh Debian
    for name in ("run", "pyproject.toml", "requirements.lock", "setup.py"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "daedalus" / "features").mkdir(parents=True)
    (tmp_path / "daedalus" / "features" / "x.py").touch()
    fake = tmp_path / "python3"
    fake.write_text(f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; esac\nexec "{sys.executable}" "$@"\n')
    fake.chmod(0o755)
    done = subprocess.run(
        ["sh", str(tmp_path / "run"), "true"],
        capture_output=True,
        text=True,
        env={**os.environ, "DAEDALUS_PYTHON": str(fake)},
        check=False,
    )
    assert done.returncode == 2
    assert "install python3-venv" in done.stderr
    assert not (tmp_path / ".tools").exists()


def test_the_scripts_are_valid_shell() -> None:
    for script in (ROOT / "run", ROOT / ".ci" / "run"):
        assert os.access(script, os.X_OK)
        assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    assert "./run test" in (ROOT / ".ci" / "run").read_text()
    assert "./run test" in (ROOT / "README.md").read_text()


# --- the suite's arithmetic -------------------------------------------------------------------------------


def test_the_summary_ends_as_pytests_does() -> None:
    unit = suite.Outcome(suite.Step("unit", ("x",)), True, 2.0, {"passed": 7, "deselected": 3})
    assert suite.summary([unit]).splitlines()[-1] == "===== 7 passed in 2.00s ====="


def test_a_broken_step_without_tests_counts_as_one_failure() -> None:
    unit = suite.Outcome(suite.Step("unit", ("x",)), False, 2.0, {"passed": 7, "failed": 2, "skipped": 1})
    types = suite.Outcome(suite.Step("types", ("x",)), False, 1.0, {})
    last = suite.summary([types, unit]).splitlines()[-1]
    assert last == "===== 3 failed, 7 passed, 1 skipped in 3.00s ====="


def test_a_step_is_counted_from_its_last_summary_line() -> None:
    script = (
        "print('3 passed in 1s'); print('noise'); "
        "print('1 failed, 2 passed, 4 errors in 0.1s'); raise SystemExit(1)"
    )
    done = suite.perform(suite.Step("x", (sys.executable, "-c", script)))
    assert not done.passed
    assert done.counts == {"failed": 1, "passed": 2, "error": 4}


def test_addresses_in_a_lock_are_found() -> None:
    assert suite.addresses_in("a==1 \\\n    --hash=sha256:00\n") == []
    assert suite.addresses_in("a @ https://files.example/a.whl\n") == ["https://files.example/a.whl"]


# --- the bench harness ------------------------------------------------------------------------------------


def test_figures_have_their_ratio_to_the_target_whichever_way_is_better() -> None:
    found = bench.figures(
        {
            "cost": {"value": 8.0, "unit": "us", "target": 4.0},
            "rate": {"value": 300.0, "target": 150.0, "better": "higher"},
            "plain": 3,
            "note": "text",
            "flag": True,
        }
    )
    assert {name: figure.get("ratio") for name, figure in found.items()} == {
        "cost": 0.5,
        "rate": 2.0,
        "plain": None,
    }
    text = bench.text("x", found)
    assert "MISSED (0.5x)" in text
    assert "met (2x)" in text


def test_the_table_says_what_is_missing_to_a_target() -> None:
    result = {
        "name": "link",
        "machine": {"cpu": "c", "cores": 2, "python": "3.11"},
        "calibration": {"bytecode_mops": 20.0},
        "figures": bench.figures({"cost": {"value": 8.0, "unit": "us", "target": 4.0}}),
    }
    rendered = table.render([result])
    assert "| link | cost | 8 us | ≤ 4 us | missed by 2.00 times |" in rendered
    page = f"a\n{table.BEGIN}\nb\n"
    once = table.replaced(page, rendered)
    assert table.replaced(once, rendered) == once
    assert once.startswith("a\n")
    assert once.endswith("b\n")
    with pytest.raises(ValueError, match="no <!-- bench -->"):
        table.replaced("page", rendered)


def test_calibration_measures_every_kind_of_work(tmp_path: Path) -> None:
    values = calibration.measure(tmp_path)
    assert set(values) == {"bytecode_mops", "copy_gb_per_s", "fdatasync_p50_ms", "fdatasync_p95_ms"}
    assert all(value > 0 for value in values.values())


def test_measurements_are_found_and_unknown_ones_refused() -> None:
    assert not {"table", "calibration", "__main__"} & set(bench.names())
    done = subprocess.run(
        [sys.executable, "-m", "bench", "no-such"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no such measurement: no-such" in done.stderr
