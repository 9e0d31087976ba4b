"""Client of the labeler service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Self

from isocost.client.call import batches, unary, unwrap_stream
from isocost.core.channel import ChannelSettings, open_channel
from isocost.resources.label import ItemErrorReason, Label
from isocost.resources.task import Item, Task
from isocost.tasks.prompt import FewShotExample
from isocost.v1 import labeler_service_pb2 as pb
from isocost.v1 import labeler_service_pb2_grpc

__all__ = [
    "ItemErrorReason",
    "LabelResult",
    "LabelerClient",
    "LabelerDescription",
    "Runner",
    "Scoring",
    "ServedModel",
]

Runner = Literal["generate", "classify"]


@dataclass(frozen=True, slots=True)
class LabelResult:
    """A label, or the error that the item met.

    Attributes:
        item_id: The item.
        label: Its label; None where it has an error.
        stored: Whether the label was made earlier.
        error: Why it has none; "" where it has one.
        error_reason: What kind of error it is; None where it has a label.
    """

    item_id: str
    label: Label | None
    stored: bool
    error: str
    error_reason: ItemErrorReason | None = None


class Scoring(Enum):
    """How the choices' probabilities are read from a server."""

    IN_PROCESS = pb.SCORING_UNSPECIFIED
    LOGPROB_TOKEN_IDS = pb.SCORING_LOGPROB_TOKEN_IDS
    GENERATIVE = pb.SCORING_GENERATIVE
    ALLOWED_TOKEN_IDS = pb.SCORING_ALLOWED_TOKEN_IDS
    CLASSIFY = pb.SCORING_CLASSIFY


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that is loaded now.

    Attributes:
        model: Folder or hub name.
        runner: How it is asked.
        engine_fingerprint: Model, engine and versions.
        scoring: How probabilities are read from its server, as a probe found out.
        adapters: LoRA adapters loaded on it, by the names they are served under.
        prompts_per_request, requests_in_flight: What its server is driven with now.
        prompt_tokens: Asked of its server since that was started, by the server's metrics; 0 where it has none.
        cached_prompt_tokens: Of these, what came from its prefix cache.
        n_restarts: Times that its server died and was started again.
        circuit_open: Whether calls to its server are refused for a while.
    """

    model: str
    runner: Runner
    engine_fingerprint: str
    scoring: Scoring = Scoring.IN_PROCESS
    adapters: tuple[str, ...] = ()
    prompts_per_request: int = 0
    requests_in_flight: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    n_restarts: int = 0
    circuit_open: bool = False

    @property
    def prefix_cache_hit_rate(self) -> float | None:
        """Share of the prompt tokens that were not computed, 0 to 1; None where the server does not tell."""
        return self.cached_prompt_tokens / self.prompt_tokens if self.prompt_tokens else None

    @classmethod
    def from_proto(cls, message: pb.ServedModel) -> ServedModel:
        """Converts from the wire."""
        return cls(
            model=message.model,
            runner="classify" if message.runner == pb.RUNNER_CLASSIFY else "generate",
            engine_fingerprint=message.engine_fingerprint,
            scoring=Scoring(message.scoring),
            adapters=tuple(message.adapters),
            prompts_per_request=message.prompts_per_request,
            requests_in_flight=message.requests_in_flight,
            prompt_tokens=message.prompt_tokens,
            cached_prompt_tokens=message.cached_prompt_tokens,
            n_restarts=message.n_restarts,
            circuit_open=message.circuit_open,
        )


@dataclass(frozen=True, slots=True)
class LabelerDescription:
    """What a labeler is."""

    engine: str
    engine_version: str
    served_models: tuple[ServedModel, ...]
    n_stored_labels: int


def _result(message: pb.LabelResult) -> LabelResult:
    if message.error:
        reason = ItemErrorReason(message.error_reason) if message.error_reason else None
        return LabelResult(message.item_id, None, False, message.error, reason)
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
        served = tuple(ServedModel.from_proto(model) for model in response.served_models)
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
