"""supervisor.toml: what it expands to, and that every fault is told at once with its place and its cure."""

import importlib
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from daedalus import config
from daedalus.config import Fault, Report, places
from daedalus.config.arithmetic import failures_in
from daedalus.config.expand import Machine, actors
from daedalus.config.models import Disk, Exchange, File, Gateway, Link, Sync, Writer
from daedalus.config.problems import Problems
from daedalus.config.roles import ROLES, place
from daedalus.kernel.errors import ConfigError
from daedalus.kernel.spec import ActorSpec, Backoff, GroupSpec, Tree

ROOT = Path(__file__).resolve().parent.parent
BINANCE = """
[exchanges.binance]
adapter = "ccxt"
[exchanges.binance.channels]
orderbook = ["BTC/USDT"]
trades = ["BTC/USDT", "ETH/USDT"]
"""
NATIVE = """
[exchanges.coinbase]
adapter = "native"
[exchanges.coinbase.channels]
ticker = ["BTC/USD"]
"""


def actor(tree: Tree, name: str) -> ActorSpec:
    return next(spec for spec in tree.actors if spec.name == name)


def group(tree: Tree, name: str) -> GroupSpec:
    return next(spec for spec in tree.groups if spec.name == name)


def told(report: Report) -> list[str]:
    return [fault.text("f") for fault in report.faults]


# --- the tree ---------------------------------------------------------------------------------------------


def test_exchanges_expand_to_actors_in_start_order(tree_of) -> None:
    names = [spec.name for spec in tree_of(BINANCE + NATIVE).actors]
    assert names == [
        "store/writer-orderbook",
        "store/writer-trades",
        "store/writer-ticker",
        "live/gateway",
        "live/feature-binance-BTC-USDT",
        "ingest/collector-binance",
        "ingest/collector-coinbase",
    ]


def test_an_empty_file_has_five_groups_and_no_actors(tree_of) -> None:
    tree = tree_of("")
    assert [spec.name for spec in tree.groups] == ["root", "store", "live", "ingest", "ship", "ops"]
    assert tree.actors == ()
    assert tree.preload == {}


def test_default_groups_park_and_own_groups_escalate(tree_of) -> None:
    tree = tree_of('[groups.mine]\n[actors."mine/x"]\ncommand = ["/bin/true"]\n')
    assert {spec.name: spec.on_limit for spec in tree.groups} == {
        **dict.fromkeys(("root", "store", "live", "ingest", "ship", "ops"), "park"),
        "mine": "escalate",
    }
    assert (group(tree, "root").intensity, group(tree, "root").period_s) == (3, 600)
    assert (group(tree, "store").intensity, group(tree, "store").period_s) == (5, 60)


def test_nested_groups_follow_their_parent_and_their_parents_actors(tree_of) -> None:
    tree = tree_of(
        '[groups.b]\n[groups.inner]\nparent = "a"\n[groups.a]\n'
        '[actors."inner/x"]\ncommand = ["/bin/true"]\n[actors."a/y"]\ncommand = ["/bin/true"]\n'
    )
    assert [spec.name for spec in tree.groups][6:] == ["b", "a", "inner"]
    assert [spec.name for spec in tree.actors] == ["a/y", "inner/x"]


def test_a_template_makes_numbered_instances(tree_of) -> None:
    tree = tree_of(
        '[groups.pool]\nstrategy = "simple_one_for_one"\n'
        '[actors."pool/w"]\ncommand = ["/bin/cat"]\ninstances = 3\n'
    )
    assert [spec.name for spec in tree.actors] == ["pool/w@1", "pool/w@2", "pool/w@3"]


def test_sync_enabled_starts_the_syncer_and_the_dashboard_stays_away(tree_of) -> None:
    tree = tree_of('[sync]\nenabled = true\nbucket = "b"\n[dashboard]\nlisten = "127.0.0.1:8080"\n')
    assert [spec.name for spec in tree.actors] == ["ship/syncer"]


