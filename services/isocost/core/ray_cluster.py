"""Connecting to a Ray cluster, or starting one. Ray is an extra: it is imported only where it is used."""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
from typing import Any

from isocost.core.errors import UnavailableError

__all__ = ["LOCAL", "connect", "first_line"]

#: Address that starts a cluster on this machine.
LOCAL = "local"
#: What connecting to a cluster may take.
_CONNECT_SECONDS = 10.0
#: Ray gives up a start after half a minute, which a busy machine may take.
_STARTS_MAX = 2


def connect(address: str, *, n_cpus: float, field: str) -> bool:
    """Connects to the cluster, or starts one.

    Args:
        address: host:port, auto, or local to start one.
        n_cpus: CPUs that a cluster started here offers at least, whatever the machine has.
        field: What the caller calls the address; named in errors.

    Returns:
        Whether this call has connected; where this process was connected before, that cluster is used as it is.

    Raises:
        UnavailableError: nobody answers at the address.
    """
    # Counts of tasks and bytes of usage are nobody's business, and stand among our own lines.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its core warns, on standard error, about what it will do in later versions.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address == LOCAL and "RAY_AUTH_MODE" not in os.environ:
        # Ray executes what anybody who reaches its ports sends, and not all of them are on loopback alone.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray  # noqa: PLC0415 - an extra, slow to import

    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"address": address}
    if address == LOCAL:
        n_cpus_here = max(os.cpu_count() or 1, math.ceil(n_cpus))
        options |= {"num_cpus": n_cpus_here, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    else:
        _check_reachable(address, field)
    for attempts_left in range(_STARTS_MAX if address == LOCAL else 1, 0, -1):
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
            break
        except Exception as error:  # noqa: BLE001 - Ray raises bare ones, for a start that took too long as well
            ray.shutdown()
            if attempts_left == 1:
                raise _unreachable(address, first_line(error), field) from None
    return True


def first_line(error: Exception) -> str:
    """The first line of what Ray says, or the error's name where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _check_reachable(address: str, field: str) -> None:
    """Connects once and hangs up: Ray itself tries for minutes before it says that nobody is there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error), field) from None


def _unreachable(address: str, reason: str, field: str) -> UnavailableError:
    return UnavailableError(
        f"no Ray cluster at {address!r}: {reason}; give the address of one, auto, or local", field=field
    )
