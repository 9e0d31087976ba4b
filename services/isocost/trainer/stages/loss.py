"""Losses of a stage. Legend of the shape suffixes: b examples of a batch, c choices."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment

from isocost.resources.method import Recipe

__all__ = ["confidence_share", "harden", "soft_cross_entropy", "stage_loss"]


def soft_cross_entropy(logits_bc: torch.Tensor, targets_bc: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of minus the expected log-probability under the label's distribution, in nats."""
    return -(targets_bc * torch.log_softmax(logits_bc, dim=-1)).sum(dim=-1).mean()


def confidence_share(recipe: Recipe, step: int) -> float:
    """Share of the model's own hardened prediction in the target of a step (the first is 0): rises linearly to
    `log_confidence_weight` (Burns et al. 2023, section 4.3.2)."""
    if not recipe.log_confidence_warmup_steps:
        return recipe.log_confidence_weight
    return recipe.log_confidence_weight * min(1.0, step / recipe.log_confidence_warmup_steps)


def harden(logits_bc: torch.Tensor, targets_bc: torch.Tensor) -> torch.Tensor:
    """The model's predictions [B, C] made one-hot so that each choice is given as often as the batch's labels say.

    For two choices this is the threshold of Burns et al. (2023): the quantile of the model's probabilities at the
    labels' mean. For any number of choices, it is the assignment of the batch's examples to the choices' quotas with
    the highest total log-probability.
    """
    n_examples, n_choices = logits_bc.shape
    expected_c = targets_bc.double().sum(dim=0)
    quotas_c = expected_c.floor().long()
    # What rounding down leaves goes to the largest remainders.
    n_left = n_examples - int(quotas_c.sum())
    order_c = torch.argsort(expected_c - quotas_c, descending=True, stable=True)
    quotas_c[order_c[:n_left]] += 1
    slots_b = torch.repeat_interleave(torch.arange(n_choices, device=quotas_c.device), quotas_c)
    gain_bb = torch.log_softmax(logits_bc.detach().double(), dim=-1)[:, slots_b]
    rows, columns = linear_sum_assignment(gain_bb.cpu().numpy(), maximize=True)
    hard_bc = torch.zeros_like(targets_bc)
    hard_bc[torch.as_tensor(rows, device=hard_bc.device), slots_b[torch.as_tensor(columns, device=slots_b.device)]] = 1
    return hard_bc


def stage_loss(logits_bc: torch.Tensor, targets_bc: torch.Tensor, recipe: Recipe, step: int) -> torch.Tensor:
    """The loss of a step (the first is 0) in nats: cross-entropy to the labels, mixed with the model's own hardened
    predictions where the recipe has a log-confidence loss."""
    share = confidence_share(recipe, step)
    if share:
        targets_bc = (1 - share) * targets_bc + share * harden(logits_bc, targets_bc)
    return soft_cross_entropy(logits_bc, targets_bc)
