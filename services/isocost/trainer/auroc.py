"""Area under the ROC curve. Legend of the shape suffixes: n examples, c choices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["auroc"]


def auroc(choices_n: npt.NDArray[np.int64], probabilities_nc: npt.NDArray[np.float64]) -> float | None:
    """Area under the ROC curve: of the second choice for two, macro-averaged one against the rest for more.

    By the Mann-Whitney statistic, ties counting one half; the same as scikit-learn's `roc_auc_score` where that is
    defined. A choice that no example or every example has is left out of the average, where scikit-learn refuses.

    Args:
        choices_n: Right choice of each example.
        probabilities_nc: Predicted.

    Returns:
        0 to 1, or None where it is undefined because all examples have the same choice.
    """
    n_choices = probabilities_nc.shape[1]
    areas = []
    for choice in [1] if n_choices == 2 else range(n_choices):
        positive_n = choices_n == choice
        n_positive = int(positive_n.sum())
        n_negative = len(choices_n) - n_positive
        if n_positive and n_negative:
            rank_sum = float(_mean_ranks(probabilities_nc[:, choice])[positive_n].sum())
            areas.append((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))
    return float(np.mean(areas)) if areas else None


def _mean_ranks(values_n: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, group_n, counts = np.unique(values_n, return_inverse=True, return_counts=True)
    last_ranks = np.cumsum(counts)
    mean_ranks: npt.NDArray[np.float64] = (last_ranks - (counts - 1) / 2)[group_n]
    return mean_ranks
