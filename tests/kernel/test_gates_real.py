"""The watch over gates against the kernel itself: a route that comes and a file system that is mounted.

Each runs in a child with namespaces of its own, so that nothing of this machine is changed.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REQUIRE_ALL, ROOT

pytestmark = pytest.mark.system

PREAMBLE = """
import asyncio, ctypes, fcntl, os, socket, struct, sys
from pathlib import Path
from daedalus.kernel.gates import Watch, is_open, parse

libc = ctypes.CDLL(None, use_errno=True)
uid, gid = os.geteuid(), os.getegid()
namespaces = 0x40000000 | 0x00020000 | (0 if uid == 0 else 0x10000000)  # net, mount, and user
if libc.unshare(namespaces):
    print("refused", os.strerror(ctypes.get_errno()))
    sys.exit(0)
if uid:
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")

class Looks:
    def __init__(self, gate):
        self.gate, self.found = parse(gate), asyncio.Event()
        self.count = 0
        self.watch = Watch(self.changed)
        self.watch.follow([self.gate])
    def changed(self):
        self.count += 1
        if self.count > 1:
            self.found.set()
    async def told(self):
        async with asyncio.timeout(20):
            await self.found.wait()
    async def settled(self):
        for _ in range(5):
            await asyncio.sleep(0)
"""

ROUTES = """
async def main():
    looks = Looks("net:default-route")
    await looks.settled()
    print(looks.watch.armed, looks.count, is_open(looks.gate, lambda name: None))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:  # lo comes up, and with it its routes
        fcntl.ioctl(made, 0x8914, struct.pack("16sh14x", b"lo", 1))
    await looks.told()
    print("told", is_open(looks.gate, lambda name: None))
    looks.watch.close()
asyncio.run(main())
"""

MOUNTS = """
async def main():
    folder = sys.argv[1]
    libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None)  # nothing of this is seen outside
    source, target = f"{folder}/source", f"{folder}/target"
    os.mkdir(source); os.mkdir(target)
    Path(source, "x").touch()
    looks = Looks(f"path:{target}/x")
    await looks.settled()
    print(looks.watch.armed, looks.count, is_open(looks.gate, lambda name: None))
    if libc.mount(source.encode(), target.encode(), None, 0x1000, None):  # a bind mount
        print("refused", os.strerror(ctypes.get_errno()))
        return
    await looks.told()
    print("told", is_open(looks.gate, lambda name: None))
    looks.watch.close()
asyncio.run(main())
"""


def said(script: str, *argv: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + script, *argv],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    if any(line.startswith("refused") for line in lines):
        if REQUIRE_ALL and os.geteuid() != 0:
            pytest.xfail(f"only root may make namespaces here: {lines[-1]}")
        pytest.skip(f"no namespaces: {lines[-1]}")
    return lines


def test_a_route_of_the_kernel_is_heard_and_lo_is_no_way_out() -> None:
    assert said(ROUTES) == ["('netlink',) 1 False", "told False"]


def test_a_path_that_a_mount_brings_is_found(tmp_path: Path) -> None:
    assert said(MOUNTS, str(tmp_path)) == ["('inotify', 'mounts') 1 False", "told True"]