def test_role_defaults_are_those_of_the_interface(tree_of) -> None:
    tree = tree_of(BINANCE + NATIVE)
    mib = 1 << 20
    for name, drain, shutdown, soft, hard in [
        ("store/writer-trades", 30, 10, 120, 160),
        ("live/gateway", 2, 2, 64, 96),
        ("live/feature-binance-BTC-USDT", 2, 2, 48, 64),
        ("ingest/collector-binance", 5, 5, 240, 320),
        ("ingest/collector-coinbase", 5, 5, 120, 160),
    ]:
        spec = actor(tree, name)
        assert (spec.drain_s, spec.shutdown_s) == (drain, shutdown), name
        assert (spec.memory_soft, spec.memory_hard) == (soft * mib, hard * mib), name
        assert (spec.restart, spec.heartbeat_interval_s, spec.heartbeat_timeout_s) == ("permanent", 2, 6)


def test_overrides_reach_one_actor_and_defaults_reach_a_role(tree_of) -> None:
    tree = tree_of(
        BINANCE
        + '[defaults.writer]\nmemory_hard = "1G"\nnice = 5\nbackoff = {base_s = 2, cap_s = 40}\n'
        + '[actors."store/writer-trades"]\nnice = 7\nshutdown_s = "infinity"\nbackoff = {jitter = 0.0}\n'
    )
    trades, books = actor(tree, "store/writer-trades"), actor(tree, "store/writer-orderbook")
    assert (trades.nice, books.nice) == (7, 5)
    assert (trades.memory_hard, books.memory_hard) == (1 << 30, 1 << 30)
    assert (trades.shutdown_s, books.shutdown_s) == ("infinity", 10.0)
    assert trades.backoff == Backoff(base_s=2, cap_s=40, jitter=0, reset_after_s=80)
    assert books.backoff == Backoff(base_s=2, cap_s=40, reset_after_s=80)


def test_foreign_programs_have_no_heartbeat_unless_asked(tree_of) -> None:
    tree = tree_of(
        '[actors."ops/a"]\ncommand = ["/bin/cat", "-"]\nargs = ["x"]\nenv = {K = "v"}\ncwd = "/"\n'
        'ready = "spawn"\ndrain_signal = "SIGUSR2"\nclean_exit_codes = [3]\nrequires = ["time-sync"]\n'
    )
    spec = actor(tree, "ops/a")
    assert (spec.heartbeat_interval_s, spec.heartbeat_timeout_s) == (0, 0)
    assert (spec.command, spec.args, spec.env, spec.cwd) == (("/bin/cat", "-"), ("x",), {"K": "v"}, "/")
    assert (spec.ready, spec.drain_signal, spec.clean_exit_codes) == ("spawn", "SIGUSR2", (3,))
    assert (spec.requires, spec.role, spec.target) == (("time-sync",), "foreign", "")


def test_only_ccxt_collectors_come_from_the_ccxt_zygote(tree_of) -> None:
    tree = tree_of(BINANCE + NATIVE)
    assert [spec.name for spec in tree.actors if spec.zygote == "ccxt"] == ["ingest/collector-binance"]
    assert "ccxt.pro" in tree.preload["ccxt"]
    assert "ccxt" not in tree_of(NATIVE).preload
    for module in tree.preload["light"]:
        assert module.split(".")[0] not in ("ccxt", "pyarrow", "polars", "boto3", "pydantic")


def test_the_hash_changes_with_the_meaning_and_not_with_the_spelling(tree_of) -> None:
    plain = tree_of(BINANCE).config_hash
    assert plain == tree_of("# hello\n" + BINANCE + "\n[link]\nbatch_records = 64\n").config_hash
    assert plain != tree_of(BINANCE + "\n[link]\nbatch_records = 65\n").config_hash


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        ((0, 1, 2, 3), [(0,), (1,), (2,), (3,)]),
        ((0, 1), [(0,), (1,), (0,), (1,)]),
        ((4, 5, 9), [(4,), (5,), (9,), (4,)]),
        ((0,), [(), (), (), ()]),
        (tuple(range(16)), [(0,), (1,), (2,), (3,)]),
    ],
)
def test_roles_fold_onto_the_cores_there_are(cores: tuple[int, ...], expected: list[tuple[int, ...]]) -> None:
    assert [place(slot, cores) for slot in range(4)] == expected


