"""Control groups: found where they are given to us, never taken, and nobody in them gets away.

All by directories that look like cgroups; real processes are in test_cgroups_real.
"""

import os
import signal
from pathlib import Path

import pytest

from daedalus.kernel import cgroups
from daedalus.kernel.cgroups import Cgroups, Leaf, leaf_name, own_directory
from daedalus.kernel.errors import ConfigError

SYSTEMD = {"INVOCATION_ID": "0123"}
MOUNT = "31 23 0:28 {root} {point} rw,relatime shared:9 - {kind} {kind} rw\n"


def fake_proc(tmp_path: Path, membership: str, *mounts: tuple[str, Path | str, str]) -> Path:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text(membership)
    lines = [
        MOUNT.format(root=root, point=str(point).replace(" ", r"\040"), kind=kind)
        for root, point, kind in mounts
    ]
    (proc / "self/mountinfo").write_text("".join(lines))
    return proc


def fake_cgroup(path: Path, controllers: str = "cpu memory pids", pids: tuple[int, ...] = ()) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    (path / "cgroup.controllers").write_text(controllers + "\n")
    (path / "cgroup.subtree_control").write_text("")
    return path


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that systemd delegated; `find` is to be called with proc = tmp_path / "proc"."""
    unit = fake_cgroup(tmp_path / "cg/system.slice/daedalus.service", pids=(os.getpid(),))
    fake_proc(tmp_path, "0::/system.slice/daedalus.service\n", ("/", tmp_path / "cg", "cgroup2"))
    monkeypatch.setattr(cgroups, "_is_delegated", lambda path: path == unit)
    return unit


def found(tmp_path: Path, environ: dict[str, str] = SYSTEMD) -> Path | None:
    made = Cgroups.find(environ, tmp_path / "proc")
    return None if made is None else made.path


# --- where ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("membership", "mounts", "expected"),
    [
        ("0::/a/b\n", [("/", "/sys/fs/cgroup", "cgroup2")], "/sys/fs/cgroup/a/b"),
        ("0::/\n", [("/", "/sys/fs/cgroup", "cgroup2")], "/sys/fs/cgroup"),
        (
            "4:memory:/m\n1:name=systemd:/s\n0::/a\n",
            [("/", "/sys/fs/cgroup/memory", "cgroup"), ("/", "/sys/fs/cgroup/unified", "cgroup2")],
            "/sys/fs/cgroup/unified/a",
        ),
        ("0::/docker/1/x\n", [("/docker/1", "/sys/fs/cgroup", "cgroup2")], "/sys/fs/cgroup/x"),
        ("0::/docker/12\n", [("/docker/1", "/sys/fs/cgroup", "cgroup2")], None),
        ("0::/../other\n", [("/", "/sys/fs/cgroup", "cgroup2")], None),
        ("0::/a:b\n", [("/", "/mnt/my groups", "cgroup2")], "/mnt/my groups/a:b"),
        ("4:memory:/m\n", [("/", "/sys/fs/cgroup/memory", "cgroup")], None),
        ("0::/a\n", [("/", "/sys/fs/cgroup/memory", "cgroup")], None),
    ],
)
def test_our_directory_is_found_in_every_kind_of_hierarchy(
    tmp_path: Path, membership: str, mounts: list[tuple[str, str, str]], expected: str | None
) -> None:
    path = own_directory(fake_proc(tmp_path, membership, *mounts))
    assert path == (None if expected is None else Path(expected))


def test_a_machine_without_proc_has_no_cgroups(tmp_path: Path) -> None:
    assert own_directory(tmp_path) is None
    assert Cgroups.find(SYSTEMD, tmp_path) is None


def test_a_delegated_directory_is_used(tmp_path: Path, given: Path) -> None:
    assert found(tmp_path) == given


def test_nothing_is_taken_without_systemd(tmp_path: Path, given: Path) -> None:
    assert given.exists()
    assert found(tmp_path, {}) is None


def test_nothing_is_taken_that_is_not_delegated(
    tmp_path: Path, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert given.exists()
    monkeypatch.setattr(cgroups, "_is_delegated", lambda _path: False)
    assert found(tmp_path) is None


def test_nothing_is_taken_that_holds_processes_of_others(tmp_path: Path, given: Path) -> None:
    fake_cgroup(given, pids=(os.getpid(), 1))
    assert found(tmp_path) is None


def test_from_the_leaf_of_the_supervisor_the_directory_above_is_found(tmp_path: Path, given: Path) -> None:
    fake_cgroup(given, pids=())
    fake_cgroup(given / "supervisor", pids=(os.getpid(), 1))
    (tmp_path / "proc/self/cgroup").write_text("0::/system.slice/daedalus.service/supervisor\n")
    assert found(tmp_path) == given


def test_a_named_directory_is_used_without_systemd(tmp_path: Path) -> None:
    path = fake_cgroup(tmp_path / "named")
    assert found(tmp_path, {"DAEDALUS_CGROUP": str(path)}) == path


def test_a_named_directory_that_is_no_cgroup_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot use \$DAEDALUS_CGROUP=.*: not a cgroup2 directory"):
        Cgroups.find({"DAEDALUS_CGROUP": str(tmp_path)})


def test_the_mark_of_systemd_is_delegation_and_being_root_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks: dict[str, bytes] = {}

    def getxattr(_path: Path, name: str) -> bytes:
        if name not in marks:
            raise OSError(61, "No data available")
        return marks[name]

    monkeypatch.setattr(os, "getxattr", getxattr)
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert not cgroups._is_delegated(tmp_path)
    marks["user.delegate"] = b"1"
    assert cgroups._is_delegated(tmp_path)
    marks["user.delegate"] = b"0"
    assert not cgroups._is_delegated(tmp_path)
    marks["trusted.delegate"] = b"1"
    assert cgroups._is_delegated(tmp_path)
    marks.clear()
    os.chown(tmp_path, 4711, -1) if owner == 0 else None
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid or 4711)
    assert cgroups._is_delegated(tmp_path) == (tmp_path.stat().st_uid != 0)


# --- preparation ------------------------------------------------------------------------------------------


def test_prepare_moves_us_and_asks_for_the_controllers_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fake_cgroup(tmp_path / "cg", controllers="cpuset cpu memory io")
    fake_cgroup(path / "supervisor")
    asked: list[str] = []

    def write(_path: Path, text: str) -> bool:
        asked.append(text)
        return text != "+memory"  # refused: the others are asked for all the same

    monkeypatch.setattr(cgroups, "_write", write)
    assert Cgroups(path).prepare()
    assert asked == ["+memory", "+cpu"]
    assert (path / "supervisor/cgroup.procs").read_text() == f"{os.getpid()}\n"


def test_memory_is_had_only_when_it_is_turned_on(tmp_path: Path) -> None:
    path = fake_cgroup(tmp_path / "cg", controllers="hugetlb")
    fake_cgroup(path / "supervisor")
    mine = Cgroups(path)
    assert not mine.has_memory
    assert mine.prepare()
    assert not mine.has_memory
    (path / "cgroup.subtree_control").write_text("cpu memory hugetlb\n")
    assert mine.prepare()
    assert (mine.has_memory, mine.controllers) == (True, {"cpu", "memory"})


def test_prepare_says_no_where_we_cannot_be_moved(tmp_path: Path) -> None:
    assert not Cgroups(tmp_path / "missing").prepare()
    path = fake_cgroup(tmp_path / "cg")
    (path / "supervisor").write_text("in the way")
    assert not Cgroups(path).prepare()


# --- leaves -----------------------------------------------------------------------------------------------


def test_names_are_harmless_and_no_two_are_the_same() -> None:
    names = [
        "a/b",
        "a.b",
        "a@b",
        "a%40b",
        "a-b",
        "a b",
        "a#1",
        "a#2",
        "..",
        ".",
        "cgroup.procs",
        "ü",
        "x" * 300,
    ]
    names += ["x" * 299 + "y", "supervisor", "a\nb"]
    made = [leaf_name(name) for name in names]
    assert len(set(made)) == len(names)
    for name in made:
        assert name.startswith("actor-")
        assert len(name) <= 255
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@%")
    assert leaf_name("store/writer-orderbook") == "actor-store@writer-orderbook"


@pytest.fixture
def leaf(tmp_path: Path) -> Leaf:
    """A leaf with all files of all controllers."""
    path = tmp_path / "actor-a"
    path.mkdir()
    for name in ("memory.max", "memory.oom.group", "memory.high", "cgroup.kill"):
        (path / name).write_text("")
    (path / "cgroup.procs").write_text("")
    (path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    (path / "memory.stat").write_text("anon 4096\nfile 99999\nshmem 1024\nanon_thp 7\n")
    (path / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 1\n")
    return Leaf(path)


def test_the_hard_limit_kills_all_at_once_and_the_soft_one_is_left_alone(leaf: Leaf) -> None:
    assert leaf.set_limits(1 << 20)
    assert (leaf.path / "memory.max").read_text() == "1048576"
    assert (leaf.path / "memory.oom.group").read_text() == "1"
    assert (leaf.path / "memory.high").read_text() == ""
    (leaf.path / "memory.max").write_text("")
    assert leaf.set_limits(None)
    assert (leaf.path / "memory.max").read_text() == "max"


def test_memory_is_anonymous_and_shared_without_the_page_cache(leaf: Leaf) -> None:
    assert (leaf.anon(), leaf.oom_kills()) == (5120, 1)


def test_without_a_controller_nothing_is_known_and_nothing_raises(tmp_path: Path) -> None:
    leaf = Leaf(tmp_path / "actor-a")
    (tmp_path / "actor-a").mkdir()
    assert (leaf.anon(), leaf.oom_kills(), leaf.set_limits(1)) == (None, None, False)
    assert not (leaf.path / "memory.max").exists()


def test_a_leaf_that_cannot_be_made_says_no_to_everything(tmp_path: Path) -> None:
    leaf = Leaf(tmp_path / "missing/actor-a")
    assert (leaf.open_procs_fd(), leaf.add(1), leaf.set_limits(1)) == (None, False, False)
    assert (leaf.populated(), leaf.kill(), leaf.anon(), leaf.oom_kills()) == (False, False, None, None)
    assert leaf.remove()  # what is not there is removed


def test_the_kernels_own_kill_is_used_where_there_is_one(leaf: Leaf) -> None:
    assert leaf.populated()
    assert leaf.kill()
    assert (leaf.path / "cgroup.kill").read_text() == "1"


def test_the_descriptor_of_a_leaf_is_for_writing_and_closed_on_exec(leaf: Leaf) -> None:
    fd = leaf.open_procs_fd()
    assert fd is not None
    assert not os.get_inheritable(fd)
    os.write(fd, b"0")
    os.close(fd)
    assert (leaf.path / "cgroup.procs").read_text() == "0"


def test_the_fallback_kill_spares_who_has_left_between_the_look_and_the_blow(
    leaf: Leaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    (leaf.path / "cgroup.kill").unlink()
    struck: list[int] = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda pidfd, _signum: struck.append(pidfd))
    looks = iter([[os.getpid()], [], []])  # it was there, and its number is another's by now
    monkeypatch.setattr(cgroups, "_pids", lambda _path: next(looks))
    assert leaf.kill()
    assert struck == []


def test_a_process_of_another_namespace_cannot_be_killed_and_is_told(leaf: Leaf) -> None:
    (leaf.path / "cgroup.kill").unlink()
    (leaf.path / "cgroup.procs").write_text("0\n")
    assert not leaf.kill()
