"""The forecast for one pair of sources: the posterior at every mix that matters, and the value of every option."""

from __future__ import annotations

import numpy as np

from isocost.economics.policy.decision import LineForecast
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.policy.kernel import Floats
from isocost.economics.policy.lookahead import Index, Lookahead
from isocost.economics.policy.options import Option, Options
from isocost.economics.policy.posterior import Observed, Posterior, posterior
from isocost.economics.policy.prior import SurfacePrior
from isocost.economics.regime import Regime

__all__ = ["Forecast", "forecast_pairs", "regime_of"]

#: Agresti & Coull's two answers of either kind: an accuracy of 1 on few labels is not certain.
_ADDED_ANSWERS = 4
_QUANTILES = (0.05, 0.95)
_SURFACE_DRAWS = 4096
#: Last purchases, the most valuable, among which what a first one shows may choose.
_THEN_MAX = 8
#: Values nearer than this are equal.
_TIE = 1e-6


class Forecast:
    """What one weak and one human source promise.

    Accuracies inside are as they would be among two choices, as the library's are; those that it gives are the task's.

    Args:
        inputs: What the policy was given.
        weak, human: The pair.
        prior: What the library says of any task.
    """

    def __init__(self, inputs: PolicyInputs, weak: SourceState, human: SourceState, prior: SurfacePrior) -> None:
        self._guess = 1 / inputs.n_choices
        self.options = Options(inputs, weak, human)
        seen, observed = self._observed(inputs)
        self.posterior: Posterior = posterior(prior, self.options.points(), observed)
        self.seen: Index = seen
        self.lookahead = Lookahead(self.posterior, seen.tolist(), self._measurement_variance(inputs), guess=0.5)
        self._at_once: dict[Option, float] = {}
        self.last_values = np.array([self.at_once(option) for option in self.options.last])
        self.first_values = np.array(
            [
                self._first_value(option, then)
                for option, then in zip(self.options.first, self.options.then, strict=True)
            ]
        )

    def _observed(self, inputs: PolicyInputs) -> tuple[Index, Observed]:
        rows, where = np.unique(np.array(self.options.observed, dtype=np.int64), return_inverse=True)
        n_runs = np.bincount(where, minlength=len(rows)).astype(float)
        accuracies = np.array([self.binary(point.accuracy) for point in inputs.observations])
        accuracy = np.bincount(where, weights=accuracies, minlength=len(rows)) / np.maximum(n_runs, 1.0)
        n_eval = np.full(len(rows), np.inf)
        for row, point in zip(where, inputs.observations, strict=True):
            if point.n_eval:
                n_eval[row] = min(n_eval[row], point.n_eval)
        # Runs of one mix share their evaluation labels: the measurement's noise does not average out over them.
        return rows, Observed(rows.tolist(), accuracy, n_runs, self._variance(accuracy, n_eval))

    def binary(self, accuracy: float) -> float:
        """An accuracy of the task as it would be among two choices."""
        return 0.5 + 0.5 * (accuracy - self._guess) / (1 - self._guess)

    @property
    def _stretch(self) -> float:
        return (1 - self._guess) / 0.5

    def _variance(self, binary: Floats, n_eval: Floats) -> Floats:
        """Binomial variance of accuracies measured on so many labels."""
        accuracy = np.clip(self._guess + (binary - 0.5) * self._stretch, 0.0, 1.0)
        adjusted = np.where(
            np.isinf(n_eval), 0.5, (accuracy * np.minimum(n_eval, 1e9) + _ADDED_ANSWERS / 2) / (n_eval + _ADDED_ANSWERS)
        )
        variance: Floats = adjusted * (1 - adjusted) / n_eval / self._stretch**2
        return variance

    def _measurement_variance(self, inputs: PolicyInputs) -> Floats | None:
        if inputs.n_eval is None:
            return None
        seen = [point.n_eval for point in inputs.observations if point.n_eval]
        n_eval = inputs.n_eval or min(seen, default=0)
        n_points = len(self.posterior.mean)
        return self._variance(self.posterior.mean, np.full(n_points, float(n_eval) if n_eval else np.inf))

    def _first_value(self, option: Option, then: list[Option]) -> float:
        if not then:
            return self.at_once(option)
        best = sorted(then, key=lambda last: -self.at_once(last))[:_THEN_MAX]
        return self.at_once(best[0]) + self.lookahead.first(option.sees, [last.sees for last in best])

    def at_once(self, option: Option) -> float:
        """Expected accuracy after a purchase that nothing follows, among two choices."""
        # Many first purchases may be followed by the same last ones.
        if option not in self._at_once:
            self._at_once[option] = self.lookahead.last(option.sees)
        return self._at_once[option]

    @property
    def now(self) -> float:
        """Expected accuracy of what the labels at hand train, among two choices."""
        return self.lookahead.now

    @property
    def final(self) -> float:
        """Expected accuracy once all is spent as planned, among two choices."""
        return float(max([self.now, *self.last_values.tolist(), *self.first_values.tolist()]))

    def best_first(self) -> int:
        """The next purchase of the highest value; of equally good ones that which is worth most by itself."""
        top = float(self.first_values.max()) - _TIE
        near = [index for index, value in enumerate(self.first_values.tolist()) if value >= top]
        return max(near, key=lambda index: self.at_once(self.options.first[index]))

    def gain(self, value: float) -> float:
        """What a value is above stopping now, in accuracy of the task; nothing is better than 1."""
        return (min(value, max(1.0, self.now)) - self.now) * self._stretch

    # What explains a decision ----------------------------------------------------------------------------------------

    def line(self) -> tuple[LineForecast, ...]:
        """The posterior along the isocost line of the labels at hand and all the money, all human first."""
        if not self.options.line:
            return ()
        rows = np.array([row for _, _, row in self.options.line])
        low, high = np.quantile(self.lookahead.truth_sp[:, rows], _QUANTILES, axis=0)
        best = np.bincount(self._surface_draws(rows).argmax(axis=1), minlength=len(rows)) / _SURFACE_DRAWS
        prices = (self.options.weak.price_micros, self.options.human.price_micros)
        return tuple(
            LineForecast(
                weak_share=n_weak * prices[0] / (n_weak * prices[0] + n_human * prices[1]),
                n_weak=n_weak,
                n_human=n_human,
                accuracy=self.shown(float(self.posterior.mean[row])),
                accuracy_low=self.shown(float(low[index])),
                accuracy_high=self.shown(float(high[index])),
                probability_best=float(best[index]),
            )
            for index, (n_weak, n_human, row) in enumerate(self.options.line)
        )

    def _surface_draws(self, rows: Index) -> Floats:
        """Draws of f itself: which mix is the best is not a matter of one run's luck."""
        cov = self.posterior.cov[np.ix_(rows, rows)] - np.diag(self.posterior.run_variance[rows])
        values, vectors = np.linalg.eigh((cov + cov.T) / 2)
        noise = np.random.default_rng(0).standard_normal((_SURFACE_DRAWS, len(rows)))
        draws: Floats = self.posterior.mean[rows] + noise @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
        return draws

    def shown(self, binary: float) -> float:
        """An accuracy of the task, within 0 and 1."""
        return min(1.0, max(0.0, self._guess + (binary - 0.5) * self._stretch))


def forecast_pairs(inputs: PolicyInputs, prior: SurfacePrior) -> list[Forecast]:
    """A forecast of every pair of a weak and a human source."""
    return [Forecast(inputs, weak, human, prior) for weak in inputs.weak for human in inputs.human]


def regime_of(line: tuple[LineForecast, ...]) -> tuple[Regime, float]:
    """The most probable regime of a line, with its probability; unspecified where the line has fewer than two kinds."""
    probability = {Regime.QUALITY_DOMINANT: 0.0, Regime.MIXED: 0.0, Regime.QUANTITY_DOMINANT: 0.0}
    present = set()
    for point in line:
        kind = Regime.MIXED
        if not point.n_weak:
            kind = Regime.QUALITY_DOMINANT
        elif not point.n_human:
            kind = Regime.QUANTITY_DOMINANT
        probability[kind] += point.probability_best
        present.add(kind)
    if len(present) < 2:
        return Regime.UNSPECIFIED, 0.0
    best = max(probability, key=lambda kind: probability[kind])
    return best, probability[best]
