"""What is wrong with a configuration is told all at once: place, value, and what to do about it."""
# ruff: noqa: E501 - the lines are the messages, whole

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daedalus import config
from daedalus.config import Report
from daedalus.config.faults import Fault, lines_of, nearest

EXCHANGE = '[exchanges.binance]\nadapter = "ccxt"\n[exchanges.binance.channels]\ntrades = ["BTC/USDT"]\n'
SCRIPT = '[actors."ops/x"]\ncommand = ["/bin/true"]\n'


def told(report: Report, level: str = "error") -> list[str]:
    return [fault.text("f") for fault in (*report.faults, *report.warnings) if fault.level == level]


ONE_FAULT = [
    # unknown keys and words, each with a suggestion
    (
        "[supervisor]\nintensiti = 3\n",
        "f:2: supervisor.intensiti: unknown key 'intensiti' (did you mean 'intensity'?)",
    ),
    ("[writter]\n", "f:1: writter: unknown key 'writter' (did you mean 'writer'?)"),
    (
        SCRIPT + 'restrat = "permanent"\n',
        """f:3: actors."ops/x".restrat: unknown key 'restrat' (did you mean 'restart'?)""",
    ),
    (
        "[gateway]\nkey_dir = 'k'\n",
        "f:2: gateway.key_dir: unknown key 'key_dir' (did you mean 'keys_dir'?)",
    ),
    (
        "[disk]\nwarn_pct = 4\n",
        (
            "f:2: disk.warn_pct: warn_pct 4 is under evict_pct 5 (percent free) "
            "(as the disk fills the marks are met in the order warn_pct, evict_pct, stop_pct)"
        ),
    ),
    (
        "[disk]\nstop_pct = 7\n",
        (
            "f:1: disk.evict_pct: evict_pct 5 is under stop_pct 7 (percent free) "
            "(as the disk fills the marks are met in the order warn_pct, evict_pct, stop_pct)"
        ),
    ),
    ("[disk]\nstop_pct = 100\n", None),
    (
        "[defaults.writter]\nnice = 1\n",
        "f:1: defaults.writter: unknown key 'writter' (did you mean 'writer'?)",
    ),
    # values
    (
        "[groups.store]\nperiod_s = 0\n",
        "f:2: groups.store.period_s: cannot use 0: input should be greater than 0",
    ),
    (
        "[supervisor]\nintensity = -1\n",
        "f:2: supervisor.intensity: cannot use -1: input should be greater than or equal to 0",
    ),
    (
        '[groups.store]\nstrategy = "one_for_none"\n',
        (
            "f:2: groups.store.strategy: cannot use 'one_for_none': input should be "
            "'one_for_one', 'one_for_all', 'rest_for_one' or 'simple_one_for_one' (did you mean 'one_for_one'?)"
        ),
    ),
    (
        SCRIPT + 'restart = "always"\n',
        (
            """f:3: actors."ops/x".restart: cannot use 'always': """
            "input should be 'permanent', 'transient' or 'temporary'"
        ),
    ),
    (
        SCRIPT + "drain_s = nan\n",
        """f:3: actors."ops/x".drain_s: cannot use nan: input should be a finite number""",
    ),
    (
        SCRIPT + 'memory_hard = "12 bananas"\n',
        (
            """f:3: actors."ops/x".memory_hard: cannot use '12 bananas': """
            'write a size as bytes or with K, M or G (1024-based), for example "200M"'
        ),
    ),
    (SCRIPT + "memory_hard = true\n", None),
    (
        '[link]\nbatch_records = "64"\n',
        "f:2: link.batch_records: cannot use '64': input should be a valid integer (write 64, without quotes)",
    ),
    ('[gateway]\ntcp = "5555"\n', None),
    # exchanges
    ("[exchanges.x]\n", "f:1: exchanges.x.adapter: the key 'adapter' is missing"),
    (
        '[exchanges.b]\nadapter = "rest"\nchannels = {trades = ["A/B"]}\n',
        "f:2: exchanges.b.adapter: cannot use 'rest': input should be 'native' or 'ccxt'",
    ),
    (
        '[exchanges.binanse]\nadapter = "ccxt"\nchannels = {trades = ["A/B"]}\n',
        "f:1: exchanges.binanse: ccxt.pro has no exchange 'binanse' (did you mean 'binance'?)",
    ),
    (
        '[exchanges.mine]\nadapter = "ccxt"\nid = "krakken"\nchannels = {trades = ["A/B"]}\n',
        "f:3: exchanges.mine.id: ccxt.pro has no exchange 'krakken' (did you mean 'kraken'?)",
    ),
    (
        '[exchanges.coinbas]\nadapter = "native"\nchannels = {trades = ["A/B"]}\n',
        "f:1: exchanges.coinbas: there is no native adapter for 'coinbas' (did you mean 'coinbase'?)",
    ),
    (
        '[exchanges.bybit]\nadapter = "native"\nchannels = {trades = ["A/B"]}\n',
        (
            """f:1: exchanges.bybit: there is no native adapter for 'bybit' (ccxt.pro has it: adapter = "ccxt") """
            "(native adapters: binance, binanceusdm, coinbase, kraken, okx)"
        ),
    ),
    (
        EXCHANGE.replace("BTC/USDT", "BTCUSDT"),
        (
            """f:4: exchanges.binance.channels.trades: cannot use 'BTCUSDT': """
            """write the symbol in ccxt's unified form, "BTC/USDT\""""
        ),
    ),
    (
        EXCHANGE.replace('["BTC/USDT"]', '["BTC/USDT", "BTC/USDT"]'),
        "f:4: exchanges.binance.channels.trades: 'BTC/USDT' is listed more than once",
    ),
    (
        EXCHANGE.replace('["BTC/USDT"]', '["A/B:C", "A/B-C"]'),
        (
            "f:4: exchanges.binance.channels.trades: cannot store 'A/B-C' beside 'A/B:C': both become 'A-B-C' on disk "
            """([exchanges.binance.aliases] "A/B-C" = "A-B-C-2" names one of them)"""
        ),
    ),
    (
        EXCHANGE.replace('["BTC/USDT"]', '["kPEPE/USDC", "KPEPE/USDC"]'),
        (
            "f:4: exchanges.binance.channels.trades: cannot store 'KPEPE/USDC' beside 'kPEPE/USDC': "
            """both become 'KPEPE-USDC' on disk ([exchanges.binance.aliases] "KPEPE/USDC" = "KPEPE-USDC-2" names one of them)"""
        ),
    ),
    (
        EXCHANGE.replace('trades = ["BTC/USDT"]', ""),
        """f:3: exchanges.binance.channels: the exchange collects nothing (for example trades = ["BTC/USDT"])""",
    ),
    (
        EXCHANGE + '[exchanges.binance.ccxt]\napiKey = "x"\n',
        (
            "f:6: exchanges.binance.ccxt.apiKey: apiKey is a secret and does not belong in this file "
            "(use api_key_file, api_secret_file)"
        ),
    ),
    (
        EXCHANGE + '[exchanges.binance.ccxt.options]\nprivateKey = "x"\n',
        (
            "f:6: exchanges.binance.ccxt.options.privateKey: privateKey is a secret and does not belong in this file "
            "(use api_key_file, api_secret_file)"
        ),
    ),
    (
        EXCHANGE.replace("[exchanges.binance.ch", 'api_key_file = "/nowhere/key"\n[exchanges.binance.ch'),
        "f:3: exchanges.binance.api_key_file: cannot read the secret /nowhere/key: no such file",
    ),
    (
        EXCHANGE.replace("[exchanges.binance.ch", "stale_min_s = 200\n[exchanges.binance.ch"),
        "f:3: exchanges.binance.stale_min_s: stale_min_s 200 is over stale_max_s 120 (seconds)",
    ),
    (
        EXCHANGE.replace("[exchanges.binance.ch", 'ws_url = "ws://x"\n[exchanges.binance.ch'),
        "f:3: exchanges.binance.ws_url: ws_url is for native adapters (set urls in [exchanges.binance.ccxt])",
    ),
    (
        EXCHANGE.replace("[exchanges.binance.ch", 'ws_url = "ws://me:secret@x"\n[exchanges.binance.ch'),
        (
            "f:3: exchanges.binance.ws_url: cannot use 'ws://…@x': "
            "a user or password does not belong in an address: it would stand in logs and status"
        ),
    ),
    ('[features."binance:BTC/USDT"]\nmax_levels = 15\n', None),
    (
        "[features]\nmax_level = 15\n",
        "f:2: features.max_level: cannot use this key: there is no such feature parameter (did you mean max_levels?)",
    ),
    ("[features]\nemit_interval_s = -1\n", None),
    ('[features]\nkyle_flow = "x"\n', None),
    # groups and actors
    ('[groups.a]\nparent = "liv"\n', "f:2: groups.a.parent: there is no group 'liv' (did you mean 'live'?)"),
    ('[groups.a]\nparent = "a"\n', "f:2: groups.a.parent: the group 'a' would be inside itself"),
    ("[groups.root]\n", "f:1: groups.root: the root group is described by [supervisor]"),
    (
        '[actors."ops/x"]\nnice = 1\n',
        """f:1: actors."ops/x": there is no actor 'ops/x', and it has no command (a program of your own needs command)""",
    ),
    (
        EXCHANGE + '[actors."store/writer-tradez"]\nnice = 1\n',
        (
            """f:5: actors."store/writer-tradez": there is no actor 'store/writer-tradez', and it has no command """
            "(did you mean 'store/writer-trades'?)"
        ),
    ),
    (
        '[actors.x]\ncommand = ["/bin/true"]\n',
        """f:1: actors.x: the actor 'x' names no group (write [actors."ops/x"])""",
    ),
    (
        '[actors."opps/x"]\ncommand = ["/bin/true"]\n',
        """f:1: actors."opps/x": there is no group 'opps' (did you mean 'ops'?)""",
    ),
    (
        EXCHANGE + '[actors."store/writer-trades"]\ncommand = ["/bin/true"]\n',
        (
            """f:6: actors."store/writer-trades".command: store/writer-trades is a built-in actor: """
            "command is for programs of your own"
        ),
    ),
    (
        SCRIPT + "instances = 2\n",
        (
            """f:3: actors."ops/x".instances: instances needs a group of strategy simple_one_for_one, """
            "and ops is one_for_one"
        ),
    ),
    (
        SCRIPT + 'significant = true\nrestart = "transient"\n',
        """f:3: actors."ops/x".significant: significant needs auto_shutdown on the group ops""",
    ),
    (
        '[groups.ops]\nauto_shutdown = "any_significant"\n' + SCRIPT + "significant = true\n",
        """f:5: actors."ops/x".significant: significant needs restart = "transient" or "temporary\"""",
    ),
    (
        SCRIPT + "heartbeat_interval_s = 2\nheartbeat_timeout_s = 3\n",
        (
            """f:4: actors."ops/x".heartbeat_timeout_s: heartbeat_timeout_s 3 is under twice """
            "heartbeat_interval_s 2 (seconds)"
        ),
    ),
    (
        SCRIPT + 'memory_soft = "1G"\nmemory_hard = "1M"\n',
        """f:3: actors."ops/x".memory_soft: memory_soft of ops/x is 1024M, over its memory_hard of 1M""",
    ),
    (SCRIPT + "cpus = [4096]\n", None),
    (SCRIPT + 'requires = ["moon"]\n', None),
]


