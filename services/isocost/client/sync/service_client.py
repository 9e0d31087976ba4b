"""What the clients of the budget service's two interfaces share: a channel, and the repeats of their calls."""

# Generated from ../service_client.py by scripts/generate_sync_client: change that file, not this one.

from __future__ import annotations

from typing import Self

from isocost.client.channel import open_blocking_channel
from isocost.client.retry import RetryPolicy
from isocost.client.sync.repeater import Repeater
from isocost.core.channel import ChannelSettings, call_metadata

__all__ = ["ServiceClient"]


class ServiceClient:
    """A connection that is closed at the end of an `with` block.

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
        self._channel = open_blocking_channel(address, settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()
