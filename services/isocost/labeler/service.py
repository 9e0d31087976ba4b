"""The labeler service on the wire."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, replace
from typing import TypeVar

import grpc
import structlog

from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.labeler.engine import Engine
from isocost.labeler.engine_pool import EnginePool
from isocost.labeler.labelling import Answer, ItemError, Labelling, WorkInProgress
from isocost.labeler.model_card import ModelCard, ModelCatalog
from isocost.labeler.pace import Pace
from isocost.labeler.question import Question, Request
from isocost.labeler.settings import LabelerSettings
from isocost.labeler.store import LabelStore
from isocost.labeler.tally import Tally, make_collector
from isocost.labeler.transformers_engine import TransformersEngine
from isocost.labeler.vllm_engine import VllmEngine
from isocost.labeler.vllm_process import vllm_version
from isocost.resources.label import ItemErrorReason
from isocost.resources.task import Item
from isocost.v1 import labeler_service_pb2 as pb
from isocost.v1 import labeler_service_pb2_grpc

__all__ = ["BATCH_ITEMS_MAX", "SERVICE_NAME", "LabelerService"]

SERVICE_NAME = "isocost.v1.LabelerService"
#: Items in one message of a stream.
BATCH_ITEMS_MAX = 10_000
#: How long work that streams left behind may take when the labeler stops.
_LEFT_WORK_SECONDS = 10.0

_log = structlog.get_logger(__name__)
_StreamRequest = TypeVar("_StreamRequest", pb.LabelRequest, pb.PredictRequest)


class LabelerService(labeler_service_pb2_grpc.LabelerServiceServicer):
    """Weak labels and few-shot predictions.

    Usage::

        service = LabelerService(LabelerSettings(state_dir=folder))
        await service.start()
        service.register(server.aio)
        ...
        await service.close()  # after the server: ends vLLM
    """

    SERVICE_NAME = SERVICE_NAME

    def __init__(self, settings: LabelerSettings) -> None:
        self._settings = settings
        self._store = LabelStore(settings.state_dir / "labels.sqlite")
        self._catalog = ModelCatalog(settings.max_model_len, settings.state_dir)
        self._uses_vllm = settings.engine == "vllm" or (
            settings.engine == "auto" and (bool(settings.vllm_url) or vllm_version() is not None)
        )
        starts_servers = self._uses_vllm and not settings.vllm_url
        self._pool = EnginePool(self._make_engine, settings.engines_max, any_rank=not starts_servers)
        self._work = WorkInProgress()
        self._tally = Tally()
        collector = make_collector(self._tally)
        #: What Prometheus is shown.
        self.collectors = () if collector is None else (collector,)

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the service to a server."""
        labeler_service_pb2_grpc.add_LabelerServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Opens the label store; models are loaded when they are first asked.

        Raises:
            FailedPreconditionError: vLLM is wanted but not installed, or the store cannot be used.
        """
        if self._uses_vllm and not self._settings.vllm_url and vllm_version() is None:
            raise FailedPreconditionError(
                "vLLM is not installed; install isocost[vllm] (or vllm on a GPU machine), give vllm_url, or use "
                "engine transformers",
                field="engine",
            )
        await self._store.open()

    async def close(self) -> None:
        """Ends engines with all their processes, and closes the store; what streams left behind is stored first."""
        await self._work.close(_LEFT_WORK_SECONDS)
        await self._pool.close()
        await self._store.close()

    async def Label(  # noqa: N802 - the wire's name
        self,
        request_iterator: AsyncIterator[pb.LabelRequest],
        context: grpc.aio.ServicerContext[pb.LabelRequest, pb.LabelResponse],  # noqa: ARG002
    ) -> AsyncIterator[pb.LabelResponse]:
        """Weak labels; see the proto."""
        async for results in self._answer(request_iterator, self._store):
            yield pb.LabelResponse(results=results)

    async def Predict(  # noqa: N802 - the wire's name
        self,
        request_iterator: AsyncIterator[pb.PredictRequest],
        context: grpc.aio.ServicerContext[pb.PredictRequest, pb.PredictResponse],  # noqa: ARG002
    ) -> AsyncIterator[pb.PredictResponse]:
        """Predictions; see the proto."""
        async for results in self._answer(request_iterator, None):
            yield pb.PredictResponse(results=results)

    async def Describe(  # noqa: N802 - the wire's name
        self,
        request: pb.DescribeRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[pb.DescribeRequest, pb.DescribeResponse],  # noqa: ARG002
    ) -> pb.DescribeResponse:
        """What this labeler is; see the proto."""
        served = [await _served_model(card, engine) for card, engine in self._pool.loaded()]
        if self._uses_vllm:
            engine, version = "vllm", vllm_version() or "remote"
        else:
            engine, version = "transformers", importlib.metadata.version("transformers")
        return pb.DescribeResponse(
            engine=engine,
            engine_version=version,
            served_models=served,
            n_stored_labels=await self._store.count(),
        )

    async def _answer(
        self, requests: AsyncIterator[_StreamRequest], store: LabelStore | None
    ) -> AsyncIterator[list[pb.LabelResult]]:
        request = await _first_message(requests)
        card = await self._catalog.find(request.model, request.runner)
        pace = Pace(self._settings.prompts_per_request, self._settings.requests_in_flight)
        labelling = Labelling(Question(request, card), self._pool, store, self._work, self._tally, pace)
        # Closed at once, not by the garbage collector: that cancels the work and gives the engine back.
        async with contextlib.aclosing(labelling.run(_batches(requests))) as parts:
            async for answers in parts:
                yield [_result(answer) for answer in answers]

    async def _make_engine(self, card: ModelCard) -> Engine:
        engine = VllmEngine(card, self._settings) if self._uses_vllm else TransformersEngine(card, self._settings)
        await engine.start()
        _log.info("engine_ready", model=card.location, engine=engine.fingerprint)
        return engine


async def _first_message(requests: AsyncIterator[_StreamRequest]) -> Request:
    """The configuration at the head of a stream."""
    first = await anext(requests, None)
    if first is None or first.WhichOneof("payload") != "config":
        raise InvalidArgumentError("config", "the first message of the stream must hold the configuration")
    return Request.from_proto(first.config)


async def _batches(requests: AsyncIterator[_StreamRequest]) -> AsyncIterator[Sequence[Item | Answer]]:
    """Batches of items; in the place of one that is malformed stands its refusal."""
    async for request in requests:
        if request.WhichOneof("payload") != "batch":
            raise InvalidArgumentError("batch", "every message after the first must hold a batch of items")
        if len(request.batch.items) > BATCH_ITEMS_MAX:
            raise InvalidArgumentError(
                "batch.items", f"{len(request.batch.items)} items in one message; send at most {BATCH_ITEMS_MAX}"
            )
        elements: list[Item | Answer] = []
        for message in request.batch.items:
            try:
                elements.append(Item.from_proto(message))
            except InvalidArgumentError as error:
                refusal = ItemError(ItemErrorReason.INVALID_ITEM, str(error))
                elements.append(Answer(message.item_id, None, error=refusal))
        yield elements


async def _served_model(card: ModelCard, engine: Engine) -> pb.ServedModel:
    status = await engine.status()
    return pb.ServedModel(
        model=card.location if card.adapter else card.name,
        runner=card.runner.value,
        engine_fingerprint=f"{replace(card, adapter=None).fingerprint} {engine.fingerprint}",
        **asdict(status),
    )


def _result(answer: Answer) -> pb.LabelResult:
    if answer.label is None:
        error = answer.error
        assert error is not None, "an item has a label or an error"
        return pb.LabelResult(item_id=answer.item_id, error=error.message, error_reason=error.reason.value)
    return pb.LabelResult(
        item_id=answer.item_id,
        probabilities=answer.label.probabilities,
        choices_mass=answer.label.choices_mass,
        prompt_tokens=answer.label.prompt_tokens,
        engine_fingerprint=answer.label.engine_fingerprint,
        stored=answer.stored,
    )
