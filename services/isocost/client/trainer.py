"""Client of the trainer service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Self

from isocost.client.call import batches, unary, unwrap_stream
from isocost.core.channel import ChannelSettings, open_channel
from isocost.resources.run import Example, Run, RunSpec
from isocost.v1 import trainer_service_pb2 as pb
from isocost.v1 import trainer_service_pb2_grpc

__all__ = ["TrainerClient"]


class TrainerClient:
    """Training runs over gRPC.

    Usage::

        async with TrainerClient("127.0.0.1:7603") as trainer:
            digest = await trainer.put_examples(examples)
            run = await trainer.create_run(spec)
            async for run in trainer.watch_run(run.run_id):
                print(run.progress)

    Every method raises `IsocostError` subclasses: `InvalidArgumentError`, `NotFoundError`, `UnavailableError`.
    """

    def __init__(self, address: str, *, channel: ChannelSettings | None = None) -> None:
        self._channel = open_channel(address, channel)
        self._stub = trainer_service_pb2_grpc.TrainerServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def put_examples(self, examples: Iterable[Example]) -> str:
        """Stores an ordered list of examples; returns the digest that names it in a `RunSpec`."""

        async def requests() -> AsyncIterator[pb.PutExamplesRequest]:
            for batch in batches(examples):
                yield pb.PutExamplesRequest(examples=[example.to_proto() for example in batch])

        return (await unary(self._stub.PutExamples(requests()))).digest

    async def create_run(self, spec: RunSpec) -> Run:
        """Queues a run, or returns the one of the same specification that exists."""
        return Run.from_proto((await unary(self._stub.CreateRun(pb.CreateRunRequest(spec=spec.to_proto())))).run)

    async def get_run(self, run_id: str) -> Run:
        """Reads a run."""
        return Run.from_proto((await unary(self._stub.GetRun(pb.GetRunRequest(run_id=run_id)))).run)

    async def watch_run(self, run_id: str) -> AsyncIterator[Run]:
        """Yields the run as it goes on; the last one is in its final state."""
        async for response in unwrap_stream(self._stub.WatchRun(pb.WatchRunRequest(run_id=run_id))):
            yield Run.from_proto(response.run)

    async def cancel_run(self, run_id: str) -> Run:
        """Cancels a run; finished stages stay."""
        return Run.from_proto((await unary(self._stub.CancelRun(pb.CancelRunRequest(run_id=run_id)))).run)
