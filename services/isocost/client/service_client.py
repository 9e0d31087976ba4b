"""What the clients of the budget service's two interfaces share: a channel, and the repeats of their calls."""

from __future__ import annotations

from typing import Self

from isocost.client.channel import open_channel
from isocost.client.repeater import Repeater
from isocost.client.retry import RetryPolicy
from isocost.core.channel import ChannelSettings, call_metadata

__all__ = ["ServiceClient"]


class ServiceClient:
    """A connection that is closed at the end of an `async with` block.

    Args:
        address: host:port of the service.
        channel: Token and encryption; the default is a plain connection without a token.
        retry: How often failed calls are made again; the default is `RetryPolicy()`.

    Raises:
        InvalidArgumentError: where a certificate cannot be read, or a token would travel unencrypted beyond loopback.
    """

    def __init__(
        self, address: str, *, channel: ChannelSettings | None = None, retry: RetryPolicy | None = None
    ) -> None:
        settings = channel or ChannelSettings()
        self._repeater = Repeater(retry or RetryPolicy(), call_metadata(address, settings))
        self._channel = open_channel(address, settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()
