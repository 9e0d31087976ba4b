"""Running services: a budget service, a vLLM server, and who listens on the default ports."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc

from isocost.client.channel import open_blocking_channel
from isocost.core.channel import ChannelSettings, call_metadata
from isocost.core.errors import IsocostError
from isocost.doctor.finding import Finding, failed, ok, warning
from isocost.v1 import budget_service_pb2, budget_service_pb2_grpc

__all__ = ["check_budget_service", "check_ports", "check_vllm_server"]

_SECONDS = 5.0
_BUDGET = "isocost.v1.BudgetService"
_KEY_VARIABLE = "ISOCOST_LABELER_VLLM_API_KEY"
_Status = grpc.StatusCode


def check_budget_service(address: str, settings: ChannelSettings) -> Iterator[Finding]:
    """Whether a budget service answers there, and takes the token.

    Args:
        address: host:port.
        settings: Token and encryption.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        yield failed("budget service", f"{address!r} is no address", "give HOST:PORT, for example 127.0.0.1:7601")
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS).close()
    except (OSError, OverflowError) as error:
        yield failed(
            "budget service",
            f"nothing can be reached at {address}: {error}",
            "start it (`isocost serve budget`); check name, port, firewall and network policies",
        )
        return
    try:
        metadata = call_metadata(address, settings)
        channel = open_blocking_channel(address, settings)
    except IsocostError as error:
        yield failed("budget service", str(error), "give files that can be read, and encryption where there is a token")
        return
    with channel:
        health = health_pb2_grpc.HealthStub(channel)
        try:
            status = health.Check(health_pb2.HealthCheckRequest(service=_BUDGET), timeout=_SECONDS).status
        except grpc.RpcError as error:
            yield _unhealthy(address, settings, error)
            return
        if status != health_pb2.HealthCheckResponse.SERVING:
            yield failed("budget service", f"{address} is stopping", "wait until it has started again")
            return
        encryption = "encrypted" if settings.is_encrypted else "not encrypted"
        yield ok("budget service", f"{address} serves, {encryption}")
        yield _token(channel, metadata, has_token=bool(settings.token))


def _token(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...], *, has_token: bool) -> Finding:
    check = "budget service, token"
    stub = budget_service_pb2_grpc.BudgetServiceStub(channel)
    request = budget_service_pb2.ListCampaignsRequest(page_size=1)
    try:
        stub.ListCampaigns(request, timeout=_SECONDS, metadata=metadata)
    except grpc.RpcError as error:
        code, details = error.code(), error.details()
        if code is _Status.PERMISSION_DENIED:
            return ok(check, f"the token is known, for another use than a pipeline's: {details}")
        if code is not _Status.UNAUTHENTICATED:
            return failed(check, f"{code.name}: {details}", "look into the service's log")
        remedy = "make a token where the database is: isocost token create; pass it in ISOCOST_TOKEN"
        return failed(check, str(details) if has_token else f"a token is needed: {details}", remedy)
    return ok(check, "the token is taken" if has_token else "calls need no token")


