"""0.18: every key of the file changes something. A key that does nothing is a lie."""

import ast
import os
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest

from daedalus import config
from daedalus.config.fields import Table
from daedalus.config.models import (
    Channels,
    Control,
    Dashboard,
    Disk,
    Exchange,
    Gateway,
    Group,
    Link,
    Paths,
    Supervisor,
    Sync,
    Writer,
)
from daedalus.config.tree import Actor, BackoffTable

ROOT = Path(__file__).resolve().parent.parent.parent
BASE = """
[groups.mine]
[groups.pool]
strategy = "simple_one_for_one"
[exchanges.binance]
adapter = "ccxt"
[exchanges.binance.channels]
orderbook = ["BTC/USDT"]
[exchanges.kraken]
adapter = "native"
[exchanges.kraken.channels]
trades = ["BTC/USD"]
[sync]
enabled = true
bucket = "b"
[actors."mine/x"]
command = ["/bin/cat"]
[actors."mine/x".backoff]
[actors."pool/y"]
command = ["/bin/cat"]
"""
OTHER: dict[str, Any] = {
    # where any other value of the type would not do
    "exchanges.binance.id": "okx",
    "exchanges.binance.aliases": {"BTC/USDT": "X"},
    "exchanges.binance.ccxt": {"timeout": 5},
    "exchanges.kraken.id": "coinbase",
    "exchanges.kraken.ws_url": "ws://x",
    "exchanges.kraken.rest_url": "http://x",
    "groups.mine.parent": "ops",
    "groups.mine.backoff": {"base_s": 9},
    "supervisor.intensity": 2,
    "supervisor.stop_timeout_s": 1,
    "groups.mine.on_limit": "park",
    "disk.warn_pct": 11,
    "disk.evict_pct": 6,
    "disk.stop_pct": 3,
    "gateway.ipc": "ipc:///x",
    "gateway.tcp": "tcp://127.0.0.1:5",
    "sync.endpoint_url": "http://x",
    "dashboard.listen": "127.0.0.1:1",
    "actors.mine/x.backoff": {"base_s": 9},
    "actors.mine/x.memory_warn": "1M",
    "actors.mine/x.memory_soft": "2M",
    "actors.mine/x.memory_hard": "500M",
    "actors.mine/x.memory_rlimit": "900M",
    "actors.mine/x.requires": ["time-sync"],
    "actors.mine/x.env": {"K": "v"},
    "actors.mine/x.drain_signal": "SIGUSR1",
    "actors.mine/x.ionice": "idle",
    "actors.mine/x.command": ["/bin/false"],
    "actors.mine/x.cwd": "/tmp",
    "actors.mine/x.heartbeat_timeout_s": 30,
    "actors.mine/x.heartbeat_interval_s": 1,
    "actors.mine/x.clean_exit_codes": [3],
    "actors.mine/x.fatal_exit_codes": [4],
    "actors.mine/x.args": ["z"],
    "actors.mine/x.cpus": sorted(os.sched_getaffinity(0))[-1:],
    "actors.mine/x.backoff.jitter": 0.5,
    "actors.pool/y.instances": 3,
}
ALSO: dict[str, dict[str, Any]] = {
    # what must stand beside a key for it to have a meaning
    "actors.mine/x.blocking": {"actors.mine/x.requires": ["time-sync"]},
    "actors.mine/x.significant": {
        "actors.mine/x.restart": "transient",
        "groups.mine.auto_shutdown": "any_significant",
    },
    "exchanges.binance.stale_min_s": {},
}
TABLES: dict[str, type[Table]] = {
    "paths": Paths, "supervisor": Supervisor, "control": Control, "groups.mine": Group, "link": Link,
    "exchanges.binance": Exchange, "exchanges.kraken": Exchange, "exchanges.binance.channels": Channels,
    "exchanges.kraken.channels": Channels, "writer": Writer, "disk": Disk, "gateway": Gateway, "sync": Sync,
    "dashboard": Dashboard, "actors.mine/x": Actor, "actors.mine/x.backoff": BackoffTable,
}  # fmt: skip
ELSEWHERE = {
    # of the other adapter, or a table that is itself looked at
    *("exchanges.binance.ws_url", "exchanges.binance.rest_url", "exchanges.binance.channels"),
    *("exchanges.binance.channels.depth", "exchanges.kraken.ccxt", "exchanges.kraken.channels"),
    *("exchanges.binance.adapter", "exchanges.kraken.adapter", "exchanges.kraken.aliases"),
    *(
        f"exchanges.kraken.channels.{name}"
        for name in Channels.model_fields
        if name not in ("orderbook", "depth")
    ),
    *("paths.data", "paths.runtime"),  # below
    *("sync.enabled", "sync.bucket", "actors.mine/x.instances"),
    *("control.group", "control.readonly_group"),  # of Unix groups: tests/config/test_supervision_keys.py
}


