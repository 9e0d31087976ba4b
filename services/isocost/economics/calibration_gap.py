"""The expected calibration error (ECE) with its interval.

Legend of the shape suffixes: n items, b bins, r resamples, s scales.

ECE (Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3): items are put into 15 equal bins by the
probability of their most probable choice; a bin's gap is its accuracy less its mean probability; the ECE is the mean of
the absolute gaps, weighted by the bins' items.

A sample's ECE is too high, because noise in a bin never cancels: a model that is calibrated perfectly shows one of some
hundredths. Resampling the sample adds as much noise again, and the percentiles of that miss the truth. So the interval
is a test turned round, along a line of possible truths: all gaps as seen, times a scale from 0 up. A scale is in the
interval where the ECE seen is not among the 2.5 % lowest or highest of those that samples from that truth show (bins'
items multinomial, right answers binomial by bin at Laplace's estimate of its accuracy). The interval begins at 0 where
the ECE seen is no higher than what noise alone shows.

ECE is at least the difference of the overall accuracy and mean probability, so the high end is never below what the
accuracy's Wilson interval leaves possible of that; this matters where no gap is seen at all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from isocost.economics.interval import wilson_interval

__all__ = ["ECE_BINS", "calibration_gap"]

_Floats = npt.NDArray[np.float64]

#: Bins of confidence, as in Guo et al. 2017.
ECE_BINS = 15
_RESAMPLES = 400
_SCALE_MAX = 4.0
_SCALES = 81
_SEED = 0


def calibration_gap(right_n: npt.NDArray[np.bool_], confidence_n: _Floats) -> tuple[float, float, float]:
    """The ECE and its 95 % interval.

    Args:
        right_n: Whether each item's most probable choice is right; at least one item.
        confidence_n: That choice's probability, 0 to 1.

    Returns:
        (ece, low, high), each 0 to 1, low <= ece <= high.
    """
    n_items = len(right_n)
    bin_n = np.clip(np.ceil(confidence_n * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    n_in_b = np.bincount(bin_n, minlength=ECE_BINS)
    seen = n_in_b > 0
    n_in_b = n_in_b[seen]
    n_right_b = np.bincount(bin_n, weights=right_n, minlength=ECE_BINS)[seen]
    gap_b = (n_right_b - np.bincount(bin_n, weights=confidence_n, minlength=ECE_BINS)[seen]) / n_in_b
    ece = float((n_in_b * np.abs(gap_b)).sum() / n_items)

    draw = np.random.default_rng(_SEED)
    accuracy_b = (n_right_b + 1) / (n_in_b + 2)
    n_in_rb = draw.multinomial(n_items, n_in_b / n_items, size=_RESAMPLES)
    noise_rb = draw.binomial(n_in_rb, accuracy_b) - n_in_rb * accuracy_b
    scale_s = np.linspace(0.0, min(_SCALE_MAX, 1 / max(ece, 1e-9)), _SCALES)
    shown_sr = np.abs(scale_s[:, None, None] * (n_in_rb * gap_b) + noise_rb).sum(axis=2) / n_items
    low_s, high_s = np.quantile(shown_sr, (0.025, 0.975), axis=1)
    # A truth is possible from where its samples reach the ECE seen up to where they all exceed it.
    low = float(scale_s[np.argmax(high_s >= ece)]) * ece if high_s.max() >= ece else ece
    high = float(scale_s[_SCALES - 1 - np.argmax(low_s[::-1] <= ece)]) * ece if low_s.min() <= ece else ece

    confidence = float(confidence_n.mean())
    accuracy_low, accuracy_high = wilson_interval(float(right_n.mean()), n_items)
    high = max(high, confidence - accuracy_low, accuracy_high - confidence)
    return ece, max(0.0, min(ece, low)), min(1.0, max(ece, high))
