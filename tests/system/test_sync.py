"""The syncer against a real S3 server: arrival, outage, kills, and the wrong keys."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daedalus.dataset.layout import Layout
from tests.system.s3 import KEYS, Server

pytestmark = [pytest.mark.system, pytest.mark.s3real, pytest.mark.timeout(170)]

ACTOR = """
import sys, msgspec
from daedalus.actors.syncer import Settings, Syncer
from daedalus.kernel.actor import Context, run
settings = msgspec.json.decode(sys.argv[1], type=Settings)
sys.exit(run(Syncer, msgspec.msgpack.encode(settings), Context(name="ship/syncer", data=settings.data)))
"""


@pytest.fixture
def server(tmp_path):
    found = Server(tmp_path / "s3")
    found.start()
    yield found
    found.stop()


def lake(root: Path, sizes: list[int]) -> dict[str, str]:
    """Write segments of random bytes; return key -> SHA-256."""
    seeded = random.Random(1)
    made = {}
    for number, size in enumerate(sizes, 1):
        hour = Layout(data=str(root)).ready("ccxt", "trades") / "exchange=binance" / f"hour={number % 24}"
        hour.mkdir(parents=True, exist_ok=True)
        path = hour / f"segment_20260131T14_{number:05d}.parquet"
        path.write_bytes(seeded.randbytes(size))
        made[f"pi/{path.relative_to(root)}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return made


def environment(secret: str = KEYS[1]) -> dict[str, str]:
    return os.environ | {"AWS_ACCESS_KEY_ID": KEYS[0], "AWS_SECRET_ACCESS_KEY": secret}


def sync(data: Path, server: Server, *more: str, secret: str = KEYS[1]) -> "subprocess.CompletedProcess[str]":
    command = [
        *(sys.executable, "-c", "from daedalus.cli.data import main; main()"),
        *("sync", "--data", str(data), "--bucket", "lake", "--prefix", "pi", "--multipart-mb", "5"),
        *("--endpoint-url", server.url, "--path-style"),
        *more,
    ]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=90, env=environment(secret), check=False
    )


def held(root: Path) -> dict[str, str]:
    """What lies in the bucket, the server's own drafts left out: key -> SHA-256."""
    bucket = root / "s3" / "lake"
    return {
        str(path.relative_to(bucket)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in bucket.rglob("*")
        if path.is_file() and not path.name.startswith(".rclone_temp")
    }


def manifest(data: Path) -> list[dict]:
    path = data / "state" / "sync" / "manifest.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def test_segments_arrive_whole_are_verified_and_stay_here(tmp_path, server):
    data = tmp_path / "data"
    made = lake(data, [10, 1000, 100_000, 12 << 20])
    dry = sync(data, server, "--dry-run")
    assert (dry.returncode, held(tmp_path), manifest(data)) == (0, {}, [])
    assert set(made) == {line.split()[1] for line in dry.stdout.splitlines()}
    first, second = sync(data, server), sync(data, server)
    assert first.returncode == second.returncode == 0, first.stderr
    assert held(tmp_path) == made
    assert {line["key"]: line["sha256"] for line in manifest(data)} == made
    assert all(line["proof"] in {"sha256", "md5", "read"} for line in manifest(data))
    assert second.stdout.startswith("0 files (0 bytes) sent")
    assert len(list(data.rglob("segment_*"))) == 4


def test_a_wrong_secret_is_one_clear_failure(tmp_path, server):
    lake(tmp_path / "data", [10])
    done = sync(tmp_path / "data", server, secret="wrong")
    assert (done.returncode, held(tmp_path), manifest(tmp_path / "data")) == (1, {}, [])
    assert "cannot look up pi/raw/ready" in done.stderr


def actor(data: Path, server: Server, log: Path) -> "subprocess.Popen[bytes]":
    settings = {
        "data": str(data),
        "bucket": "lake",
        "prefix": "pi",
        "endpoint_url": server.url,
        "path_style": True,
        "multipart_mb": 5,
        "max_workers": 2,
        "interval_s": 0.3,
    }
    with log.open("ab") as stderr:
        return subprocess.Popen(
            [sys.executable, "-c", ACTOR, json.dumps(settings)], stderr=stderr, env=environment()
        )


def until(condition, seconds: float = 45) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_kills_in_the_middle_and_an_outage_lose_nothing(tmp_path, server):
    """The syncer is killed while it sends, the server is killed and comes back; in the end all is there."""
    data, log = tmp_path / "data", tmp_path / "stderr"
    seeded = random.Random(7)
    made = lake(data, [11 << 20] + [200_000] * 40 + [11 << 20])
    for goal in (0, 3, 8, 13, 20):
        process = actor(data, server, log)
        until(lambda goal=goal: held(tmp_path) if goal == 0 else len(manifest(data)) >= goal)
        time.sleep(seeded.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = len(manifest(data))
    assert 0 < before < len(made), "the kills were to come in the middle"
    server.stop()
    process = actor(data, server, log)
    try:
        until(lambda: '"outage": true' in log.read_text())
        assert process.poll() is None, "an outage is no reason to die"
        server.start()
        until(lambda: len({line["key"] for line in manifest(data)}) == len(made))
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
    assert held(tmp_path) == made
    assert {line["key"]: line["sha256"] for line in manifest(data)} == made
