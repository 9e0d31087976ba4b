"""Pooled features of texts, computed once for each text and kept on disk, for heads trained on them.

Legend of the shape suffixes: n texts, b texts of a batch, t tokens, d width of the features.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

from isocost.trainer.models.base_model import BaseModel
from isocost.trainer.models.classifier import loading
from isocost.trainer.models.inputs import TokenInputs
from isocost.trainer.models.prediction import Cancelled, batches_by_length, on_device
from isocost.trainer.storage import write_file

__all__ = ["FeatureStore", "pool"]

#: Texts computed before they are written; so much is lost at most when the process is killed.
_PART_TEXTS = 2048


def pool(hidden_btd: torch.Tensor, mask_bt: torch.Tensor, *, is_encoder: bool) -> torch.Tensor:
    """Features [B, D] of the last hidden states: the mean over a text's tokens (encoders) or its last token (decoders,
    where only that one has seen the whole text), scaled to a root mean square of 1.

    Up to the constant sqrt(D), this is the unit length that sentence encoders are trained with; with values of the size
    of 1 a head learns at the same rates as other layers.
    """
    hidden_btd = hidden_btd.float()
    if is_encoder:
        weights_bt1 = mask_bt.unsqueeze(-1).float()
        pooled_bd = (hidden_btd * weights_bt1).sum(dim=1) / weights_bt1.sum(dim=1)
    else:
        last_b = mask_bt.sum(dim=1) - 1
        pooled_bd = hidden_btd[torch.arange(len(hidden_btd), device=hidden_btd.device), last_b]
    scale = math.sqrt(pooled_bd.shape[-1])
    return torch.nn.functional.normalize(pooled_bd, dim=-1) * scale


class FeatureStore:
    """Features of one base model by the digest of the text's tokens; only texts not met before are computed.

    Args:
        folder: Of this base model's features alone.
        base: Says how features are pooled.
        model_folder: The weights; differs from the base's own folder where layers are left out.
        pad_id: Fills gaps in a batch.
        device: Where the model runs; in bf16 on CUDA.
        batch_tokens: Tokens of one forward pass.
    """

    def __init__(
        self, folder: Path, base: BaseModel, model_folder: Path, pad_id: int, device: torch.device, batch_tokens: int
    ) -> None:
        self._folder = folder
        self._base = base
        self._model_folder = model_folder
        self._pad_id = pad_id
        self._device = device
        self._batch_tokens = batch_tokens
        self._model: Any = None
        self._features: dict[str, npt.NDArray[np.float32]] = {}
        #: Texts that were computed rather than read.
        self.n_computed = 0
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as part:
                self._features.update(zip(part["digests"].tolist(), part["features"], strict=True))

    @property
    def description(self) -> dict[str, Any]:
        """What the features are, for whoever uses a head trained on them."""
        return {
            "pooling": "mean" if self._base.is_encoder else "last_token",
            "scaling": "root_mean_square_1",
            "base_model": str(self._model_folder),
            "base_digest": self._base.digest,
        }

    def features(
        self, tokens: Sequence[Sequence[int]], is_cancelled: Callable[[], bool] = lambda: False
    ) -> npt.NDArray[np.float32]:
        """Features [N, D] of N texts given as token ids.

        Raises:
            Cancelled: where `is_cancelled` turned true between two batches; parts that are finished stay.
        """
        digests = [hashlib.sha256(np.asarray(ids, dtype=np.int64).tobytes()).hexdigest()[:32] for ids in tokens]
        missing = {digest: ids for digest, ids in zip(digests, tokens, strict=True) if digest not in self._features}
        names = list(missing)
        for start in range(0, len(names), _PART_TEXTS):
            part = names[start : start + _PART_TEXTS]
            features_nd = self._compute([missing[name] for name in part], is_cancelled)
            self._write(part, features_nd)
            self._features.update(zip(part, features_nd, strict=True))
            self.n_computed += len(part)
        return np.stack([self._features[digest] for digest in digests])

    @torch.inference_mode()
    def _compute(self, tokens: Sequence[Sequence[int]], is_cancelled: Callable[[], bool]) -> npt.NDArray[np.float32]:
        if self._model is None:
            dtype = torch.bfloat16 if self._device.type == "cuda" else torch.float32
            with loading(self._model_folder):
                self._model = transformers.AutoModel.from_pretrained(self._model_folder, dtype=dtype)
            self._model.to(self._device).eval()
        inputs = TokenInputs(tokens, self._pad_id, pad_left=False)
        rows: list[int] = []
        parts = []
        for batch_rows in batches_by_length(inputs.lengths_n, self._batch_tokens):
            if is_cancelled():
                raise Cancelled
            batch = on_device(inputs.batch(batch_rows), self._device)
            mask_bt = batch.get("attention_mask")
            if mask_bt is None:
                mask_bt = torch.ones_like(batch["input_ids"])
            hidden_btd = self._model(input_ids=batch["input_ids"], attention_mask=mask_bt).last_hidden_state
            parts.append(pool(hidden_btd, mask_bt, is_encoder=self._base.is_encoder).cpu().numpy())
            rows += batch_rows
        ordered_nd = np.empty((len(tokens), parts[0].shape[-1]), dtype=np.float32)
        ordered_nd[rows] = np.concatenate(parts)
        return ordered_nd

    def _write(self, digests: list[str], features_nd: npt.NDArray[np.float32]) -> None:
        buffer = BytesIO()
        np.savez(buffer, digests=np.array(digests), features=features_nd)
        # Named by its content: a part written again is the same file.
        name = hashlib.sha256("".join(digests).encode()).hexdigest()[:32]
        write_file(self._folder / f"{name}.npz", buffer.getvalue())
