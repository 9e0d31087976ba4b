"""Channels for clients that repeat their calls and add the token to each: one for asyncio, one that blocks."""

from __future__ import annotations

import grpc

from isocost.core.channel import ChannelSettings, channel_options, tls_credentials

__all__ = ["open_blocking_channel", "open_channel"]


def open_channel(address: str, settings: ChannelSettings) -> grpc.aio.Channel:
    """A channel for asyncio; calls add `call_metadata` themselves.

    Raises:
        InvalidArgumentError: where a file cannot be read.
    """
    if settings.is_encrypted:
        return grpc.aio.secure_channel(address, tls_credentials(settings), options=channel_options(settings))
    return grpc.aio.insecure_channel(address, options=channel_options(settings))


def open_blocking_channel(address: str, settings: ChannelSettings) -> grpc.Channel:
    """A channel whose calls block; otherwise as `open_channel`.

    Raises:
        InvalidArgumentError: where a file cannot be read.
    """
    if settings.is_encrypted:
        return grpc.secure_channel(address, tls_credentials(settings), options=channel_options(settings))
    return grpc.insecure_channel(address, options=channel_options(settings))
