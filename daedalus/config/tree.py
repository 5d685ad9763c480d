"""The tables of supervisor.toml about supervision: the root, groups, actors, and who may control them.

The text of each field is what docs/configuration.md and the JSON Schema say of its key.
"""

from typing import Annotated, Literal

from pydantic import Field

from daedalus.config.fields import (
    Core,
    EnvName,
    ExitCode,
    Intensity,
    Positive,
    Seconds,
    SignalName,
    Size,
    Table,
    Text,
    Word,
)
from daedalus.kernel.spec import AutoShutdown, OnLimit, Restart, StartFailure, Strategy

__all__ = ["Actor", "BackoffTable", "Control", "Defaults", "Group", "RoleDefaults", "Supervisor"]


class Supervisor(Table):
    """The root of the tree."""

    strategy: Literal["one_for_one", "one_for_all", "rest_for_one"] = Field(
        default="one_for_one", description="which groups are restarted together with one that failed"
    )
    intensity: Intensity = Field(default=3, description="restarts of groups within period_s before on_limit")
    period_s: Positive = Field(default=600, description="the window in which restarts are counted")
    on_limit: OnLimit = Field(
        default="park",
        description="park: leave the broken child and try it later; escalate: leave with exit 70",
    )
    park_retry_s: Positive = Field(default=300, description="after so long a parked child is tried again")
    start_failure: StartFailure = Field(
        default="retry", description="a group whose first start fails: retry with backoff, or abort the start"
    )
    parallel_stop: bool = Field(default=False, description="stop all groups at once, not in reverse order")
    stop_timeout_s: Positive = Field(
        default=300,
        description="how long whoever stops the supervisor waits (TimeoutStopSec of its unit); "
        "check compares the tree's stop bound with it",
    )


class Control(Table):
    """Who may use the control socket, besides the user the supervisor runs as."""

    group: Text = Field(default="", description="Unix group whose members may do everything; empty: none")
    readonly_group: Text = Field(
        default="", description="Unix group whose members may look, not touch; empty: none"
    )


class BackoffTable(Table):
    """Delay before the k-th restart since the last stable run: 0, base_s, base_s * factor, … up to cap_s."""

    base_s: Positive | None = Field(default=None, description="delay before the second restart in a row")
    factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = Field(
        default=None, description="each delay is the one before it times this"
    )
    cap_s: Positive | None = Field(default=None, description="the longest delay")
    jitter: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="a delay is lengthened by a random share of itself, at most this"
    )
    reset_after_s: Positive | None = Field(
        default=None,
        description="running for so long begins the count anew; default: twice cap_s, at least 60",
    )


class Group(Table):
    """A group: a supervisor in the tree."""

    parent: str | None = Field(default=None, description="the group it is in; default: root")
    strategy: Strategy = Field(
        default="one_for_one", description="which children are restarted together with one that failed"
    )
    intensity: Intensity = Field(
        default=5, description="restarts of children within period_s before on_limit"
    )
    period_s: Positive = Field(default=60, description="the window in which restarts are counted")
    on_limit: OnLimit | None = Field(
        default=None,
        description="park: leave the broken child and try it later; escalate: end, and let the "
        "parent restart the group; default: the built-in groups park, your own escalate",
    )
    park_retry_s: Positive = Field(default=300, description="after so long a parked child is tried again")
    restart: Restart = Field(
        default="permanent", description="whether the parent restarts the group after its end"
    )
    auto_shutdown: AutoShutdown = Field(
        default="never", description="the group ends when any, or all, of its significant actors have ended"
    )
    start_failure: StartFailure = Field(
        default="retry",
        description="an actor whose first start fails: retry with backoff, or abort the group's start",
    )
    parallel_stop: bool = Field(
        default=False, description="under one_for_one: stop all children at once, not in reverse order"
    )
    backoff: BackoffTable | None = Field(
        default=None, description="of its actors, and of the group itself as a child of its parent"
    )


