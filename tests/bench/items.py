"""Which items to buy human labels for, judged on the testbed at equal spend: `python -m tests.bench.items`.

Every seed draws its own items, as in the testbed's table. A model is trained on weak labels; then human labels are
bought: a random pilot, and the rest by one of the rules `random`, `uncertainty` and `cost_aware`, in one tranche. The
accuracies are those of the model trained on the weak labels and all human ones, on test claims that are the same for
all. Differences are paired by seed. The report goes into bench/items.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from isocost.economics.item_choice import cost_aware_items, predictive_entropy
from isocost.embedded.launcher import EmbeddedServices
from isocost.embedded.testbed import RECIPE, TASK
from isocost.labeler.settings import LabelerSettings
from isocost.microworld.claims import TASK_CHOICES, pool_frame, test_frame
from isocost.resources.label import one_hot
from isocost.resources.method import Method, Stage, StoppingRule
from isocost.resources.run import EvaluationSet, Example, Prediction, Run, RunSpec, RunState
from isocost.resources.task import Item, LabelKind

_REPORT = Path("bench/items.json")
RULES = ("random", "uncertainty", "cost_aware")
_N_WEAK, _N_PILOT, _N_FREE, _N_TEST = 320, 16, 1_200, 1_000
_BUDGETS = (32, 96)
#: Apart from those of the testbed's table.
_SEED_FIRST = 3_000


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The items of one seed, with their known answers, and the weak labels."""

    weak: list[Example]
    pilot: list[Example]
    free: list[Example]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _examples(frame: Any) -> list[Example]:
    return [
        Example(row["id"], {name: row[name] for name in TASK.fields}, one_hot(TASK_CHOICES.index(row["label"]), 2))
        for row in frame.iter_rows(named=True)
    ]


async def _draw(services: EmbeddedServices, seed: int) -> _Drawn:
    pool = _examples(pool_frame(_N_WEAK + _N_PILOT + _N_FREE, seed=seed))
    items = [Item(example.item_id, example.fields) for example in pool[:_N_WEAK]]
    weak: dict[str, Example] = {}
    async for result in services.labeler.label(items, TASK, model="microworld:weak"):
        assert result.label is not None, result.error
        weak[result.item_id] = Example(result.item_id, {}, result.label.probabilities)
    labelled = [Example(item.item_id, item.fields, weak[item.item_id].probabilities) for item in items]
    return _Drawn(labelled, pool[_N_WEAK : _N_WEAK + _N_PILOT], pool[_N_WEAK + _N_PILOT :])


def _rows(predictions: Sequence[Prediction]) -> Any:
    return np.array([prediction.probabilities for prediction in predictions])


def choose(
    rule: str, drawn: _Drawn, n_items: int, free: Sequence[Prediction], pilot: Sequence[Prediction]
) -> list[str]:
    """Ids of the items that a rule takes, in its sequence."""
    ids = [example.item_id for example in drawn.free]
    if rule == "random":
        # The pool is in random order.
        return ids[:n_items]
    if rule == "uncertainty":
        entropy = predictive_entropy(_rows(free))
        return [ids[index] for index in np.argsort(-entropy, kind="stable")[:n_items]]
    return cost_aware_items(
        ids,
        _rows(free),
        n_items,
        answered_probabilities=_rows(pilot),
        answered_choices=[example.choice for example in drawn.pilot],
    )


async def _finished(services: EmbeddedServices, spec: RunSpec) -> Run:
    run = await services.trainer.create_run(spec)
    async for watched in services.trainer.watch_run(run.run_id):
        run = watched
    assert run.state is RunState.SUCCEEDED, run.error
    return run


async def _predictions(services: EmbeddedServices, run: Run, name: str) -> list[Prediction]:
    return [prediction async for prediction in services.trainer.predictions(run.run_id, name)]


