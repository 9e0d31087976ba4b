"""The simulator: a policy buys along a rising sequence of a surface's points, and sees what its labels could train."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from isocost.core.errors import InvalidArgumentError, IsocostError
from isocost.economics.frontier import ObservedPoint
from isocost.economics.policy.decision import Policy, PolicyDecision
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.policy.registry import EvaluationChooser, make_policy
from isocost.replay.evaluation import Evaluation, EvaluationKind, measured_accuracy
from isocost.replay.results import BudgetResult, Skipped
from isocost.replay.surface import Surface, SurfacePoint

__all__ = ["Episode", "PolicyMisbehavedError", "Setting", "choose_evaluation", "play", "play_seeds", "replay_budget"]

Mix = tuple[int, int]

_WEAK_ID = "weak"
_HUMAN_ID = "human"


class PolicyMisbehavedError(IsocostError):
    """A policy broke a rule of the game: a mistake in the policy, which is named."""

    def __init__(self, policy: Policy, message: str) -> None:
        super().__init__(f"policy {policy.name!r} {message}")


@dataclass(frozen=True, slots=True)
class Setting:
    """What stays the same over budgets, targets and seeds.

    Attributes:
        surface: Replayed.
        weak_price_micros, human_price_micros: Price of one label.
        policy_name: See `isocost.economics.policy.registry`.
        n_eval: Evaluation labels, bought first; 0: exact and free; None: as many as the policy chooses.
    """

    surface: Surface
    weak_price_micros: int
    human_price_micros: int
    policy_name: str
    n_eval: int | None = 0

    def cost_micros(self, point: SurfacePoint) -> int:
        """What a point's labels cost."""
        return point.cost_micros(self.weak_price_micros, self.human_price_micros)

    def make_policy(self) -> Policy:
        """The policy, which knows nothing of the surface's dataset.

        Raises:
            InvalidArgumentError: where there is no such policy.
        """
        try:
            return make_policy(self.policy_name, held_out_datasets=(self.surface.dataset,))
        except ValueError as error:
            raise InvalidArgumentError("--policy", str(error)) from None

    def inputs(self, available_micros: int) -> PolicyInputs:
        """What a policy sees before it has bought anything: prices, money, and where the points are."""
        menu = tuple(sorted(point.mix for point in self.surface.points))
        return PolicyInputs(
            weak=(SourceState(_WEAK_ID, self.weak_price_micros),),
            human=(SourceState(_HUMAN_ID, self.human_price_micros),),
            available_micros=available_micros,
            tranche_micros=available_micros,
            n_items_free=max(sum(mix) for mix in menu),
            menu=menu,
            # Money that is left is worth nothing here.
            gain_min=0.0,
            n_eval=None,
        )


@dataclass(frozen=True, slots=True)
class Episode:
    """What a policy bought, and what it would ship.

    Attributes:
        purchases: The totals (n_weak, n_human) after each purchase.
        shipped: The mix whose model is shipped.
        label_micros: What the labels to train on cost.
        accuracy: The surface's accuracy of the shipped mix.
        seconds: What all decisions took together, and `seconds_max` the longest of them.
        reasons: One a decision.
    """

    purchases: tuple[Mix, ...]
    shipped: Mix
    label_micros: int
    accuracy: float
    seconds: float
    seconds_max: float
    reasons: tuple[str, ...]


def choose_evaluation(policy: Policy, setting: Setting, inputs: PolicyInputs) -> Evaluation:
    """What accuracy is measured with: as the setting says, or as the policy chooses.

    A policy that has no opinion buys none, and sees nothing.

    Raises:
        PolicyMisbehavedError: where it chooses fewer than none.
    """
    if setting.n_eval is not None:
        kind = EvaluationKind.BOUGHT if setting.n_eval else EvaluationKind.EXACT
        return Evaluation(kind, setting.n_eval)
    n_labels = (policy.choose_n_eval(inputs) or 0) if isinstance(policy, EvaluationChooser) else 0
    if n_labels < 0:
        raise PolicyMisbehavedError(policy, f"wants {n_labels} evaluation labels")
    return Evaluation(EvaluationKind.BOUGHT if n_labels else EvaluationKind.NONE, n_labels)


