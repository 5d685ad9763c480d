"""Requests of an exchange's adapters: bounded, at the exchange's pace, repeated until it has an answer.

One `Rest` serves all connections of an exchange: one session, one bucket of the exchange's own weights, a
few requests at a time. What an adapter asks for is public: there are no headers of ours, no redirects are
followed, and a log line carries the path and the status, never a body.

    network error, time-out, 5xx  -> again, after full jitter
    429, 418                      -> nobody asks until Retry-After is over, then again
    anything else                 -> the answer
"""

import asyncio
import random
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import msgspec

from daedalus.exchanges.adapter import Ask
from daedalus.exchanges.backoff import full_jitter
from daedalus.exchanges.bucket import Bucket
from daedalus.exchanges.redact import redacted
from daedalus.exchanges.transport import proxy_of
from daedalus.kernel.telemetry import get_logger

if TYPE_CHECKING:
    from aiohttp import ClientSession

__all__ = ["TOO_MANY", "Answer", "Rest", "retry_after_s"]

TOO_MANY = (429, 418)
_SERVER_ERROR = 500
_BODY_BYTES_MAX = 64 * 1024 * 1024  # exchangeInfo of Binance is 15 MB
_AT_ONCE = 4
_CONNECT_S = 10.0
_TOTAL_S = 60.0
_BASE_S, _CAP_S = 0.5, 60.0
_PAUSE_S = 10.0  # after 429 without Retry-After
_PAUSE_S_MAX = 3600.0  # Binance bans for up to three days: asking once an hour is no storm


class Answer(msgspec.Struct, frozen=True):
    """What the exchange said for good."""

    status: int
    body: bytes


class Rest:
    """The REST side of one exchange."""

    def __init__(
        self,
        url: str,
        bucket: Bucket,
        *,
        base_s: float = _BASE_S,
        cap_s: float = _CAP_S,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Prepare; nothing is opened before the first request.

        Args:
            url: what the paths of requests are below, "https://api.binance.com".
            bucket: of the exchange's weights.
            base_s: bound of the first wait after a failure, s.
            cap_s: bound of every wait, s.
            uniform: `random.uniform`, or a test's own.
        """
        self.url = url.rstrip("/")
        self.bucket = bucket
        self._backoff = (base_s, cap_s)
        self._uniform = uniform
        self._session: ClientSession | None = None
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._proxy = proxy_of(self.url)
        self.requests = 0
        self.retries = 0

    async def get(self, ask: Ask) -> Answer:
        """Return the answer to a request; as long as there is none, ask again. Cancel to give up."""
        if ask.delay_s > 0:
            await asyncio.sleep(ask.delay_s)
        attempt = 0
        while True:
            async with self._turn:
                await self.bucket.take(ask.weight)
                answer, detail, wait_s = await self._once(ask)
            if answer is not None:
                return answer
            self.retries += 1
            wait_s = max(wait_s, full_jitter(attempt, *self._backoff, self._uniform))
            attempt += 1
            get_logger().warning(
                "request_failed",
                url=self.url + ask.path.partition("?")[0],
                attempt=attempt,
                retry_in_s=round(wait_s, 3),
                detail=detail,
            )
            await asyncio.sleep(wait_s)

    async def _once(self, ask: Ask) -> tuple[Answer | None, str, float]:
        """Return (the answer, or None and why, and the least time to wait, s)."""
        from aiohttp import ClientError
        from yarl import URL

        session = self._session
        if session is None or session.closed:
            session = self._session = self._open()
        self.requests += 1
        url = URL(self.url + ask.path, encoded=True)  # as the adapter spells it
        try:
            async with session.get(url, allow_redirects=False, proxy=self._proxy) as response:
                status = response.status
                if status in TOO_MANY:
                    wait_s = retry_after_s(response.headers.get("Retry-After"), _PAUSE_S, _PAUSE_S_MAX)
                    self.bucket.pause(self.bucket.now(), wait_s)
                    return None, f"HTTP {status}", 0.0  # the bucket waits
                if status >= _SERVER_ERROR:
                    return None, f"HTTP {status}", retry_after_s(response.headers.get("Retry-After"), 0.0)
                body = await response.content.read(_BODY_BYTES_MAX + 1)
                while len(body) <= _BODY_BYTES_MAX and (more := await response.content.read(1 << 20)):
                    body += more
        except (ClientError, OSError, TimeoutError) as error:
            return None, redacted(f"{type(error).__name__}: {error}"), 0.0
        if len(body) > _BODY_BYTES_MAX:
            return None, f"answer above {_BODY_BYTES_MAX} bytes", 0.0
        return Answer(status, body), "", 0.0

    def _open(self) -> "ClientSession":
        from aiohttp import ClientSession, ClientTimeout, DummyCookieJar

        timeout = ClientTimeout(total=_TOTAL_S, connect=_CONNECT_S)
        return ClientSession(timeout=timeout, cookie_jar=DummyCookieJar())

    async def close(self) -> None:
        """Close the session; requests under way fail."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()


def retry_after_s(header: str | None, default_s: float, cap_s: float = _PAUSE_S_MAX) -> float:
    """Return what a Retry-After header asks for, s: a number of seconds or an HTTP date.

    Args:
        header: as it was sent; None: there was none.
        default_s: where it says nothing usable.
        cap_s: no more than this.
    """
    text = (header or "").strip()
    try:
        if text.replace(".", "", 1).isascii() and text.replace(".", "", 1).isdigit():
            wait_s = float(text)
        elif text:
            moment = parsedate_to_datetime(text)
            wait_s = (moment.timestamp() - time.time()) if moment.tzinfo is not None else default_s
        else:
            wait_s = default_s
    except (ValueError, OverflowError):
        wait_s = default_s
    return min(max(wait_s, 0.0), cap_s)
