"""The simulator as an actor: the demo's exchanges, in the tree like everything else."""

from daedalus.kernel.actor import Actor, Context
from daedalus.kernel.errors import ConfigError, FatalError
from daedalus.kernel.telemetry import get_logger
from daedalus.simulator.server import Server
from daedalus.simulator.sources import Settings as SimulatorSettings

__all__ = ["Simulator", "SimulatorSettings"]


class Simulator(Actor):
    """Serves the simulated exchanges until it is told to stop."""

    Settings = SimulatorSettings

    def __init__(self, settings: SimulatorSettings, context: Context) -> None:
        super().__init__(settings, context)
        self._server: Server | None = None

    async def start(self) -> None:
        """Read what is to be played and listen."""
        try:
            self._server = Server(self.settings)
        except ConfigError as error:
            raise FatalError(str(error)) from error
        # A port in use is no FatalError: the simulator before this one may still be leaving.
        addresses = await self._server.start()
        get_logger().info("simulator_started", port=self._server.port, symbols=addresses["symbols"])
        self.spawn(self._server.run())

    async def stop(self) -> None:
        """Close every socket."""
        if self._server is not None:
            await self._server.stop()

    def stats(self) -> dict[str, int | float | str | None]:
        """Return what was sent."""
        if self._server is None:
            return {}
        exchange = self._server.exchange
        return {
            "state": str(exchange.playhead.state),
            "clients": len(exchange.hub.connections),
            "trades": exchange.trades,
            "books": exchange.books,
            "skips": exchange.skips,
        }
