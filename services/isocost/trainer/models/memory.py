"""What to do where the device has too little memory."""

from __future__ import annotations

import torch

from isocost.core.errors import FailedPreconditionError

__all__ = ["halves", "is_out_of_memory"]


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on CUDA or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def halves(rows: list[int]) -> list[list[int]]:
    """A batch cut in two, after what the failed attempt held was let go.

    Raises:
        FailedPreconditionError: where there is nothing left to cut.
    """
    if len(rows) == 1:
        raise FailedPreconditionError(
            "the device's memory does not hold a single example; shorten the few-shot block, or take a smaller base "
            "model or 4-bit weights",
            field="spec.base_model",
        )
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = (len(rows) + 1) // 2
    return [rows[:middle], rows[middle:]]
