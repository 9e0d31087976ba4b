"""The budget service's speed as ratios in one run: `python -m tests.bench.budget` writes bench/budget.json.

Each ratio compares two things measured in turns, on the same machine and within the same minute, so that it means the
same on a slow machine and on a busy one. The three at the top are the worse of the two databases.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.pools import measure_pools
from tests.bench.reads import measure_reads
from tests.bench.settling import measure_settling
from tests.postgres import find_binaries, running_postgres

_REPORT = Path(__file__).parents[2] / "bench" / "budget.json"
#: What each ratio must be: reads at least, the others at most.
_LIMITS = {"read_ratio": 0.5, "settle_ratio": 3.0, "pool_ratio": 1.3}


@contextmanager
def _databases(kind: str) -> Iterator[Callable[[], str]]:
    """Makes URLs of new, empty databases of one kind, as durable as they come."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="isocost-bench-") as folder:
            numbers = iter(range(1_000))
            yield lambda: f"sqlite:///{folder}/{next(numbers)}.db"
        return
    binaries = find_binaries()
    if binaries is None:
        sys.exit("PostgreSQL's server binaries are not installed (apt-get install postgresql)")
    with running_postgres(binaries) as server:
        yield lambda: server.url(server.create_database(migrated=False))


async def _measure(kind: str, n_items_large: int) -> dict[str, float]:
    with _databases(kind) as new_url:
        reads = await measure_reads(new_url())
        settling = await measure_settling(new_url)
        pools = await measure_pools(new_url(), new_url(), n_items_large=n_items_large)
    return {"read_ratio": min(reads["get_campaign_ratio"], reads["get_order_ratio"]), **reads, **settling, **pools}


def main() -> None:
    """Measures both databases and writes the report; exits with 1 where a ratio is beyond its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000, help="items of the large pool [1000000]")
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    arguments = parser.parse_args()
    by_database: dict[str, dict[str, float]] = {}
    for kind in arguments.databases:
        by_database[kind] = asyncio.run(_measure(kind, arguments.items))
        print(kind, json.dumps(by_database[kind], indent=2), flush=True)
    report = {
        "read_ratio": min(figures["read_ratio"] for figures in by_database.values()),
        "settle_ratio": max(figures["settle_ratio"] for figures in by_database.values()),
        "pool_ratio": max(figures["pool_ratio"] for figures in by_database.values()),
        "n_items_large_pool": arguments.items,
        "n_cores": os.cpu_count(),
        **by_database,
    }
    _REPORT.parent.mkdir(exist_ok=True)
    _REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    met = {
        "read_ratio": report["read_ratio"] >= _LIMITS["read_ratio"],
        "settle_ratio": report["settle_ratio"] <= _LIMITS["settle_ratio"],
        "pool_ratio": report["pool_ratio"] <= _LIMITS["pool_ratio"],
    }
    for name, is_met in met.items():
        print(f"{name} {report[name]} ({'at least' if name == 'read_ratio' else 'at most'} {_LIMITS[name]})")
        if not is_met:
            print(f"{name} is beyond its limit", file=sys.stderr)
    sys.exit(not all(met.values()))


if __name__ == "__main__":
    main()