@dataclass
class _Game:
    """The state of one episode."""

    policy: Policy
    setting: Setting
    evaluation: Evaluation
    available_micros: int
    seed: int
    target: float | None
    purchases: list[Mix] = field(default_factory=list)
    label_micros: int = 0

    @property
    def mix(self) -> Mix:
        return self.purchases[-1] if self.purchases else (0, 0)

    @property
    def dominated(self) -> list[SurfacePoint]:
        n_weak, n_human = self.mix
        return [p for p in self.setting.surface.points if p.n_weak <= n_weak and p.n_human <= n_human]

    @property
    def observations(self) -> tuple[ObservedPoint, ...]:
        if self.evaluation.kind is EvaluationKind.NONE:
            return ()
        method, n_eval = self.setting.surface.method, self.evaluation.n_labels
        return tuple(
            ObservedPoint(
                method, p.n_weak, p.n_human, 0, measured_accuracy(p, self.evaluation, self.seed), n_eval,
                weak_source_id=_WEAK_ID if p.n_weak else "", human_source_id=_HUMAN_ID if p.n_human else "",
            )
            for p in self.dominated
        )  # fmt: skip

    def inputs(self) -> PolicyInputs:
        start = self.setting.inputs(self.available_micros)
        n_weak, n_human = self.mix
        left_micros = self.available_micros - self.label_micros
        return replace(
            start,
            weak=(replace(start.weak[0], n_bought=n_weak),),
            human=(replace(start.human[0], n_bought=n_human),),
            available_micros=left_micros,
            tranche_micros=left_micros,
            n_items_free=start.n_items_free - n_weak - n_human,
            observations=self.observations,
            target_accuracy=self.target,
            n_eval=None if self.evaluation.kind is EvaluationKind.NONE else self.evaluation.n_labels,
        )

    def buy(self, decision: PolicyDecision) -> None:
        """Makes a purchase.

        Raises:
            PolicyMisbehavedError: where it is not one of the surface's points, does not rise or cannot be paid.
        """
        if any(p.source_id not in {_WEAK_ID, _HUMAN_ID} or p.n_labels < 0 for p in decision.purchases):
            raise PolicyMisbehavedError(self.policy, f"wants {decision.purchases}, which is not for sale")
        mix = self.mix[0] + decision.n_labels(_WEAK_ID), self.mix[1] + decision.n_labels(_HUMAN_ID)
        points = {p.mix: p for p in self.setting.surface.points}
        if mix not in points or mix == self.mix:
            raise PolicyMisbehavedError(self.policy, f"buys up to {mix} from {self.mix}: no new point of the surface")
        cost_micros = self.setting.cost_micros(points[mix])
        if cost_micros > self.available_micros:
            raise PolicyMisbehavedError(
                self.policy, f"buys up to {mix} for {cost_micros} micros of {self.available_micros}"
            )
        self.purchases.append(mix)
        self.label_micros = cost_micros

    def shipped(self, decision: PolicyDecision) -> SurfacePoint:
        """What the last decision ships.

        Raises:
            PolicyMisbehavedError: where that is not a point that the labels bought can train.
        """
        points = {p.mix: p for p in self.dominated}
        if decision.shipped is not None:
            if decision.shipped not in points:
                raise PolicyMisbehavedError(
                    self.policy, f"ships {decision.shipped}, which {self.mix} does not hold or the surface lacks"
                )
            return points[decision.shipped]
        observations = self.observations
        if not observations:
            return points[self.mix]
        accuracy = {(run.n_weak, run.n_human): run.accuracy for run in observations}
        return max(points.values(), key=lambda p: (accuracy[p.mix], self.setting.cost_micros(p), p.mix))


