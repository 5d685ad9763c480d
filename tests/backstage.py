"""A gateway and a fake feature actor in a thread, so that a blocking client can be tested before it."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daedalus.actors.feature import Feature
from daedalus.actors.feature import Settings as FeatureSettings
from daedalus.actors.gateway import Gateway
from daedalus.actors.gateway import Settings as GatewaySettings
from daedalus.kernel.actor import Context
from tests.loops import until
from tests.market import Collector, FakeEngine, Tape


class FakeFeature(Feature):
    def _make_engine(self) -> Any:
        return FakeEngine(self.settings.params)


class Backstage:
    """Everything behind the client. `call` runs something on its loop and returns what it returned."""

    def __init__(self, runtime: Path) -> None:
        self.runtime = str(runtime)
        self.tape = Tape()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.collector = self.call(lambda: Collector(self.runtime))
        self.gateway: Gateway | None = None
        self.feature: Feature | None = None
        self.start_gateway()
        self.start_feature()

    def call(self, work: Callable[[], Any]) -> Any:
        async def once() -> Any:
            result = work()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(once(), self.loop).result(10)

    def start_gateway(self) -> None:
        self.gateway = Gateway(
            GatewaySettings(exchanges=("binance",)), Context(name="live/gateway", runtime=self.runtime)
        )
        self.call(self.gateway.start)

    def start_feature(self, **params: Any) -> None:
        heard = len(self.collector.heard)
        self.feature = FakeFeature(
            FeatureSettings(exchange="binance", symbol="BTC-USDT", params=params),
            Context(name="live/feature-binance-BTC-USDT", runtime=self.runtime),
        )
        self.call(self.feature.start)
        self.call(lambda: until(lambda: len(self.collector.heard) >= heard + 3 and self.feature._announced))

    def stop(self, name: str) -> None:
        actor = getattr(self, name)
        if actor is not None:
            self.call(actor.stop)
            setattr(self, name, None)

    def publish(self, letters: str) -> None:
        """Publish records and wait until the feature actor has seen them."""

        def work() -> Any:
            before = self.feature._updates
            self.collector.publish(*self.tape.of(letters))
            return until(lambda: self.feature._updates >= before + len(letters))

        self.call(work)

    def close(self) -> None:
        self.stop("feature")
        self.stop("gateway")
        self.call(self.collector.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