def _unhealthy(address: str, settings: ChannelSettings, error: grpc.RpcError) -> Finding:
    """Why a server that can be connected to does not answer."""
    check, code = "budget service", error.code()
    if code is _Status.NOT_FOUND:
        return failed(
            check, f"{address} is another gRPC service", "give the budget service's address; its port is 7601"
        )
    if code is _Status.UNIMPLEMENTED:
        return failed(check, f"{address} has no health service", "give the address of an isocost budget service")
    if code is not _Status.UNAVAILABLE:
        return failed(check, f"{address} answers {code.name}: {error.details()}", "look into the service's log")
    speaks_tls = _handshake(address, ssl._create_unverified_context()) is None
    if speaks_tls and not settings.is_encrypted:
        return failed(
            check,
            f"{address} speaks TLS, and the connection is not encrypted",
            "give --ca-file (ISOCOST_CA_FILE), or ISOCOST_TLS=1 where a public authority signed its certificate",
        )
    if not speaks_tls and settings.is_encrypted:
        return failed(
            check,
            f"{address} does not speak TLS",
            "leave out --ca-file, --cert-file and ISOCOST_TLS, or serve with ISOCOST_SERVER_CERTIFICATE_PATH",
        )
    if not settings.is_encrypted:
        return failed(check, f"{address} does not speak gRPC: {error.details()}", "give a budget service's address")
    context = ssl.create_default_context(cafile=str(settings.ca_path) if settings.ca_path else None)
    distrust = _handshake(address, context, settings.server_name)
    if distrust is not None:
        return failed(
            check,
            f"the certificate of {address} is not accepted: {distrust}",
            "give the authority that signed it with --ca-file; where the name differs, set ISOCOST_SERVER_NAME",
        )
    return failed(
        check,
        f"{address} ends the connection after the handshake: {error.details()}",
        "it may ask for a client certificate of its own authority (mTLS): give --cert-file and --key-file",
    )


def _handshake(address: str, context: ssl.SSLContext, name: str = "") -> str | None:
    """What is wrong with a TLS handshake; None where nothing is."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, int(port)), _SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=name or host),
        ):
            return None
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except OSError as error:
        return str(error) or type(error).__name__


def check_vllm_server(url: str, api_key: str) -> Iterator[Finding]:
    """Whether a vLLM server answers, and which models it serves.

    Args:
        url: Base URL.
        api_key: Sent as a bearer token; "" sends none.
    """
    check = "vllm server"
    if not url.startswith(("http://", "https://")):
        yield failed(check, f"{url!r} is no URL of a server", "give http://HOST:PORT")
        return
    base = url.rstrip("/")
    try:
        _get(f"{base}/health", api_key)
        answer = json.loads(_get(f"{base}/v1/models", api_key))
        names = [str(model["id"]) for model in answer["data"]]
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (401, 403):
                yield failed(check, f"{base} refuses the key ({error.code})", f"set {_KEY_VARIABLE}")
            else:
                yield failed(
                    check,
                    f"{base} answers {error.code} to {error.url.removeprefix(base)}",
                    "wait until it is loaded; see its log",
                )
        return
    except OSError as error:
        reason = getattr(error, "reason", error)
        yield failed(check, f"{base} does not answer: {reason}", "start it (`vllm serve MODEL`), or correct --vllm-url")
        return
    except (ValueError, KeyError, TypeError):
        yield failed(check, f"{base} is no vLLM server: /v1/models is not what one answers", "correct --vllm-url")
        return
    if names:
        yield ok(check, f"{base} serves {', '.join(names)}")
    else:
        yield warning(check, f"{base} serves no model", "start it with one: vllm serve MODEL")


def _get(url: str, api_key: str) -> bytes:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=_SECONDS) as response:
        return bytes(response.read())


def check_ports(ports: Mapping[str, int]) -> Iterator[Finding]:
    """Who listens on loopback where the services would.

    Args:
        ports: Default port of each service, by its name: budget, labeler, trainer.
    """
    for name, port in ports.items():
        check = f"port {port}"
        with closing(socket.socket()) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError as error:
                reason = error.strerror or str(error)
            else:
                yield ok(check, f"free for the {name} service")
                continue
        if _serves(port, f"isocost.v1.{name.capitalize()}Service"):
            yield ok(check, f"taken by an isocost {name} service")
        else:
            yield warning(
                check,
                f"{reason}: taken by something that is not an isocost {name} service, or that asks for encryption",
                f"serve elsewhere: isocost serve {name} --port PORT",
            )


def _serves(port: int, service: str) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_retries", 0)]) as channel:
        try:
            status = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=_SECONDS
            )
        except (grpc.RpcError, DecodeError):
            return False
        return bool(status.status == health_pb2.HealthCheckResponse.SERVING)
