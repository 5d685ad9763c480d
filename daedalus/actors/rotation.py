"""What a writer is told, and when it closes a journal. Pure."""

import msgspec

__all__ = ["WriterSettings", "Written", "rotation"]

_HOUR_S = 3600


class WriterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What one writer is told; the keys of `[writer]`, and where it lives."""

    channel: str
    data: str  # absolute path of the data directory
    runtime: str  # absolute path of the runtime directory
    raw_format: str = "parquet"  # parquet | ndjson
    commit_ms: float = 100
    commit_records: int = 1000
    segment_max_mb: float = 50  # MiB of journal on disk
    max_segment_age_s: float = 900
    idle_seal_s: float = 60
    rollover_grace_s: float = 2  # after the UTC hour
    compression: str = "zstd"
    compression_level: int = 3
    row_group_rows: int = 8192
    clock_wait_s: float = 120  # after the boot of the machine, for a synchronised clock
    warn_pct: float = 10  # free space of the data's file system
    evict_pct: float = 5
    stop_pct: float = 2


class Written(msgspec.Struct, frozen=True):
    """What rotation is decided by: the journal as it stands."""

    bytes: int
    first_wall_s: float  # wall clock at its first commit
    first_mono_s: float  # monotonic clock at its first commit
    last_mono_s: float  # … at its last


def rotation(
    settings: WriterSettings, written: Written, wall_s: float, mono_s: float, *, hourly: bool = True
) -> tuple[str, float]:
    """Decide when a journal with records in it has to be closed, and why.

    A clock that is set back never closes one: the hour of the journal is that of its first commit, and the
    other reasons go by the monotonic clock.

    Args:
        settings: the bounds.
        written: what there is to close.
        wall_s: now, wall clock.
        mono_s: now, monotonic clock.
        hourly: whether the hours of the wall clock mean anything.

    Returns:
        (reason, seconds from now; 0 or less: now) of what comes first.
    """
    due = [
        ("age", written.first_mono_s + settings.max_segment_age_s - mono_s),
        ("idle", written.last_mono_s + settings.idle_seal_s - mono_s),
    ]
    if hourly:
        hour_ends = (written.first_wall_s // _HOUR_S + 1) * _HOUR_S + settings.rollover_grace_s
        due.insert(0, ("hour", hour_ends - wall_s))
    if written.bytes >= settings.segment_max_mb * (1 << 20):
        due.append(("size", 0.0))
    return min(due, key=lambda item: item[1])
