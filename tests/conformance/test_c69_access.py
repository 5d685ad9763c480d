"""C69: who may reach the control socket, who may look, who may act. Other users are played by forks."""

import grp
import os
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.conformance.harness import Tree, probe, table
from tests.conformance.wire import Link, RefusedError

pytestmark = [pytest.mark.system, pytest.mark.needs_root]

STRANGER = 54321  # a uid that nobody has


def some_groups() -> tuple[grp.struct_group, grp.struct_group]:
    """Return two groups of this machine that are not root's."""
    others = sorted((item for item in grp.getgrall() if item.gr_gid != 0), key=lambda item: item.gr_gid)
    return others[0], others[1]


def as_user(groups: list[int], work: Callable[[], str]) -> str:
    """Return what `work` returns in a process of another user with these groups."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "died"
        try:
            os.setgroups(groups)
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            said = work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must not come back into pytest
            said = repr(error)
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = file.read().decode()
    os.waitpid(pid, 0)
    return said


def ask(tree: Tree, cmd: str, **args: object) -> Callable[[], str]:
    def work() -> str:
        try:
            link = Link(tree.runtime / "control.sock", 20.0)
            link.ask(cmd, **args)
            return f"ok {len(list(link.answers()))}"
        except PermissionError:
            return "no way in"
        except RefusedError as error:
            return error.code

    return work


def program(tree: Tree, *words: str) -> Callable[[], str]:
    """Run the control program in this process: another user cannot read our interpreter's directory."""
    import daedalus.cli.ctl  # noqa: F401 - before the rights are gone

    main = sys.modules["daedalus.cli.ctl"].main

    def work() -> str:
        sys.argv = ["daedalus-ctl", "--runtime", str(tree.runtime), *words]
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            main()
        except SystemExit as left:
            return f"exit {left.code}"
        return "exit 0"

    return work


@pytest.fixture(scope="module")
def watched(plant: Callable[[], Tree]) -> tuple[Tree, set[int]]:
    """A tree with both groups, and the modes that its socket was seen with from its first moment on."""
    one = plant()
    one.directory.chmod(0o755)
    masters, readers = some_groups()
    names = {"group": masters.gr_name, "readonly_group": readers.gr_name}
    one.start(probe("g/a"), more=table("control", names), wait=False)
    modes: set[int] = set()
    while not modes or not one.answering():  # no pause: there must be no moment with other rights
        assert one.process is not None
        assert one.process.poll() is None, one.story()
        with suppress(OSError):
            modes.add((one.runtime / "control.sock").stat().st_mode & 0o777)
    one.until_up()
    return one, modes


@pytest.fixture
def shared(watched: tuple[Tree, set[int]]) -> Tree:
    return watched[0]


def test_c69_the_socket_has_its_mode_and_group_from_the_first_moment(
    watched: tuple[Tree, set[int]],
) -> None:
    shared, modes = watched
    found = (shared.runtime / "control.sock").stat()
    assert found.st_mode & 0o777 == 0o660
    assert found.st_gid == some_groups()[0].gr_gid
    assert modes <= {0o660, 0o600}
    assert shared.runtime.stat().st_mode & 0o007 == 0


def test_c69_a_user_of_no_group_of_ours_is_kept_out(shared: Tree) -> None:
    assert as_user([STRANGER], ask(shared, "status")) in ("no way in", "denied")
    assert as_user([STRANGER], program(shared, "status")) == "exit 8"


def test_c69_a_member_of_the_group_may_act(shared: Tree) -> None:
    masters = [some_groups()[0].gr_gid]
    assert as_user(masters, ask(shared, "status")) == "ok 1"
    assert as_user(masters, ask(shared, "restart", actors=["g/a"])) == "ok 1"
    assert as_user(masters, program(shared, "count")) == "exit 0"


def test_c69_a_member_of_the_readonly_group_may_look_and_not_touch(shared: Tree) -> None:
    readers = [some_groups()[1].gr_gid]
    shared.wait_running("g/a")
    before = shared.who("g/a")
    assert as_user(readers, ask(shared, "status")) == "ok 1"
    assert as_user(readers, ask(shared, "count")) == "ok 1"
    assert as_user(readers, ask(shared, "stop", actors=["g/a"])) == "denied"
    assert as_user(readers, ask(shared, "shutdown")) == "denied"
    assert as_user(readers, program(shared, "stop", "g/a")) == "exit 8"
    assert shared.who("g/a") == before


def test_c69_without_groups_the_socket_is_the_users_alone(tree: Tree) -> None:
    tree.directory.chmod(0o755)
    tree.start(probe("g/a"))
    assert (tree.runtime / "control.sock").stat().st_mode & 0o077 in (0, 0o060)
    assert as_user([STRANGER], ask(tree, "status")) in ("no way in", "denied")
