"""Channels: which there are, who has them, what writes them; what a symbol is called on disk."""

import subprocess
import sys

import msgspec
import pytest

from daedalus.config import catalogue
from daedalus.config.models import Channels
from daedalus.exchanges.native import native, natives
from daedalus.records import CHANNELS, FRAMES

CCXT = '[exchanges.binance]\nadapter = "ccxt"\n[exchanges.binance.channels]\ntrades = ["BTC/USDT"]\n'
NATIVE = '[exchanges.kraken]\nadapter = "native"\n[exchanges.kraken.channels]\ntrades = ["BTC/USD"]\n'
_ASK = """
import json, ccxt.pro as pro
methods, has = set(), set()
for name in pro.exchanges:
    made = getattr(pro, name)
    methods |= {m.removeprefix("watch_") for m in dir(made) if m.startswith("watch_")}
    has |= {key for key, there in made().has.items() if key.startswith("watch") and there}
print(json.dumps({"methods": sorted(methods), "has": sorted(has)}))
"""


def told(report) -> list[str]:
    return [fault.text("f") for fault in report.faults]


@pytest.fixture(scope="module")
def ccxt() -> dict[str, set[str]]:
    """What ccxt.pro says of itself, asked in a process of its own: it brings 110 MB."""
    done = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, check=True, timeout=60)
    return {key: set(words) for key, words in msgspec.json.decode(done.stdout).items()}


def test_every_watch_method_of_ccxt_is_a_channel_or_refused_with_its_reason(ccxt) -> None:
    for word in ccxt["has"]:
        known = catalogue.channel_like(word, Channels.model_fields)
        snake = catalogue.channel_like(word, [*Channels.model_fields, *catalogue.NO_CHANNEL])
        assert known or snake in catalogue.NO_CHANNEL, word


def test_every_channel_without_a_name_of_ours_is_a_method_of_ccxts(ccxt) -> None:
    assert set(Channels.model_fields) - set(CHANNELS) <= ccxt["methods"]
    assert set(catalogue.FORMS) - {"level2", "market_trades"} <= ccxt["methods"]


def test_the_channels_of_the_file_are_those_of_the_records_and_ccxts() -> None:
    assert tuple(Channels.model_fields)[: len(CHANNELS)] == CHANNELS
    assert set(catalogue.NATIVE_ONLY + catalogue.CCXT_ONLY) | {"orderbook", "trades", "ticker"} == set(
        Channels.model_fields
    )


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("order_book", "write 'orderbook'"),
        ("watchBidsAsks", "write 'bidask'"),
        ("watch_funding_rates", "write 'funding_rate'"),
        ("level2", "write 'orderbook'"),
        ("tradez", "did you mean 'trades'?"),
        ("balance", "ccxt watches it for no symbol, or not at all: it cannot be a channel"),
    ],
)
def test_an_unknown_channel_is_named_with_the_word_for_it(read, word: str, hint: str) -> None:
    report = read(CCXT + f'{word} = ["BTC/USDT"]\n')
    assert told(report) == [f"f:5: exchanges.binance.channels.{word}: unknown key {word!r} ({hint})"]


def test_depth_is_refused_of_ccxt_and_ccxts_own_channels_of_a_native_adapter(read) -> None:
    (line,) = told(read(CCXT + 'depth = ["BTC/USDT"]\n'))
    assert line.startswith(
        "f:5: exchanges.binance.channels.depth: ccxt has no depth: it gives states of a book"
    )
    assert line.endswith('(adapter = "native" for coinbase, binance, binanceusdm, kraken, okx; or orderbook)')
    bidask, funding = told(read(NATIVE + 'bidask = ["BTC/USD"]\nfunding_rate = ["BTC/USD:USD"]\n'))
    assert bidask.endswith("bidask: no native adapter has bidask (ticker has the best bid and ask)")
    assert funding.endswith('funding_rate: no native adapter has funding_rate (adapter = "ccxt")')


