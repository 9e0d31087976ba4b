"""The machine-readable half of a report: result.json, observations.parquet, ledger.parquet."""

from __future__ import annotations

from typing import Any

import polars as pl

from isocost.report.evidence import Evidence
from isocost.report.plan_table import plan_result
from isocost.report.weak_source import CHOICE_RULE, HumanGrade, WeakSource
from isocost.resources.observation import Evaluation

__all__ = ["ledger_frame", "observations_frame", "result"]


def observations_frame(evidence: Evidence) -> pl.DataFrame:
    """One row an observation; columns as in the published accuracy surfaces, and more."""
    return pl.DataFrame(
        [
            {
                "run_id": o.run_id,
                "method": o.method,
                "n_weak": o.n_weak,
                "n_human": o.n_human,
                "seed": o.seed,
                "cost_micros": o.cost.micros if o.cost else 0,
                "currency": o.cost.currency_code if o.cost else "",
                "accuracy": o.evaluation.accuracy,
                "accuracy_low": o.evaluation.accuracy_low,
                "accuracy_high": o.evaluation.accuracy_high,
                "auroc": o.evaluation.auroc,
                "n_eval": o.evaluation.n_eval,
                "test_accuracy": o.test.accuracy if o.test else None,
                "n_test": o.test.n_eval if o.test else None,
                "create_time": o.create_time,
            }
            for o in evidence.observations
        ],
        schema_overrides={"test_accuracy": pl.Float64, "n_test": pl.Int64},
    )


def ledger_frame(evidence: Evidence) -> pl.DataFrame:
    """One row an entry of the ledger, in sequence."""
    return pl.DataFrame(
        [
            {
                "sequence": entry.sequence,
                "order_id": entry.order_id,
                "source_id": entry.source_id,
                "kind": entry.kind.name.lower(),
                "amount_micros": entry.amount.micros,
                "currency": entry.amount.currency_code,
                "label_id": entry.label_id,
                "create_time": entry.create_time,
            }
            for entry in evidence.entries
        ]
    )


def _evaluation(evaluation: Evaluation | None) -> dict[str, Any] | None:
    if evaluation is None:
        return None
    return {
        "accuracy": evaluation.accuracy,
        "accuracy_interval": [evaluation.accuracy_low, evaluation.accuracy_high],
        "auroc": evaluation.auroc,
        "n_eval": evaluation.n_eval,
    }


def _weak_source(evidence: Evidence, weak: WeakSource) -> dict[str, Any]:
    source, quality, calibration = weak.source, weak.quality, weak.calibration
    metered, mean_price = source.price_per_million_tokens, evidence.mean_price(source.source_id)
    return {
        "source": source.source_id,
        "model": source.model,
        "chosen": source.source_id == evidence.weak_sources.chosen,
        "unit_price": source.unit_price.units,
        "price_per_million_tokens": metered.units if metered else None,
        "mean_price_paid": mean_price.units if mean_price else None,
        "n_measured": quality.n_measured,
        "accuracy": quality.accuracy if quality.n_measured else None,
        "accuracy_interval": list(quality.accuracy_interval),
        "recalls": list(quality.recalls),
        "choices_mass": quality.choices_mass,
        "calibration": {
            "method": calibration.method.value,
            "used": calibration.used,
            "temperature": calibration.temperature,
            "nll": [calibration.nll_before, calibration.nll_after],
            "ece": [calibration.ece_before, calibration.ece_after],
        }
        if calibration
        else None,
    }


def _grade(evidence: Evidence, grade: HumanGrade) -> dict[str, Any]:
    quality = grade.quality
    return {
        "source": grade.source.source_id,
        "reference": quality is None,
        "ranked_first": grade.source.source_id == evidence.weak_sources.grade,
        "unit_price": grade.source.unit_price.units,
        "n_measured": quality.n_measured if quality else 0,
        "accuracy": quality.accuracy if quality and quality.n_measured else None,
        "accuracy_interval": list(quality.accuracy_interval) if quality else None,
    }


def result(evidence: Evidence) -> dict[str, Any]:
    """The campaign's result as JSON. Amounts are in units of the currency; accuracies between 0 and 1.

    `accuracy`, its interval and `n_eval` are those of the shipped model on the bought evaluation labels; `test` is the
    same on the benchmark's gold answers, or null. `weak_sources` has the figures by which one of them was chosen; of
    `nll` and `ece` the first is without calibration, the second with it, by cross-validation. `plans` has what was
    decided and why, oldest first; along an isocost line, an interval is the posterior's 5 % to 95 %.
    """
    balance = evidence.status.balance
    shipped = evidence.shipped
    return {
        "campaign": evidence.status.campaign.campaign_id,
        "currency": balance.budget.currency_code,
        "budget": balance.budget.units,
        "spent": balance.settled.units,
        "reserved": balance.reserved.units,
        "labels_bought": evidence.labels_bought,
        "labels_by_purpose": [
            {"source": source, "purpose": purpose, "n_labels": n_labels}
            for (source, purpose), n_labels in sorted(evidence.labels_by_purpose.items())
        ],
        "weak_sources": [_weak_source(evidence, weak) for weak in evidence.weak_sources.sources],
        "human_sources": [_grade(evidence, grade) for grade in evidence.weak_sources.grades],
        "weak_source_choice": {"rule": CHOICE_RULE, "reason": evidence.weak_sources.reason},
        "method": shipped.method,
        "run_id": shipped.run_id,
        "n_weak": shipped.n_weak,
        "n_human": shipped.n_human,
        "seed": shipped.seed,
        "accuracy": shipped.evaluation.accuracy,
        "accuracy_interval": [shipped.evaluation.accuracy_low, shipped.evaluation.accuracy_high],
        "n_eval": shipped.evaluation.n_eval,
        "test": _evaluation(shipped.test),
        "n_runs": len(evidence.observations),
        "frontier": [
            {
                "cost": point.cost.units,
                "accuracy": point.accuracy,
                "accuracy_interval": [point.accuracy_low, point.accuracy_high],
                "n_weak": point.n_weak,
                "n_human": point.n_human,
                "method": point.method,
                "n_seeds": point.n_seeds,
            }
            for point in evidence.frontier
        ],
        "plans": [plan_result(plan) for plan in evidence.plans],
    }
