"""Which items human labels are bought for: the rules `uncertainty` and `cost_aware`.

Both look at what one model predicts for items that nobody has labelled. It is the model trained on weak labels only,
from which the human stage starts: what it gets wrong is what human labels are there to correct, and it has seen no
human label, so that those at hand say honestly how often it is wrong.

`uncertainty` takes the items of the highest predictive entropy (Lewis & Gale 1994, "A sequential algorithm for training
text classifiers"). Two things are known to go wrong with it: the items taken are alike, and a model that learned
systematic errors makes them without any doubt.

`cost_aware` weighs what a human label brings on an item against what the same money buys otherwise. A human label costs
the same on every item, and the other thing to buy is weak labels: so a label is worth as much as the error that weak
labels leave there. The rule in full:

1. Items are divided into strata: by predicted choice, and within each by thirds of the predictive entropy.
2. Error left in a stratum: the share of wrong predictions there, measured on the human labels bought to train on, and
   shrunk (by so many answers as `PRIOR_ANSWERS`) towards the model's own claim, the mean of 1 - max p, which is scaled
   first to be right over the human labels of all items with this predicted choice (shrunk in the same way). This is the
   cheap signal of where weak labels are wrong: the model imitates the weak source, and people have judged a sample of
   it already.
3. Half of the labels are spread over the strata by their size, half by size times error left. The first half is the
   guard against an error that was measured wrongly: no part of the pool is left out (the defensive mixture of
   Hesterberg 1995; for active learning, the least sampling probability of Beygelzimer, Dasgupta & Langford 2009).
4. Within a stratum, items are taken by a hash of their ids, evenly, and not those of the highest entropy first: items
   that are alike are not taken together. The sequence of the whole purchase is by the same hash, so that each prefix of
   it is a sample of the whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["PRIOR_ANSWERS", "cost_aware_items", "error_by_stratum", "predictive_entropy", "spread"]

Floats: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.int64]

#: Answers that the model's own claim about a stratum is worth.
PRIOR_ANSWERS = 4.0
#: Share of the labels that is spread by size alone.
_EVEN_SHARE = 0.5
#: Parts by entropy of each predicted choice.
_N_PARTS = 3


def predictive_entropy(probabilities: Floats) -> Floats:
    """Entropy of each row, in nats; from 0 to the logarithm of the number of choices.

    Args:
        probabilities: One row an item, one column a choice.
    """
    entropy: Floats = -(probabilities * np.log(np.where(probabilities > 0, probabilities, 1.0))).sum(axis=1)
    return np.maximum(entropy, 0.0)


def _strata(free: Floats, others: Floats) -> tuple[Index, Index]:
    """Number of each item's stratum; the thirds are those of the free items."""
    n_choices = free.shape[1]
    numbers = []
    cuts = np.zeros((n_choices, _N_PARTS - 1))
    choice, entropy = free.argmax(axis=1), predictive_entropy(free)
    for index in range(n_choices):
        of_choice = entropy[choice == index]
        if len(of_choice):
            cuts[index] = np.quantile(of_choice, np.arange(1, _N_PARTS) / _N_PARTS)
    for probabilities in (free, others):
        choice, entropy = probabilities.argmax(axis=1), predictive_entropy(probabilities)
        part = (entropy[:, None] > cuts[choice]).sum(axis=1)
        numbers.append((choice * _N_PARTS + part).astype(np.int64))
    return numbers[0], numbers[1]


