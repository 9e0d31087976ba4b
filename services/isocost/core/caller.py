"""Who makes the call that is being served."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Caller", "Role", "caller", "current_caller"]


class Role(StrEnum):
    """What a caller may do."""

    ADMIN = "admin"
    """Everything."""
    PIPELINE = "pipeline"
    """Everything but correcting the ledger and reading the audit log."""
    ANNOTATOR = "annotator"
    """Lease items and answer them, in the own name."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        principal: Name on the token; "" where calls carry none.
        role: The token's role; None where calls carry no token, and everything is allowed.
        peer: The network address.
    """

    principal: str = ""
    role: Role | None = None
    peer: str = ""


#: Set by the server for each call, and read by what records who did something.
caller: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """Who makes the call that is being served; an empty caller outside of one."""
    return caller.get(Caller())
