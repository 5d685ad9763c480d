"""Binance USD-M futures, public websocket and REST: what differs from spot.

- A depth update names the one before it (`pu`); ids are not dense. REST gives 1000 levels at most.
- The trade stream numbers insurance-fund and deleveraging fills in the row of the trades: see `binance_tape`.
  REST gives only the trades, and without a key only the newest 1000: a longer hole stays a gap.
- Since 2026-04-23 streams are divided over addresses: books, trades and quotes under `/public`, the rest,
  the 24-hour `ticker` among it, under `/market`. One connection reaches one of them. So `ticker` here is the
  best bid and ask alone; a 24-hour summary is merged in where one comes, and its columns are missing
  otherwise.
- Amounts are in the base currency: a contract is 1 of it.

Source: developers.binance.com, USDⓈ-M Futures: Websocket Market Streams, Important WebSocket Change Notice,
Market Data Endpoints; dev.binance.vision thread 18342 (`X`). Limits: 10 messages per second, 200 streams (the
lower of two figures given) and 24 hours a connection; REST weight 2400 a minute, of which depth with 1000
levels takes 20, trades 5, exchangeInfo 1, bookTicker 2. No limit of connects is given: that of spot is kept.
"""

from typing import ClassVar

from daedalus.exchanges.adapter import Limits
from daedalus.exchanges.binance import BinanceAdapter
from daedalus.exchanges.binance_dialect import Dialect

__all__ = ["BinanceUsdmAdapter"]

USDM = Dialect(
    name="binanceusdm",
    depth_path="/fapi/v1/depth",
    depth_levels=1000,
    depth_weight=20,
    trades_path="/fapi/v1/trades",
    trades_paged=False,
    trades_weight=5,
    info_path="/fapi/v1/exchangeInfo",
    info_by_symbol=False,
    info_weight=1,
    quote_path="/fapi/v1/ticker/bookTicker",
    quote_weight=2,
    dense_ids=False,
    settled=True,
    ticker_streams=("bookTicker",),
    streams_max=200,
    contract_size=1.0,
)


class BinanceUsdmAdapter(BinanceAdapter):
    """The pure half: see `adapter.Adapter`."""

    dialect: ClassVar[Dialect] = USDM
    default_ws_url: ClassVar[str] = "wss://fstream.binance.com/public"
    default_rest_url: ClassVar[str] = "https://fapi.binance.com"
    limits: ClassVar[Limits] = Limits(
        connects=(300, 300.0), sends=(10, 1.0), rest=(2400, 60.0), age_s=24 * 3600.0
    )