@pytest.mark.parametrize(("text", "line"), ONE_FAULT, ids=range(len(ONE_FAULT)))
def test_one_fault_is_told_once_with_its_cure(read, text: str, line: str | None) -> None:
    report = read(text)
    assert report.tree is None
    assert len(report.faults) == 1, told(report)
    if line is not None:
        assert told(report) == [line]


def test_every_wrong_parameter_of_the_kernels_is_told(read) -> None:
    faults = told(read('[features]\nx = 1\nmax_levels = 15\nhorizons_s = [5, 1]\nenable_vpin = "yes"\n'))
    assert [line.split(": ")[1] for line in faults] == [
        "features.x",
        "features.horizons_s",
        "features.enable_vpin",
    ]
    own = EXCHANGE.replace("trades", "orderbook") + '[features."binance:BTC/USDT"]\nmax_levels = 1\n'
    assert told(read(own))[0].startswith(
        'f:6: features."binance:BTC/USDT".max_levels: cannot use 1: allowed are 10'
    )


def test_exchange_names_that_differ_only_in_case_are_refused(read) -> None:
    upper = EXCHANGE.replace("exchanges.binance", "exchanges.Binance").replace(
        '"ccxt"', '"ccxt"\nid = "binance"'
    )
    assert told(read(EXCHANGE + upper)) == [
        "f:5: exchanges.Binance: cannot tell the exchange 'Binance' from 'binance': names differ only in case"
    ]


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_d29_a_secret_that_others_may_read_is_warned_of(
    read, tmp_path: Path, mode: int, warned: bool
) -> None:
    secret = tmp_path / "key"
    secret.write_text("abc")
    secret.chmod(mode)
    report = read(
        EXCHANGE.replace("[exchanges.binance.ch", f'api_key_file = "{secret}"\n[exchanges.binance.ch')
    )
    assert report.tree is not None
    line = f"f:3: exchanges.binance.api_key_file: others may read the secret {secret}: its mode is {mode:04o} (chmod 600)"
    assert [said for said in told(report, "warning") if "secret" in said] == [line] * warned


