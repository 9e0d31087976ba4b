"""Calibration of a weak source's probabilities, fitted on items that humans have answered.

`temperature` (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2): p_c^(1/T), normalised. T
minimises the negative log-likelihood (NLL) of the human answers plus (ln T)^2 / 2, a prior that weighs as much as one
answer or so: without it, T would be 0 where every answer is right. The order of the choices stays.

`isotonic` (Zadrozny & Elkan 2002, "Transforming classifier scores into accurate multiclass probability estimates"):
for each choice against the rest, the non-decreasing function of its probability that comes nearest to the human
answers in squares; between the probabilities that were seen it is interpolated. The results are normalised. n answers
cannot tell a probability from 0 or 1 by less than 1/(n + 2) (Laplace's rule of succession), so that is what the
functions are kept within. With two choices, the second one's function is the mirror image of the first one's.

A calibration is used only where it lowers the NLL on answers that it was not fitted on (5-fold cross-validation): of
few answers it may well raise it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

__all__ = [
    "FOLDS",
    "PROBABILITY_MIN",
    "TEMPERATURE_MAX",
    "Calibration",
    "CalibrationMethod",
    "CalibrationReport",
    "calibrate",
    "calibration_error",
    "fit_calibration",
    "negative_log_likelihood",
]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]

#: What a probability of 0 counts as: models round, they do not know.
PROBABILITY_MIN = 1e-9
#: Temperatures are from 1/20 to 20.
TEMPERATURE_MAX = 20.0
FOLDS = 5
_BINS = 10


class CalibrationMethod(Enum):
    """How probabilities are corrected."""

    NONE = "none"
    TEMPERATURE = "temperature"
    ISOTONIC = "isotonic"


@dataclass(frozen=True, slots=True)
class Calibration:
    """A map from a source's probabilities to calibrated ones.

    Attributes:
        method: How it was fitted; NONE leaves probabilities as they are.
        temperature: For TEMPERATURE, T; else 1.
        knots: For ISOTONIC, by choice: probabilities, rising, and what they become, never falling.
    """

    method: CalibrationMethod = CalibrationMethod.NONE
    temperature: float = 1.0
    knots: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()

    def apply(self, probabilities: Sequence[float]) -> tuple[float, ...]:
        """The calibrated probabilities of one label; they sum to 1."""
        if self.method is CalibrationMethod.NONE:
            return tuple(probabilities)
        return tuple(self._apply(np.asarray([probabilities], dtype=np.float64))[0].tolist())

    def _apply(self, p: _Floats) -> _Floats:
        if self.method is CalibrationMethod.TEMPERATURE:
            return _tempered(p, self.temperature)
        if self.method is CalibrationMethod.ISOTONIC:
            p = p / p.sum(axis=1, keepdims=True)
            columns = [np.interp(p[:, choice], x, y) for choice, (x, y) in enumerate(self.knots)]
            raised = np.stack(columns, axis=1)
            return np.asarray(raised / raised.sum(axis=1, keepdims=True))
        return p


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """A calibration, and what it does to answers that it was not fitted on.

    Attributes:
        calibration: Fitted on all answers; NONE where it does not help.
        method: The method that was asked for.
        temperature: For TEMPERATURE, the fitted T, used or not; else None.
        n_labels: Answers it was fitted on.
        nll_before, nll_after: Mean negative log-likelihood of the human answers, in nats, after by cross-validation.
        ece_before, ece_after: Expected calibration error, 0 to 1, likewise.
    """

    calibration: Calibration
    method: CalibrationMethod
    temperature: float | None
    n_labels: int
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float

    @property
    def used(self) -> bool:
        """Whether labels are calibrated."""
        return self.calibration.method is not CalibrationMethod.NONE


def negative_log_likelihood(probabilities: Sequence[Sequence[float]], choices: Sequence[int]) -> float:
    """Mean of -ln of the right choice's probability, in nats; a probability of 0 counts as `PROBABILITY_MIN`."""
    return _nll(np.asarray(probabilities, dtype=np.float64), np.asarray(choices, dtype=np.int64))


