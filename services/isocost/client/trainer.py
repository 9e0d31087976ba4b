"""Client of the trainer service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Self

from isocost.client.call import MESSAGE_BYTES, MESSAGE_ITEMS, batches, message_batches, unary, unwrap_stream
from isocost.core.channel import ChannelSettings, open_channel
from isocost.core.money import Money
from isocost.resources.observation import FrontierPoint
from isocost.resources.run import Example, Prediction, Run, RunSpec, SweepNews
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
            async for news in trainer.sweep(specs):
                print(news.n_succeeded, news.n_runs)

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

    async def sweep(self, specs: Iterable[RunSpec]) -> AsyncGenerator[SweepNews, None]:
        """Queues many runs and yields each as it ends, and how far all are, until all have ended.

        The same specification twice counts once. One that is refused is a failed run without an id, whose error says
        why; it stops no other. Runs go on where the caller stops listening; asked again, those that are done come at
        once.
        """
        # Made before the first is sent: specifications that the caller cannot make fail here, not within the call.
        messages = [spec.to_proto() for spec in specs]

        async def requests() -> AsyncIterator[pb.SweepRequest]:
            for batch in message_batches(messages, MESSAGE_ITEMS, MESSAGE_BYTES):
                yield pb.SweepRequest(specs=batch)

        async for response in unwrap_stream(self._stub.Sweep(requests())):
            yield SweepNews.from_proto(response)

    async def get_frontier(
        self, run_ids: Iterable[str], evaluation_set: str, weak_price: Money, human_price: Money
    ) -> list[FrontierPoint]:
        """The Pareto set of cost and accuracy over finished runs, cheapest first; seeds are averaged.

        Args:
            run_ids: Runs that did not succeed are left out.
            evaluation_set: Name of the evaluation set whose accuracy counts.
            weak_price, human_price: Of one label, in one currency.
        """
        request = pb.TrainerServiceGetFrontierRequest(
            run_ids=run_ids,
            evaluation_set=evaluation_set,
            weak_price=weak_price.to_proto(),
            human_price=human_price.to_proto(),
        )
        response = await unary(self._stub.GetFrontier(request))
        return [FrontierPoint.from_proto(point) for point in response.points]

    async def predictions(self, run_id: str, evaluation_set: str) -> AsyncIterator[Prediction]:
        """Yields a finished run's predictions for one of its evaluation sets, in the set's sequence."""
        request = pb.GetPredictionsRequest(run_id=run_id, evaluation_set=evaluation_set)
        async for response in unwrap_stream(self._stub.GetPredictions(request)):
            for prediction in response.predictions:
                yield Prediction.from_proto(prediction)