def error_by_stratum(
    claimed: Floats, stratum: Index, answered_claimed: Floats, answered_stratum: Index, wrong: Floats, n_choices: int
) -> Floats:
    """Error left in each stratum (rule 2), 0 to 1; 0 where a stratum holds nothing.

    The strata of choice c have the numbers 3 c, 3 c + 1 and 3 c + 2.

    Args:
        claimed: Of every free item, 1 - max p.
        stratum: Of every free item.
        answered_claimed, answered_stratum: The same of the items that people have answered; may be empty.
        wrong: Of these, 1 where the prediction is not what people said, else 0.
        n_choices: Of the task.
    """
    n_strata = n_choices * _N_PARTS

    def by_choice(values: Floats, strata: Index) -> Floats:
        return np.bincount(strata // _N_PARTS, weights=values, minlength=n_choices).astype(np.float64)

    n_free = np.bincount(stratum, minlength=n_strata)
    of_choice = np.maximum(by_choice(np.ones(len(stratum)), stratum), 1.0)
    prior_claim = PRIOR_ANSWERS * by_choice(claimed, stratum) / of_choice
    own_claim = by_choice(answered_claimed, answered_stratum) + prior_claim
    # Where the model claims to be never wrong there is nothing to scale.
    scale = np.where(
        own_claim > 0, (by_choice(wrong, answered_stratum) + prior_claim) / np.where(own_claim > 0, own_claim, 1.0), 1.0
    )
    claim = np.bincount(stratum, weights=claimed, minlength=n_strata) / np.maximum(n_free, 1)
    prior = np.minimum(1.0, np.repeat(scale, _N_PARTS) * claim)
    n_answered = np.bincount(answered_stratum, minlength=n_strata)
    n_wrong = np.bincount(answered_stratum, weights=wrong, minlength=n_strata)
    error: Floats = (n_wrong + PRIOR_ANSWERS * prior) / (n_answered + PRIOR_ANSWERS)
    return np.where(n_free > 0, error, 0.0)


def spread(n_labels: int, sizes: Index, worth: Floats) -> Index:
    """Labels for each stratum (rule 3): none gets more than it has items, all together get n_labels.

    Args:
        n_labels: At most the sum of the sizes.
        sizes: Items of each stratum.
        worth: Of a label in each; not negative. Where none is worth anything, size alone counts.
    """
    by_worth = sizes * worth
    by_worth = by_worth / by_worth.sum() if by_worth.sum() > 0 else sizes / max(1, sizes.sum())
    share = _EVEN_SHARE * sizes / max(1, sizes.sum()) + (1 - _EVEN_SHARE) * by_worth
    quota = np.zeros(len(sizes), dtype=np.int64)
    # What a stratum cannot take goes to the others; each time around, one more is full or all is spread.
    while (left := n_labels - int(quota.sum())) > 0:
        open_share = np.where(quota < sizes, share, 0.0)
        wanted = left * open_share / open_share.sum()
        full = wanted > sizes - quota
        if full.any():
            quota[full] = sizes[full]
            continue
        # The largest remainders, the first of equals.
        whole = np.floor(wanted).astype(np.int64)
        rest = left - int(whole.sum())
        whole[np.argsort(whole - wanted, kind="stable")[:rest]] += 1
        quota += np.minimum(whole, sizes - quota)
    return quota


def cost_aware_items(
    item_ids: Sequence[str],
    probabilities: Floats,
    n_items: int,
    *,
    answered_probabilities: Floats,
    answered_choices: Sequence[int],
) -> list[str]:
    """The items to buy human labels for by the rule `cost_aware`, in the sequence in which to buy them.

    Deterministic, whatever the items' order.

    Args:
        item_ids: Free items.
        probabilities: What the model predicts for them: one row an item, one column a choice.
        n_items: How many to take; not negative.
        answered_probabilities: What it predicts for items whose human labels are at hand; may have no row.
        answered_choices: What people said of those.

    Raises:
        ValueError: where there are fewer items.
    """
    if n_items > len(item_ids):
        raise ValueError(f"{n_items} items are asked for, and {len(item_ids)} are free")
    if not n_items:
        return []
    n_choices = probabilities.shape[1]
    answered = answered_probabilities.reshape(-1, n_choices)
    stratum, answered_stratum = _strata(probabilities, answered)
    n_strata = n_choices * _N_PARTS
    error = error_by_stratum(
        1 - probabilities.max(axis=1),
        stratum,
        1 - answered.max(axis=1),
        answered_stratum,
        (answered.argmax(axis=1) != np.asarray(answered_choices, dtype=np.int64)).astype(float),
        n_choices,
    )
    quota = spread(n_items, np.bincount(stratum, minlength=n_strata), error)
    chosen = []
    for index in sorted(range(len(item_ids)), key=lambda index: _hash(item_ids[index])):
        if quota[stratum[index]]:
            quota[stratum[index]] -= 1
            chosen.append(item_ids[index])
    return chosen


def _hash(item_id: str) -> bytes:
    return hashlib.sha256(item_id.encode()).digest()
