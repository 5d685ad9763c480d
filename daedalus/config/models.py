"""supervisor.toml as pydantic sees it: every key, its type, its bound, its default.

This is the only place of defaults. Unknown keys are refused everywhere.
What depends on more than one key is checked in `checks`.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from daedalus.config.values import parse_name, parse_size, parse_symbol
from daedalus.kernel.spec import AutoShutdown, OnLimit, Restart, StartFailure, Strategy

__all__ = ["Actor", "Exchange", "File", "Group"]

Size = Annotated[int, BeforeValidator(parse_size)]
Name = Annotated[str, AfterValidator(parse_name)]
Symbol = Annotated[str, AfterValidator(parse_symbol)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, StringConstraints(min_length=1)]
ExitCode = Annotated[int, Field(ge=0, le=255)]


class Table(BaseModel):
    """Base of all tables: strict types, no unknown keys, no change after loading."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Paths(Table):
    """[paths]."""

    data: str = ""  # directory; empty: ./data, under systemd $STATE_DIRECTORY
    runtime: str = ""  # directory; empty: $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/daedalus, /tmp/daedalus-UID


class Supervisor(Table):
    """[supervisor]: the root of the tree."""

    strategy: Literal["one_for_one", "one_for_all", "rest_for_one"] = "one_for_one"
    intensity: Annotated[int, Field(ge=0)] = 3
    period_s: Positive = 600
    on_limit: OnLimit = "park"
    park_retry_s: Positive = 300
    start_failure: StartFailure = "retry"
    parallel_stop: bool = False


class BackoffTable(Table):
    """backoff = {…}; what is left out is inherited."""

    base_s: Positive | None = None
    factor: Annotated[float, Field(ge=1)] | None = None
    cap_s: Positive | None = None
    jitter: Annotated[float, Field(ge=0, le=1)] | None = None
    reset_after_s: Positive | None = None


class Group(Table):
    """[groups.NAME]. None: the default, which differs between built-in groups and your own."""

    parent: str | None = None
    strategy: Strategy = "one_for_one"
    intensity: Annotated[int, Field(ge=0)] = 5
    period_s: Positive = 60
    on_limit: OnLimit | None = None  # built-in groups park, your own escalate
    park_retry_s: Positive = 300
    restart: Restart = "permanent"
    auto_shutdown: AutoShutdown = "never"
    start_failure: StartFailure = "retry"
    parallel_stop: bool = False
    backoff: BackoffTable | None = None


class Defaults(Table):
    """[defaults.ROLE]: what may be set for a role and for one actor. None: inherited."""

    restart: Restart | None = None
    drain_s: Seconds | None = None
    shutdown_s: Seconds | Literal["infinity", "brutal_kill"] | None = None
    start_timeout_s: Positive | None = None
    heartbeat_interval_s: Seconds | None = None
    heartbeat_timeout_s: Seconds | None = None
    memory_warn: Size | None = None
    memory_soft: Size | None = None
    memory_hard: Size | None = None
    cpus: list[Annotated[int, Field(ge=0)]] | None = None
    nice: Annotated[int, Field(ge=-20, le=19)] | None = None
    ionice: Literal["", "idle", "best-effort", "realtime"] | None = None
    backoff: BackoffTable | None = None
    clean_exit_codes: list[ExitCode] | None = None
    fatal_exit_codes: list[ExitCode] | None = None
    requires: list[Text] | None = None
    significant: bool | None = None
    start_failure: StartFailure | None = None


class Actor(Defaults):
    """[actors."group/name"]: overrides of a built-in actor, or a program of your own."""

    command: Annotated[list[Text], Field(min_length=1)] | None = None
    args: list[str] | None = None
    env: dict[Text, str] | None = None
    cwd: Text | None = None
    ready: Literal["notify", "spawn"] | None = None
    drain_signal: Annotated[str, StringConstraints(pattern=r"^(SIG[A-Z0-9]+)?$")] | None = None
    instances: Annotated[int, Field(ge=0, le=1000)] | None = None


class Channels(Table):
    """[exchanges.X.channels]: channel -> symbols in ccxt's unified form."""

    orderbook: list[Symbol] = []
    trades: list[Symbol] = []
    ticker: list[Symbol] = []


