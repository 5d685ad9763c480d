"""The sockets of the simulated exchanges: one aiohttp server, one port for all, and the control endpoint.

/api/v3/…               Binance REST          /ws, /ws/N, /stream, /stream/ws, /stream/ws/N   its websocket
/api/v3/brokerage/…     Coinbase REST         /coinbase                                       its websocket
/ctl                    GET: the state; POST {"cmd": "start"}, {"cmd": "fault", "kind": "close"|"abort"}
"""

import asyncio
import contextlib
import errno
from typing import TYPE_CHECKING, Any

import msgspec

from daedalus.kernel.clock import Clock, SystemClock
from daedalus.kernel.errors import ConfigError
from daedalus.simulator import binance_rest, coinbase_rest
from daedalus.simulator.exchange import Exchange
from daedalus.simulator.faults import Faults
from daedalus.simulator.hub import Connection
from daedalus.simulator.playhead import State
from daedalus.simulator.sources import Settings

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["Server"]

PING_S = 20.0  # as Binance; a client that answers no pong within half of it is cut
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
        self.faults = Faults()
        self.port = settings.port
        self._sockets: dict[int, web.WebSocketResponse] = {}
        self._transports: dict[int, asyncio.Transport] = {}
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
        """
        await asyncio.gather(self._play(), self._beat())

    async def stop(self) -> None:
        """Close every socket and end the truth log."""
        if self._runner is not None:
            for socket in list(self._sockets.values()):
                with contextlib.suppress(TimeoutError, ConnectionError):
                    async with asyncio.timeout(0.5):
                        await socket.close(code=1001, message=b"simulator stops")
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
            wait_s = (due - clock.mono_ns()) / 1e9
            await asyncio.sleep(max(0.0, min(wait_s, 1.0)))
            exchange.play()
            if self._pressed():
                await self._relief()

    def _pressed(self) -> bool:
        return any(connection.backlog() > FULL for connection in self.exchange.hub.connections.values())

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

    # websockets

    async def _binance(self, request: "web.Request") -> "web.StreamResponse":
        path = request.match_info.get("path", "")
        # /stream wraps, /ws does not; /stream/ws is how ccxt is told that /ws is of the spot market
        combined = request.match_info["kind"] == "stream" and not path.startswith("ws")
        names = request.query.get("streams", "" if combined else path.removeprefix("ws/"))
        return await self._converse(request, "binance", combined=combined, streams=names.split("/"))

    async def _coinbase(self, request: "web.Request") -> "web.StreamResponse":
        return await self._converse(request, "coinbase", combined=False, streams=[])

    async def _converse(
        self, request: "web.Request", name: str, *, combined: bool, streams: list[str]
    ) -> "web.StreamResponse":
        from aiohttp import WSMsgType, web

        await self.faults.handshake(name)
        socket = web.WebSocketResponse(heartbeat=PING_S, compress=False, max_msg_size=1 << 20)
        await socket.prepare(request)
        exchange = self.exchange
        connection = exchange.hub.connect(name, combined=combined)
        self._sockets[connection.number] = socket
        if request.transport is not None:
            self._transports[connection.number] = request.transport
        sender = asyncio.get_running_loop().create_task(self._send(connection, socket))
        try:
            if streams:
                exchange.binance.open(connection, streams)
            dialect = exchange.binance if name == "binance" else exchange.coinbase
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    dialect.request(connection, message.data)
        finally:
            exchange.hub.disconnect(connection)
            self._sockets.pop(connection.number, None)
            self._transports.pop(connection.number, None)
            sender.cancel()
        return socket

    async def _send(self, connection: Connection, socket: "web.WebSocketResponse") -> None:
        """Empty a connection's queue into its socket."""
        from aiohttp import WSMsgType

        awake = asyncio.Event()
        connection.wake = awake.set
        text, outgoing = WSMsgType.TEXT, self.faults.outgoing
        with contextlib.suppress(ConnectionError):  # the client has gone: its reader ends the connection
            while not connection.overflowed:
                while (message := connection.pop()) is not None:
                    for each in outgoing(connection, message):
                        await socket.send_frame(each, text)
                await awake.wait()
                awake.clear()
            self._abort(connection.number)

    def _abort(self, number: int) -> None:
        transport = self._transports.get(number)
        if transport is not None:
            transport.abort()

    # REST and control

    async def _binance_rest(self, request: "web.Request") -> "web.Response":
        return self._rest("binance", request)

    async def _coinbase_rest(self, request: "web.Request") -> "web.Response":
        return self._rest("coinbase", request)

    async def _no_currencies(self, request: "web.Request") -> "web.Response":
        """Answer what ccxt's coinbase asks before it loads its markets; nothing needs more."""
        rates = {"currency": "USD", "rates": {}}
        return _json(200, {"data": rates if request.path.endswith("rates") else []})

    def _rest(self, name: str, request: "web.Request") -> "web.Response":
        from aiohttp import web

        answer = binance_rest.answer if name == "binance" else coinbase_rest.answer
        exchange, path, query = self.exchange, request.match_info["path"], dict(request.query)
        if path == "depth":
            exchange.asked(query.get("symbol", ""))
        status, body = self.faults.rest(request.path) or answer(
            exchange.by_id[name], path, query, exchange.now_ns(name)
        )
        return web.Response(status=status, body=body, content_type="application/json")

    async def _status(self, _: "web.Request") -> "web.Response":
        return _json(200, self.exchange.status())

    async def _command(self, request: "web.Request") -> "web.Response":
        try:
            command = msgspec.json.decode(await request.read(), type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _json(400, {"ok": False, "error": f"cannot read the command: {error}"})
        name, kind = command.get("cmd"), command.get("kind")
        if name == "start":
            self.exchange.start()
        elif name == "fault" and kind in ("close", "abort"):
            return _json(200, {"ok": True, "connections": await self._cut(kind, command.get("exchange"))})
        elif name == "fault":
            return _json(400, {"ok": False, "error": f"unknown fault {kind!r}: there are close, abort"})
        else:
            return _json(400, {"ok": False, "error": f"unknown command {name!r}: there are start, fault"})
        return _json(200, {"ok": True, "state": str(self.exchange.playhead.state)})

    async def _cut(self, kind: str, exchange: str | None) -> int:
        """End connections, of one exchange or of all; return how many."""
        numbers = [
            number
            for number, connection in self.exchange.hub.connections.items()
            if exchange in (None, connection.exchange)
        ]
        for number in numbers:
            if kind == "abort":
                self._abort(number)
            elif (socket := self._sockets.get(number)) is not None:
                with contextlib.suppress(TimeoutError, ConnectionError):
                    async with asyncio.timeout(1.0):
                        await socket.close(code=1001, message=b"going away")
        return len(numbers)

    def ended(self) -> bool:
        """Return whether a recording has come to its end."""
        return self.exchange.playhead.state is State.ENDED


def _json(status: int, body: dict[str, Any]) -> "web.Response":
    from aiohttp import web

    return web.Response(status=status, body=_encode(body), content_type="application/json")
