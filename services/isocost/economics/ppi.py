"""Prediction-powered inference of a mean: a few answers by hand, and a proxy of the answer for many more items.

For a model's accuracy, y is whether its prediction is the human's choice, and the proxy is a guess of that which costs
little: the model's own (calibrated) probability of its prediction, or another labeller's of the same choice. The proxy
may be as wrong as it likes: the hand-labelled items tell by how much, and the interval stays valid, only wider.

Classical: mean(proxy of unlabelled) + mean(y - proxy of labelled) (Angelopoulos et al. 2023a, "Prediction-powered
inference"). PPI++ (Angelopoulos, Duchi & Zrnic 2023b) weighs the proxy with a power between 0 (hand labels alone) and 1
(classical), which minimises the variance and so is never worse than either but for its estimation. Labelled and
unlabelled items are drawn alike: choose those to label by hand at random.

The interval is a normal approximation: it wants some fifty hand labels, and mixed ones. Where the answers by hand are
all alike they show no variance, and Wilson's interval of them alone is given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isocost.economics.interval import Z_95, wilson_interval

__all__ = ["PoweredMean", "hand_label_share", "powered_mean"]


@dataclass(frozen=True, slots=True)
class PoweredMean:
    """A mean of answers between 0 and 1, such as an accuracy.

    Attributes:
        mean, low, high: 0 to 1, low <= mean <= high; the interval is the 95 % one.
        power: The weight of the proxy, 0 to 1.
        n_labelled: Items answered by hand.
        n_unlabelled: Items with a proxy alone.
    """

    mean: float
    low: float
    high: float
    power: float
    n_labelled: int
    n_unlabelled: int


def powered_mean(
    answers: npt.ArrayLike,
    proxies: npt.ArrayLike,
    unlabelled_proxies: npt.ArrayLike,
    *,
    power: float | None = None,
) -> PoweredMean:
    """The prediction-powered mean and its 95 % interval.

    Args:
        answers: Of the n labelled items, 0 to 1; at least one.
        proxies: Of the same items.
        unlabelled_proxies: Of the other items; with none, the mean is that of the answers.
        power: Weight of the proxy, 0 to 1: 1 is classical, 0 uses hand labels alone; tuned by default.

    Raises:
        ValueError: where shapes do not fit, answers are not 0 to 1, or a number is not finite.
    """
    y = np.asarray(answers, dtype=np.float64)
    proxy, other = np.asarray(proxies, dtype=np.float64), np.asarray(unlabelled_proxies, dtype=np.float64)
    if y.ndim != 1 or y.shape != proxy.shape or other.ndim != 1 or not len(y):
        raise ValueError(f"answers {y.shape} and proxies {proxy.shape}, {other.shape} are not (n,), (n,) and (N,)")
    if not (y.min() >= 0 and y.max() <= 1 and np.isfinite(proxy).all() and np.isfinite(other).all()):
        raise ValueError("answers are 0 to 1, and proxies finite")
    if power is not None and not 0 <= power <= 1:
        raise ValueError(f"power is {power}; it is 0 to 1")
    power = _tuned_power(y, proxy, other) if power is None else float(power)
    if not len(other) or y.min() == y.max():
        power = 0.0
    mean, variance = float((y - power * proxy).mean()), float((y - power * proxy).var()) / len(y)
    if power:
        mean += power * float(other.mean())
        variance += power * power * float(other.var()) / len(other)
    half = Z_95 * math.sqrt(variance)
    low, high = mean - half, mean + half
    if y.min() == y.max():
        low, high = wilson_interval(mean, len(y))
    mean = min(1.0, max(0.0, mean))
    return PoweredMean(mean, max(0.0, min(mean, low)), min(1.0, max(mean, high)), power, len(y), len(other))


def hand_label_share(
    mean_squared_error: float, variance: float, *, proxy_price_micros: float, human_price_micros: float
) -> float:
    """The share of items to label by hand that gives the tightest interval for the money.

    Each item gets a proxy, and a hand label with probability pi. For one item's money c_w + pi c_h the variance is
    Var - MSE + MSE / pi; their product is least at pi = sqrt(c_w / c_h * MSE / (Var - MSE)) (Angelopoulos et al. 2025,
    "Cost-Optimal Active AI Model Evaluation").

    Args:
        mean_squared_error: Of the proxy against the human's answer, MSE.
        variance: Of the human's answer, Var.
        proxy_price_micros: Of the proxy for one item, c_w; 0 or more.
        human_price_micros: Of a hand label, c_h; above 0.

    Returns:
        0 to 1. 1 where the proxy is too poor: it predicts no better than the mean, or hand labels alone, without
        proxies to pay, are the better buy. 0 where the proxy is perfect or free: label as few as the interval's
        approximation allows.

    Raises:
        ValueError: where a price or error is negative, or the human's price 0.
    """
    if min(mean_squared_error, variance, proxy_price_micros) < 0 or human_price_micros <= 0:
        raise ValueError("errors, variances and prices are 0 or more, and a hand label's price is above 0")
    explained = variance - mean_squared_error
    if explained <= 0:
        return 1.0
    price = proxy_price_micros / human_price_micros
    with_proxies = (math.sqrt(price * explained) + math.sqrt(mean_squared_error)) ** 2
    if with_proxies >= variance:
        return 1.0
    return min(1.0, math.sqrt(price * mean_squared_error / explained))


def _tuned_power(y: npt.NDArray[np.float64], proxy: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """The power of least estimated variance (Angelopoulos, Duchi & Zrnic 2023b)."""
    both = np.concatenate([proxy, other])
    if not len(other) or both.min() == both.max():
        return 0.0
    covariance = float(((y - y.mean()) * (proxy - proxy.mean())).mean())
    return min(1.0, max(0.0, covariance / ((1 + len(y) / len(other)) * float(both.var(ddof=1)))))
