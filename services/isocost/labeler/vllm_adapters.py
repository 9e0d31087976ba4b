"""The LoRA adapters on one vLLM server: loaded when first asked for, each under a name of its own content."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from pathlib import Path
from typing import Any

import structlog

from isocost.core.errors import FailedPreconditionError
from isocost.labeler.adapter import Adapter
from isocost.labeler.vllm_http import RefusedError, VllmHttp

__all__ = ["ADAPTERS_MAX", "ServerAdapters"]

_log = structlog.get_logger(__name__)

#: Adapters kept loaded; one more takes the place of the least recently used.
ADAPTERS_MAX = 16


class ServerAdapters:
    """What is loaded on a server.

    Args:
        http: The server.
        base_name: The name under which it serves the base model.
        served: The server's `/v1/models`.
    """

    def __init__(self, http: VllmHttp, base_name: str, served: list[dict[str, Any]]) -> None:
        self._http = http
        self._base_name = base_name
        self._given = {str(entry["id"]) for entry in served if entry.get("parent")}
        # Those that were loaded here, the least recently used first.
        self._loaded: OrderedDict[str, Path] = OrderedDict()
        self._identity: str | None = None
        self._loading = asyncio.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the adapters that are loaded; those that stand for the base model are not counted."""
        return tuple(sorted((self._given | self._loaded.keys()) - {self._identity}))

    @property
    def base_name(self) -> str:
        """The name to ask the base model under: once adapters are loaded, that of one that changes nothing.

        On the CPU, vLLM answers a base-model request that stands in a batch with an adapter's with wrong numbers, which
        also stay in its prefix cache.
        """
        if self._identity is None and self._given:
            _log.warning(
                "base_beside_adapters", url=self._http.url, reason="adapters were loaded by others; see docs/labeler.md"
            )
        return self._identity or self._base_name

    async def name_of(self, adapter: Adapter) -> str:
        """The name under which the server has the adapter; loads it where it is not there.

        Raises:
            FailedPreconditionError: the server does not load adapters, or not this one.
            TransientError: it does not answer.
        """
        if adapter.name not in self._loaded and adapter.name not in self._given:
            async with self._loading:
                if self._identity is None:
                    # First: from the first adapter on, the base model must not be asked under its own name.
                    await self._load(adapter.identity_name, adapter.identity_folder)
                    self._identity = adapter.identity_name
                if adapter.name not in self._loaded:
                    await self._load(adapter.name, adapter.folder)
                    await self._unload_some()
        if adapter.name in self._loaded:
            self._loaded.move_to_end(adapter.name)
        return adapter.name

    async def _load(self, name: str, folder: Path) -> None:
        try:
            await self._http.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
        except RefusedError as error:
            # Loaded by another labeler, or before this one was started anew.
            if error.status == 400 and "already" in error.message:
                pass
            else:
                raise FailedPreconditionError(
                    f"the vLLM server at {self._http.url} does not load the adapter {str(folder)!r} ({error.message}); "
                    f"start it with --enable-lora, --max-lora-rank and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 where it can "
                    f"read that folder, or with --lora-modules {name}=FOLDER",
                    field="config.model",
                ) from None
        self._loaded[name] = folder
        _log.info("adapter_loaded", url=self._http.url, name=name)

    async def _unload_some(self) -> None:
        others = [name for name in self._loaded if name != self._identity]
        for name in others[: max(0, len(others) - ADAPTERS_MAX)]:
            del self._loaded[name]
            try:
                await self._http.post("/v1/unload_lora_adapter", {"lora_name": name})
            except RefusedError as error:
                _log.warning("adapter_not_unloaded", url=self._http.url, name=name, reason=error.message)
