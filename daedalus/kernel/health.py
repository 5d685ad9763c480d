"""The key indicators: the status and the stats documents in, one line of judgement each out. Pure.

Every indicator has two thresholds. `value` is null when nobody reports it, and then it is no reason to worry.
Counters are since the start of their process, so a level says that it has happened, not that it goes on: the
rates are in `daedalus-ctl stats`. What an indicator reads is named by the last part of a stats key, summed or
taken at its worst over all actors (`spool_fill` reads `orderbook.spool_fill` and `trades.spool_fill`).
"""

from collections.abc import Callable
from typing import Any, Literal

import msgspec

__all__ = ["INDICATORS", "Indicator", "report"]

Level = Literal["ok", "warn", "bad"]
Value = float | int | None
_INF = float("inf")
_MIB = 1024 * 1024
_UP = ("running", "degraded")
_SETTLED = ("done", "ignored")
STATS_LATE_S = 180.0  # three of the minutes in which an actor reports


class Documents(msgspec.Struct, frozen=True):
    """What there is to judge."""

    status: dict[str, Any]
    stats: dict[str, Any]
    reported: dict[str, list[tuple[str, float]]]  # last part of the key -> (actor, value) of every number


def _numbers(stats: dict[str, Any]) -> dict[str, list[tuple[str, float]]]:
    """Return every number reported under `key` or `something.key`, by key."""
    found: dict[str, list[tuple[str, float]]] = {}
    for actor in stats["actors"]:
        for name, value in (actor["stats"] or {}).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(name.rpartition(".")[2], []).append((actor["name"], value))
    return found


class Indicator(msgspec.Struct, frozen=True):
    """One indicator. Levels begin *at* their threshold; infinity: there is no such level."""

    name: str
    unit: str
    warn: float
    bad: float
    read: Callable[[Documents], tuple[Value, str]]  # the value and whose it is
    advice: str  # what to do when it is not ok


def _worst(key: str, scale: float = 1.0) -> Callable[[Documents], tuple[Value, str]]:
    def read(documents: Documents) -> tuple[Value, str]:
        actor, value = max(documents.reported.get(key, ()), key=lambda item: item[1], default=("", None))
        return (None if value is None else round(value * scale, 3)), actor

    return read


def _sum(*keys: str) -> Callable[[Documents], tuple[Value, str]]:
    def read(documents: Documents) -> tuple[Value, str]:
        found = [item for key in keys for item in documents.reported.get(key, ())]
        actors = dict.fromkeys(actor for actor, value in found if value)
        return (sum(value for _, value in found) if found else None), ", ".join(actors)

    return read


def _actors(documents: Documents) -> list[dict[str, Any]]:
    actors: list[dict[str, Any]] = documents.status["actors"]
    return actors


def _diverging(documents: Documents) -> tuple[Value, str]:
    names = [
        actor["name"]
        for actor in _actors(documents)
        if actor["desired"] == "up" and actor["state"] not in (*_UP, *_SETTLED, "starting")
    ]
    return len(names), ", ".join(names)


def _failed_groups(documents: Documents) -> tuple[Value, str]:
    names = [group["name"] for group in documents.status["groups"] if group["state"] == "failed"]
    return len(names), ", ".join(names)


def _flapping(documents: Documents) -> tuple[Value, str]:
    actor = max(_actors(documents), key=lambda item: item["restarts"]["last_1h"], default=None)
    return (None, "") if actor is None else (actor["restarts"]["last_1h"], actor["name"])


def _memory(documents: Documents) -> tuple[Value, str]:
    known = [actor["mem"]["anon"] for actor in _actors(documents) if actor["mem"]["anon"] is not None]
    return (round(sum(known) / _MIB, 1) if known else None), ""


def _memory_of_limit(documents: Documents) -> tuple[Value, str]:
    shares = [
        (100 * actor["mem"]["anon"] / limit, actor["name"])
        for actor in _actors(documents)
        if actor["mem"]["anon"] is not None and (limit := actor["mem"]["soft"] or actor["mem"]["hard"])
    ]
    share, name = max(shares, default=(None, ""))
    return (None if share is None else round(share, 1)), name


def _files(documents: Documents) -> tuple[Value, str]:
    fds = [(actor["fds"], actor["name"]) for actor in _actors(documents) if actor["fds"] is not None]
    return max(fds, default=(None, ""))


def _log_dropped(documents: Documents) -> tuple[Value, str]:
    names = [actor["name"] for actor in _actors(documents) if actor["log_dropped"]]
    return sum(actor["log_dropped"] for actor in _actors(documents)), ", ".join(names)


def _silent(documents: Documents) -> tuple[Value, str]:
    up = {actor["name"] for actor in _actors(documents) if actor["state"] in _UP and not actor["substate"]}
    ages = [
        (actor["age_s"], actor["name"])
        for actor in documents.stats["actors"]
        if actor["age_s"] is not None and actor["name"] in up
    ]
    return max(ages, default=(None, ""))


