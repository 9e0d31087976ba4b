"""Target mode: what it costs a policy to reach an accuracy."""

from __future__ import annotations

from dataclasses import replace

from isocost.replay.replay import Setting, choose_evaluation, play_seeds
from isocost.replay.results import Skipped, TargetResult

__all__ = ["replay_target"]


def replay_target(setting: Setting, target: float, *, n_seeds: int = 1) -> list[TargetResult] | Skipped:
    """What it costs the policy to reach an accuracy, for each seed.

    It may spend what the surface's dearest point costs, and evaluation labels on top of that; it ends where it stops.

    Raises:
        InvalidArgumentError: where there is no such policy.
        PolicyMisbehavedError: where the policy breaks a rule.
    """
    surface = setting.surface
    enough = [setting.cost_micros(point) for point in surface.points if point.accuracy >= target]
    if not enough:
        return Skipped(surface.name, "no point of the surface reaches the target", target=target)
    money_micros = max(setting.cost_micros(point) for point in surface.points)
    policy = setting.make_policy()
    evaluation = choose_evaluation(policy, setting, replace(setting.inputs(money_micros), target_accuracy=target))
    results: list[TargetResult] = []
    for seed, episode in enumerate(
        play_seeds(policy, setting, evaluation, money_micros, n_seeds=n_seeds, target=target)
    ):
        results.append(
            TargetResult(
                surface=surface.name,
                target=target,
                weak_price_micros=setting.weak_price_micros,
                human_price_micros=setting.human_price_micros,
                policy=policy.name,
                seed=seed,
                purchases=episode.purchases,
                shipped=episode.shipped,
                evaluation=evaluation,
                cost_micros=episode.label_micros + evaluation.n_labels * setting.human_price_micros,
                cheapest_micros=min(enough),
                accuracy=episode.accuracy,
                seconds=episode.seconds,
                seconds_max=episode.seconds_max,
            )
        )
    return results
