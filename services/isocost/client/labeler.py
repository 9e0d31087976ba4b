"""Client of the labeler service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from isocost.client.call import batches, unary, unwrap_stream
from isocost.core.channel import ChannelSettings, open_channel
from isocost.resources.label import Label
from isocost.resources.task import Item, Task
from isocost.tasks.prompt import FewShotExample
from isocost.v1 import labeler_service_pb2 as pb
from isocost.v1 import labeler_service_pb2_grpc

__all__ = ["LabelResult", "LabelerClient", "LabelerDescription", "Runner", "ServedModel"]

Runner = Literal["generate", "classify"]


@dataclass(frozen=True, slots=True)
class LabelResult:
    """A label, or the error that the item met; stored is True where the label was made earlier."""

    item_id: str
    label: Label | None
    stored: bool
    error: str


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that is loaded now."""

    model: str
    runner: Runner
    engine_fingerprint: str


@dataclass(frozen=True, slots=True)
class LabelerDescription:
    """What a labeler is."""

    engine: str
    engine_version: str
    served_models: tuple[ServedModel, ...]
    n_stored_labels: int


def _result(message: pb.LabelResult) -> LabelResult:
    if message.error:
        return LabelResult(message.item_id, None, False, message.error)
    label = Label(
        item_id=message.item_id,
        probabilities=tuple(message.probabilities),
        engine_fingerprint=message.engine_fingerprint,
        prompt_tokens=message.prompt_tokens,
        choices_mass=message.choices_mass,
    )
    return LabelResult(message.item_id, label, message.stored, "")


class LabelerClient:
    """Weak labels and few-shot predictions over gRPC.

    Usage::

        async with LabelerClient("127.0.0.1:7602") as labeler:
            async for result in labeler.label(items, task, model="Qwen/Qwen2.5-0.5B"):
                ...

    Every method raises `IsocostError` subclasses: `InvalidArgumentError`, `UnavailableError`.
    """

    def __init__(self, address: str, *, channel: ChannelSettings | None = None) -> None:
        self._channel = open_channel(address, channel)
        self._stub = labeler_service_pb2_grpc.LabelerServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def label(
        self,
        items: Iterable[Item],
        task: Task,
        *,
        model: str,
        runner: Runner = "generate",
        few_shot_examples: Sequence[FewShotExample] = (),
    ) -> AsyncIterator[LabelResult]:
        """Weak labels, in any order, exactly one result for each item; made labels are stored and never made twice."""

        async def requests() -> AsyncIterator[pb.LabelRequest]:
            yield pb.LabelRequest(config=_config(task, model, runner, few_shot_examples))
            for batch in batches(items):
                yield pb.LabelRequest(batch=pb.ItemBatch(items=[item.to_proto() for item in batch]))

        async for response in unwrap_stream(self._stub.Label(requests())):
            for result in response.results:
                yield _result(result)

    async def predict(
        self,
        items: Iterable[Item],
        task: Task,
        *,
        model: str,
        runner: Runner = "generate",
        few_shot_examples: Sequence[FewShotExample] = (),
    ) -> AsyncIterator[LabelResult]:
        """Predictions: as `label`, but computed anew and not stored."""

        async def requests() -> AsyncIterator[pb.PredictRequest]:
            yield pb.PredictRequest(config=_config(task, model, runner, few_shot_examples))
            for batch in batches(items):
                yield pb.PredictRequest(batch=pb.ItemBatch(items=[item.to_proto() for item in batch]))

        async for response in unwrap_stream(self._stub.Predict(requests())):
            for result in response.results:
                yield _result(result)

    async def describe(self) -> LabelerDescription:
        """What this labeler is: engine, versions, models loaded, labels stored."""
        response = await unary(self._stub.Describe(pb.DescribeRequest()))
        served = tuple(
            ServedModel(
                model.model,
                "classify" if model.runner == pb.RUNNER_CLASSIFY else "generate",
                model.engine_fingerprint,
            )
            for model in response.served_models
        )
        return LabelerDescription(response.engine, response.engine_version, served, response.n_stored_labels)


def _config(task: Task, model: str, runner: Runner, few_shot_examples: Sequence[FewShotExample]) -> pb.LabelerConfig:
    return pb.LabelerConfig(
        model=model,
        runner=pb.RUNNER_CLASSIFY if runner == "classify" else pb.RUNNER_GENERATE,
        task=task.to_proto(),
        few_shot_examples=[
            pb.FewShotExample(fields=example.fields, choice=example.choice) for example in few_shot_examples
        ],
    )
