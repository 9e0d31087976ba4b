"""Serves a trainer until it is killed: `python serve.py STATE_DIR`; prints its address."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from isocost.core.grpc_server import GrpcServer
from isocost.trainer.service import TrainerService
from isocost.trainer.settings import TrainerSettings


async def main(state_dir: Path) -> None:
    service = TrainerService(
        TrainerSettings(state_dir=state_dir, n_threads=1, device="cpu", progress_interval_seconds=0)
    )
    server = GrpcServer()
    service.register(server.aio)
    await service.start()
    print(await server.start("127.0.0.1:0", [TrainerService.SERVICE_NAME]), flush=True)
    await server.aio.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
