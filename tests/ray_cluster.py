"""A Ray cluster of two cores on this machine, for the tests of a module."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

#: Ray's own files stay open until its processes are collected.
RAY_MARKS = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@contextlib.contextmanager
def start_cluster() -> Iterator[str]:
    """Yields the cluster's address: a start of it takes ten seconds, so a module's tests share it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        # Sockets of a cluster lie in its folder, and their names are short.
        temporary = Path("/tmp") / f"isocost-ray-{os.getpid()}"
        context = ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(temporary),
            object_store_memory=200 << 20,
        )
        yield context.address_info["address"]
        ray.shutdown()
        shutil.rmtree(temporary, ignore_errors=True)
