"""The program behind the probes, against real servers."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from isocost.core.grpc_server import GrpcServer
from isocost.core.server_settings import ServerSettings
from tests.authority import Authority
from tests.unit.deploy.manifests import ROOT

_PROBE = ROOT / "deploy" / "docker" / "grpc_probe.py"


async def _probe(address: str, *arguments: str, **env: str) -> tuple[int, str]:
    port = address.rpartition(":")[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(_PROBE),
        "--port",
        port,
        *arguments,
        env={"PATH": os.environ["PATH"], "GRPC_VERBOSITY": "NONE"} | env,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_a_plain_server_serves_and_then_does_not() -> None:
    server = GrpcServer()
    address = await server.start("127.0.0.1:0", [])
    try:
        assert await _probe(address) == (0, "")
    finally:
        await server.stop(0.0)
    code, said = await _probe(address, "--seconds", "2")
    assert code == 1
    assert "UNAVAILABLE" in said or "DEADLINE_EXCEEDED" in said


async def test_a_server_that_asks_for_certificates_is_shown_its_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("server")
    server = GrpcServer(
        ServerSettings(certificate_path=certificate, key_path=key, client_ca_path=authority.path, drain_seconds=0)
    )
    address = await server.start("127.0.0.1:0", [])
    env = {"ISOCOST_SERVER_CERTIFICATE_PATH": str(certificate), "ISOCOST_SERVER_KEY_PATH": str(key)}
    try:
        assert await _probe(address, "--ca", str(authority.path), **env) == (0, "")
        code, said = await _probe(address, "--ca", str(tmp_path / "nowhere"), **env)
        assert code == 1
        assert "nowhere" in said
    finally:
        await server.stop(0.0)