# --- what actors are told ---------------------------------------------------------------------------------

FULL = (
    BINANCE
    + NATIVE
    + "[exchanges.binance.ccxt]\ntimeout = 5000\n[features]\nmax_levels = 20\n"
    + '[sync]\nenabled = true\nbucket = "b"\n'
)
TABLES = {
    "collector": {
        *Exchange.model_fields,
        *Link.model_fields,
        *Disk.model_fields,
        *("exchange", "data", "runtime", "memory_soft", "share"),
    },
    "writer": {*Writer.model_fields, *Disk.model_fields, "channel", "data", "runtime"},
    "gateway": set(Gateway.model_fields) | {"exchanges", "runtime"},
    "syncer": (set(Sync.model_fields) - {"enabled"}) | {"data"},
    "feature": {"exchange", "symbol", "symbol_raw", "channels", "params", "data", "runtime"},
}


def settings_class(spec: ActorSpec) -> type[msgspec.Struct]:
    module, _, name = spec.target.partition(":")
    cls: type[msgspec.Struct] = getattr(importlib.import_module(module), name).Settings
    return cls


@pytest.mark.parametrize("role", sorted(TABLES))
def test_every_key_of_the_tables_reaches_a_settings_field(tree_of, role: str) -> None:
    specs = [spec for spec in tree_of(FULL).actors if spec.role == role]
    assert specs
    for spec in specs:
        told = msgspec.msgpack.decode(spec.settings)
        assert set(told) == TABLES[role]
        cls = settings_class(spec)
        assert set(told) <= set(cls.__struct_fields__)
        settings = msgspec.msgpack.decode(spec.settings, type=cls)
        for key, value in told.items():
            got = getattr(settings, key)
            assert (list(got) if isinstance(got, tuple) else got) == value, key


@pytest.mark.parametrize("role", ["collector", "writer", "gateway", "syncer"])
def test_defaults_of_settings_agree_with_those_of_the_file(tree_of, role: str) -> None:
    tables = {
        "collector": (Exchange, Link, Disk),
        "writer": (Writer, Disk),
        "gateway": (Gateway,),
        "syncer": (Sync,),
    }
    spec = next(spec for spec in tree_of(FULL).actors if spec.role == role)
    defaults = {field.name: field.default for field in msgspec.structs.fields(settings_class(spec))}
    for table in tables[role]:
        for key, field in table.model_fields.items():
            default = defaults.get(key, msgspec.NODEFAULT)
            if default is not msgspec.NODEFAULT and not field.is_required():
                assert default == field.default, key


def test_the_demos_simulator_understands_its_settings() -> None:
    tree = config.load(demo=True, runtime="/tmp/dd-test")
    spec = actor(tree, "demo/simulator")
    settings = msgspec.msgpack.decode(spec.settings, type=settings_class(spec))
    assert settings.port > 0
    assert [spec.name for spec in tree.groups][1] == "demo"
    assert tree.actors[0] is spec
    assert tree.data == str(Path.cwd() / "demo-data")


def test_per_symbol_features_override_the_shared_ones() -> None:
    file = File.model_validate(
        {
            "exchanges": {
                "binance": {"adapter": "ccxt", "channels": {"orderbook": ["BTC/USDT", "ETH/USDT"]}}
            },
            "features": {"max_levels": 10, "binance:BTC/USDT": {"max_levels": 5}},
        }
    )
    found = actors(file, Machine("/d", "/r", (0,)), Problems())
    params = {
        spec.name: msgspec.msgpack.decode(spec.settings)["params"]
        for spec, _ in found
        if spec.role == "feature"
    }
    assert params == {
        "live/feature-binance-BTC-USDT": {"max_levels": 5},
        "live/feature-binance-ETH-USDT": {"max_levels": 10},
    }