def play(
    policy: Policy,
    setting: Setting,
    evaluation: Evaluation,
    available_micros: int,
    *,
    seed: int = 0,
    target: float | None = None,
) -> Episode:
    """Asks the policy until it stops.

    Before each decision the policy is given the prices, the money left, the coordinates of the surface's points, and
    the accuracies of those that the labels bought can train (no more of either kind); nothing else. It is asked once
    more when nothing can be bought any more, so that it may name what to ship.

    Args:
        policy: Decides.
        setting: Surface and prices.
        evaluation: What the policy sees of accuracies.
        available_micros: Money for labels to train on, which pays for at least one point.
        seed: Of the noise.
        target: Accuracy to reach; None for as much as the money buys.

    Raises:
        PolicyMisbehavedError: where a decision breaks a rule.
    """
    game = _Game(policy, setting, evaluation, available_micros, seed, target)
    seconds: list[float] = []
    reasons: list[str] = []
    while True:
        decision = _timed(lambda: policy.decide(game.inputs()), seconds)
        reasons.append(decision.reason)
        if decision.stop:
            break
        game.buy(decision)
    if not game.purchases:
        raise PolicyMisbehavedError(policy, f"stops before it has bought anything: {decision.reason}")
    shipped = game.shipped(decision)
    return Episode(
        tuple(game.purchases),
        shipped.mix,
        game.label_micros,
        shipped.accuracy,
        sum(seconds),
        max(seconds),
        tuple(reasons),
    )


def _timed(decide: Callable[[], PolicyDecision], seconds: list[float]) -> PolicyDecision:
    start = time.perf_counter()
    decision = decide()
    seconds.append(time.perf_counter() - start)
    return decision


def play_seeds(
    policy: Policy,
    setting: Setting,
    evaluation: Evaluation,
    available_micros: int,
    *,
    n_seeds: int,
    target: float | None = None,
) -> list[Episode]:
    """An episode for each seed, as `play` makes them; played once where nothing is random."""
    n_played = n_seeds if evaluation.kind is EvaluationKind.BOUGHT else min(n_seeds, 1)
    episodes = [
        play(policy, setting, evaluation, available_micros, seed=seed, target=target) for seed in range(n_played)
    ]
    return episodes + episodes[:1] * (n_seeds - n_played)


def replay_budget(setting: Setting, budget_micros: int, *, n_seeds: int = 1) -> list[BudgetResult] | Skipped:
    """What the policy reaches within a budget, for each seed; the evaluation labels are paid for from it.

    Raises:
        InvalidArgumentError: where there is no such policy.
        PolicyMisbehavedError: where the policy breaks a rule.
    """
    surface = setting.surface
    affordable = [point for point in surface.points if setting.cost_micros(point) <= budget_micros]
    if not affordable:
        return Skipped(surface.name, "no point of the surface is within the budget", budget_micros=budget_micros)
    policy = setting.make_policy()
    evaluation = choose_evaluation(policy, setting, setting.inputs(budget_micros))
    eval_micros = evaluation.n_labels * setting.human_price_micros
    if min(setting.cost_micros(point) for point in affordable) > budget_micros - eval_micros:
        if setting.n_eval is None:
            raise PolicyMisbehavedError(
                policy, f"wants {evaluation.n_labels} evaluation labels and could buy no others"
            )
        reason = f"{evaluation.n_labels} evaluation labels leave no money for a point of the surface"
        return Skipped(surface.name, reason, budget_micros=budget_micros)
    best_accuracy = max(point.accuracy for point in affordable)
    results: list[BudgetResult] = []
    for seed, episode in enumerate(
        play_seeds(policy, setting, evaluation, budget_micros - eval_micros, n_seeds=n_seeds)
    ):
        results.append(
            BudgetResult(
                surface=surface.name,
                budget_micros=budget_micros,
                weak_price_micros=setting.weak_price_micros,
                human_price_micros=setting.human_price_micros,
                policy=policy.name,
                seed=seed,
                purchases=episode.purchases,
                shipped=episode.shipped,
                evaluation=evaluation,
                spent_micros=episode.label_micros + eval_micros,
                accuracy=episode.accuracy,
                best_accuracy=best_accuracy,
                seconds=episode.seconds,
                seconds_max=episode.seconds_max,
            )
        )
    return results