@pytest.mark.parametrize("name", catalogue.NATIVE)
def test_every_native_adapter_may_collect_depth(tree_of, name: str) -> None:
    tree = tree_of(f'[exchanges.{name}]\nadapter = "native"\n[exchanges.{name}.channels]\ndepth = ["A/B"]\n')
    assert [spec.name for spec in tree.actors] == [
        "store/writer-depth",
        "live/gateway",
        f"ingest/collector-{name}",
    ]


def test_there_is_a_writer_for_each_channel_in_use_and_for_raw_frames(tree_of) -> None:
    more = 'bidask = ["BTC/USDT"]\nfunding_rate = ["BTC/USDT:USDT"]\n'
    frames = NATIVE.replace("[exchanges.kraken.ch", 'raw_capture = "frames"\n[exchanges.kraken.ch')
    tree = tree_of(CCXT + more + frames + 'depth = ["BTC/USD"]\n')
    writers = [spec for spec in tree.actors if spec.role == "writer"]
    channels = ["trades", "depth", "bidask", "funding_rate", FRAMES]
    assert [spec.name for spec in writers] == [f"store/writer-{channel}" for channel in channels]
    assert [msgspec.msgpack.decode(spec.settings)["channel"] for spec in writers] == channels
    assert FRAMES not in [
        name.partition("-")[2] for name in (spec.name for spec in tree_of(CCXT + NATIVE).actors)
    ]


def test_a_feature_actor_is_told_of_the_channels_it_reads_alone(tree_of) -> None:
    tree = tree_of(NATIVE + 'orderbook = ["BTC/USD"]\ndepth = ["BTC/USD"]\n')
    (spec,) = [spec for spec in tree.actors if spec.role == "feature"]
    assert msgspec.msgpack.decode(spec.settings)["channels"] == ["orderbook", "trades"]


# --- names on disk ----------------------------------------------------------------------------------------

TWINS = CCXT.replace('["BTC/USDT"]', '["A/B:C", "A/B-C"]').replace(
    "[exchanges.binance.ch", '[exchanges.binance.aliases]\n"A/B-C" = "{}"\n[exchanges.binance.ch'
)


def test_an_alias_tells_two_symbols_apart(read) -> None:
    assert read(TWINS.format("A-B-SPOT")).tree is not None
    assert "both become 'a-b-c' on disk" in told(read(TWINS.format("a-b-c")))[0]


def test_an_alias_names_the_feature_actor_and_what_it_listens_to(tree_of) -> None:
    text = TWINS.format("PERP").replace("trades", "orderbook")
    specs = {spec.name: spec for spec in tree_of(text).actors if spec.role == "feature"}
    assert list(specs) == ["live/feature-binance-A-B-C", "live/feature-binance-PERP"]
    settings = msgspec.msgpack.decode(specs["live/feature-binance-PERP"].settings)
    assert (settings["symbol"], settings["symbol_raw"]) == ("PERP", "A/B-C")


@pytest.mark.parametrize("alias", ["", ".", "..", ".x", "a/b", "a b", "x" * 201, "tab\\t"])
def test_an_alias_that_is_no_directory_name_is_refused(read, alias: str) -> None:
    (line,) = told(read(TWINS.format(alias)))
    assert "write a name that can be a directory" in line


def test_an_alias_of_what_is_not_collected_is_refused(read) -> None:
    (line,) = told(read(TWINS.replace('"A/B-C" =', '"X/Y" = "Z"\n"A/B-C" =').format("OK")))
    assert line.endswith("no channel collects 'X/Y'")


# --- what the exchanges have ------------------------------------------------------------------------------


def test_the_ids_of_the_file_are_the_adapters_there_are() -> None:
    assert set(catalogue.NATIVE) == set(natives())


@pytest.mark.parametrize("name", catalogue.NATIVE)
def test_a_native_adapter_has_every_channel_that_the_file_lets_it_have(name: str) -> None:
    assert set(native(name).channels) == set(Channels.model_fields) - set(catalogue.CCXT_ONLY)
