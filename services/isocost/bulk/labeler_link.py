"""A labeler to ask: one that runs already, or one in this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from isocost.client.labeler import LabelerClient
from isocost.core.channel import ChannelSettings
from isocost.core.environment import read_environment
from isocost.core.errors import IsocostError, UnavailableError
from isocost.core.grpc_server import ServiceHost
from isocost.core.logs import configure_logs

__all__ = ["LabelerPlace", "open_labeler"]

#: Of an embedded labeler, which shares its GPU with nothing else of ours.
_GPU_MEMORY_FRACTION = 0.9


@dataclass(frozen=True, slots=True)
class LabelerPlace:
    """Where the labeler is.

    Attributes:
        address: host:port of one that runs; None starts one in this process.
        channel: Token and encryption for `address`.
        state_dir: Folder of the embedded one's label store and logs; None for what `ISOCOST_LABELER_STATE_DIR` says,
            or `.isocost/labeler`.
    """

    address: str | None = None
    channel: ChannelSettings = field(default_factory=ChannelSettings)
    state_dir: Path | None = None


@contextlib.asynccontextmanager
async def open_labeler(place: LabelerPlace) -> AsyncIterator[LabelerClient]:
    """A client of the labeler; an embedded one ends with the block, and all its processes with it.

    Raises:
        UnavailableError: nobody answers at the address.
        FailedPreconditionError: the embedded one cannot start.
        InvalidArgumentError: an `ISOCOST_LABELER_*` variable is wrong.
    """
    if place.address is None:
        async with _embedded(place.state_dir) as address, LabelerClient(address) as client:
            yield client
        return
    async with LabelerClient(place.address, channel=place.channel) as client:
        try:
            await client.describe()
        except UnavailableError as error:
            raise UnavailableError(
                f"no labeler answers at {place.address} ({error.message}); start one with `isocost serve labeler`, "
                "or leave --address out to label in this process",
                field="--address",
            ) from None
        except IsocostError as error:
            raise type(error)(error.message, field="--address") from None
        yield client


@contextlib.asynccontextmanager
async def _embedded(state_dir: Path | None) -> AsyncIterator[str]:
    """Serves a labeler on a free port; yields its address."""
    from isocost.labeler.service import LabelerService  # noqa: PLC0415 - not where one runs elsewhere
    from isocost.labeler.settings import LabelerSettings  # noqa: PLC0415

    settings = read_environment(LabelerSettings)
    changed: dict[str, object] = {} if state_dir is None else {"state_dir": state_dir}
    if "gpu_memory_fraction" not in settings.model_fields_set:
        changed["gpu_memory_fraction"] = _GPU_MEMORY_FRACTION
    settings = settings.model_copy(update=changed)
    async with contextlib.AsyncExitStack() as stack:
        service = LabelerService(settings)
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        # On the terminal its lines would stand among the job's own.
        log = stack.enter_context((settings.state_dir / "isocost.log").open("a", encoding="utf-8", buffering=1))
        configure_logs(log)
        stack.callback(structlog.reset_defaults)
        host = await stack.enter_async_context(ServiceHost(service, "127.0.0.1:0"))
        yield host.address