def test_all_faults_are_told_at_once_in_the_order_of_the_file(read) -> None:
    wrong = [text for text, line in ONE_FAULT if line and "[exchanges" not in text and '"ops/x"' not in text]
    report = read(
        "[link]\nbatch_ms = -1\n[exchanges.binanse]\nadapter = 'ccxt'\nchannels = {trades = ['AB']}\n"
        + SCRIPT
        + "x = 1\n"
    )
    assert [fault.line for fault in report.faults] == [2, 3, 5, 8]
    assert len(wrong) > 5


def test_broken_toml_names_its_line(read) -> None:
    assert told(read("[supervisor\n")) == [
        "f:1: not valid TOML: Expected ']' at the end of a table declaration (column 12)"
    ]


def test_missing_and_unreadable_files_are_faults(tmp_path: Path) -> None:
    report = config.report(tmp_path / "no.toml")
    assert told(report) == [f"f: cannot read the configuration {tmp_path}/no.toml: No such file or directory"]
    (tmp_path / "bin.toml").write_bytes(b"\xff\xfe")
    assert "utf-8" in told(config.report(tmp_path / "bin.toml"))[0]


def test_a_runtime_directory_too_long_for_sockets_is_a_fault(read) -> None:
    long = "/tmp/" + "x" * 90
    assert told(read(EXCHANGE, runtime=long)) == [
        (
            f"f: paths.runtime: cannot use the runtime directory {long}: the path of replay-binance.sock in it "
            "has 115 bytes, at most 107 fit a socket (choose a shorter one with --runtime)"
        )
    ]
    assert told(read(EXCHANGE, runtime=long[: 107 - len("/replay-binance.sock")])) == []


