"""A sweep's folder with known truth, for the tests of its report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

Truth = Callable[["Method", str, str, str, int, int], float]

RESULT_SCHEMA = {
    "run_id": pl.String, "task": pl.String, "weak_labeller": pl.String, "strong_model": pl.String, "method": pl.String,
    "family": pl.String, "sft": pl.String, "few_shot_count": pl.Int64, "few_shot_kind": pl.String, "n_weak": pl.Int64,
    "n_human": pl.Int64, "n_weak_trained": pl.Int64, "n_human_trained": pl.Int64,
    "seed": pl.Int64, "state": pl.String, "error": pl.String, "n_eval": pl.Int64,
    **{f"{figure}{end}": pl.Float64 for figure in ("accuracy", "auroc", "calibrated_accuracy", "ece")
       for end in ("", "_low", "_high")},
    "loss": pl.Float64, "weak_label_accuracy": pl.Float64, "seconds": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True)
class Method:
    name: str
    family: str
    sft: str
    few_shot_count: int = 0
    few_shot_kind: str = ""

    @property
    def shown(self) -> tuple[int, int]:
        return (
            self.few_shot_count * (self.few_shot_kind == "weak"),
            self.few_shot_count * (self.few_shot_kind == "human"),
        )

    def mix(self, n_weak: int, n_human: int) -> tuple[int, int] | None:
        """What it buys of a mix of the grid; None where it cannot use the mix."""
        if self.sft == "none":
            return self.shown
        if (self.sft == "weak" and (n_human or not n_weak)) or (self.sft == "human" and (n_weak or not n_human)):
            return None
        return max(n_weak, self.shown[0]), max(n_human, self.shown[1])

    def trained(self, n_weak: int, n_human: int) -> tuple[int, int]:
        """What it trains on of a mix that it buys: not what is in the block and nowhere else."""
        if self.sft == "none":
            return 0, 0
        return n_weak * (n_weak > self.shown[0]), n_human * (n_human > self.shown[1])


SEQUENTIAL = Method("sequential_sft", "sequential_sft", "weak>human")
TWO_SHOT = Method("sequential_sft_2shot_human", "sequential_sft", "weak>human", 2, "human")
PROMPTING = Method("few_shot_prompting_2shot_human", "few_shot_prompting", "none", 2, "human")
WEAK_ONLY = Method("weak_sft", "weak_sft", "weak")
HUMAN_ONLY = Method("human_sft", "human_sft", "human")


def flat(method: Method, task: str, model: str, labeller: str, n_weak: int, n_human: int) -> float:
    """Everything is the same: nothing is separable."""
    return 0.7


def regimes(method: Method, task: str, model: str, labeller: str, n_weak: int, n_human: int) -> float:
    """Weak labels are best for little money, both together for more, human labels for much."""
    if method.sft == "none":
        return 0.58
    from_weak = min(0.24, 0.03 * np.log2(1 + n_weak / 8))
    from_human = 0.0 if n_human < 32 else min(0.46, 0.075 * np.log2(n_human / 16))
    bonus = 0.02 if method.few_shot_count else 0.0
    # Weak labels help a little while there are few human ones, and mislead where there are many.
    both = max(from_weak, from_human) + (0.12 if n_weak and 32 <= n_human < 200 else 0.0)
    both -= 0.06 if n_weak and n_human >= 400 else 0.0
    return float(min(0.5 + both + bonus, 0.99))


@dataclass
class SweepFolder:
    """Writes the folder; right answers of runs overlap as much as their accuracies allow, but for some noise."""

    truth: Truth = regimes
    tasks: Sequence[str] = ("claims",)
    labellers: Sequence[str] = ("small",)
    models: Sequence[str] = ("models/strong",)
    methods: Sequence[Method] = (SEQUENTIAL, TWO_SHOT, PROMPTING, WEAK_ONLY, HUMAN_ONLY)
    weak_prices: Sequence[float] = (0.1,)
    budgets: Sequence[float] = (16, 64, 256, 1024)
    fractions: Sequence[float] = (0, 0.2, 0.5, 0.8, 1)
    seeds: int = 2
    n_eval: int = 400
    noise: float = 0.1
    seed_sd: float = 0.0
    pool: int = 100_000
    failed: Sequence[int] = ()
    rows: list[dict[str, object]] = field(default_factory=list)
    grid: list[dict[str, object]] = field(default_factory=list)

    def write(self, folder: Path) -> Path:
        rng = np.random.default_rng(0)
        (folder / "predictions").mkdir(parents=True)
        self._make_grid()
        for task in self.tasks:
            gold = rng.integers(0, 2, self.n_eval)
            hardness = rng.random(self.n_eval)
            for labeller in self.labellers or ("",):
                for model in self.models:
                    self._run_all(folder, rng, task, labeller, model, gold, hardness)
        pl.DataFrame(self.rows, schema=RESULT_SCHEMA).write_parquet(folder / "results.parquet")
        pl.DataFrame(
            self.grid, schema_overrides={"weak_price": pl.Float64, "budget": pl.Float64, "weak_fraction": pl.Float64}
        ).write_parquet(folder / "grid.parquet")
        stated = {
            "kind": "isocost-sweep", "version": 1, "name": "a & <b>", "currency": "USD", "human_price": 1.0,
            "weak_prices": list(self.weak_prices), "budgets": list(self.budgets),
            "weak_fractions": list(self.fractions), "spec": {},
        }  # fmt: skip
        (folder / "sweep.json").write_text(json.dumps(stated))
        return folder

    def _make_grid(self) -> None:
        for task in self.tasks:
            for price in self.weak_prices:
                for budget in self.budgets:
                    for fraction in self.fractions:
                        n_weak = int(round(budget * fraction / price, 6))
                        n_human = int(round(budget * (1 - fraction), 6))
                        self.grid.append(
                            {
                                "task": task, "weak_price": price, "budget": budget, "weak_fraction": fraction,
                                "n_weak": min(n_weak, self.pool), "n_human": n_human, "is_capped": n_weak > self.pool,
                            }
                        )  # fmt: skip

    def _run_all(
        self,
        folder: Path,
        rng: np.random.Generator,
        task: str,
        labeller: str,
        model: str,
        gold: np.ndarray,
        hardness: np.ndarray,
    ) -> None:
        mixes = sorted({(int(str(p["n_weak"])), int(str(p["n_human"]))) for p in self.grid if p["task"] == task})
        for method in self.methods:
            for n_weak, n_human in sorted({mix for asked in mixes if (mix := method.mix(*asked)) is not None}):
                used = labeller if n_weak else ""
                if not used and labeller != (self.labellers or ("",))[0]:
                    continue
                for seed in range(self.seeds):
                    accuracy = self.truth(method, task, model, used, n_weak, n_human)
                    accuracy = min(max(accuracy + rng.normal(0, self.seed_sd), 0.0), 1.0)
                    self._run(folder, rng, (method, task, model, used, n_weak, n_human), seed, accuracy, gold, hardness)

    def _run(
        self,
        folder: Path,
        rng: np.random.Generator,
        key: tuple[Method, str, str, str, int, int],
        seed: int,
        accuracy: float,
        gold: np.ndarray,
        hardness: np.ndarray,
    ) -> None:
        method, task, model, labeller, n_weak, n_human = key
        order = np.argsort(hardness + self.noise * rng.normal(size=self.n_eval))
        right = np.zeros(self.n_eval, dtype=bool)
        right[order[: round(accuracy * self.n_eval)]] = True
        run_id = f"run{len(self.rows):05}"
        has_failed = len(self.rows) in self.failed
        measured = None if has_failed else float(right.mean())
        row: dict[str, object] = {
            "run_id": run_id, "task": task, "weak_labeller": labeller, "strong_model": model, "method": method.name,
            "family": method.family, "sft": method.sft, "few_shot_count": method.few_shot_count,
            "few_shot_kind": method.few_shot_kind, "n_weak": n_weak, "n_human": n_human,
            "n_weak_trained": method.trained(n_weak, n_human)[0], "seed": seed,
            "n_human_trained": method.trained(n_weak, n_human)[1],
            "state": "failed" if has_failed else "succeeded", "error": "out of <memory>" if has_failed else "",
            "n_eval": 0 if has_failed else self.n_eval, "accuracy": measured,
            "weak_label_accuracy": 0.75 if n_weak else None, "seconds": 1.0,
        }  # fmt: skip
        self.rows.append({name: row.get(name, None if has_failed else measured) for name in RESULT_SCHEMA})
        if has_failed:
            return
        choice = np.where(right, gold, 1 - gold)
        pl.DataFrame(
            {
                "item_id": [f"i{index}" for index in range(self.n_eval)],
                "probabilities": np.where(np.arange(2) == choice[:, None], 0.9, 0.1).tolist(),
                "choice": gold,
            }
        ).write_parquet(folder / "predictions" / f"{run_id}.parquet")
