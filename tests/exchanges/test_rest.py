"""Requests: the pace, what is asked again, what Retry-After says, and what is never followed or shown."""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from daedalus.exchanges import rest as module
from daedalus.exchanges.adapter import Ask
from daedalus.exchanges.bucket import Bucket
from daedalus.exchanges.rest import Answer, Rest, retry_after_s
from tests.exchanges.shellkit import Exchange
from tests.loops import drive, until


def ask(path: str = "/x", weight: float = 1.0, delay_s: float = 0.0) -> Ask:
    return Ask("key", path, (), weight, delay_s)


def play(
    answers: dict[str, list[Any]],
    work: Callable[[Rest, Exchange], Awaitable[None]],
    bucket: Bucket | None = None,
) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), Exchange() as exchange:
            exchange.rest = answers
            rest = Rest(f"http:{exchange.url}/", bucket or Bucket(1000, 1000), base_s=0.001, cap_s=0.002)
            try:
                await work(rest, exchange)
            finally:
                await rest.close()

    asyncio.run(main())


def test_an_answer_is_what_the_exchange_said() -> None:
    async def work(rest: Rest, exchange: Exchange) -> None:
        assert await rest.get(ask("/x?symbol=A%2FB&limit=5")) == Answer(200, b"[]")
        assert exchange.asked == ["/x?symbol=A%2FB&limit=5"]  # as it was asked, not quoted anew
        assert (rest.requests, rest.retries) == (1, 0)

    play({"/x": [[]]}, work)


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refusal_is_an_answer(status: int) -> None:
    async def work(rest: Rest, _exchange: Exchange) -> None:
        assert (await rest.get(ask())).status == status
        assert rest.retries == 0

    play({"/x": [status]}, work)


@pytest.mark.parametrize("failure", [500, 502, 503, 429, 418, "cut"])
def test_a_failure_is_asked_again_until_there_is_an_answer(failure: int | str) -> None:
    async def work(rest: Rest, exchange: Exchange) -> None:
        async def cut() -> int:
            raise ConnectionResetError

        first = (
            cut if failure == "cut" else web.Response(status=int(failure), headers={"Retry-After": "0.01"})
        )
        exchange.rest = {"/x": [first, first, []] if failure == "cut" else [first, []]}
        assert await rest.get(ask()) == Answer(200, b"[]")
        assert rest.retries >= 1

    play({}, work)


def test_nobody_at_the_other_end_is_asked_for_ever_until_given_up() -> None:
    async def work(rest: Rest, _exchange: Exchange) -> None:
        rest.url = "http://127.0.0.1:1"
        task = asyncio.ensure_future(rest.get(ask()))
        await until(lambda: rest.retries >= 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    play({}, work)


def test_too_many_requests_hold_up_every_other_one() -> None:
    async def work(rest: Rest, exchange: Exchange) -> None:
        exchange.rest = {
            "/x": [web.Response(status=429, headers={"Retry-After": "0.3"}), []],
            "/y": [[]],
        }
        loop = asyncio.get_running_loop()
        began = loop.time()
        first = asyncio.ensure_future(rest.get(ask("/x")))
        await until(lambda: rest.retries == 1)
        await rest.get(ask("/y"))
        assert loop.time() - began >= 0.3
        assert (await first).status == 200

    play({}, work)


def test_requests_keep_to_the_exchanges_weights() -> None:
    async def work(rest: Rest, _exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(rest.get(ask(weight=10)) for _ in range(4)))
        assert loop.time() - began >= 0.19  # 20 at once, 20 more at a hundred a second

    play({"/x": [[]]}, work, Bucket(20, 100))


def test_a_few_at_a_time() -> None:
    async def work(rest: Rest, exchange: Exchange) -> None:
        release, inside, most = asyncio.Event(), 0, 0

        async def slow() -> list[Any]:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await release.wait()
            inside -= 1
            return []

        exchange.rest = {"/x": [slow]}
        tasks = [asyncio.ensure_future(rest.get(ask())) for _ in range(10)]
        await until(lambda: inside == 4)
        release.set()
        await asyncio.gather(*tasks)
        assert most == 4

    play({}, work)


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async def work(rest: Rest, exchange: Exchange) -> None:
        exchange.rest = {"/x": [web.Response(status=302, headers={"Location": "/y"})], "/y": [[]]}
        assert (await rest.get(ask())).status == 302
        assert exchange.asked == ["/x"]

    play({}, work)


def test_a_body_without_end_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BODY_BYTES_MAX", 1000)

    async def work(rest: Rest, exchange: Exchange) -> None:
        exchange.rest = {"/x": [web.Response(body=b"x" * 5000), web.Response(body=b"y" * 1000)]}
        assert await rest.get(ask()) == Answer(200, b"y" * 1000)
        assert rest.retries == 1

    play({}, work)


def test_not_before() -> None:
    async def work(rest: Rest, exchange: Exchange) -> None:
        task = asyncio.ensure_future(rest.get(ask(delay_s=100)))
        await rest.get(ask("/y"))
        assert exchange.asked == ["/y"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    play({"/x": [[]], "/y": [[]]}, work)


def test_a_log_line_has_no_query_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    async def work(rest: Rest, _exchange: Exchange) -> None:
        await rest.get(ask("/x?signature=secret"))

    play({"/x": [500, []]}, work)
    out = "".join(capsys.readouterr())
    assert "request_failed" in out
    assert "secret" not in out


@pytest.mark.parametrize("password", ["s3cretpw", "s3@cretpw", "s3/cretpw"])
def test_a_proxys_password_is_in_no_log_line(
    password: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def work() -> None:
        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            monkeypatch.setenv("https_proxy", f"http://joe:{password}@127.0.0.1:{port}")
            monkeypatch.setenv("no_proxy", "")
            rest = Rest("https://exchange.example", Bucket(10, 1.0), base_s=0.001, cap_s=0.002)
            task = asyncio.ensure_future(rest.get(ask()))
            await until(lambda: rest.retries > 0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await rest.close()

    drive(work)
    out = "".join(capsys.readouterr())
    assert "request_failed" in out
    assert "cretpw" not in out


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, 7),
        ("", 7),
        ("12", 12),
        ("0.5", 0.5),
        ("-1", 7),
        ("soon", 7),
        ("1e9", 7),
        ("99999999", 3600),
        ("٣", 7),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Thu, 99 Foo 1970 00:00:00 GMT", 7),
    ],
)
def test_retry_after_in_all_its_forms(header: str | None, expected: float) -> None:
    assert retry_after_s(header, 7) == expected


def test_retry_after_as_a_date() -> None:
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=100)
    assert 90 < retry_after_s(format_datetime(moment, usegmt=True), 7) <= 100
