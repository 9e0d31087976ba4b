"""An engine in this process: PyTorch and transformers, for where vLLM is not installed.

Legend: B prompts of one forward pass, T tokens of the longest of them, P different last positions, V vocabulary,
C classes.
"""

# ruff: noqa: N803, N806 - suffixes are shapes

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import inspect
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.labeler.adapter import Adapter
from isocost.labeler.engine import EngineStatus, Runner
from isocost.labeler.model_card import ModelCard
from isocost.labeler.pace import Pace
from isocost.labeler.settings import LabelerSettings
from isocost.v1 import labeler_service_pb2 as pb

__all__ = ["TransformersEngine"]

#: Bounds of one forward pass: logits_BPV of 16 prompts with a vocabulary of 150,000 take at most 154 MB.
_PROMPTS_PER_PASS = 16
_TOKENS_PER_PASS = 8192
#: What a stream hands over at a time, and how many may wait: there is one model, so more would only wait longer.
_PROMPTS_PER_CALL = 64
_CALLS = 2


class TransformersEngine:
    """Scores prompts with a model loaded here; `start` comes first.

    Args:
        card: The model.
        settings: The labeler's.
    """

    def __init__(self, card: ModelCard, settings: LabelerSettings) -> None:
        self._card = card
        self._settings = settings
        self._model: Any = None
        self._keeps_logits = False
        # One forward pass at a time, and none while the model is being dropped.
        self._lock = threading.Lock()
        self._fingerprint = ""
        # Adapters that were put on the model, by name.
        self._adapters: set[str] = set()
        self.pace = Pace(settings.prompts_per_request or _PROMPTS_PER_CALL, settings.requests_in_flight or _CALLS)

    @property
    def fingerprint(self) -> str:
        """Runner, versions and number format."""
        return self._fingerprint

    @property
    def knows_mass(self) -> bool:
        """Always: every logit is at hand."""
        return True

    @property
    def max_prompt_tokens(self) -> int:
        """Longest prompt that the model accepts."""
        return self._card.n_tokens_max

    @property
    def is_broken(self) -> bool:
        """Never: there is no server that could die."""
        return False

    async def start(self) -> None:
        """Loads the model.

        Raises:
            InvalidArgumentError: its weights cannot be loaded.
        """
        await asyncio.to_thread(self._load)

    async def status(self) -> EngineStatus:
        """Its adapters and pace."""
        return EngineStatus(
            scoring=pb.SCORING_CLASSIFY if self._card.runner is Runner.CLASSIFY else pb.SCORING_UNSPECIFIED,
            adapters=tuple(sorted(self._adapters)),
            prompts_per_request=self.pace.prompts_per_request,
            requests_in_flight=self.pace.requests_in_flight,
        )

    async def score(
        self, prompts: Sequence[Sequence[int]], token_ids: Sequence[int], adapter: Adapter | None = None
    ) -> list[tuple[float, ...]]:
        """As `Engine.score`."""
        async with self.pace.slot():
            return await asyncio.to_thread(self._score, prompts, token_ids, adapter)

    async def close(self) -> None:
        """Drops the model."""
        await asyncio.to_thread(self._drop)

    def _load(self) -> None:
        import torch  # noqa: PLC0415 - takes seconds
        import transformers  # noqa: PLC0415 - takes seconds

        # Its bars would stand among the campaign's own.
        transformers.utils.logging.disable_progress_bar()
        on_cuda = torch.cuda.is_available()
        name = self._settings.dtype
        if name == "auto":
            name = "bfloat16" if on_cuda else "float32"
        classifies = self._card.runner is Runner.CLASSIFY
        loader = transformers.AutoModelForSequenceClassification if classifies else transformers.AutoModelForCausalLM
        try:
            model = loader.from_pretrained(
                self._card.location, revision=self._card.revision or None, dtype=getattr(torch, name)
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InvalidArgumentError(
                "config.model", f"the weights of {self._card.name!r} cannot be loaded: {reason}"
            ) from None
        self._model = model.to("cuda" if on_cuda else "cpu").eval()
        self._keeps_logits = "logits_to_keep" in inspect.signature(self._model.forward).parameters
        version = importlib.metadata.version("transformers")
        device = "cuda" if on_cuda else "cpu"
        runner = self._card.runner.name.lower()
        self._fingerprint = f"{runner} transformers-{version} torch-{torch.__version__} {name} {device}"

    def _drop(self) -> None:
        with self._lock:
            self._model = None

    def _score(
        self, prompts: Sequence[Sequence[int]], token_ids: Sequence[int], adapter: Adapter | None
    ) -> list[tuple[float, ...]]:
        with self._lock:
            assert self._model is not None, "start() comes first and close() last"
            vocabulary_size = self._model.get_input_embeddings().num_embeddings
            scores: dict[int, tuple[float, ...]] = {}
            # Prompts of like length together: less padding.
            order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
            with self._adapted(adapter):
                for batch in _passes(order, [len(prompt) for prompt in prompts]):
                    chosen = [prompts[index] for index in batch]
                    if any(not prompt or max(prompt) >= vocabulary_size for prompt in chosen):
                        raise InvalidArgumentError("fields", "the prompt is empty or has a token that the model lacks")
                    scores.update(zip(batch, self._forward(chosen, token_ids), strict=True))
        return [scores[index] for index in range(len(prompts))]

    @contextlib.contextmanager
    def _adapted(self, adapter: Adapter | None) -> Iterator[None]:
        """The model with the adapter on top, or by itself."""
        if adapter is None:
            with self._model.disable_adapter() if self._adapters else contextlib.nullcontext():
                yield
            return
        try:
            import peft  # noqa: PLC0415 - an extra, takes seconds
        except ImportError:
            raise FailedPreconditionError(
                "an adapter needs peft, which is not installed; install isocost[labeler]", field="config.model"
            ) from None
        if not self._adapters:
            self._model = peft.PeftModel.from_pretrained(self._model, adapter.folder, adapter_name=adapter.name).eval()
        elif adapter.name not in self._adapters:
            self._model.load_adapter(adapter.folder, adapter_name=adapter.name)
        self._adapters.add(adapter.name)
        self._model.set_adapter(adapter.name)
        yield

    def _forward(self, prompts: Sequence[Sequence[int]], token_ids: Sequence[int]) -> list[tuple[float, ...]]:
        import torch  # noqa: PLC0415 - loaded by start()

        lengths_B = torch.tensor([len(prompt) for prompt in prompts])
        n_tokens = int(lengths_B.max())
        pad_id = self._pad_id(prompts)
        rows = [[*prompt, *[pad_id] * (n_tokens - len(prompt))] for prompt in prompts]
        device = self._model.device
        tokens_BT = torch.tensor(rows, device=device)
        mask_BT = (torch.arange(n_tokens) < lengths_B[:, None]).long().to(device)
        with torch.inference_mode():
            if self._card.runner is Runner.CLASSIFY:
                log_BC = self._model(input_ids=tokens_BT, attention_mask=mask_BT).logits.float().log_softmax(-1)
                return [tuple(row) for row in log_BC.double().tolist()]
            logits_BV = self._last_logits(tokens_BT, mask_BT, lengths_B.to(device) - 1)
            log_BV = logits_BV.float().log_softmax(-1)
            log_BC = log_BV[:, torch.tensor(list(token_ids), device=device)]
        return [tuple(row) for row in log_BC.double().tolist()]

    def _last_logits(self, tokens_BT: Any, mask_BT: Any, last_B: Any) -> Any:
        """Next-token logits after each prompt's last token, as logits_BV."""
        import torch  # noqa: PLC0415 - loaded by start()

        rows_B = torch.arange(len(last_B), device=last_B.device)
        if not self._keeps_logits:
            return self._model(input_ids=tokens_BT, attention_mask=mask_BT, use_cache=False).logits[rows_B, last_B]
        # Only the positions where some prompt ends: the vocabulary is much wider than the hidden state.
        positions_P, place_B = torch.unique(last_B, return_inverse=True)
        logits_BPV = self._model(
            input_ids=tokens_BT, attention_mask=mask_BT, use_cache=False, logits_to_keep=positions_P
        ).logits
        return logits_BPV[rows_B, place_B]

    def _pad_id(self, prompts: Sequence[Sequence[int]]) -> int:
        """A token id that no prompt has.

        Decoders with a classification head find the last token as the last one that is not `config.pad_token_id`,
        which is wrong where a prompt contains it and fails where it is not set.
        """
        used = {token for prompt in prompts for token in prompt}
        config = self._model.config
        if config.pad_token_id is None or config.pad_token_id in used:
            config.pad_token_id = next(token for token in range(len(used) + 1) if token not in used)
        return int(config.pad_token_id)


def _passes(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Cuts prompts, sorted by length, into forward passes within the bounds; one prompt always fits."""
    passes: list[list[int]] = []
    for index in order:
        last = passes[-1] if passes else None
        if last is None or len(last) >= _PROMPTS_PER_PASS or (len(last) + 1) * lengths[index] > _TOKENS_PER_PASS:
            passes.append([index])
        else:
            last.append(index)
    return passes
