"""Who may call what: tokens to callers, roles to methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from isocost.core.caller import Caller, Role
from isocost.core.errors import PermissionDeniedError, UnauthenticatedError

__all__ = ["Access", "Authenticator", "bearer_secret", "check_role"]


class Authenticator(Protocol):
    """Knows the tokens."""

    async def authenticate(self, secret: str) -> Caller | None:
        """The caller, without a peer, to whom a token belongs; None where it is unknown, expired or revoked.

        Called for every call, so it should answer from memory most of the time.
        """


@dataclass(frozen=True, slots=True)
class Access:
    """What a server asks of its callers.

    Attributes:
        authenticator: Knows the tokens. Every call but a health check must carry one.
        allowed_roles: The roles that may call a method, named as on the wire: `/package.Service/Method`.
    """

    authenticator: Authenticator
    allowed_roles: Callable[[str], frozenset[Role]]

    async def identify(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Who sends this metadata.

        Raises:
            UnauthenticatedError: where it holds no token that is known.
        """
        caller = await self.authenticator.authenticate(bearer_secret(metadata))
        if caller is None:
            raise UnauthenticatedError(
                "the token is unknown, expired or revoked; ask for a new one (isocost token create)",
                field="authorization",
            )
        return caller


def check_role(caller: Caller, allowed: frozenset[Role], method: str) -> None:
    """Lets a caller pass whose role may call the method.

    Raises:
        PermissionDeniedError: where it may not; names the roles that may.
    """
    if caller.role not in allowed:
        raise PermissionDeniedError(
            f"a token of role {caller.role} may not call {method}; "
            f"use one of role {' or '.join(sorted(allowed))} (isocost token create)",
        )


def bearer_secret(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The secret in `authorization: Bearer SECRET`.

    Raises:
        UnauthenticatedError: where there is none.
    """
    for key, value in metadata:
        if key == "authorization" and isinstance(value, str):
            scheme, _, secret = value.partition(" ")
            if scheme.lower() == "bearer" and secret:
                return secret
    raise UnauthenticatedError(
        "the call carries no token; send the metadata `authorization: Bearer TOKEN` with one that "
        "`isocost token create` printed",
        field="authorization",
    )
