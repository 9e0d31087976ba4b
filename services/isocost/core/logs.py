"""Structured logs: one JSON object a line."""

from __future__ import annotations

import contextlib
import logging
from typing import TextIO, cast

import structlog

__all__ = ["DEBUG", "INFO", "configure_logs", "is_enabled"]

DEBUG = logging.DEBUG
INFO = logging.INFO

_LEVELS = {"debug": DEBUG, "info": INFO, "warning": logging.WARNING, "error": logging.ERROR}
_configured = {"level": INFO}


class _Lines:
    """A stream that loses what cannot be written: a full disk must not fail a call whose money is spent."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure_logs(stream: TextIO, *, level: str = "info") -> None:
    """Sends every log line of this process to a stream, as JSON with the time in UTC.

    Tracebacks are logged without the values of variables: those hold requests, and secrets.

    Args:
        stream: Where to.
        level: Least severe line written: debug, info, warning or error.
    """
    _configured["level"] = _LEVELS[level]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Lines(stream))),
        cache_logger_on_first_use=False,
    )


def is_enabled(level: int) -> bool:
    """Whether a line of a level would be written; cheaper to ask than to log in vain.

    Never where nothing configured the logs: they would mix with what a command prints.
    """
    return structlog.is_configured() and level >= _configured["level"]