def calibration_error(probabilities: Sequence[Sequence[float]], choices: Sequence[int]) -> float:
    """Expected calibration error (Guo et al. 2017, equation 3) in 10 equal bins of confidence; 0 to 1."""
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(choices, dtype=np.int64)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    bins = np.clip(np.ceil(confidence * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(y))


def fit_calibration(
    method: CalibrationMethod, probabilities: Sequence[Sequence[float]], choices: Sequence[int]
) -> Calibration:
    """Fits a calibration on all answers.

    Args:
        method: How.
        probabilities: The source's, one row an item.
        choices: Index of the human's choice, one an item.

    Raises:
        ValueError: where there is no answer, or not one a row.
    """
    if not len(choices) or len(choices) != len(probabilities):
        raise ValueError(f"{len(choices)} answers to {len(probabilities)} labels; calibration needs one a label")
    return _fit(method, np.asarray(probabilities, dtype=np.float64), np.asarray(choices, dtype=np.int64))


def calibrate(
    method: CalibrationMethod, probabilities: Sequence[Sequence[float]], choices: Sequence[int]
) -> CalibrationReport:
    """Fits a calibration and says what it brings; it is used only where it brings something.

    Args: as of `fit_calibration`.

    Raises:
        ValueError: as `fit_calibration`.
    """
    fitted = fit_calibration(method, probabilities, choices)
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(choices, dtype=np.int64)
    held_out = _held_out(method, p, y)
    nll_before, nll_after = _nll(p, y), _nll(held_out, y)
    return CalibrationReport(
        calibration=fitted if nll_after < nll_before else Calibration(),
        method=method,
        temperature=fitted.temperature if method is CalibrationMethod.TEMPERATURE else None,
        n_labels=len(y),
        nll_before=nll_before,
        nll_after=nll_after,
        ece_before=calibration_error(p.tolist(), y.tolist()),
        ece_after=calibration_error(held_out.tolist(), y.tolist()),
    )


def _held_out(method: CalibrationMethod, p: _Floats, y: _Ints) -> _Floats:
    """Each row calibrated by a fit on the other folds' rows; rows of a single fold stay as they are."""
    n_folds = min(FOLDS, len(y))
    if n_folds < 2:
        return p
    fold = np.arange(len(y)) % n_folds
    calibrated = np.empty_like(p)
    for index in range(n_folds):
        calibrated[fold == index] = _fit(method, p[fold != index], y[fold != index])._apply(p[fold == index])
    return calibrated


def _fit(method: CalibrationMethod, p: _Floats, y: _Ints) -> Calibration:
    if method is CalibrationMethod.TEMPERATURE:
        return Calibration(method, temperature=_fit_temperature(p, y))
    if method is CalibrationMethod.ISOTONIC:
        p = p / p.sum(axis=1, keepdims=True)
        return Calibration(method, knots=tuple(_fit_isotonic(p[:, c], y == c) for c in range(p.shape[1])))
    return Calibration()


def _nll(p: _Floats, y: _Ints) -> float:
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], PROBABILITY_MIN)).mean())


def _tempered(p: _Floats, temperature: float) -> _Floats:
    scores = np.log(np.maximum(p, PROBABILITY_MIN)) / temperature
    scores -= scores.max(axis=1, keepdims=True)
    raised = np.exp(scores)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _temperature_loss(p: _Floats, y: _Ints) -> Callable[[float], float]:
    """What `temperature` minimises, as a function of ln T."""
    log_p = np.log(np.maximum(p, PROBABILITY_MIN))
    rows = np.arange(len(y))

    def loss(log_temperature: float) -> float:
        scores = log_p * math.exp(-log_temperature)
        scores = scores - scores.max(axis=1, keepdims=True)
        return float((np.log(np.exp(scores).sum(axis=1)) - scores[rows, y]).sum() + log_temperature**2 / 2)

    return loss


def _fit_temperature(p: _Floats, y: _Ints) -> float:
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 - slow to import

    limit = math.log(TEMPERATURE_MAX)
    found = minimize_scalar(
        _temperature_loss(p, y), bounds=(-limit, limit), method="bounded", options={"xatol": 1e-9, "maxiter": 500}
    )
    return math.exp(float(found.x))


def _fit_isotonic(p: _Floats, right: npt.NDArray[np.bool_]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    from scipy.optimize import isotonic_regression  # noqa: PLC0415 - slow to import

    # Equal probabilities are one point: a function has one value there.
    x, position = np.unique(p, return_inverse=True)
    counts = np.bincount(position).astype(np.float64)
    shares = np.bincount(position, weights=right.astype(np.float64)) / counts
    margin = 1 / (len(p) + 2)
    y = np.clip(isotonic_regression(shares, weights=counts).x, margin, 1 - margin)
    return tuple(x.tolist()), tuple(y.tolist())