def test_the_id_is_the_tables_name_unless_it_is_given(tree_of) -> None:
    def told(tree: Tree) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.msgpack.decode(actor(tree, "ingest/collector-mine").settings)
        return found

    mine = BINANCE.replace("exchanges.binance", "exchanges.mine")
    tree = tree_of(mine.replace('"ccxt"', '"ccxt"\nid = "binance"'))
    assert (told(tree)["exchange"], told(tree)["id"]) == ("mine", "binance")
    settings = msgspec.msgpack.decode(actor(tree_of(BINANCE), "ingest/collector-binance").settings)
    assert (settings["exchange"], settings["id"]) == ("binance", "binance")
    assert settings["channels"] == {"orderbook": ["BTC/USDT"], "trades": ["BTC/USDT", "ETH/USDT"]}


# --- places -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "configured", "env", "expected"),
    [
        (None, "", {}, ("/tmp/daedalus-7", False)),
        (None, "", {"XDG_RUNTIME_DIR": "/run/user/7"}, ("/run/user/7/daedalus", True)),
        (
            None,
            "",
            {"XDG_RUNTIME_DIR": "/run/user/7", "RUNTIME_DIRECTORY": "/run/daedalus:/x"},
            ("/run/daedalus", False),
        ),
        (None, "/run/mine", {"RUNTIME_DIRECTORY": "/run/daedalus"}, ("/run/mine", False)),
        ("/run/flag", "/run/mine", {"RUNTIME_DIRECTORY": "/run/daedalus"}, ("/run/flag", False)),
    ],
)
def test_runtime_directory_is_flag_then_file_then_environment(flag, configured, env, expected) -> None:
    assert places.runtime_dir(flag, configured, env, 7) == expected


def test_data_directory_is_flag_then_file_then_systemd_then_here() -> None:
    here = os.getcwd()  # noqa: PTH109
    assert places.data_dir(None, "", {}) == f"{here}/data"
    assert places.data_dir(None, "", {"STATE_DIRECTORY": "/var/lib/daedalus"}) == "/var/lib/daedalus"
    assert places.data_dir(None, "x", {"STATE_DIRECTORY": "/var/lib/daedalus"}) == f"{here}/x"
    assert places.data_dir("/f", "x", {}) == "/f"


def test_the_file_is_looked_for_where_the_interface_says(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAEDALUS_CONFIG", raising=False)
    with pytest.raises(ConfigError, match=r"no such file: \./supervisor\.toml or /etc/daedalus"):
        config.find()
    (tmp_path / "supervisor.toml").touch()
    assert config.find() == tmp_path / "supervisor.toml"
    (tmp_path / "other.toml").touch()
    monkeypatch.setenv("DAEDALUS_CONFIG", "other.toml")
    assert config.find() == tmp_path / "other.toml"
    assert config.find("supervisor.toml") == tmp_path / "supervisor.toml"


# --- the shipped file -------------------------------------------------------------------------------------


def test_the_shipped_file_is_valid_and_warns_of_nothing() -> None:
    report = config.report(ROOT / "supervisor.toml", runtime="/tmp/dd-test")
    assert told(report) == []
    assert [fault for fault in report.warnings if "adds up to" not in fault.message] == []


def test_failures_in_a_window_follow_the_backoff() -> None:
    assert [failures_in(Backoff(), 60, most) for most in (3, 8, 9, 100)] == [3, 8, 8, 8]
    assert failures_in(Backoff(), 600, 100) == 26
    assert failures_in(Backoff(base_s=100, cap_s=100), 60, 9) == 2


def test_roles_are_those_of_the_defaults_table() -> None:
    from daedalus.config.models import RoleDefaults

    assert {role.partition("-")[0] for role in ROLES} == set(RoleDefaults.model_fields)


def test_load_raises_with_every_fault(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text("x = 1\ny = 2\n")
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    assert str(caught.value) == f"cannot use {file}: 2 faults"
    assert len(caught.value.faults) == 2
    assert isinstance(config.report(file).faults[0], Fault)
