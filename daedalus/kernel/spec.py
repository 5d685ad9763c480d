"""What the runtime is told about a child: frozen, normalised, with every default in one place.

`config` makes these from supervisor.toml; the supervisor reads nothing else. Durations are seconds,
memory is bytes. The meaning of every field is OTP's, letter for letter, where OTP has it.
"""

import math
from typing import Literal

import msgspec

__all__ = ["KILL_GRACE_S", "PROGRAMS", "ActorSpec", "Backoff", "GroupSpec", "Tree", "stop_bound"]

KILL_GRACE_S = 5.0  # from SIGKILL until an end that did not come is told

PROGRAMS = "light"  # the zygote that foreign programs are forked from

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
Restart = Literal["permanent", "transient", "temporary"]
OnLimit = Literal["park", "escalate"]
StartFailure = Literal["retry", "abort"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]


class Backoff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Delay before the k-th restart since the last stable run: 0, base, base*factor … capped."""

    base_s: float = 0.5
    factor: float = 2.0
    cap_s: float = 30.0
    jitter: float = 0.1  # upward only: delay * (1 + U(0, jitter))
    reset_after_s: float = 60.0  # of uninterrupted running


class ActorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One child: a built-in actor (`target` and `settings`) or a foreign program (`command`)."""

    name: str  # group/actor, "store/writer-orderbook"
    group: str
    role: str = "foreign"
    target: str = ""  # "daedalus.actors.writer:Writer"
    settings: bytes = b""  # MessagePack of the target's Settings
    zygote: str = "light"  # which preloaded image it is forked from: light | ccxt
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str = ""
    restart: Restart = "permanent"
    drain_s: float = 1.0
    shutdown_s: float | Literal["infinity", "brutal_kill"] = 5.0
    start_timeout_s: float = 20.0
    heartbeat_interval_s: float = 2.0  # 0 = off
    heartbeat_timeout_s: float = 6.0  # 0 = off
    ready: Literal["notify", "spawn"] = "notify"
    drain_signal: str = ""  # foreign programs: "SIGUSR2"; empty: no drain step
    memory_warn: int | None = None
    memory_soft: int | None = None
    memory_hard: int | None = None
    memory_soft_min_interval_s: float = 600.0  # a soft restart sooner than this after the last one counts
    memory_rlimit: int | None = None  # RLIMIT_DATA of its processes, bytes: MemoryError in place of a kill
    cpus: tuple[int, ...] = ()  # empty: wherever the kernel likes
    nice: int = 0
    ionice: str = ""
    backoff: Backoff = Backoff()
    clean_exit_codes: tuple[int, ...] = ()
    fatal_exit_codes: tuple[int, ...] = ()
    requires: tuple[str, ...] = ()  # gates that must be open before it is started: kernel.gates
    blocking: bool = False  # while its gates are shut it holds up its later siblings
    significant: bool = False
    start_failure: StartFailure | None = None  # None: as the group says


class GroupSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One supervisor of the tree. The root is named `root` and has parent None."""

    name: str
    parent: str | None = "root"
    strategy: Strategy = "one_for_one"
    intensity: int = 5
    period_s: float = 60.0
    on_limit: OnLimit = "escalate"
    park_retry_s: float = 300.0
    restart: Restart = "permanent"
    auto_shutdown: AutoShutdown = "never"
    start_failure: StartFailure = "retry"
    parallel_stop: bool = False
    backoff: Backoff = Backoff()  # of the group itself, as a child of its parent


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `daedalus-supervisor start` runs: groups and actors, both in start order."""

    runtime: str  # absolute path: sockets, lock, spools
    data: str  # absolute path: raw/, processed/, state/
    groups: tuple[GroupSpec, ...]  # the first is the root
    actors: tuple[ActorSpec, ...]
    config_path: str = ""
    config_hash: str = ""
    preload: dict[str, tuple[str, ...]] = {}  # zygote name -> modules it imports
    supervisor_cpus: tuple[int, ...] = ()  # of the supervisor and its zygotes; empty: any
    control_group: str = ""  # Unix group that may use the control socket; empty: the user alone
    readonly_group: str = ""  # Unix group that may look and not touch


def stop_bound(spec: ActorSpec) -> float:
    """Return how long the stop of one actor may take, in seconds; infinite where its specification says so.

    >>> stop_bound(ActorSpec(name="a/b", group="a", target="x:Y", drain_s=2, shutdown_s=5))
    12.0
    """
    if spec.shutdown_s == "brutal_kill":
        return KILL_GRACE_S
    drain_s = spec.drain_s if spec.target or spec.drain_signal else 0.0
    shutdown_s = math.inf if spec.shutdown_s == "infinity" else float(spec.shutdown_s)
    return drain_s + shutdown_s + KILL_GRACE_S