def keys() -> list[str]:
    return [
        path
        for table, model in TABLES.items()
        for key in model.model_fields
        if (path := f"{table}.{key}") not in ELSEWHERE
    ] + ["actors.pool/y.instances"]


def other(path: str) -> Any:
    """Return a value for a key that is not its default."""
    if path in OTHER:
        return OTHER[path]
    table, _, key = path.rpartition(".")
    field = TABLES[table].model_fields[key]
    words = [word for word in _literals(field.annotation) if word != field.default]
    if words:
        return words[-1]
    if isinstance(field.default, bool):
        return not field.default
    if isinstance(field.default, int | float):
        return field.default + 1
    if isinstance(field.default, str):
        return str(ROOT / "pyproject.toml") if key.endswith("_file") else "x"
    return (
        ["ETH/USDT"]
        if isinstance(field.default, list)
        else 7
        if "bool" not in str(field.annotation)
        else True
    )


def _literals(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [word for word in get_args(annotation) if isinstance(word, str)]
    return [word for part in get_args(annotation) for word in _literals(part)]


def effect(changes: dict[str, Any], tmp_path: Path) -> Any:
    """Return everything that a file makes: the tree, and what is said of it."""
    tables = tomllib.loads(BASE)
    for path, value in changes.items():
        at = tables
        *parents, key = path.split(".")
        for part in parents:
            at = at.setdefault(part, {})
        at[key] = value
    file = tmp_path / "supervisor.toml"
    file.write_text(_toml(tables))
    report = config.report(file, data="/d", runtime="/tmp/dd-test")
    assert report.tree is not None, [fault.text("f") for fault in report.faults]
    settings = [msgspec.msgpack.decode(spec.settings) for spec in report.tree.actors if spec.settings]
    return report.tree, settings, sorted(fault.message for fault in report.warnings)


def _toml(tables: dict[str, Any]) -> str:
    """Return tables as TOML: inline tables below the first level will do."""
    return "\n".join(f"{key} = {_value(value)}" for key, value in tables.items()) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {_value(inner)}' for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


@pytest.mark.parametrize("path", keys())
def test_0_18_every_key_changes_what_the_file_makes(path: str, tmp_path: Path) -> None:
    also = ALSO.get(path, {})
    assert effect({path: other(path)} | also, tmp_path) != effect(also, tmp_path)


def test_0_18_the_directories_change_what_the_file_makes(tmp_path: Path) -> None:
    file = tmp_path / "supervisor.toml"
    file.write_text('[paths]\ndata = "/a"\nruntime = "/tmp/dd-b"\n')
    tree = config.load(file)
    assert (tree.data, tree.runtime) == ("/a", "/tmp/dd-b")


def test_0_18_what_an_actor_is_told_is_read_somewhere() -> None:
    """A field of a Settings struct that nothing reads would make its key do nothing."""
    read = set()
    for path in (ROOT / "daedalus").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                read.add(node.attr)
    tables = (Exchange, Link, Writer, Disk, Gateway, Sync)
    assert {key for table in tables for key in table.model_fields} - read - {"enabled"} == set()
