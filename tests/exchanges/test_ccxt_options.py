"""What a user sets reaches the instance, a secret never reaches a text."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from daedalus.actors.sources import CollectorSettings, make_adapter
from daedalus.exchanges.ccxt_limits import allowed, paced, sends
from daedalus.exchanges.ccxt_options import CcxtOptions, instance_config
from daedalus.exchanges.ccxt_pro import build
from daedalus.exchanges.ccxt_redact import Redactor
from daedalus.exchanges.credentials import Credentials
from daedalus.kernel.errors import FatalError
from tests.exchanges.ccxt_kit import Desk, with_desk
from tests.exchanges.fakes import ListSink

KEY, SECRET = "k3y-0f-mine-0123456789", "s3cret/with+signs=="


def options(exchange_id: str = "binance", **overrides: Any) -> CcxtOptions:
    return CcxtOptions(id=exchange_id, channels={"trades": ["BTC/USDT"]}, overrides=overrides)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("httpsProxy", "http://127.0.0.1:3128"), ("wssProxy", "http://127.0.0.1:3128"), ("timeout", 4321)],
)
def test_a_proxy_and_a_timeout_reach_the_instance(setting: str, value: object) -> None:
    assert getattr(build(options(**{setting: value})), setting) == value


def test_a_proxy_and_headers_reach_the_socket() -> None:
    async def main() -> None:
        ws = {"options": {"headers": {"X-Mine": "1"}}}
        exchange = build(options(wssProxy="http://127.0.0.1:3128", options={"ws": ws}))
        client = exchange.client("wss://stream.binance.com/ws")
        assert client.proxy == "http://127.0.0.1:3128"
        assert client.options["headers"] == {"X-Mine": "1"}
        await exchange.close()

    asyncio.run(main())


@pytest.mark.parametrize("spelling", [{"sandbox": True}, {"options": {"sandbox": True}}])
def test_a_testnet_is_one_word(spelling: dict[str, Any]) -> None:
    exchange = build(options(**spelling))
    assert "testnet" in exchange.urls["api"]["public"]
    assert "testnet" in exchange.urls["api"]["ws"]["spot"]
    assert exchange.isSandboxModeEnabled


def test_a_testnet_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(FatalError, match=r"cannot set up ccxt's kraken \(has it a test net"):
        build(options("kraken", sandbox=True))


def test_what_the_user_says_outranks_what_is_ours_but_not_the_table_of_trades() -> None:
    config = instance_config(
        options(enableRateLimit=False, options={"tradesLimit": 1, "watchOrderBookLimit": 500}),
        Credentials(KEY, SECRET),
    )
    assert config["enableRateLimit"] is False
    assert config["options"] == {"watchOrderBookLimit": 500, "tradesLimit": 1000}
    assert (config["apiKey"], config["secret"]) == (KEY, SECRET)


def test_d29_keys_come_from_files_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("key", KEY), ("secret", SECRET)):
        (tmp_path / name).write_text(value + "\n")
        (tmp_path / name).chmod(0o600)
    files = {"api_key_file": str(tmp_path / "key"), "api_secret_file": str(tmp_path / "secret")}
    exchange = build(CcxtOptions(id="binance", channels={}, **files))
    assert (exchange.apiKey, exchange.secret) == (KEY, SECRET)
    monkeypatch.setenv("DAEDALUS_MY_BINANCE_API_KEY", "other")
    monkeypatch.setenv("DAEDALUS_MY_BINANCE_API_SECRET", "words")
    exchange = build(CcxtOptions(id="binance", name="my-binance", channels={}, **files))
    assert (exchange.apiKey, exchange.secret) == ("other", "words")
    with pytest.raises(FatalError, match="cannot read the secret file"):
        build(CcxtOptions(id="binance", channels={}, api_key_file="/nowhere/key"))


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://x/api?symbol=BTC&apiKey={KEY}&signature=abcdef",
        f"binance {{'X-MBX-APIKEY': '{KEY}'}}",
        f'{{"secret": "{SECRET}"}}',
        "https://x/?q=s3cret%2Fwith%2Bsigns%3D%3D",
        "OK-ACCESS-SIGN: c2lnbmF0dXJl passphrase=c2lnbmF0dXJl",
        "Authorization: Bearer c2lnbmF0dXJl",
        "{'jwt': 'eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl'} wsToken=c2lnbmF0dXJl",
        "-----BEGIN EC PRIVATE KEY-----\nc2lnbmF0dXJl\n-----END EC PRIVATE KEY-----",
        "cannot connect to http://user:c2lnbmF0dXJl@proxy:3128",
    ],
)
def test_d29_no_secret_is_left_in_a_text(text: str) -> None:
    said = Redactor([KEY, SECRET, None, "ab"])(text)
    for secret in (KEY, SECRET, "abcdef", "s3cret", "c2lnbmF0dXJl"):
        assert secret not in said
    assert "***" in said


@pytest.mark.parametrize(
    "text",
    [
        "NetworkError: connection reset",
        "sequence_num 4 after 2",
        "Invalid request: invalid stream, signal lost",
    ],
)
def test_innocent_words_stay(text: str) -> None:
    assert Redactor([KEY])(text) == text


def test_d29_an_exception_of_ccxt_is_redacted_in_logs_and_gap_rows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import ccxt

    (tmp_path / "key").write_text(f'{{"name": "{KEY}", "privateKey": "{SECRET}"}}')
    (tmp_path / "key").chmod(0o600)
    url = f"binance GET https://x/api/v3/exchangeInfo?apiKey={KEY}&signature=0123abcd failed: {SECRET}"

    async def work(desk: Desk) -> None:
        answers: list[Any] = [ccxt.NetworkError(url), None]
        load = desk.exchange.load_markets

        async def once(*args: Any) -> Any:
            answer = answers.pop(0)
            if answer is not None:
                raise answer
            return await load(*args)

        desk.exchange.load_markets = once
        await desk.start()
        connection = next(iter(desk.shell.hooks.connections.values()))
        connection.client.reject(ccxt.ExchangeError(url))
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": url, "exception": ValueError(url)})
        await desk.until(lambda: len(desk.lines) == 2)
        details = [fault.detail for fault, _ in desk.sink.faults]
        assert len(details) == 2
        said = capsys.readouterr().out + "".join(details)
        assert said.count("***") >= 4
        for secret in (KEY, SECRET, "0123abcd"):
            assert secret not in said

    with_desk("binance", {"trades": ["BTC/USDT"]}, api_key_file=str(tmp_path / "key"))(work)


def test_d28_each_exchange_has_its_own_allowance_and_a_simulator_none() -> None:
    assert allowed(options("binance")) == (300.0, 300.0)
    assert allowed(options("coinbase")) == (8.0, 1.0)
    assert allowed(options("gate")) == (60.0, 10.0)
    assert allowed(options("binance", urls={"api": {"ws": {"spot": "ws://127.0.0.1:1/ws"}}}))[0] > 10_000


def test_d28_binances_weight_is_never_exceeded_in_a_minute_and_books_come_in_a_burst() -> None:
    throttle = paced(options("binance"), 50)
    assert throttle is not None
    bucket = throttle.bucket
    per_minute = 60_000 / 50  # of ccxt's costs
    assert bucket.capacity + 60 * bucket.per_s <= per_minute
    now = bucket._at
    for _ in range(3):
        assert bucket.ready_in(now, 50) == 0  # three whole books at once, a moment after a restart
        bucket.spend(now, 50)
    assert bucket.ready_in(now, 50) > 0
    assert paced(options("kraken"), 1000) is None
    assert build(options("binance")).throttler.bucket.capacity == bucket.capacity


def test_d28_a_share_of_the_allowance_slows_every_pace_of_ccxts() -> None:
    def made(name: str, **more: Any) -> Any:
        return build(CcxtOptions(id=name, channels={"trades": ["BTC/USDT"]}, **more))

    whole, half = (made("binance", **more).throttler.bucket for more in ({}, {"share": 2}))
    assert (half.capacity, half.per_s) == (whole.capacity / 2, whole.per_s / 2)
    for name in ("kraken", "gate", "bybit"):
        whole, half = (made(name, **more).throttler.config for more in ({}, {"share": 2}))
        assert half["refillRate"] == whole["refillRate"] / 2
        # as much in a window that is twice as long: what costs a whole window can still be asked
        assert (half["windowSize"], half["maxWeight"]) == (whole["windowSize"] * 2, whole["maxWeight"])


@pytest.mark.parametrize("adapter", ["native", "ccxt"])
def test_d28_a_collectors_share_reaches_its_buckets(adapter: str) -> None:
    def shell(share: int) -> Any:
        wanted = CollectorSettings(
            exchange="binance", adapter=adapter, channels={"trades": ["BTC/USDT"]}, runtime="", share=share
        )
        return make_adapter(wanted, ListSink())

    def buckets(made: Any) -> list[Any]:
        if adapter == "native":
            return [made.shared.connects, made.shared.rest.bucket]
        return [made._keep.bucket, made.exchange.throttler.bucket]

    for whole, third in zip(buckets(shell(1)), buckets(shell(3)), strict=True):
        assert third.per_s == pytest.approx(whole.per_s / 3)
        assert third.capacity == pytest.approx(whole.capacity / 3)


def test_d28_messages_on_one_socket_keep_to_what_it_allows() -> None:
    throttles = {name: sends(name) for name in ("binance", "binanceusdm", "coinbase", "gate")}
    assert throttles["gate"] is None
    for name, most in (("binance", 5), ("binanceusdm", 10), ("coinbase", 8)):
        bucket = throttles[name].bucket
        assert bucket.capacity + bucket.per_s <= most
