"""Structured logs: one JSON object a line."""

from __future__ import annotations

from typing import TextIO

import structlog

__all__ = ["configure_logs"]


def configure_logs(stream: TextIO) -> None:
    """Sends every log line of this process to a stream, as JSON with the time in UTC."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
