"""docs/subscriber in Node before a real gateway, over the Unix socket and over TCP with its key.

It needs `node` and the two modules of its package.json, in docs/subscriber/node_modules or in
$DAEDALUS_NODE_MODULES. No test fetches them.
"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import zmq

from daedalus.actors import endpoints, keyring
from daedalus.actors.gateway import Gateway
from daedalus.actors.gateway import Settings as GatewaySettings
from daedalus.kernel.actor import Context
from tests.backstage import Backstage
from tests.conftest import ROOT
from tests.ports import free_pair
from tests.test_vector import HEADER, vector

FOLDER = ROOT / "docs/subscriber"
MODULES = Path(os.environ.get("DAEDALUS_NODE_MODULES", FOLDER / "node_modules"))
BOUND_S = 60
WHY = f"no zeromq and @msgpack/msgpack in {MODULES}: npm ci --ignore-scripts --prefix docs/subscriber"
pytestmark = [
    pytest.mark.system,
    pytest.mark.needs_node,
    pytest.mark.skipif(
        shutil.which("node") is None or not all((MODULES / name).is_dir() for name in ("zeromq", "@msgpack")),
        reason=WHY,
    ),
]


def run(tmp_path: Path, *arguments: str) -> "subprocess.Popen[str]":
    # Node looks for modules beside the program: the folder itself stays as it is
    shutil.copy(FOLDER / "subscriber.mjs", tmp_path / "subscriber.mjs")
    (tmp_path / "node_modules").symlink_to(MODULES)
    return subprocess.Popen(
        ["node", tmp_path / "subscriber.mjs", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows_of(process: "subprocess.Popen[str]") -> list[dict[str, Any]]:
    out, errors = process.communicate(timeout=BOUND_S)
    assert (process.returncode, errors) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def test_node_reads_rows_as_the_client_does_over_either_road(runtime_dir: Path, tmp_path: Path) -> None:
    stage = Backstage(runtime_dir)
    try:
        stage.stop("gateway")
        keys = runtime_dir / "keys"
        key = keyring.make(keys, "node")
        port = free_pair()
        settings = {"tcp": f"tcp://127.0.0.1:{port}", "keys_dir": str(keys), "runtime": stage.runtime}
        stage.gateway = Gateway(
            GatewaySettings(exchanges=("binance",), **settings),
            Context(name="live/gateway", runtime=stage.runtime),
        )
        stage.call(stage.gateway.start)
        stage.publish("tb")
        server_key = keyring.public_of(keyring.server_secret(keys))
        topic = "feature/binance/BTC-USDT/"
        for number, arguments in enumerate(
            (
                [endpoints.gateway(stage.runtime), topic, "3"],
                [f"tcp://127.0.0.1:{port}", topic, "3", server_key, key.public, key.secret],
            )
        ):
            folder = tmp_path / str(number)
            folder.mkdir()
            process = run(folder, *arguments)
            try:
                _until(lambda: stage.gateway.stats()["subscriptions"] == 1)
                stage.publish("bb")
                rows = rows_of(process)
            finally:
                process.kill()
                process.wait(BOUND_S)
            _until(lambda: stage.gateway.stats()["subscriptions"] == 0)
            first = rows[0]["seq"]
            assert [(row["seq"], row["lost"]) for row in rows] == [(first + n, 0) for n in range(3)]
            assert rows[0]["values"] == {"mid_price": 100, "trades": 1, "after_gap": 0, "nothing": None}
            assert {row["topic"] for row in rows} == {topic}
            assert int(rows[0]["ts_recv_ns"]) in {record.ts_recv for record in stage.collector.spool}
    finally:
        stage.close()


def test_node_reads_the_vector_of_the_page(short_tmp: Path, tmp_path: Path) -> None:
    import msgspec

    context = zmq.Context()
    source, answers = context.socket(zmq.XPUB), context.socket(zmq.ROUTER)
    process = None
    try:
        source.bind(f"ipc://{short_tmp}/x")
        answers.bind(f"ipc://{short_tmp}/x.req")
        process = run(tmp_path, f"ipc://{short_tmp}/x", vector()[0].decode(), "1")
        assert source.poll(BOUND_S * 1000)
        source.send_multipart(vector())
        assert answers.poll(BOUND_S * 1000)
        *way_back, asked = answers.recv_multipart()
        assert msgspec.msgpack.decode(asked) == [1, "schema", HEADER[-1]]
        answers.send_multipart([*way_back, msgspec.msgpack.encode([1, True, {"names": ["a", "b", "c"]}])])
        (row,) = rows_of(process)
    finally:
        if process is not None:
            process.kill()
            process.wait(BOUND_S)
        context.destroy(0)
    assert row == {
        "topic": vector()[0].decode(),
        "seq": 7,
        "lost": 0,
        "ts_recv_ns": str(HEADER[5]),
        "values": {"a": 42000.5, "b": None, "c": -1.25},
    }


def _until(condition: Any) -> None:
    deadline = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)
