"""What tests of the install script share: a small source tree, an interpreter of straw, a way to run it."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PI4 = ROOT / "deploy" / "pi4"
# Makes "environments" in no time: what pip would install is two scripts that say who they are.
STRAW = """\
#!/bin/sh
bin=$(dirname "$0")
case "$1 $2" in
  "-c "*) echo "straw 3.11" ;;
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip")
    case " $* " in *" --no-build-isolation "*) ;; *) exit ${STRAW_PIP:-0} ;; esac
    for script in daedalus-supervisor daedalus-ctl; do
      printf '#!%s\\necho straw\\n' "$bin/python" >"$bin/$script"
      chmod 755 "$bin/$script"
    done ;;
esac
"""


def make_source(path: Path) -> Path:
    """Return a source tree with the real scripts and next to no program."""
    shutil.copytree(PI4, path / "deploy" / "pi4")
    (path / "daedalus").mkdir()
    (path / "daedalus" / "__init__.py").write_text("")
    for name in (
        "supervisor.toml",
        "requirements.lock",
        "pyproject.toml",
        "setup.py",
        "README.md",
        "LICENSE",
    ):
        shutil.copy(ROOT / name, path / name)
    straw = path / "straw"
    straw.write_text(STRAW)
    straw.chmod(0o755)
    return path


def install(
    source: Path, *args: str, inside: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the script of `source`; with `inside` in that root, of which `source` is then a path."""
    command = ["sh", str(source / "deploy" / "pi4" / "install.sh"), *args]
    if inside is not None:
        command = ["chroot", str(inside), *command]
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "DAEDALUS_SYSTEMD": "252"}
    environ |= {"DAEDALUS_PYTHON": str(source / "straw"), **env}
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=120, check=False)


def snapshot(root: Path, *, but: tuple[str, ...] = ()) -> dict[str, tuple[object, ...]]:
    """Return what lies below `root`: mode and owner, of files the time and size, of links the target."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory, name)
            status = path.lstat()
            entry: tuple[object, ...] = (oct(status.st_mode), status.st_uid, status.st_gid)
            if stat.S_ISREG(status.st_mode):
                entry += (status.st_mtime_ns, status.st_size)
            elif stat.S_ISLNK(status.st_mode):
                entry += (os.readlink(path),)  # noqa: PTH115 - the text of it
            found[str(path.relative_to(root))] = entry
    return {path: entry for path, entry in found.items() if not path.startswith(but)}
