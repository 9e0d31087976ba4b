"""Running services: what is wrong with a connection is told apart."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from isocost.budget.database import Database
from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.budget.tokens import create_token
from isocost.core.caller import Role
from isocost.core.channel import ChannelSettings
from isocost.core.grpc_server import ServiceHost
from isocost.core.server_settings import ServerSettings
from isocost.doctor.finding import Finding, State
from isocost.doctor.services import check_budget_service, check_ports, check_vllm_server
from tests.authority import Authority


@asynccontextmanager
async def budget(folder: Path, settings: ServerSettings | None = None, **changes: Any) -> AsyncIterator[str]:
    service = BudgetService(BudgetSettings(database_url=f"sqlite:///{folder}/budget.db", **changes))
    async with ServiceHost(service, "127.0.0.1:0", settings or ServerSettings()) as host:
        yield host.address


async def look(address: str, **settings: Any) -> list[Finding]:
    return await asyncio.to_thread(lambda: list(check_budget_service(address, ChannelSettings(**settings))))


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that is held, and that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def test_a_plain_service_serves(tmp_path: Path) -> None:
    async with budget(tmp_path) as address:
        serves, token = await look(address)
        assert (serves.state, token.message) == (State.OK, "calls need no token")
        (encrypted,) = await look(address, tls=True)
        assert encrypted.state is State.FAILED
        assert "does not speak TLS" in encrypted.message
        (unreadable,) = await look(address, ca_path=tmp_path / "none.pem")
        assert (unreadable.state, "none.pem" in unreadable.message) == (State.FAILED, True)


async def test_tokens(tmp_path: Path) -> None:
    async with budget(tmp_path, require_tokens=True) as address:
        database = Database(f"sqlite:///{tmp_path}/budget.db")
        with database.write() as connection:
            _, pipeline = create_token(connection, "p", Role.PIPELINE, None)
            _, annotator = create_token(connection, "a", Role.ANNOTATOR, None)
        database.close()
        found = {}
        for name, secret in (("none", ""), ("wrong", "isocost_x"), ("pipeline", pipeline), ("annotator", annotator)):
            serves, found[name] = await look(address, token=secret)
            assert serves.state is State.OK
        assert {name: finding.state.value for name, finding in found.items()} == {
            "none": "failed",
            "wrong": "failed",
            "pipeline": "ok",
            "annotator": "ok",
        }
        assert "a token is needed" in found["none"].message
        assert "isocost token create" in found["wrong"].remedy
        assert "another use" in found["annotator"].message


async def test_certificates(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path, "authority"), Authority(tmp_path, "other")
    certificate, key = authority.issue("server")
    server = ServerSettings(certificate_path=certificate, key_path=key)
    async with budget(tmp_path, server) as address:
        (plain,) = await look(address)
        assert "speaks TLS" in plain.message
        assert "--ca-file" in plain.remedy
        (distrusted,) = await look(address, ca_path=other.path)
        assert "is not accepted" in distrusted.message
        (misnamed,) = await look(address, ca_path=authority.path, server_name="elsewhere")
        assert "ISOCOST_SERVER_NAME" in misnamed.remedy
        assert "elsewhere" in misnamed.message
        serves, _ = await look(address, ca_path=authority.path)
        assert (serves.state, serves.message) == (State.OK, f"{address} serves, encrypted")
    mutual = server.model_copy(update={"client_ca_path": authority.path})
    async with budget(tmp_path, mutual) as address:
        (uncertified,) = await look(address, ca_path=authority.path)
        assert (uncertified.state, "mTLS" in uncertified.remedy) == (State.FAILED, True)
        client, client_key = authority.issue("client")
        serves, _ = await look(address, ca_path=authority.path, certificate_path=client, key_path=client_key)
        assert serves.state is State.OK


async def test_addresses_where_no_budget_service_is() -> None:
    with closed_port() as port:
        (refused,) = await look(f"127.0.0.1:{port}")
        assert "nothing can be reached" in refused.message
    (nonsense,) = await look("budget")
    assert "HOST:PORT" in nonsense.remedy
    with vllm({}) as url:
        (other,) = await look(url.removeprefix("http://"))
        assert other.state is State.FAILED
        assert "does not speak gRPC" in other.message


@contextmanager
def vllm(answers: dict[str, Any], key: str = "") -> Iterator[str]:
    """An HTTP server with some of vLLM's answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            refused = bool(key) and self.headers["Authorization"] != f"Bearer {key}"
            status = 401 if refused else 200 if self.path in answers else 503
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answers.get(self.path)).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_vllm_server() -> None:
    models = {"/health": None, "/v1/models": {"data": [{"id": "weak"}, {"id": "strong"}]}}
    with vllm(models, key="k") as url:
        (served,) = check_vllm_server(f"{url}/", "k")
        assert (served.state, served.message) == (State.OK, f"{url} serves weak, strong")
        (refused,) = check_vllm_server(url, "")
        assert (refused.state, refused.remedy) == (State.FAILED, "set ISOCOST_LABELER_VLLM_API_KEY")
    with vllm({}) as url:
        (loading,) = check_vllm_server(url, "")
        assert (loading.state, loading.message) == (State.FAILED, f"{url} answers 503 to /health")
    with vllm(models | {"/v1/models": {"data": []}}) as url:
        assert [finding.state for finding in check_vllm_server(url, "")] == [State.WARNING]
    with vllm(models | {"/v1/models": ["other"]}) as url:
        (other,) = check_vllm_server(url, "")
        assert "no vLLM server" in other.message
    with closed_port() as port:
        (away,) = check_vllm_server(f"http://127.0.0.1:{port}", "")
        assert "does not answer" in away.message
    assert [finding.state for finding in check_vllm_server("gpu-7:8000", "")] == [State.FAILED]


async def test_ports(tmp_path: Path) -> None:
    async with budget(tmp_path) as address:
        port = int(address.rpartition(":")[2])
        (own,) = await asyncio.to_thread(lambda: list(check_ports({"budget": port})))
        assert (own.state, own.message) == (State.OK, "taken by an isocost budget service")
        (other,) = await asyncio.to_thread(lambda: list(check_ports({"trainer": port})))
        assert other.state is State.WARNING
        assert "isocost serve trainer --port" in other.remedy
    (free,) = check_ports({"budget": port})
    assert free.state is State.OK
