"""Confidence intervals of accuracies."""

from __future__ import annotations

import math

__all__ = ["Z_95", "wilson_interval"]

#: Two-sided 95 % quantile of the standard normal distribution.
Z_95 = 1.959963984540054


def wilson_interval(accuracy: float, n_eval: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927): good coverage also near 0 and 1 and for small n.

    Args:
        accuracy: Share of right answers, 0 to 1; need not be a multiple of 1/n (a mean over seeds is allowed).
        n_eval: Answers it was measured on; at least 1.

    Returns:
        (low, high), clipped to hold the accuracy itself.
    """
    if n_eval < 1:
        raise ValueError(f"n_eval is {n_eval}; an interval needs at least one answer")
    z2 = Z_95 * Z_95
    centre = (accuracy + z2 / (2 * n_eval)) / (1 + z2 / n_eval)
    half = Z_95 * math.sqrt(accuracy * (1 - accuracy) / n_eval + z2 / (4 * n_eval * n_eval)) / (1 + z2 / n_eval)
    return max(0.0, min(accuracy, centre - half)), min(1.0, max(accuracy, centre + half))
