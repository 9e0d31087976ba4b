"""The gRPC face of the trainer: wire types in, wire types out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc

from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.core.money import Money
from isocost.resources.run import Example, RunSpec
from isocost.trainer.examples import ExampleListBuilder, ExampleStore
from isocost.trainer.operations import Operations
from isocost.trainer.results import frontier, prediction_batches
from isocost.trainer.settings import TrainerSettings
from isocost.trainer.storage import FolderLock, remove_leftovers
from isocost.trainer.sweep import Sweep
from isocost.v1 import trainer_service_pb2 as pb
from isocost.v1 import trainer_service_pb2_grpc

__all__ = ["SERVICE_NAME", "TrainerService"]

SERVICE_NAME = "isocost.v1.TrainerService"


class TrainerService(trainer_service_pb2_grpc.TrainerServiceServicer):
    """Serves `isocost.v1.TrainerService`.

    Usage::

        service = TrainerService(TrainerSettings(state_dir=folder))
        service.register(server.aio)
        await service.start()
        ...
        await service.close()
    """

    SERVICE_NAME = SERVICE_NAME

    def __init__(self, settings: TrainerSettings) -> None:
        self._settings = settings
        self._examples = ExampleStore(settings.state_dir.absolute() / "examples")
        self._open: Operations | None = None
        self._lock: FolderLock | None = None

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the service to a server that has not started."""
        trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Takes the state folder and begins to execute runs.

        Raises:
            FailedPreconditionError: where another trainer works in the folder, or Ray is asked for and not installed.
            UnavailableError: where the Ray cluster cannot be reached.
        """
        state_dir = self._settings.state_dir.absolute()
        self._lock = await asyncio.to_thread(FolderLock, state_dir)
        await asyncio.to_thread(remove_leftovers, state_dir)
        operations = Operations(self._settings, self._examples)
        try:
            await operations.start()
        except BaseException:
            await self.close()
            raise
        self._open = operations

    async def close(self) -> None:
        """Cancels what runs, between two steps, and lets go of the state folder."""
        if self._open is not None:
            await self._open.close()
            self._open = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def PutExamples(  # noqa: N802 - gRPC's name
        self,
        request_iterator: AsyncIterator[pb.PutExamplesRequest],
        _: grpc.aio.ServicerContext[pb.PutExamplesRequest, pb.PutExamplesResponse],
    ) -> pb.PutExamplesResponse:
        """Stores a list of examples."""
        builder = ExampleListBuilder(self._settings.n_examples_max)
        async for request in request_iterator:
            builder.extend([Example.from_proto(example) for example in request.examples])
        examples = builder.build()
        await self._operations.put_examples(examples)
        return pb.PutExamplesResponse(digest=examples.digest, n_examples=len(examples))

    async def CreateRun(  # noqa: N802 - gRPC's name
        self, request: pb.CreateRunRequest, _: grpc.aio.ServicerContext[pb.CreateRunRequest, pb.CreateRunResponse]
    ) -> pb.CreateRunResponse:
        """Queues a run, or returns the one that exists."""
        run = await self._operations.create(RunSpec.from_proto(request.spec))
        return pb.CreateRunResponse(run=run.to_proto())

    async def GetRun(  # noqa: N802 - gRPC's name
        self, request: pb.GetRunRequest, _: grpc.aio.ServicerContext[pb.GetRunRequest, pb.GetRunResponse]
    ) -> pb.GetRunResponse:
        """Reads a run."""
        return pb.GetRunResponse(run=(await self._operations.get(request.run_id)).to_proto())

    async def WatchRun(  # noqa: N802 - gRPC's name
        self, request: pb.WatchRunRequest, _: grpc.aio.ServicerContext[pb.WatchRunRequest, pb.WatchRunResponse]
    ) -> AsyncIterator[pb.WatchRunResponse]:
        """Streams a run until it ends."""
        async for run in self._operations.watch(request.run_id):
            yield pb.WatchRunResponse(run=run.to_proto())

    async def CancelRun(  # noqa: N802 - gRPC's name
        self, request: pb.CancelRunRequest, _: grpc.aio.ServicerContext[pb.CancelRunRequest, pb.CancelRunResponse]
    ) -> pb.CancelRunResponse:
        """Cancels a run."""
        return pb.CancelRunResponse(run=(await self._operations.cancel(request.run_id)).to_proto())

    async def Sweep(  # noqa: N802 - gRPC's name
        self,
        request_iterator: AsyncIterator[pb.SweepRequest],
        _: grpc.aio.ServicerContext[pb.SweepRequest, pb.SweepResponse],
    ) -> AsyncIterator[pb.SweepResponse]:
        """Queues many runs and streams each as it ends."""
        async with contextlib.aclosing(Sweep(self._operations).news(request_iterator)) as news:
            async for response in news:
                yield response

    async def GetFrontier(  # noqa: N802 - gRPC's name
        self,
        request: pb.TrainerServiceGetFrontierRequest,
        _: grpc.aio.ServicerContext[pb.TrainerServiceGetFrontierRequest, pb.TrainerServiceGetFrontierResponse],
    ) -> pb.TrainerServiceGetFrontierResponse:
        """The Pareto set over finished runs."""
        for name in ("weak_price", "human_price"):
            if not request.HasField(name):
                raise InvalidArgumentError(name, "not set; give the price of one label")
        points = frontier(
            [await self._operations.get(run_id) for run_id in request.run_ids],
            request.evaluation_set,
            Money.from_proto(request.weak_price),
            Money.from_proto(request.human_price),
        )
        return pb.TrainerServiceGetFrontierResponse(points=[point.to_proto() for point in points])

    async def GetPredictions(  # noqa: N802 - gRPC's name
        self,
        request: pb.GetPredictionsRequest,
        _: grpc.aio.ServicerContext[pb.GetPredictionsRequest, pb.GetPredictionsResponse],
    ) -> AsyncIterator[pb.GetPredictionsResponse]:
        """Streams a run's predictions for one evaluation set."""
        run = await self._operations.get(request.run_id)
        runs_dir = self._settings.state_dir.absolute() / "runs"
        batches = prediction_batches(runs_dir, run, request.evaluation_set)
        while batch := await asyncio.to_thread(next, batches, None):
            yield pb.GetPredictionsResponse(predictions=[prediction.to_proto() for prediction in batch])

    @property
    def _operations(self) -> Operations:
        if self._open is None:
            raise FailedPreconditionError("the trainer is not started, or is stopping; try again when it is back")
        return self._open