class Exchange(Table):
    """[exchanges.X]: one collector."""

    adapter: Literal["native", "ccxt"]
    id: str = ""  # ccxt class or native adapter; empty: the table's name
    ws_url: Annotated[str, StringConstraints(pattern=r"^(wss?://\S+)?$")] = ""
    rest_url: Annotated[str, StringConstraints(pattern=r"^(https?://\S+)?$")] = ""
    api_key_file: str = ""
    api_secret_file: str = ""
    max_orderbook_depth: Annotated[int, Field(ge=1, le=5000)] = 50
    subscription_stagger_ms: Annotated[int, Field(ge=0)] = 100
    max_concurrent_subscriptions: Count = 5
    symbols_per_connection: Count = 50
    keepalive_s: Positive = 12
    stale_min_s: Positive = 10
    stale_max_s: Positive = 120
    reconnect_base_s: Positive = 0.5
    reconnect_cap_s: Positive = 300
    rotate_after_h: Positive = 23
    backfill: bool = True
    raw_capture: Literal["off", "info", "frames"] = "off"
    side: Literal["auto", "taker", "maker"] = "auto"
    ccxt: dict[str, Any] = {}
    channels: Channels = Channels()


class Link(Table):
    """[link]: collector to writer."""

    batch_records: Annotated[int, Field(ge=1, le=10_000)] = 64
    batch_ms: Annotated[float, Field(ge=0, le=1000)] = 5
    spool_mb: Annotated[int, Field(ge=1, le=4096)] = 64


class Writer(Table):
    """[writer]: journal, rotation, compression."""

    raw_format: Literal["parquet", "ndjson"] = "parquet"
    commit_ms: Annotated[float, Field(ge=1, le=60_000)] = 100
    commit_records: Count = 1000
    segment_max_mb: Positive = 50
    max_segment_age_s: Positive = 900
    idle_seal_s: Positive = 60
    rollover_grace_s: Seconds = 2
    compression: Literal["zstd", "snappy", "lz4", "none"] = "zstd"
    compression_level: Annotated[int, Field(ge=1, le=22)] = 3
    row_group_rows: Annotated[int, Field(ge=1)] = 8192


class Gateway(Table):
    """[gateway]: live subscriptions."""

    ipc: Annotated[str, StringConstraints(pattern=r"^(ipc:///\S+)?$")] = ""
    tcp: Annotated[str, StringConstraints(pattern=r"^(tcp://\S+:\d+)?$")] = ""
    send_hwm: Count = 10_000


class Sync(Table):
    """[sync]: sealed segments to an object store."""

    enabled: bool = False
    bucket: str = ""
    prefix: str = ""
    endpoint_url: Annotated[str, StringConstraints(pattern=r"^(https?://\S+)?$")] = ""
    region: str = ""
    path_style: bool = False
    ca_file: str = ""
    checksum: Literal["when_supported", "when_required"] = "when_supported"
    max_workers: Annotated[int, Field(ge=1, le=64)] = 8
    multipart_mb: Annotated[int, Field(ge=5, le=5000)] = 8  # S3 takes no parts under 5 MiB
    interval_s: Positive = 300


class Dashboard(Table):
    """[dashboard]."""

    listen: Annotated[str, StringConstraints(pattern=r"^(\S+:\d+)?$")] = "127.0.0.1:8080"


class RoleDefaults(Table):
    """[defaults.ROLE]."""

    collector: Defaults = Defaults()
    writer: Defaults = Defaults()
    feature: Defaults = Defaults()
    gateway: Defaults = Defaults()
    syncer: Defaults = Defaults()
    dashboard: Defaults = Defaults()
    simulator: Defaults = Defaults()
    foreign: Defaults = Defaults()


class File(Table):
    """The whole file."""

    paths: Paths = Paths()
    supervisor: Supervisor = Supervisor()
    groups: dict[Name, Group] = {}
    exchanges: dict[Name, Exchange] = {}
    features: dict[str, Any] = {}  # checked against the kernels' own table of parameters
    link: Link = Link()
    writer: Writer = Writer()
    gateway: Gateway = Gateway()
    sync: Sync = Sync()
    dashboard: Dashboard = Dashboard()
    defaults: RoleDefaults = RoleDefaults()
    actors: dict[str, Actor] = {}