@pytest.mark.parametrize(("intensity", "warned"), [(7, False), (8, True)])
def test_an_intensity_no_child_can_reach_is_warned_of(read, intensity: int, warned: bool) -> None:
    report = read(f"[groups.ops]\nintensity = {intensity}\n" + SCRIPT)
    assert report.tree is not None
    assert any("max 8 failures per 60 s" in line for line in told(report, "warning")) is warned


def test_a_group_that_would_fall_silently_is_warned_of(read) -> None:
    assert "stays down without a word" in told(read('[groups.a]\nrestart = "transient"\n'), "warning")[0]
    quiet = '[groups.a]\nrestart = "transient"\nauto_shutdown = "any_significant"\n'
    assert told(read(quiet), "warning") == []


def test_spools_a_logout_deletes_are_warned_of(read, monkeypatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert any("which a logout deletes" in line for line in told(read(EXCHANGE, runtime=None), "warning"))
    assert not any("logout" in line for line in told(read(EXCHANGE), "warning"))


def test_memory_that_is_not_there_is_warned_of(read) -> None:
    assert "adds up to" in told(read(SCRIPT + 'memory_hard = "9999999G"\n'), "warning")[0]


def test_a_table_for_a_built_in_actor_of_another_configuration_is_only_warned_of(read) -> None:
    report = read('[actors."ship/syncer"]\nnice = 1\n[dashboard]\nlisten = "127.0.0.1:8080"\n')
    assert [line.partition(": ")[2].partition(":")[0] for line in told(report, "warning")] == [
        'actors."ship/syncer"',
        "dashboard.listen",
    ]
    assert report.tree is not None


def test_lines_of_finds_tables_and_keys_however_they_are_quoted() -> None:
    text = "# [no]\na = 1\n[b.\"c/d\"]  # x\n'e f' = 2\ng.h = 3\n[[i]]\nj = [\n  'k',\n]\n"
    assert lines_of(text) == {
        ("a",): 2,
        ("b", "c/d"): 3,
        ("b", "c/d", "e f"): 4,
        ("b", "c/d", "g", "h"): 5,
        ("i",): 6,
        ("i", "j"): 7,
    }


@given(st.text())
def test_lines_of_never_fails(text: str) -> None:
    assert all(line >= 1 for line in lines_of(text).values())


def test_nearest_is_silent_when_nothing_is_near() -> None:
    assert nearest("zzz", ["intensity"]) == ""
    assert Fault(path="", level="error", message="m").text("f") == "f: m"
