"""Asks a service's gRPC health check, for the probes of its container; exit code 0 where it is SERVING.

Kubernetes' own gRPC probe speaks neither TLS nor mTLS. With the server's TLS variables set this one does, and shows the
server's own certificate, which must name `localhost` and be signed by an authority in `--ca`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def probe(port: int, ca: Path, seconds: float) -> str:
    """What is wrong with the service on a port of this machine, or ""."""
    address = f"localhost:{port}"
    certificate, key = (os.environ.get(f"ISOCOST_SERVER_{name}_PATH") for name in ("CERTIFICATE", "KEY"))
    if certificate and key:
        credentials = grpc.ssl_channel_credentials(
            ca.read_bytes(), Path(key).read_bytes(), Path(certificate).read_bytes()
        )
        channel = grpc.secure_channel(address, credentials)
    else:
        channel = grpc.insecure_channel(address)
    with channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=seconds)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    serving = health_pb2.HealthCheckResponse.SERVING
    return "" if answer.status == serving else health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def main() -> int:
    """Reads the command line, probes, says what is wrong on standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", type=Path, default=Path("/etc/isocost/tls/ca.crt"), help="PEM authorities")
    parser.add_argument("--seconds", type=float, default=5.0, help="what the answer may take")
    arguments = parser.parse_args()
    try:
        wrong = probe(arguments.port, arguments.ca, arguments.seconds)
    except OSError as error:
        wrong = str(error)
    if wrong:
        sys.stderr.write(f"{wrong}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
