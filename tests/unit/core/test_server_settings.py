"""Settings from the environment, and where a server may listen with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocost.core.errors import InvalidArgumentError
from isocost.core.server_settings import (
    ServerSettings,
    check_exposure,
    check_metrics_exposure,
    read_server_settings,
)

PEM = {"certificate_path": Path("server.crt"), "key_path": Path("server.key")}


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_server_settings().model_dump() == ServerSettings().model_dump()
    monkeypatch.setenv("ISOCOST_SERVER_DRAIN_SECONDS", "7.5")
    monkeypatch.setenv("ISOCOST_SERVER_CERTIFICATE_PATH", "server.crt")
    monkeypatch.setenv("ISOCOST_SERVER_KEY_PATH", "server.key")
    settings = read_server_settings()
    assert settings.drain_seconds == 7.5
    assert settings.uses_tls
    # A server inside another program takes nothing from its environment.
    assert ServerSettings().drain_seconds == 20.0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DRAIN_SECONDS", "-1", "ISOCOST_SERVER_DRAIN_SECONDS"),
        ("LOG_LEVEL", "loud", "ISOCOST_SERVER_LOG_LEVEL"),
        ("KEY_PATH", "server.key", "give both certificate_path and key_path"),
        ("CLIENT_CA_PATH", "ca.pem", "client_ca_path needs TLS"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(f"ISOCOST_SERVER_{name}", value)
    with pytest.raises(InvalidArgumentError, match=message):
        read_server_settings()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "[::1]", "::1"])
def test_loopback_needs_nothing(host: str) -> None:
    check_exposure("budget", host, ServerSettings(), requires_tokens=False, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.1.2.3", "", "budget.example.org"])
def test_beyond_loopback_calls_are_encrypted_and_authenticated(host: str) -> None:
    plain, tls = ServerSettings(), ServerSettings(**PEM)
    mutual = ServerSettings(**PEM, client_ca_path=Path("ca.pem"))
    refused = [
        (plain, True, ("CERTIFICATE_PATH",), ("REQUIRE_TOKENS",)),
        (plain, False, ("CERTIFICATE_PATH", "REQUIRE_TOKENS"), ()),
        (tls, False, ("REQUIRE_TOKENS",), ("CERTIFICATE_PATH",)),
        # A certificate says who a client is, but not what it may do with the money.
        (mutual, False, ("REQUIRE_TOKENS",), ("CLIENT_CA",)),
        (plain, None, ("CERTIFICATE_PATH", "CLIENT_CA_PATH"), ("REQUIRE_TOKENS",)),
        (tls, None, ("CLIENT_CA_PATH",), ("SERVER_CERTIFICATE_PATH",)),
    ]
    for settings, requires_tokens, named, unnamed in refused:
        with pytest.raises(InvalidArgumentError, match="is not loopback") as caught:
            check_exposure("budget", host, settings, requires_tokens=requires_tokens, insecure=False)
        assert all(name in str(caught.value) for name in (*named, "--insecure"))
        assert not any(name in str(caught.value) for name in unnamed)
        check_exposure("budget", host, settings, requires_tokens=requires_tokens, insecure=True)
    check_exposure("budget", host, tls, requires_tokens=True, insecure=False)
    check_exposure("trainer", host, mutual, requires_tokens=None, insecure=False)


def test_metrics_beyond_loopback_need_a_certificate_or_a_word() -> None:
    address = "0.0.0.0:9464"
    with pytest.raises(InvalidArgumentError, match="ISOCOST_SERVER_METRICS_INSECURE"):
        check_metrics_exposure(ServerSettings(metrics_address=address))
    check_metrics_exposure(ServerSettings(metrics_address=address, metrics_insecure=True))
    check_metrics_exposure(ServerSettings(**PEM, metrics_address=address, client_ca_path=Path("ca.pem")))
    check_metrics_exposure(ServerSettings(metrics_address="127.0.0.1:9464"))
    check_metrics_exposure(ServerSettings())
