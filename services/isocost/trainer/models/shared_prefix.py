"""Keys and values of the tokens that all prompts of a batch begin with, computed once instead of once a prompt.

With a few-shot block of P tokens before items of S tokens, a batch of B prompts costs P + B S tokens instead of
B (P + S), with gradients as without: what flows back into the block's keys and values is the sum over the batch, so
every weight gets the gradient that it would get from whole prompts.

Legend of the shape suffixes: b examples of a batch, p tokens of the shared beginning, t tokens behind it.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

__all__ = ["PrefixStates", "compute_prefix", "prefix_arguments", "takes_prefix"]


@dataclass(frozen=True, slots=True)
class PrefixStates:
    """Keys and values of each layer, [1, heads, P, width], and P."""

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    n_tokens: int

    def cache(self, n_examples: int) -> DynamicCache:
        """A cache for a batch of B, that begins with these: views, copied only where a layer appends to them."""
        cache = DynamicCache()
        for keys, values in self.layers:
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            layer.keys = keys.expand(n_examples, -1, -1, -1)
            layer.values = values.expand(n_examples, -1, -1, -1)
            cache.layers.append(layer)
        return cache


def takes_prefix(model: Any) -> bool:
    """Whether a model's forward pass can go on from keys and values at given positions."""
    accepted = inspect.signature(model.forward).parameters
    return {"past_key_values", "position_ids", "use_cache"} <= accepted.keys()


def compute_prefix(model: Any, prefix_ids_1p: torch.Tensor, **extra: Any) -> PrefixStates | None:
    """The states of the beginning [1, P]; None where the model keeps something else than plain keys and values
    (sliding windows, recurrent layers)."""
    cache = model(input_ids=prefix_ids_1p, use_cache=True, **extra).past_key_values
    if not isinstance(cache, DynamicCache) or not all(type(layer) is DynamicLayer for layer in cache.layers):
        return None
    return PrefixStates(tuple((layer.keys, layer.values) for layer in cache.layers), prefix_ids_1p.shape[1])


def prefix_arguments(prefix: PrefixStates, input_ids_bt: torch.Tensor, mask_bt: torch.Tensor | None) -> dict[str, Any]:
    """What the forward pass is given beside the tokens [B, T] behind the beginning: cache, mask and positions."""
    if mask_bt is None:
        mask_bt = torch.ones_like(input_ids_bt)
    whole_mask = torch.cat([mask_bt.new_ones(len(mask_bt), prefix.n_tokens), mask_bt], dim=1)
    return {
        "past_key_values": prefix.cache(len(input_ids_bt)),
        "use_cache": True,
        "attention_mask": whole_mask,
        "position_ids": prefix.n_tokens + (mask_bt.cumsum(-1) - 1).clamp(min=0),
    }
