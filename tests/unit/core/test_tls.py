"""Encrypted servers, with certificates made here."""

from __future__ import annotations

import os
from pathlib import Path

import grpc
import pytest

from isocost.core.channel import ChannelSettings, open_channel
from isocost.core.errors import InvalidArgumentError, UnauthenticatedError, UnavailableError, from_rpc_error
from tests.authority import Authority
from tests.unit.core.conftest import Serve
from tests.unit.core.echo import EchoService, call


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


async def refused(address: str, settings: ChannelSettings) -> None:
    async with open_channel(address, settings) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "GetEcho", "x")
        assert isinstance(from_rpc_error(caught.value), UnavailableError)


async def test_encryption_and_tokens(serve: Serve, authority: Authority) -> None:
    certificate_path, key_path = authority.issue("server")
    service = EchoService(with_access=True)
    host = await serve(service, certificate_path=certificate_path, key_path=key_path)
    settings = ChannelSettings(ca_path=authority.path, token="secret-of-ann")
    assert "secret" not in repr(settings)
    async with open_channel(host.address, settings) as channel:
        for method in ("GetEcho", "ListEchoes", "AddEchoes", "TalkEcho"):
            assert await call(channel, method, "who") == "ann/annotator/ipv4"
    async with open_channel(host.address, ChannelSettings(ca_path=authority.path)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "GetEcho", "x")
        assert isinstance(from_rpc_error(caught.value), UnauthenticatedError)
    # Neither a plain connection, nor one that trusts somebody else, nor one for another name.
    await refused(host.address, ChannelSettings())
    stranger = Authority(authority.folder, "stranger")
    await refused(host.address, ChannelSettings(ca_path=stranger.path))
    await refused(host.address, ChannelSettings(ca_path=authority.path, server_name="other.example.org"))


async def test_clients_need_certificates_where_they_are_asked_for(serve: Serve, authority: Authority) -> None:
    certificate_path, key_path = authority.issue("server")
    host = await serve(
        EchoService(), certificate_path=certificate_path, key_path=key_path, client_ca_path=authority.path
    )
    await refused(host.address, ChannelSettings(ca_path=authority.path))
    stranger = Authority(authority.folder, "stranger")
    certificate_path, key_path = stranger.issue("mallory")
    await refused(
        host.address,
        ChannelSettings(ca_path=authority.path, certificate_path=certificate_path, key_path=key_path),
    )
    certificate_path, key_path = authority.issue("trainer-7")
    settings = ChannelSettings(ca_path=authority.path, certificate_path=certificate_path, key_path=key_path)
    async with open_channel(host.address, settings) as channel:
        assert await call(channel, "GetEcho", "who") == "trainer-7/None/ipv4"


async def test_a_renewed_certificate_is_served_without_a_restart(serve: Serve, authority: Authority) -> None:
    certificate_path, key_path = authority.issue("server")
    host = await serve(EchoService(), certificate_path=certificate_path, key_path=key_path)
    async with open_channel(host.address, ChannelSettings(ca_path=authority.path)) as channel:
        assert await call(channel, "GetEcho", "x") == "x"
    certificate_path.write_bytes(b"half a certificate")
    async with open_channel(host.address, ChannelSettings(ca_path=authority.path)) as channel:
        assert await call(channel, "GetEcho", "x") == "x"
    renewed = Authority(authority.folder, "renewed")
    for new, old in zip(renewed.issue("next"), (certificate_path, key_path), strict=True):
        os.replace(new, old)  # noqa: PTH105 - what renews certificates does this
    async with open_channel(host.address, ChannelSettings(ca_path=renewed.path)) as channel:
        assert await call(channel, "GetEcho", "x") == "x"


async def test_files_that_do_not_serve_are_named(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    certificate_path, key_path = authority.issue("server")
    with pytest.raises(InvalidArgumentError, match=r"ISOCOST_SERVER_KEY_PATH: .*cannot be read"):
        await serve(EchoService(), certificate_path=certificate_path, key_path=tmp_path / "gone.key")
    _, other_key_path = authority.issue("other")
    with pytest.raises(InvalidArgumentError, match="not a PEM certificate, its unencrypted key"):
        await serve(EchoService(), certificate_path=certificate_path, key_path=other_key_path)
    key_path.write_text("no key")
    with pytest.raises(InvalidArgumentError, match="not a PEM certificate, its unencrypted key"):
        await serve(EchoService(), certificate_path=certificate_path, key_path=key_path)


def test_a_token_does_not_travel_in_plain_sight(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="would travel unencrypted"):
        open_channel("10.0.0.7:7601", ChannelSettings(token="secret"))
    with pytest.raises(InvalidArgumentError, match="certificate_path and key_path"):
        ChannelSettings(key_path=tmp_path / "client.key")
    with pytest.raises(InvalidArgumentError, match=r"ca_path: .*cannot be read"):
        open_channel("10.0.0.7:7601", ChannelSettings(ca_path=tmp_path / "gone.pem"))
