"""supervisor.toml as pydantic sees it: every key, its type, its bound, its default, its meaning.

This is the only place of defaults; the tables about supervision are in `tree`. Unknown keys are refused
everywhere. What depends on more than one key is checked in `checks`, `limits` and `markets`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from daedalus.config.fields import (
    Alias,
    Count,
    HostPort,
    Hours,
    HttpUrl,
    IpcAddress,
    Name,
    Percent,
    Positive,
    Rate,
    Seconds,
    Symbol,
    Table,
    TcpAddress,
    Text,
    Whole,
    WsUrl,
)
from daedalus.config.tree import Actor, BackoffTable, Control, Defaults, Group, RoleDefaults, Supervisor

__all__ = [
    "Actor",
    "BackoffTable",
    "Channels",
    "Control",
    "Dashboard",
    "Defaults",
    "Disk",
    "Exchange",
    "File",
    "Gateway",
    "Group",
    "Link",
    "Paths",
    "RoleDefaults",
    "Supervisor",
    "Sync",
    "Table",
    "Writer",
]


class Paths(Table):
    """Where things lie. Relative paths count from the working directory."""

    data: Text = Field(default="", description="directory; empty: ./data, under systemd $STATE_DIRECTORY")
    runtime: Text = Field(
        default="",
        description="sockets, lock, spools; empty: $RUNTIME_DIRECTORY, else $XDG_RUNTIME_DIR/daedalus, "
        "else /tmp/daedalus-UID",
    )


class Channels(Table):
    """Channel to symbols in ccxt's unified form, BTC/USDT or BTC/USDT:USDT."""

    orderbook: list[Symbol] = Field(
        default=[], description="the top max_orderbook_depth levels at every change"
    )
    trades: list[Symbol] = Field(default=[], description="every trade")
    ticker: list[Symbol] = Field(default=[], description="best bid and ask, last price, daily figures")
    depth: list[Symbol] = Field(
        default=[], description="the exchange's own changes of the full book, native adapters only"
    )
    bidask: list[Symbol] = Field(default=[], description="best bid and ask at every change; ccxt")
    ohlcv: list[Symbol] = Field(default=[], description="the exchange's own one-minute candles; ccxt")
    funding_rate: list[Symbol] = Field(default=[], description="of perpetual swaps; ccxt")
    mark_price: list[Symbol] = Field(default=[], description="of derivatives; ccxt")
    liquidations: list[Symbol] = Field(default=[], description="forced closings of others' positions; ccxt")
    my_trades: list[Symbol] = Field(default=[], description="of the account whose key is given; ccxt")
    orders: list[Symbol] = Field(default=[], description="the same")
    positions: list[Symbol] = Field(default=[], description="the same")
    my_liquidations: list[Symbol] = Field(default=[], description="the same")

    def in_use(self) -> dict[str, list[str]]:
        """Return the channels that have symbols, in their fixed order."""
        return {name: symbols for name in type(self).model_fields if (symbols := getattr(self, name))}


class Exchange(Table):
    """One exchange: its collector and what it collects."""

    adapter: Literal["native", "ccxt"] = Field(description="native: our own; ccxt: ccxt.pro's class")
    id: str = Field(
        default="", description="the native adapter or the ccxt class; empty: the table's own name"
    )
    ws_url: WsUrl = Field(
        default="", description="another address for a native adapter: proxy, test net, simulator"
    )
    rest_url: HttpUrl = Field(default="", description="the same for its requests")
    api_key_file: Text = Field(default="", description="file with the key; public market data needs none")
    api_secret_file: Text = Field(default="", description="file with the secret")
    max_orderbook_depth: Annotated[int, Field(ge=1, le=5000)] = Field(
        default=50, description="levels stored and published on each side"
    )
    subscription_stagger_ms: Whole = Field(default=100, description="pause between two subscriptions")
    max_concurrent_subscriptions: Count = Field(default=5, description="subscriptions asked for at once")
    symbols_per_connection: Count = Field(
        default=50, description="a further connection is opened beyond this"
    )
    keepalive_s: Positive = Field(default=12, description="a ping after so long without a message")
    stale_min_s: Positive = Field(
        default=10, description="the shortest silence of a stream that may count as a gap"
    )
    stale_max_s: Positive = Field(
        default=120,
        description="the longest silence of a connection or a book that does not; adaptive between the two",
    )
    reconnect_base_s: Positive = Field(default=0.5, description="first delay before connecting again")
    reconnect_cap_s: Positive = Field(default=300, description="the longest such delay")
    rotate_after_h: Positive = Field(
        default=23, description="a connection is replaced after this; exchanges cut at 24; native"
    )
    recycle_after_h: Hours = Field(
        default=0, description="the collector is replaced at this age, with a gap row; 0: never"
    )
    recycle_mb_per_h: Rate = Field(
        default=32, description="or when its memory grows this fast for hours; 0: never"
    )
    backfill: bool = Field(default=True, description="fetch trades missed while disconnected")
    bulk: bool = Field(
        default=False, description="one subscription for many symbols where ccxt has it; books stay single"
    )
    raw_capture: Literal["off", "info", "frames"] = Field(
        default="off", description="what is kept of raw messages"
    )
    side: Literal["auto", "taker", "maker"] = Field(
        default="auto", description="what the exchange's word for the side of a trade means"
    )
    ccxt: dict[str, Any] = Field(
        default={}, description="merged deeply into the ccxt instance: urls, options, has, timeout, proxies"
    )
    aliases: dict[Symbol, Alias] = Field(
        default={},
        description="symbol to its name on disk and in topics, where the usual one (BTC-USDT) is taken",
    )
    channels: Channels = Field(default=Channels(), description="what is collected")


