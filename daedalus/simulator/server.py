"""The sockets of the simulated exchanges: one aiohttp server, one port for all, and the control endpoint.

/api/v3/…               Binance REST          /ws, /ws/N, /stream, /stream/ws, /stream/ws/N   its websocket
/api/v3/brokerage/…     Coinbase REST         /coinbase                                       its websocket
/ctl                    GET: the state; POST: commands (control) and faults (menu)
"""

import asyncio
import errno
from typing import TYPE_CHECKING, Any

import msgspec

from daedalus.kernel.clock import Clock, SystemClock
from daedalus.kernel.errors import ConfigError
from daedalus.simulator import binance_rest, coinbase_rest
from daedalus.simulator.control import command
from daedalus.simulator.exchange import Exchange
from daedalus.simulator.faults import Reply
from daedalus.simulator.playhead import State
from daedalus.simulator.sockets import Sockets
from daedalus.simulator.sources import Settings

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["Server"]

FULL = 0.5  # a playback of recordings waits for clients whose queue is fuller
PATIENCE_S = 10.0  # and so long; then the queue's bound cuts them
IDLE_S = 0.05  # between looks whether to start
LOOK_S = 0.005  # between looks whether the queues are emptier
_encode = msgspec.json.encode


class Server:
    """Serves one `Exchange`."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        """Read what is to be played; open nothing. Raises ConfigError as `Exchange`."""
        self._settings = settings
        self._clock = clock or SystemClock()
        self.exchange = Exchange(settings, self._clock)
        self.sockets = Sockets(self.exchange)
        self.exchange.faults.effects = self.sockets
        self.port = settings.port
        self._begun = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def start(self) -> dict[str, Any]:
        """Listen; return the addresses.

        Raises:
            ConfigError: the port is taken or not ours to use.
        """
        from aiohttp import web

        app = web.Application()
        app.router.add_get("/ctl", self._status)
        app.router.add_post("/ctl", self._command)
        app.router.add_get("/coinbase", self._coinbase)
        app.router.add_get("/api/v3/brokerage/{path:.+}", self._coinbase_rest)
        app.router.add_get("/api/v3/{path:.+}", self._binance_rest)
        app.router.add_get("/v2/{path:currencies|currencies/crypto|exchange-rates}", self._no_currencies)
        app.router.add_get("/{kind:ws|stream}", self._binance)
        app.router.add_get("/{kind:ws|stream}/{path:.*}", self._binance)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._settings.host, self.port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            cause = "the port is in use" if error.errno == errno.EADDRINUSE else str(error)
            raise ConfigError(f"cannot listen on {self._settings.host}:{self.port}: {cause}") from error
        self.port = self._runner.addresses[0][1]
        return self.addresses()

    def addresses(self) -> dict[str, Any]:
        """Return where everything is, as `daedalus simulate` prints it."""
        place = f"{self._settings.host}:{self.port}"
        symbols = {
            name: [market.symbol for market in markets.values()]
            for name, markets in self.exchange.by_id.items()
        }
        return {
            "binance": {"rest": f"http://{place}/api/v3", "ws": f"ws://{place}/stream/ws"},
            "coinbase": {"rest": f"http://{place}", "ws": f"ws://{place}/coinbase"},
            "ctl": f"http://{place}/ctl",
            "symbols": symbols,
        }

    async def run(self) -> None:
        """Play for ever; after the end of a recording sockets stay open.

        Raises:
            ConfigError: a recording turned out to be damaged further on.
            TruthError: the truth log can no longer be written.
        """
        await asyncio.gather(self._play(), self._beat(), self._faults())

    async def stop(self) -> None:
        """Close every socket and end the truth log."""
        if self._runner is not None:
            await self.sockets.stop()
            await self._runner.cleanup()
            self._runner = None
        self.exchange.truth.close()

    async def _play(self) -> None:
        exchange, clock = self.exchange, self._clock
        while True:
            due = exchange.playhead.due_ns()
            if due is None:
                exchange.consider_start()
                await asyncio.sleep(IDLE_S)
                continue
            self._begun.set()
            wait_s = (due - clock.mono_ns()) / 1e9
            await asyncio.sleep(max(0.0, min(wait_s, 1.0)))
            exchange.play()
            if self._pressed():
                await self._relief()

    def _pressed(self) -> bool:
        connections = self.exchange.hub.connections.values()
        return any(connection.backlog() > FULL for connection in connections if not connection.withheld)

    async def _relief(self) -> None:
        """Wait for slow clients of a recording; a live market waits for nobody."""
        if not self.exchange.recorded:
            return
        for _ in range(round(PATIENCE_S / LOOK_S)):
            await asyncio.sleep(LOOK_S)
            if not self._pressed():
                return

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.exchange.coinbase.beat()
            self.sockets.beat()

    async def _faults(self) -> None:
        """Order what is on schedule, in seconds since the playback began."""
        exchange, clock = self.exchange, self._clock
        await self._begun.wait()
        began_ns = clock.mono_ns()
        for step in exchange.schedule:
            await asyncio.sleep(max(0.0, (began_ns - clock.mono_ns()) / 1e9 + step.at_s))
            if exchange.playhead.state is not State.PAUSED:
                exchange.order(step.order)

    # websockets

    async def _binance(self, request: "web.Request") -> "web.StreamResponse":
        path = request.match_info.get("path", "")
        # /stream wraps, /ws does not; /stream/ws is how ccxt is told that /ws is of the spot market
        combined = request.match_info["kind"] == "stream" and not path.startswith("ws")
        names = request.query.get("streams", "" if combined else path.removeprefix("ws/"))
        return await self.sockets.converse(request, "binance", combined=combined, streams=names.split("/"))

    async def _coinbase(self, request: "web.Request") -> "web.StreamResponse":
        return await self.sockets.converse(request, "coinbase", combined=False, streams=[])

    # REST and control

    async def _binance_rest(self, request: "web.Request") -> "web.Response":
        return await self._rest("binance", request)

    async def _coinbase_rest(self, request: "web.Request") -> "web.Response":
        return await self._rest("coinbase", request)

    async def _no_currencies(self, request: "web.Request") -> "web.Response":
        """Answer what ccxt's coinbase asks before it loads its markets; nothing needs more."""
        rates = {"currency": "USD", "rates": {}}
        return _json(200, {"data": rates if request.path.endswith("rates") else []})

    async def _rest(self, name: str, request: "web.Request") -> "web.Response":
        exchange, path, query = self.exchange, request.match_info["path"], dict(request.query)
        reply = exchange.faults.rest(name, request.path)
        if reply is not None:
            await asyncio.sleep(reply.delay_s)
            if reply.status is not None:
                return _refusal(reply)
        if path == "depth":
            exchange.asked(query.get("symbol", ""))
        answer = binance_rest.answer if name == "binance" else coinbase_rest.answer
        books = path in ("depth", "market/product_book")
        markets = exchange.faults.books(name) if books else exchange.by_id[name]
        status, body = answer(markets, path, query, exchange.now_ns(name))
        return _answer(status, body, reply.how if reply is not None else "")

    async def _status(self, _: "web.Request") -> "web.Response":
        return _json(200, self.exchange.status())

    async def _command(self, request: "web.Request") -> "web.Response":
        return _json(*command(self.exchange, await request.read()))

    def ended(self) -> bool:
        """Return whether a recording has come to its end."""
        return self.exchange.playhead.state is State.ENDED


def _json(status: int, body: dict[str, Any]) -> "web.Response":
    return _answer(status, _encode(body))


def _refusal(reply: Reply) -> "web.Response":
    from aiohttp import web

    busy = reply.status in (418, 429)
    text = "Too many requests." if busy else "An unknown error occurred."
    body = {"code": -1003 if busy else -1000, "msg": text, "error": "unknown", "message": text}
    headers = {} if reply.retry_after_s is None else {"Retry-After": f"{reply.retry_after_s:g}"}
    return web.Response(
        status=reply.status or 500, body=_encode(body), content_type="application/json", headers=headers
    )


def _answer(status: int, body: bytes, how: str = "") -> "web.Response":
    """Return an answer, whole or spoilt."""
    from aiohttp import web

    spoilt = {
        "html": b"<!DOCTYPE html><html><body><h1>Just a moment...</h1></body></html>",
        "truncated": body[: len(body) // 2],
        "shape": b'{"unexpected":[1,{"two":null}]}',
        "empty": b"",
    }
    kind = "text/html" if how == "html" else "application/json"
    return web.Response(status=status, body=spoilt.get(how, body), content_type=kind)
