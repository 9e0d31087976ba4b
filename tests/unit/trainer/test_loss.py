"""The losses, against the published formulas."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isocost.resources.method import Recipe
from isocost.trainer.stages.loss import confidence_share, harden, soft_cross_entropy, stage_loss


def _burns(logits: torch.Tensor, labels: torch.Tensor, share: float) -> torch.Tensor:
    """Burns et al. (2023), `logconf_loss_fn` for two classes, after the published description."""
    predictions = torch.softmax(logits, dim=-1)
    prior = labels.mean(dim=0)
    threshold = torch.quantile(predictions[:, 0], prior[1])
    hard = torch.stack([predictions[:, 0] >= threshold, predictions[:, 0] < threshold], dim=1).float()
    target = labels * (1 - share) + hard * share
    return torch.nn.functional.cross_entropy(logits, target)


@pytest.mark.parametrize("step", [1, 100, 200, 5000])
@pytest.mark.parametrize("n_first", [4, 13, 20])
def test_two_choices_give_the_published_loss(step: int, n_first: int) -> None:
    torch.manual_seed(n_first)
    logits = torch.randn(32, 2)
    # Hard labels: the prior is a multiple of 1/32, where the quantile lies between two predictions.
    labels = torch.nn.functional.one_hot((torch.arange(32) >= n_first).long(), 2).float()
    recipe = Recipe(log_confidence_weight=0.5)
    expected = _burns(logits, labels, 0.5 * min(1, step / 200))
    torch.testing.assert_close(stage_loss(logits, labels, recipe, step), expected)


@given(st.integers(1, 12), st.integers(2, 4), st.integers(0, 10_000))
def test_hardened_predictions_keep_the_labels_prior(n_examples: int, n_choices: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n_examples, n_choices, generator=generator)
    labels = torch.softmax(3 * torch.randn(n_examples, n_choices, generator=generator), dim=-1)
    hard = harden(logits, labels)
    assert set(hard.flatten().tolist()) <= {0.0, 1.0}
    assert torch.equal(hard.sum(dim=1), torch.ones(n_examples))
    assert (hard.sum(dim=0) - labels.sum(dim=0)).abs().max() < 1


def test_hardened_predictions_are_the_likeliest_that_keep_the_prior() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3), torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 2, 2]), 3).float()
    log_probabilities = torch.log_softmax(logits, dim=-1)
    best = max(
        set(itertools.permutations([0, 0, 1, 2, 2])),
        key=lambda choices: float(log_probabilities[range(5), choices].sum()),
    )
    assert harden(logits, labels).argmax(dim=-1).tolist() == list(best)


def test_the_share_rises_from_nothing_to_its_weight() -> None:
    recipe = Recipe(log_confidence_weight=0.4, log_confidence_warmup_steps=10)
    assert [round(confidence_share(recipe, step), 3) for step in (0, 5, 10, 11)] == [0, 0.2, 0.4, 0.4]
    assert confidence_share(Recipe(log_confidence_weight=0.4, log_confidence_warmup_steps=0), 0) == 0.4


def test_no_gradient_flows_through_the_hardened_predictions() -> None:
    torch.manual_seed(0)
    logits = torch.randn(8, 2, requires_grad=True)
    labels = torch.softmax(torch.randn(8, 2), dim=-1)
    recipe = Recipe(log_confidence_weight=0.5, log_confidence_warmup_steps=0)
    stage_loss(logits, labels, recipe, 0).backward()  # type: ignore[no-untyped-call]
    mixed = 0.5 * labels + 0.5 * harden(logits, labels)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, (torch.softmax(logits, dim=-1) - mixed).detach() / 8)


def test_without_weight_it_is_cross_entropy_to_the_label() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 3), torch.softmax(torch.randn(6, 3), dim=-1)
    assert torch.equal(stage_loss(logits, labels, Recipe(), 1000), soft_cross_entropy(logits, labels))
