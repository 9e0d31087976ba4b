"""Muon: momentum whose update is made orthogonal (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

`torch.optim.Muon` computes in bfloat16, which is many times slower than float32 on CPUs without bfloat16
units; this one stays in float32 and treats all matrices of one shape together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

__all__ = ["Muon", "orthogonalised"]


def orthogonalised(matrices: torch.Tensor, num_iterations: int = 5) -> torch.Tensor:
    """Replace the singular values of each matrix by values near 1 (quintic Newton-Schulz iteration).

    Takes and returns shape (matrices, rows, columns).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(num_iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: torch.Tensor = x.mT if is_tall else x
    return result


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum; its updates are as large as AdamW's (root mean square 0.2 x rate)."""

    def __init__(
        self,
        matrices: Iterable[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        """Optimise two-dimensional parameters; `lr` and `weight_decay` mean what they mean in AdamW."""
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape.setdefault(matrix.shape, []).append(matrix)
            for matrices in by_shape.values():
                self._step_together(matrices, group["lr"], group["momentum"], group["weight_decay"])

    def _step_together(
        self, matrices: list[torch.nn.Parameter], lr: float, momentum: float, weight_decay: float
    ) -> None:
        """Update matrices of one shape."""
        directions = []
        for matrix in matrices:
            assert matrix.grad is not None
            velocity = self.state[matrix].setdefault("velocity", torch.zeros_like(matrix))
            velocity.lerp_(matrix.grad, 1 - momentum)
            directions.append(matrix.grad.lerp(velocity, momentum))
        scale = 0.2 * max(matrices[0].shape) ** 0.5
        for matrix, update in zip(matrices, orthogonalised(torch.stack(directions)), strict=True):
            matrix.mul_(1 - lr * weight_decay).add_(update, alpha=-lr * scale)