def _of_host(key: str) -> Callable[[Documents], tuple[Value, str]]:
    def read(documents: Documents) -> tuple[Value, str]:
        return documents.status["supervisor"]["host"].get(key), ""

    return read


def _clock(documents: Documents) -> tuple[Value, str]:
    synced = documents.status["supervisor"]["host"].get("clock_synced")
    return (None if synced is None else int(not synced)), ""


def _disk_used(documents: Documents) -> tuple[Value, str]:
    free = [(value, actor) for actor, value in documents.reported.get("disk_free_pct", ())]
    least, whose = min(free, default=(None, ""))
    return (None if least is None else round(100 - least, 1)), whose


def _lag(documents: Documents) -> tuple[Value, str]:
    return documents.status["supervisor"]["loop_lag_ms"], ""


INDICATORS: tuple[Indicator, ...] = (
    Indicator("actors_diverging", "actors", 1, 1, _diverging, "see their last error in status --wide"),
    Indicator("groups_failed", "groups", 1, 1, _failed_groups, "reset the group once its cause is gone"),
    Indicator("restarts_last_hour", "restarts", 3, 10, _flapping, "see logs and events of this actor"),
    Indicator("supervisor_lag", "ms", 200, 2000, _lag, "the machine is overloaded or its disk stalls"),
    Indicator("memory_total", "MiB", 2400, 3000, _memory, "fewer symbols, or lower memory limits"),
    Indicator("memory_of_limit", "%", 85, 100, _memory_of_limit, "it will be drained and restarted at 100 %"),
    Indicator("open_files", "files", 350, 1000, _files, "too many journals or connections in one process"),
    Indicator("log_lines_dropped", "lines", 1, _INF, _log_dropped, "the journal was slower than the actors"),
    Indicator(
        "stats_age", "s", STATS_LATE_S, _INF, _silent, "it works, but does not report: see its beat age"
    ),
    Indicator("clock_unsynced", "", 1, _INF, _clock, "time stamps are wrong until NTP answers"),
    Indicator("temperature", "°C", 75, 80, _of_host("temperature_c"), "at 80 °C a Pi slows down: cool it"),
    Indicator("writer_stalled", "s", 1, 60, _worst("stalled_s"), "the disk refuses: see the writer's status"),
    Indicator("disk_used", "%", 90, 95, _disk_used, "synced bronze goes first; then collectors stop taking"),
    Indicator("streams_down", "streams", 1, _INF, _sum("open_gaps"), "see status: what the collector says"),
    Indicator("spool_fill", "%", 50, 80, _worst("spool_fill", 100), "the writer is behind or stalled"),
    Indicator("records_shed", "records", 1, 1, _sum("shed"), "a spool was full: gap rows tell what is lost"),
    Indicator("gap_rows_dropped", "rows", 1, 1, _sum("gaps_dropped"), "loss that no gap row tells of"),
    Indicator(
        "reconnects", "reconnects", 20, _INF, _worst("reconnects"), "network, or an exchange that sheds"
    ),
    Indicator("parse_errors", "messages", 1, _INF, _sum("parse_errors", "bad"), "see the actor's log"),
    Indicator("commit_p99", "ms", 500, 5000, _worst("commit_p99_ms"), "the disk is slow: commit less often"),
    Indicator(
        "seal_failures", "journals", 1, 10, _sum("seal_failures"), "journals stay in raw/active: see log"
    ),
    Indicator("link_holes", "records", 1, _INF, _sum("holes"), "records a spool no longer had"),
    Indicator(
        "feature_overflows", "buffers", 1, _INF, _sum("overflows"), "replays take longer than buffers last"
    ),
    Indicator("feature_lag_p99", "ms", 500, 5000, _worst("lag_p99_ms"), "features are behind the market"),
    Indicator(
        "unsynced_segments", "segments", 100, 1000, _worst("pending"), "the object store is not reached"
    ),
    Indicator("sync_outages", "outages", 1, _INF, _sum("outages"), "see last_error in stats"),
)


def _judge(indicator: Indicator, documents: Documents) -> dict[str, Any]:
    value, whose = indicator.read(documents)
    level: Level = "ok"
    if value is not None and value >= indicator.warn:
        level = "bad" if value >= indicator.bad else "warn"
    limit = indicator.bad if level == "bad" else indicator.warn
    text = "" if value is not None else "nobody reports it"
    if level != "ok":
        text = f"{whose}: {indicator.advice}" if whose else indicator.advice
    return {
        "name": indicator.name,
        "level": level,
        "value": value,
        "limit": limit,
        "unit": indicator.unit,
        "text": text,
    }


def report(status: dict[str, Any], stats: dict[str, Any]) -> dict[str, Any]:
    """Return all indicators, judged; `ok` unless one is bad.

    Args:
        status: the result of the command `status`, of all actors.
        stats: the result of `stats`, of all actors.
    """
    documents = Documents(status, stats, _numbers(stats))
    judged = [_judge(indicator, documents) for indicator in INDICATORS]
    return {"ok": all(item["level"] != "bad" for item in judged), "indicators": judged}
