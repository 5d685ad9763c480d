"""Both websocket libraries behind one protocol: what they refuse, how they end, and which one is used."""

import asyncio
import subprocess
import sys
from base64 import b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha1

import pytest

from daedalus.exchanges import transport as module
from daedalus.exchanges import transport_picows
from daedalus.exchanges.shared import shown
from daedalus.exchanges.transport import (
    BrokenProtocolError,
    RefusedError,
    Transport,
    connect,
    library,
    proxy_of,
)
from tests.exchanges.shellkit import Exchange
from tests.loops import drive, until


@pytest.fixture(params=["picows", "aiohttp"], autouse=True)
def _library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEDALUS_WEBSOCKET", request.param)


class Ear:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.transport: Transport | None = None
        self.messages: list[bytes] = []
        self.lives = 0

    def opened(self, transport: Transport) -> None:
        self.transport = transport

    def received(self, payload: bytes | memoryview, *, final: bool, text: bool) -> None:
        assert final
        assert text
        self.messages.append(bytes(payload))

    def alive(self) -> None:
        self.lives += 1


def test_messages_pings_and_a_goodbye() -> None:
    async def work() -> None:
        async with Exchange(["eins", "zwei"]) as exchange:
            ear = Ear()
            transport = await connect(f"ws:{exchange.url}/ws", ear, 5)
            await until(lambda: ear.messages == [b"eins", b"zwei"])
            assert ear.transport is not None
            transport.send(b"drei")
            transport.ping()
            await until(lambda: exchange.heard == ["drei"] and ear.lives == 1)  # the pong
            transport.close()
            await transport.wait_closed()
            await until(lambda: exchange.goodbyes)

    drive(work)


def test_an_abort_ends_it_at_once_and_what_is_sent_afterwards_is_nobodys() -> None:
    async def work() -> None:
        async with Exchange() as exchange:
            transport = await connect(f"ws:{exchange.url}/ws", Ear(), 5)
            transport.abort()
            await transport.wait_closed()
            transport.send(b"x")
            transport.ping()
            transport.close()
            transport.abort()
            assert exchange.heard == []

    drive(work)


def raw_server(say: bytes | None) -> Callable[[Callable[[str], Awaitable[None]]], Awaitable[None]]:
    """Return what runs work against a server that says something in answer to a handshake, or nothing."""

    async def run(work: Callable[[str], Awaitable[None]]) -> None:
        open_now = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal open_now
            open_now += 1
            await reader.readuntil(b"\r\n\r\n")
            if say is not None:
                writer.write(say)
                await writer.drain()
            else:
                await reader.read()  # until the other side gives up
            writer.close()
            await writer.wait_closed()
            open_now -= 1

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            await work(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
            await until(lambda: not transport_picows._unfinished and not open_now)

    return run


@pytest.mark.parametrize(
    "say",
    [
        b"",
        b"banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Accept: bm90IHRoZSByaWdodCBvbmU=\r\n\r\n"
        ),
    ],
)
def test_what_is_no_websocket_is_refused(say: bytes) -> None:
    async def work(url: str) -> None:
        with pytest.raises(RefusedError):
            await connect(url, Ear(), 5)

    drive(lambda: raw_server(say)(work))


@pytest.mark.parametrize("body", [b"", b"\x03\xe8", b"\x0f\xa1bye"])
def test_a_goodbye_may_lack_its_reason_and_its_code(body: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line for line in request.splitlines() if line.lower().startswith("sec-websocket-key"))
        proof = sha1((key.split()[1] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + b64encode(proof.digest()) + b"\r\n\r\n"
            b"\x88" + bytes([len(body)]) + body
        )
        await reader.read()
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            transport = await connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", Ear(), 5)
            assert (await transport.wait_closed()).startswith("closed by the exchange")

    drive(work)


def test_a_handshake_has_its_time_and_no_more() -> None:
    async def work(url: str) -> None:
        with pytest.raises(RefusedError, match=r"no websocket within 0\.05 s"):
            await connect(url, Ear(), 0.05)

    drive(lambda: raw_server(None)(work))


def test_who_gives_up_waiting_for_a_handshake_leaves_nothing_open() -> None:
    async def work(url: str) -> None:
        task = asyncio.ensure_future(connect(url, Ear(), 0.2))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    drive(lambda: raw_server(None)(work))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "ws://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises((RefusedError, ValueError)):
        drive(lambda: connect(url, Ear(), 5))


def test_tls_wants_a_certificate_it_can_trust() -> None:
    async def work() -> None:
        async with Exchange() as exchange:
            with pytest.raises(RefusedError):  # no TLS at all at the other end
                await connect(f"wss:{exchange.url}/ws", Ear(), 5)

    drive(work)


def test_aiohttp_carries_it_where_picows_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAEDALUS_WEBSOCKET")
    assert library() == "picows"
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    assert library() == "aiohttp"
    monkeypatch.setenv("DAEDALUS_WEBSOCKET", "curl")
    with pytest.raises(ValueError, match="cannot use DAEDALUS_WEBSOCKET='curl': picows or aiohttp"):
        library()


def test_proxies_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert proxy_of("wss://x.example/ws") is None
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert proxy_of("wss://x.example/ws") == "http://proxy.example:3128"
    assert proxy_of("https://x.example/") == "http://proxy.example:3128"
    assert proxy_of("ws://x.example/") is None
    assert proxy_of("wss://127.0.0.1:99/ws") is None
    monkeypatch.setenv("all_proxy", "http://other.example:1080")
    assert proxy_of("ws://x.example/") == "http://other.example:1080"


def test_a_websocket_goes_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy is asked for the exchange; whether it speaks the truth is not our matter."""
    asked: list[bytes] = []

    async def work() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            monkeypatch.setenv("no_proxy", "")
            with pytest.raises(RefusedError):
                await connect("wss://exchange.example/ws", Ear(), 5)

    drive(work)
    assert asked[0].startswith(b"CONNECT exchange.example:443 HTTP/1.1\r\n")


@pytest.mark.parametrize("password", ["s3cretpw", "s3@cretpw", "s3/cretpw"])
def test_a_proxys_password_is_in_no_refusal(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            monkeypatch.setenv("https_proxy", f"http://joe:{password}@127.0.0.1:{port}")
            monkeypatch.setenv("no_proxy", "")
            with pytest.raises((RefusedError, ValueError)) as refused:
                await connect("wss://exchange.example/ws", Ear(), 5)
            assert "cretpw" not in str(refused.value)

    drive(work)


def test_a_broken_protocol_is_told_without_the_secrets_of_an_address() -> None:
    assert str(BrokenProtocolError("of wss://me:secret@x/y@z")) == "of wss://***@x/y@z"


def test_an_address_is_shown_without_its_secrets() -> None:
    assert shown("wss://me:secret@x.example:8443/ws?token=1#y") == "wss://x.example:8443/ws"


def test_neither_library_is_loaded_before_it_is_needed() -> None:
    code = (
        "import daedalus.exchanges.native, daedalus.exchanges.transport_aiohttp, sys;"
        "assert not {'aiohttp', 'picows', 'yarl', 'urllib.request'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
