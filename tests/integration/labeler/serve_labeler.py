"""Serves the labeler in a process of its own: `python serve_labeler.py ADDRESS_FILE`, settings from the environment."""

import asyncio
import signal
import sys
from pathlib import Path

from isocost.core.grpc_server import GrpcServer
from isocost.labeler.service import LabelerService
from isocost.labeler.settings import LabelerSettings


async def main() -> None:
    service = LabelerService(LabelerSettings())
    await service.start()
    server = GrpcServer()
    service.register(server.aio)
    address = await server.start("127.0.0.1:0", [service.SERVICE_NAME])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    path = Path(sys.argv[1])
    path.with_suffix(".part").write_text(address)
    path.with_suffix(".part").rename(path)
    await stop.wait()
    await server.stop(grace_seconds=0.0)
    await service.close()


if __name__ == "__main__":
    asyncio.run(main())
