"""What policies miss on known accuracy surfaces: `python -m tests.bench.policy`.

Writes bench/policy.json and bench/policy.svg. Every policy is replayed on every surface, at three weak prices;
`adaptive` knows nothing of the dataset that it is replayed on (leave-one-dataset-out).

- *exact*: accuracies are exact and free (the paper's setting), six budgets.
- *paid*: evaluation labels are bought from the budget, of 256 and more; as many as the policy chooses, and for
  `adaptive` fixed numbers beside that, and none bought but exact accuracies.
- *target*: an accuracy is to be reached at least cost, accuracies exact and free.
- *floor*: what an oracle misses for want of luck. It knows the smooth surface and the law of the runs' noise, but not
  the draw; it buys at once and ships the best of what it then sees. Its regret on tables drawn afresh, and on the real
  ones, whose smooth surface is taken to be the posterior mean given all of their points.
- *measuring*: what the forecasts of `adaptive` promise of exact and free measurements over none, and what they bring.
- *seconds*: the longest of some plans for 50 observations, the first of the process (which reads the library) included.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt
import polars as pl
import vl_convert

from isocost.economics.frontier import ObservedPoint
from isocost.economics.policy.forecast import Forecast
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.policy.kernel import Points
from isocost.economics.policy.posterior import Observed, posterior
from isocost.economics.policy.prior import surface_prior
from isocost.economics.policy.registry import make_policy
from isocost.replay.evaluation import Evaluation, EvaluationKind
from isocost.replay.replay import Setting, play, replay_budget
from isocost.replay.results import (
    BudgetResult,
    RegretSummary,
    Skipped,
    TargetResult,
    TargetSummary,
    regret_summary,
    target_summary,
)
from isocost.replay.surface import Surface, read_surface
from isocost.replay.target import replay_target

_REPORT = Path("bench/policy.json")
_PLOT = Path("bench/policy.svg")
_SURFACES = Path("../shared/surfaces")
#: Of `adaptive`; at most.
_LIMITS = {"exact_mean": 0.0135, "exact_p90": 0.040, "paid_mean": 0.020, "seconds": 1.0}

_UNIT = 1_000_000
_BUDGETS = (16, 64, 256, 512, 1024, 4096)
_PAID_BUDGETS = (256, 512, 1024, 4096)
_WEAK_PRICES = (0.5, 0.1, 0.01)
_TARGETS = (0.7, 0.8, 0.85, 0.9)
_FIXED = tuple(f"fixed:{share}" for share in (0.05, 0.2, 0.4, 0.5, 0.6, 0.8, 0.95))
_POLICIES = (
    "adaptive", "paper-advice", "paper-advice:purchased", *_FIXED, "all-weak", "all-human", "loc", "power-law",
)  # fmt: skip
_PAID_POLICIES = ("paper-advice", "fixed:0.6", "all-weak", "all-human", "loc", "power-law")
_TARGET_POLICIES = ("adaptive", "loc", "power-law", "paper-advice", "fixed:0.5", "all-weak", "all-human")
#: None: as many as the policy chooses; 0: exact and free.
_N_EVAL = (None, 0, 32, 128, 256)
_N_OBSERVATIONS = 50
_N_PLANS = 5
#: Tables that the oracle's purchase is chosen by, and others that it is judged on.
_N_TABLES_CHOOSE, _N_TABLES_JUDGE = 2000, 200

Floats = npt.NDArray[np.float64]


def _settings(surfaces: Sequence[Surface], policy: str, n_eval: int | None) -> Iterable[Setting]:
    for surface, price in product(surfaces, _WEAK_PRICES):
        yield Setting(surface, round(price * _UNIT), _UNIT, policy, n_eval)


def _regrets(
    surfaces: Sequence[Surface], policy: str, budgets: Sequence[int], n_eval: int | None = 0, n_seeds: int = 1
) -> list[BudgetResult]:
    results: list[BudgetResult] = []
    for setting, budget in product(_settings(surfaces, policy, n_eval), budgets):
        found = replay_budget(setting, budget * _UNIT, n_seeds=n_seeds)
        if not isinstance(found, Skipped):
            results.extend(found)
    return results


def _targets(surfaces: Sequence[Surface], policy: str) -> list[TargetResult]:
    results: list[TargetResult] = []
    for setting, target in product(_settings(surfaces, policy, 0), _TARGETS):
        found = replay_target(setting, target)
        if not isinstance(found, Skipped):
            results.extend(found)
    return results


def _cuts(results: Sequence[BudgetResult]) -> dict[str, Any]:
    """Regret over all cases, and by surface, price and budget."""

    def by(key: Callable[[BudgetResult], Hashable]) -> dict[str, Any]:
        return {str(name): _rounded(summary) for name, summary in regret_summary(results, key).items()}

    return {
        "all": by(lambda _: "all")["all"],
        "by_surface": by(lambda one: one.surface),
        "by_weak_price": by(lambda one: one.weak_price_micros / _UNIT),
        "by_budget": by(lambda one: one.budget_micros // _UNIT),
    }


def _rounded(summary: RegretSummary | TargetSummary) -> dict[str, Any]:
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in asdict(summary).items()}


def plan_seconds(surface: Surface) -> list[float]:
    """Seconds of plans for 50 observations, without a menu, as a campaign asks for them."""
    runs = [
        ObservedPoint(surface.method, point.n_weak, point.n_human, seed, point.accuracy, 200)
        for seed in range(_N_OBSERVATIONS)
        for point in surface.points
    ][:_N_OBSERVATIONS]
    n_weak, n_human = max(run.n_weak for run in runs), max(run.n_human for run in runs)
    policy = make_policy("adaptive")
    seconds = []
    for price in (*_WEAK_PRICES, *_WEAK_PRICES)[:_N_PLANS]:
        inputs = PolicyInputs(
            weak=(SourceState("weak", round(price * _UNIT), n_weak),),
            human=(SourceState("human", _UNIT, n_human),),
            available_micros=5_000 * _UNIT,
            tranche_micros=1_000 * _UNIT,
            n_items_free=100_000,
            observations=tuple(runs),
            n_eval=200,
        )
        start = time.perf_counter()
        policy.decide(inputs)
        seconds.append(time.perf_counter() - start)
    return seconds


def _smooth(surface: Surface) -> tuple[Floats, Floats]:
    """The smooth surface at each point, and the standard deviation of a single run around it.

    The posterior given all points, under the prior without the surface's dataset. It is asked for a second run of every
    point: its mean is that of the smooth surface, as the noise of the run that was seen does not carry over.
    """
    n_points = len(surface.points)
    twice = np.array([point.mix for point in surface.points] * 2, dtype=float)
    none = np.full(2 * n_points, -1, dtype=np.int64)
    points = Points(twice[:, 0], twice[:, 1], none, none, np.full(2 * n_points, np.nan))
    accuracy = np.array([point.accuracy for point in surface.points])
    observed = Observed(range(n_points), accuracy, np.ones(n_points), np.zeros(n_points))
    found = posterior(surface_prior((surface.dataset,)), points, observed)
    return found.mean[n_points:], np.sqrt(found.run_variance[n_points:])


def noise_floor(surfaces: Sequence[Surface]) -> dict[str, Any]:
    """Mean regret of the oracle, see *floor* above; 90 % quantiles over cases and, of drawn tables, draws."""
    drawn: dict[str, list[Floats]] = {}
    real: dict[str, list[float]] = {}
    noise: dict[str, dict[str, float]] = {}
    rng = np.random.default_rng(0)
    for surface in surfaces:
        mean, sd = _smooth(surface)
        accuracy = np.array([point.accuracy for point in surface.points])
        noise[surface.name] = {
            "run_sd": round(float(np.sqrt((sd**2).mean())), 5),
            "residual_sd": round(float(np.sqrt(((accuracy - mean) ** 2).mean())), 5),
        }
        choose = mean + sd * rng.standard_normal((_N_TABLES_CHOOSE, len(mean)))
        judge = mean + sd * rng.standard_normal((_N_TABLES_JUDGE, len(mean)))
        mixes = np.array([point.mix for point in surface.points])
        holds = np.logical_and(*(mixes[:, None, kind] >= mixes[None, :, kind] for kind in (0, 1)))
        for price, budget in product(_WEAK_PRICES, _BUDGETS):
            costs = np.array([point.cost_micros(round(price * _UNIT), _UNIT) for point in surface.points])
            affordable = np.flatnonzero(costs <= budget * _UNIT)
            if not len(affordable):
                continue
            boxes = [np.flatnonzero(holds[point]) for point in affordable]
            box = max(boxes, key=lambda one: float(choose[:, one].max(axis=1).mean()))
            missed = judge[:, affordable].max(axis=1) - judge[:, box].max(axis=1)
            drawn.setdefault(surface.name, []).append(missed)
            real.setdefault(surface.name, []).append(float(accuracy[affordable].max() - accuracy[box].max()))

    def figures(regrets: Floats) -> dict[str, float]:
        return {"mean": round(float(regrets.mean()), 5), "p90": round(float(np.quantile(regrets, 0.9)), 5)}

    def both(names: Sequence[str]) -> dict[str, Any]:
        return {
            "n_cases": sum(len(real[name]) for name in names),
            "drawn": figures(np.concatenate([np.concatenate(drawn[name]) for name in names])),
            "real": figures(np.array([regret for name in names for regret in real[name]])),
        }

    return {"all": both(list(real)), "by_surface": {name: {**both([name]), **noise[name]} for name in real}}


def measuring_worth(surfaces: Sequence[Surface], exact: Sequence[BudgetResult]) -> dict[str, Any]:
    """What exact and free measurements are promised to bring, and what they bring, see *measuring* above.

    Args:
        surfaces: Replayed, with the budgets that are judged with paid evaluation.
        exact: Results of `adaptive` with them.
    """
    regrets = {(one.surface, one.weak_price_micros, one.budget_micros): one.regret for one in exact}
    promised, delivered = [], []
    for setting, budget in product(_settings(surfaces, "adaptive", 0), _PAID_BUDGETS):
        surface = setting.surface
        key = surface.name, setting.weak_price_micros, budget * _UNIT
        if key not in regrets:
            continue
        blind = setting.inputs(budget * _UNIT)
        prior = surface_prior((surface.dataset,))
        final, blind_final = (
            Forecast(inputs, inputs.weak[0], inputs.human[0], prior).final
            for inputs in (replace(blind, n_eval=0), blind)
        )
        promised.append(final - blind_final)
        episode = play(setting.make_policy(), setting, Evaluation(EvaluationKind.NONE), budget * _UNIT)
        best = max(point.accuracy for point in surface.points if setting.cost_micros(point) <= budget * _UNIT)
        delivered.append(best - episode.accuracy - regrets[key])
    return {
        "n_cases": len(promised),
        "promised": round(float(np.mean(promised)), 5),
        "delivered": round(float(np.mean(delivered)), 5),
        "delivered_standard_error": round(float(np.std(delivered, ddof=1) / np.sqrt(len(delivered))), 5),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(surfaces: Sequence[Surface], n_seeds: int) -> tuple[dict[str, Any], list[BudgetResult]]:
    """The report, and the exact results for the plot."""
    # First, as only a fresh process has not read the library yet.
    seconds = plan_seconds(max(surfaces, key=lambda surface: len(surface.points)))
    exact: list[BudgetResult] = []
    for policy in _POLICIES:
        _say(f"exact, {policy} ...")
        exact.extend(_regrets(surfaces, policy, _BUDGETS))
    paid: dict[str, Any] = {}
    for policy, n_eval in [*(("adaptive", n_eval) for n_eval in _N_EVAL), *((name, None) for name in _PAID_POLICIES)]:
        label = {None: "auto", 0: "exact"}.get(n_eval, str(n_eval))
        _say(f"paid, {policy}, {label} ...")
        results = _regrets(surfaces, policy, _PAID_BUDGETS, n_eval, n_seeds)
        mean_n_eval = sum(result.evaluation.n_labels for result in results) / len(results)
        paid[f"{policy} {label}"] = {"mean_eval_labels": round(mean_n_eval, 1), **_cuts(results)}
    target: dict[str, Any] = {}
    for policy in _TARGET_POLICIES:
        _say(f"target, {policy} ...")
        reached = _targets(surfaces, policy)
        by_target = target_summary(reached, lambda one: one.target)
        target[policy] = {
            "all": _rounded(target_summary(reached, lambda _: "all")["all"]),
            "by_target": {str(name): _rounded(summary) for name, summary in by_target.items()},
        }
    _say("floor ...")
    floor = noise_floor(surfaces)
    _say("measuring ...")
    measuring = measuring_worth(surfaces, [one for one in exact if one.policy == "adaptive"])
    cuts = {policy: _cuts([one for one in exact if one.policy == policy]) for policy in _POLICIES}
    adaptive = cuts["adaptive"]["all"]
    seconds_in_replay = max(one.seconds_max for one in exact if one.policy == "adaptive")
    report = {
        "exact_mean": adaptive["mean"],
        "exact_p90": adaptive["p90"],
        "paid_mean": paid["adaptive auto"]["all"]["mean"],
        "seconds": round(max(seconds), 4),
        "best_fixed": min(_FIXED, key=lambda name: float(cuts[name]["all"]["mean"])),
        "seconds_first_plan": round(seconds[0], 4),
        "seconds_longest_decision_in_replay": round(seconds_in_replay, 4),
        "surfaces": [surface.name for surface in surfaces],
        "n_seeds_paid": n_seeds,
        "exact": cuts,
        "paid": paid,
        "target": target,
        "floor": floor,
        "measuring": measuring,
    }
    return report, exact


def _print_tables(report: dict[str, Any]) -> None:
    def regrets(title: str, section: dict[str, Any], budgets: Sequence[int]) -> None:
        print(f"\n{title}\n{'':26}{'cases':>6}{'mean':>8}{'p90':>8}{'max':>8}  mean by budget")
        print(" " * 58 + "".join(f"{budget:>8}" for budget in budgets))
        for name, cuts in section.items():
            whole = cuts["all"]
            by_budget = (cuts["by_budget"].get(str(budget)) for budget in budgets)
            cells = "".join(f"{cell['mean']:8.4f}" if cell else f"{'-':>8}" for cell in by_budget)
            eval_labels = f"  {cuts['mean_eval_labels']:g} evaluation labels" if "mean_eval_labels" in cuts else ""
            print(
                f"{name:26}{whole['n_cases']:6}{whole['mean']:8.4f}{whole['p90']:8.4f}{whole['max']:8.4f}  "
                f"{cells}{eval_labels}"
            )

    regrets("regret, exact evaluation", report["exact"], _BUDGETS)
    regrets("regret, evaluation paid for", report["paid"], _PAID_BUDGETS)
    print("\nregret of `adaptive`, exact evaluation")
    for cut in ("by_surface", "by_weak_price"):
        for name, summary in report["exact"]["adaptive"][cut].items():
            advice = report["exact"]["paper-advice"][cut][name]
            print(f"{name:34}{summary['mean']:8.4f}{summary['p90']:8.4f}   paper-advice {advice['mean']:.4f}")
    print(f"\ntarget mode\n{'':26}{'cases':>6}{'failed':>8}{'ratio':>8}{'p90':>8}")
    for name, cuts in report["target"].items():
        whole = cuts["all"]
        ratios = (whole["cost_ratio_mean"], whole["cost_ratio_p90"])
        cells = "".join(f"{'-':>8}" if ratio is None else f"{ratio:8.2f}" for ratio in ratios)
        print(f"{name:26}{whole['n_cases']:6}{whole['failure_rate']:8.0%}{cells}")
    _print_floor(report)


def _print_floor(report: dict[str, Any]) -> None:
    print("\nnoise floor: regret of an oracle that knows the smooth surface, and buys at once")
    print(f"{'':34}{'cases':>6}{'drawn':>8}{'p90':>8}{'real':>8}{'p90':>8}{'run sd':>8}{'residual':>10}")
    for name, cut in {"all": report["floor"]["all"], **report["floor"]["by_surface"]}.items():
        cells = "".join(f"{cut[table][figure]:8.4f}" for table in ("drawn", "real") for figure in ("mean", "p90"))
        noise = f"{cut['run_sd']:8.4f}{cut['residual_sd']:10.4f}" if "run_sd" in cut else ""
        print(f"{name:34}{cut['n_cases']:6}{cells}{noise}")
    worth = report["measuring"]
    print(
        f"\nexact measurements over none, {worth['n_cases']} cases: promised {worth['promised']:.4f}, delivered "
        f"{worth['delivered']:.4f} (standard error {worth['delivered_standard_error']:.4f})"
    )


def plot_svg(results: Sequence[BudgetResult]) -> str:
    """Mean and 90 % quantile of the regret by budget, one line a policy; of the fixed shares the best on average."""
    means = {name: summary.mean for name, summary in regret_summary(results, lambda one: one.policy).items()}
    best_fixed = min(_FIXED, key=lambda name: means[name])
    shown = [policy for policy in _POLICIES if policy not in _FIXED or policy == best_fixed]
    summaries = regret_summary(results, lambda one: (one.policy, one.budget_micros // _UNIT))
    rows = [
        {"policy": policy, "budget": budget, "figure": figure, "regret": regret}
        for (policy, budget), summary in summaries.items()
        if policy in shown
        for figure, regret in (("mean", summary.mean), ("90 % quantile", summary.p90))
    ]
    chart = (
        alt.Chart(pl.DataFrame(rows))
        .mark_line(point=True)
        .encode(
            x=alt.X("budget:Q", title="budget (human labels, logarithmic)", scale=alt.Scale(type="log", base=2)),
            y=alt.Y("regret:Q", title="regret in accuracy"),
            color=alt.Color("policy:N", sort=shown, scale=alt.Scale(scheme="tableau10")),
            strokeWidth=alt.condition(alt.datum.policy == "adaptive", alt.value(4), alt.value(1.5)),
            column=alt.Column("figure:N", title=None, sort=["mean", "90 % quantile"]),
        )
        .properties(width=420, height=320)
    )
    return str(vl_convert.vegalite_to_svg(chart.to_dict()))


def main() -> None:
    """Measures and writes the report; exits with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surfaces", type=Path, nargs="+", help=f"surface files [{_SURFACES}/*.csv]")
    parser.add_argument("--seeds", type=int, default=5, help="draws of the noise of paid evaluation [5]")
    arguments = parser.parse_args()
    paths = arguments.surfaces or sorted(_SURFACES.glob("*.csv"))
    if not paths:
        parser.error(f"{_SURFACES} holds no surface; name some with --surfaces")
    report, exact = measure([read_surface(path) for path in paths], arguments.seeds)
    _REPORT.parent.mkdir(exist_ok=True)
    _REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _PLOT.write_text(plot_svg(exact), encoding="utf-8")
    _print_tables(report)
    print(f"\nwritten {_REPORT} and {_PLOT}; best fixed share: {report['best_fixed']}")
    for name, limit in _LIMITS.items():
        print(f"{name} {report[name]} (at most {limit}): {'met' if report[name] <= limit else 'MISSED'}")
    sys.exit(any(report[name] > limit for name, limit in _LIMITS.items()))


if __name__ == "__main__":
    main()