class Defaults(Table):
    """What holds for a role, or for one actor. A key that is left out is inherited."""

    restart: Restart | None = Field(
        default=None, description="permanent: always; transient: after a failure only; temporary: never"
    )
    drain_s: Seconds | None = Field(
        default=None, description="time to flush what is in memory, before SIGTERM"
    )
    shutdown_s: Seconds | Literal["infinity", "brutal_kill"] | None = Field(
        default=None, description="time between SIGTERM and SIGKILL; brutal_kill: SIGKILL at once"
    )
    start_timeout_s: Positive | None = Field(
        default=None, description="time to become ready, then it is killed"
    )
    heartbeat_interval_s: Seconds | None = Field(default=None, description="how often it reports; 0 = off")
    heartbeat_timeout_s: Seconds | None = Field(
        default=None, description="silence for so long means that it hangs, and it is killed; 0 = off"
    )
    memory_warn: Size | None = Field(default=None, description="above it the actor is degraded, no more")
    memory_soft: Size | None = Field(default=None, description="above it the actor is drained and restarted")
    memory_hard: Size | None = Field(default=None, description="above it the actor is killed")
    memory_soft_min_interval_s: Seconds | None = Field(
        default=None,
        description="a restart at memory_soft sooner than this after the last one counts as a failure",
    )
    memory_rlimit: Size | None = Field(
        default=None,
        description="RLIMIT_DATA of its processes: MemoryError in place of a kill; off by default",
    )
    cpus: list[Core] | None = Field(default=None, description="the cores it may run on; default: by role")
    nice: Annotated[int, Field(ge=-20, le=19)] | None = Field(default=None, description="scheduling priority")
    ionice: Literal["", "idle", "best-effort", "realtime"] | None = Field(
        default=None, description="scheduling class of its disk accesses; empty: the system's"
    )
    backoff: BackoffTable | None = Field(default=None, description="delays between its restarts")
    clean_exit_codes: list[ExitCode] | None = Field(
        default=None, description="exit codes that are no failure, besides 0"
    )
    fatal_exit_codes: list[ExitCode] | None = Field(
        default=None, description="exit codes after which it is not restarted, besides 78"
    )
    requires: list[Word] | None = Field(
        default=None,
        description="gates that must be open before it is started: time-sync, net:default-route, "
        "path:/…, actor:NAME=running",
    )
    blocking: bool | None = Field(
        default=None, description="while its gates are shut its later siblings wait too"
    )
    significant: bool | None = Field(
        default=None, description="its end counts for auto_shutdown of its group"
    )
    start_failure: StartFailure | None = Field(
        default=None, description="when its first start fails; default: as the group says"
    )


class Actor(Defaults):
    """Overrides of a built-in actor, or a program of your own (then command is needed)."""

    command: Annotated[list[Word], Field(min_length=1)] | None = Field(
        default=None, description="the program and its first arguments; no shell is involved"
    )
    args: list[Text] | None = Field(default=None, description="further arguments")
    env: dict[EnvName, Text] | None = Field(default=None, description="environment variables to set")
    cwd: Word | None = Field(default=None, description="working directory; default: the supervisor's")
    ready: Literal["notify", "spawn"] | None = Field(
        default=None, description="when it is ready: after READY=1 on $NOTIFY_SOCKET, or once it is started"
    )
    drain_signal: SignalName | None = Field(
        default=None, description="asks it to drain; default: no drain step, stop begins with SIGTERM"
    )
    instances: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        default=None, description="how many of it, in a simple_one_for_one group; default: 1"
    )


class RoleDefaults(Table):
    """The same keys for all actors of one role."""

    collector: Defaults = Defaults()
    writer: Defaults = Defaults()
    feature: Defaults = Defaults()
    gateway: Defaults = Defaults()
    syncer: Defaults = Defaults()
    dashboard: Defaults = Defaults()
    simulator: Defaults = Defaults()
    foreign: Defaults = Defaults()