async def measure(out: Path, n_seeds: int, stopping_rule: StoppingRule) -> dict[str, Any]:
    """Accuracies by budget and rule, one for each seed; what was done before in `out` is not done again."""
    recipe = replace(RECIPE, stopping_rule=stopping_rule)
    method = Method("sequential_sft", (Stage(LabelKind.WEAK, recipe), Stage(LabelKind.HUMAN, recipe)))
    accuracies: dict[int, dict[str, list[float]]] = {budget: {rule: [] for rule in RULES} for budget in _BUDGETS}
    weak_only: list[float] = []
    right: dict[str, list[float]] = {rule: [] for rule in RULES}
    settings = LabelerSettings(state_dir=out / "labeler", engine="transformers")
    async with EmbeddedServices(out, labeler_settings=settings) as services:
        put = services.trainer.put_examples
        test = EvaluationSet("test", await put(_examples(test_frame(_N_TEST, seed=0))))
        for seed in range(_SEED_FIRST, _SEED_FIRST + n_seeds):
            start = time.monotonic()
            drawn = await _draw(services, seed)
            weak_digest = await put(drawn.weak)
            sets = (EvaluationSet("free", await put(drawn.free)), EvaluationSet("pilot", await put(drawn.pilot)))
            base = RunSpec(
                TASK, method, "microworld:strong", weak_digest, _N_WEAK, seed=seed, evaluation_sets=(test, *sets)
            )
            run = await _finished(services, base)
            weak_only.append(run.evaluations[0].accuracy)
            free, pilot = [await _predictions(services, run, name) for name in ("free", "pilot")]
            by_id = {example.item_id: example for example in drawn.free}
            predicted = {prediction.item_id: prediction.probabilities for prediction in free}
            for budget in _BUDGETS:
                for rule in RULES:
                    taken = choose(rule, drawn, budget - _N_PILOT, free, pilot)
                    chosen = [by_id[item_id] for item_id in taken]
                    n_right = sum(max(range(2), key=predicted[one.item_id].__getitem__) == one.choice for one in chosen)
                    right[rule].append(n_right / len(chosen))
                    spec = RunSpec(
                        task=TASK,
                        method=method,
                        base_model="microworld:strong",
                        weak_digest=weak_digest,
                        n_weak=_N_WEAK,
                        human_digest=await put([*drawn.pilot, *chosen]),
                        n_human=budget,
                        seed=seed,
                        evaluation_sets=(test,),
                        discard_output=True,
                    )
                    accuracies[budget][rule].append((await _finished(services, spec)).evaluations[0].accuracy)
            shown = {budget: [f"{accuracies[budget][rule][-1]:.3f}" for rule in RULES] for budget in _BUDGETS}
            _say(f"seed {seed}: weak only {weak_only[-1]:.3f}, {shown} ({time.monotonic() - start:.0f} s)")
    return {
        "stopping_rule": stopping_rule.value,
        "n_seeds": n_seeds,
        "n_weak": _N_WEAK,
        "n_pilot": _N_PILOT,
        "weak_only": weak_only,
        "weak_only_right_on_the_items_taken": {rule: statistics.fmean(values) for rule, values in right.items()},
        "accuracies": accuracies,
        "summary": [_summary(budget, rule, accuracies[budget]) for budget in _BUDGETS for rule in RULES],
    }


def _summary(budget: int, rule: str, by_rule: dict[str, list[float]]) -> dict[str, Any]:
    differences = [a - b for a, b in zip(by_rule[rule], by_rule["random"], strict=True)]
    return {
        "n_human": budget,
        "rule": rule,
        "mean_accuracy": statistics.fmean(by_rule[rule]),
        "over_random": statistics.fmean(differences),
        "standard_error": statistics.stdev(differences) / math.sqrt(len(differences)),
    }


def main() -> None:
    """Measures, prints the table and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6, help="at least 2 [6]")
    parser.add_argument("--state", type=Path, help="folder of the runs, to go on with [a temporary one]")
    parser.add_argument("--stopping-rule", default="auroc", choices=[rule.value for rule in StoppingRule])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        state = arguments.state or Path(folder)
        report = asyncio.run(measure(state, max(2, arguments.seeds), StoppingRule(arguments.stopping_rule)))
    _REPORT.parent.mkdir(exist_ok=True)
    _REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"{_N_WEAK} weak labels alone: {statistics.fmean(report['weak_only']):.3f} ({report['n_seeds']} seeds)")
    print(f"{'humans':>8}  {'rule':14}{'accuracy':>10}{'over random':>14}{'standard error':>16}")
    for row in report["summary"]:
        print(
            f"{row['n_human']:8}  {row['rule']:14}{row['mean_accuracy']:10.3f}{row['over_random']:+14.3f}"
            f"{row['standard_error']:16.3f}"
        )
    print(f"written {_REPORT}")


if __name__ == "__main__":
    main()
