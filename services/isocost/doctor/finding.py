"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "State", "failed", "ok", "warning"]


class State(StrEnum):
    """How bad it is."""

    OK = "ok"
    #: Something cannot be done, or may go wrong; what this machine is for may not need it.
    WARNING = "warning"
    #: Does not work.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis.

    Attributes:
        check: What was looked at.
        state: How bad it is.
        message: What was found.
        remedy: What to do; "" where it is ok.
    """

    check: str
    state: State
    message: str
    remedy: str = ""


def ok(check: str, message: str) -> Finding:
    """Nothing to do."""
    return Finding(check, State.OK, message)


def warning(check: str, message: str, remedy: str) -> Finding:
    """May go wrong."""
    return Finding(check, State.WARNING, message, remedy)


def failed(check: str, message: str, remedy: str) -> Finding:
    """Does not work."""
    return Finding(check, State.FAILED, message, remedy)