class Link(Table):
    """The road from collector to writer."""

    batch_records: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=64, description="a frame is closed at this many records"
    )
    batch_ms: Annotated[float, Field(ge=0, le=1000)] = Field(default=5, description="or after this long")
    spool_mb: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=64,
        description="per collector, shared by its channels: the bound on what is not yet acknowledged",
    )


class Writer(Table):
    """Journal, rotation, compression."""

    raw_format: Literal["parquet", "ndjson"] = Field(default="parquet", description="ndjson is for debugging")
    commit_ms: Annotated[float, Field(ge=1, le=60_000)] = Field(
        default=100, description="one fdatasync per commit group: after this long"
    )
    commit_records: Count = Field(default=1000, description="or at this many records")
    segment_max_mb: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        default=50, description="a segment is sealed at this size on disk"
    )
    max_segment_age_s: Positive = Field(default=900, description="or at this age, or at the UTC hour")
    idle_seal_s: Positive = Field(default=60, description="or after this long without data")
    rollover_grace_s: Seconds = Field(
        default=2, description="how long after the hour its last records may still come"
    )
    compression: Literal["zstd", "snappy", "lz4", "none"] = Field(
        default="zstd", description="of sealed segments"
    )
    compression_level: Annotated[int, Field(ge=1, le=22)] = Field(default=3, description="of zstd")
    row_group_rows: Count = Field(default=8192, description="rows in a row group of a segment")
    clock_wait_s: Seconds = Field(
        default=120, description="how long sealing waits after the start for a synchronised clock"
    )


class Disk(Table):
    """What is done as the file system of the data runs full, by its free share."""

    warn_pct: Percent = Field(default=10, description="below it writers say so in status and events")
    evict_pct: Percent = Field(
        default=5, description="below it segments that the object store has are removed, oldest first"
    )
    stop_pct: Percent = Field(default=2, description="below it collectors stop taking; gap rows say so")


class Gateway(Table):
    """Live subscriptions."""

    ipc: IpcAddress = Field(
        default="", description="where they are served; empty: ipc://{runtime}/gateway.sock"
    )
    tcp: TcpAddress = Field(
        default="", description="also served there; requests at the port above it; empty: not"
    )
    keys_dir: Text = Field(
        default="",
        description="CURVE keys of `daedalus keys`: with it tcp is encrypted; beyond loopback it is needed",
    )
    send_hwm: Count = Field(
        default=10_000, description="messages a slow subscriber may lag before it loses some"
    )


class Sync(Table):
    """Sealed segments to an object store. Credentials come from the environment or the AWS chain."""

    enabled: bool = Field(default=False, description="whether the syncer is in the tree")
    bucket: str = Field(default="", description="needed when enabled")
    prefix: str = Field(default="", description="before every key")
    endpoint_url: HttpUrl = Field(default="", description="of the store; empty: AWS")
    region: str = Field(default="", description="empty: the chain's")
    path_style: bool = Field(default=False, description="bucket in the path rather than in the host name")
    ca_file: Text = Field(default="", description="certificates to trust; empty: the system's")
    checksum: Literal["when_supported", "when_required"] = Field(
        default="when_supported", description="whether uploads carry a checksum the store may not know"
    )
    max_workers: Annotated[int, Field(ge=1, le=64)] = Field(default=8, description="uploads at once")
    multipart_mb: Annotated[int, Field(ge=5, le=5000)] = Field(
        default=8, description="size of a part; S3 takes none under 5"
    )
    interval_s: Positive = Field(default=300, description="how often it looks for new segments")


class Dashboard(Table):
    """The web page and /metrics. Accepted, and not built yet."""

    listen: HostPort = Field(default="127.0.0.1:8080", description="HOST:PORT; empty turns it off")


class File(Table):
    """The whole file."""

    paths: Paths = Paths()
    supervisor: Supervisor = Supervisor()
    control: Control = Control()
    groups: dict[Name, Group] = Field(default={}, description="groups by name")
    exchanges: dict[Name, Exchange] = Field(default={}, description="exchanges by name")
    features: dict[str, Any] = Field(
        default={}, description="parameters of the kernels"
    )  # they check them themselves
    link: Link = Link()
    writer: Writer = Writer()
    disk: Disk = Disk()
    gateway: Gateway = Gateway()
    sync: Sync = Sync()
    dashboard: Dashboard = Dashboard()
    defaults: RoleDefaults = RoleDefaults()
    actors: dict[str, Actor] = Field(default={}, description="actors by name, group/actor")
