"""Logs are events: one JSON line on stderr, `noun_participle` and its values. The one door to structlog."""

import sys
from typing import Any

import structlog

__all__ = ["configure", "get_logger"]


def configure(actor: str = "", generation: int = 0) -> None:
    """Set up logging for this process. Called once, by whoever owns the process."""
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=_serialise),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    _identity.clear()
    if actor:
        _identity.update(actor=actor, generation=generation)


_identity: dict[str, Any] = {}


def _serialise(event: dict[str, Any], **_: Any) -> str:
    import json

    name = event.pop("event", "")
    return json.dumps({"event": name, **_identity, **event}, default=str, ensure_ascii=False)


def get_logger() -> Any:
    """Return the logger: `log.info("segment_published", rows=…, segment_bytes=…)`."""
    return structlog.get_logger()
