"""The testbed's table: what sequential SFT does on the microworld, on isocost lines and over seeds.

Every seed draws its own items, its own weak and human sets and its own initialisation; the test claims are the same for
all. The weak labels come from the labeler service, the runs from the trainer service.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from isocost.core.errors import FailedPreconditionError
from isocost.core.progress import Progress
from isocost.embedded.launcher import EmbeddedServices
from isocost.labeler.settings import LabelerSettings
from isocost.microworld.claims import TASK_CHOICES, TASK_TEMPLATE, pool_frame, test_frame
from isocost.resources.label import one_hot
from isocost.resources.method import Method, Recipe, Stage, StoppingRule
from isocost.resources.run import EvaluationSet, Example, RunSpec, RunState
from isocost.resources.task import Item, LabelKind, Task

__all__ = ["Cell", "Comparison", "TestbedTable", "compare", "make_table", "mixes_of_testbed", "write_table"]

TASK = Task("microworld", TASK_TEMPLATE, TASK_CHOICES)
#: The paper's recipe, its stopping rule included.
RECIPE = Recipe(learning_rate=2e-3, max_examples=10_000, stopping_rule=StoppingRule.AUROC)
METHOD = Method("sequential_sft", (Stage(LabelKind.WEAK, RECIPE), Stage(LabelKind.HUMAN, RECIPE)))
WEAK_PRICE, HUMAN_PRICE = 0.10, 1.00
#: Isocost lines, in units of the human price, and the shares of them spent on weak labels.
BUDGETS = (16, 32, 64, 80, 128)
WEAK_FRACTIONS = (0.0, 0.2, 0.5, 0.8, 1.0)
#: Human-only runs: the take-off.
HUMAN_COUNTS = (8, 16, 32, 64, 128, 256, 512)
#: The pool is divided once for each seed, so that no item is in both sets.
N_WEAK_MAX, N_HUMAN_MAX = 1_280, 512
N_TEST = 1_000
#: Seeds begin here: lower ones were looked at while the models' curriculum was chosen.
SEED_FIRST = 1_000


@dataclass(frozen=True, slots=True)
class Cell:
    """The accuracies of one mix, one for each seed, in the seeds' order."""

    n_weak: int
    n_human: int
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.accuracies)


@dataclass(frozen=True, slots=True)
class Comparison:
    """On one isocost line: the best mix of both kinds against each kind alone.

    Attributes:
        budget: In units of the human price.
        mixed, weak_only, human_only: The three cells.
        weak_margin, human_margin: Mean difference of the mix to each, over seeds (paired by seed).
        weak_error, human_error: Standard errors of the two.
    """

    budget: int
    mixed: Cell
    weak_only: Cell
    human_only: Cell
    weak_margin: float
    weak_error: float
    human_margin: float
    human_error: float

    @property
    def mix_wins(self) -> bool:
        """Whether the mix beats both by more than two standard errors."""
        return self.weak_margin > 2 * self.weak_error and self.human_margin > 2 * self.human_error


@dataclass(frozen=True, slots=True)
class TestbedTable:
    """All cells, and the weak labels' accuracy for each seed."""

    __test__ = False

    cells: tuple[Cell, ...]
    weak_label_accuracies: tuple[float, ...]

    def cell(self, n_weak: int, n_human: int) -> Cell:
        """The cell of a mix."""
        return next(cell for cell in self.cells if (cell.n_weak, cell.n_human) == (n_weak, n_human))


def _mix(budget: int, weak_fraction: float) -> tuple[int, int]:
    n_human = round(budget * (1 - weak_fraction) / HUMAN_PRICE)
    return round((budget - n_human * HUMAN_PRICE) / WEAK_PRICE), n_human


def mixes_of_testbed() -> list[tuple[int, int]]:
    """Every mix of the table, each once."""
    lines = [_mix(budget, fraction) for budget in BUDGETS for fraction in WEAK_FRACTIONS]
    return list(dict.fromkeys([*((0, n_human) for n_human in HUMAN_COUNTS), *lines]))


def compare(table: TestbedTable, budget: int) -> Comparison:
    """The best mix of a line by its mean, against each kind alone.

    The mix is chosen on the same runs, which favours it by about a standard error divided among the line's few mixes;
    the bar of two standard errors is meant to cover that.
    """
    weak_only = table.cell(*_mix(budget, 1.0))
    human_only = table.cell(*_mix(budget, 0.0))
    mixed = max(
        (table.cell(*_mix(budget, fraction)) for fraction in WEAK_FRACTIONS if 0 < fraction < 1),
        key=lambda cell: cell.mean,
    )

    def margin(other: Cell) -> tuple[float, float]:
        differences = [a - b for a, b in zip(mixed.accuracies, other.accuracies, strict=True)]
        return statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences))

    return Comparison(budget, mixed, weak_only, human_only, *margin(weak_only), *margin(human_only))


def _examples(frame: pl.DataFrame) -> list[Example]:
    return [
        Example(row["id"], {name: row[name] for name in TASK.fields}, one_hot(TASK_CHOICES.index(row["label"]), 2))
        for row in frame.iter_rows(named=True)
    ]


async def _weak_labels(services: EmbeddedServices, gold: Sequence[Example]) -> tuple[list[Example], float]:
    """The same items with the weak model's soft labels, and the share of right ones."""
    probabilities: dict[str, tuple[float, ...]] = {}
    items = [Item(example.item_id, example.fields) for example in gold]
    async for result in services.labeler.label(items, TASK, model="microworld:weak"):
        if result.label is None:
            raise FailedPreconditionError(f"item {result.item_id} has no weak label: {result.error}")
        probabilities[result.item_id] = result.label.probabilities
    weak = [Example(example.item_id, example.fields, probabilities[example.item_id]) for example in gold]
    right = sum(a.choice == b.choice for a, b in zip(weak, gold, strict=True))
    return weak, right / len(gold)


async def make_table(
    out: Path, progress: Progress, *, n_seeds: int, mixes: Sequence[tuple[int, int]] | None = None
) -> TestbedTable:
    """Labels, trains and measures; what was done before in `out` is not done again.

    Args:
        out: Folder of the services' state.
        progress: Where to report to.
        n_seeds: Runs of each mix.
        mixes: (n_weak, n_human) to run; all of the table's where None.
    """
    mixes = mixes_of_testbed() if mixes is None else mixes
    test = _examples(test_frame(N_TEST, seed=0))
    accuracies: dict[tuple[int, int], list[float]] = {mix: [] for mix in mixes}
    weak_accuracies = []
    state_dir = out / "state"
    labeler_settings = LabelerSettings(state_dir=state_dir / "labeler")
    async with EmbeddedServices(state_dir, labeler_settings=labeler_settings) as services:
        evaluation = EvaluationSet("test", await services.trainer.put_examples(test))
        with progress.bar("testbed runs", n_seeds * len(mixes)) as bar:
            for seed in range(SEED_FIRST, SEED_FIRST + n_seeds):
                pool = _examples(pool_frame(N_WEAK_MAX + N_HUMAN_MAX, seed=seed))
                weak, weak_accuracy = await _weak_labels(services, pool[:N_WEAK_MAX])
                weak_accuracies.append(weak_accuracy)
                weak_digest = await services.trainer.put_examples(weak)
                human_digest = await services.trainer.put_examples(pool[N_WEAK_MAX:])
                for n_weak, n_human in mixes:
                    spec = RunSpec(
                        task=TASK,
                        method=METHOD,
                        base_model="microworld:strong",
                        weak_digest=weak_digest,
                        n_weak=n_weak,
                        human_digest=human_digest,
                        n_human=n_human,
                        seed=seed,
                        evaluation_sets=(evaluation,),
                    )
                    accuracy = await _accuracy(services, spec)
                    accuracies[n_weak, n_human].append(accuracy)
                    bar.advance(note=f"seed {seed}: {n_weak} weak + {n_human} human: {accuracy:.3f}")
    cells = tuple(Cell(*mix, tuple(values)) for mix, values in accuracies.items())
    return TestbedTable(cells, tuple(weak_accuracies))


async def _accuracy(services: EmbeddedServices, spec: RunSpec) -> float:
    run = await services.trainer.create_run(spec)
    async for watched in services.trainer.watch_run(run.run_id):
        run = watched
    if run.state is not RunState.SUCCEEDED:
        raise FailedPreconditionError(f"a run did not succeed: {run.error or run.state.name.lower()}")
    return run.evaluations[0].accuracy


def write_table(table: TestbedTable, out: Path) -> list[Path]:
    """Writes surface.csv (in the format of published accuracy surfaces) and table.md; returns their paths."""
    weak_accuracy = statistics.fmean(table.weak_label_accuracies)
    surface = pl.DataFrame(
        [
            {
                "dataset": "microworld",
                "weak_model": "microworld:weak",
                "strong_model": "microworld:strong",
                "method": METHOD.name,
                "n_weak": cell.n_weak,
                "n_human": cell.n_human,
                "accuracy": round(cell.mean, 4),
                "accuracy_std": round(statistics.stdev(cell.accuracies), 4),
                "n_runs": len(cell.accuracies),
                "weak_label_accuracy": round(weak_accuracy, 4),
            }
            for cell in sorted(table.cells, key=lambda cell: (cell.n_weak, cell.n_human))
        ]
    )
    surface.write_csv(out / "surface.csv")
    (out / "table.md").write_text(_markdown(table), encoding="utf-8")
    return [out / "surface.csv", out / "table.md"]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(table: TestbedTable) -> str:
    weak = table.weak_label_accuracies
    human = [table.cell(0, n_human) for n_human in HUMAN_COUNTS]
    lines = [
        f"Weak labels: accuracy {statistics.fmean(weak):.3f} (each seed: {', '.join(f'{a:.3f}' for a in weak)}).",
        "",
        "Human-only SFT, each seed:",
        "",
        _row("n_human", *(str(cell.n_human) for cell in human)),
        _row(*["---"] * (len(human) + 1)),
        _row("accuracy", *(" ".join(f"{a:.2f}" for a in cell.accuracies) for cell in human)),
        "",
        f"On isocost lines (weak label {WEAK_PRICE:.2f}, human label {HUMAN_PRICE:.2f}), mean of {len(weak)} seeds:",
        "",
        _row("budget", *(f"{fraction:.0%} weak" for fraction in WEAK_FRACTIONS)),
        _row(*["---"] * (len(WEAK_FRACTIONS) + 1)),
    ]
    for budget in BUDGETS:
        cells = [table.cell(*_mix(budget, fraction)) for fraction in WEAK_FRACTIONS]
        lines.append(_row(str(budget), *(f"{cell.mean:.3f} ({cell.n_weak}+{cell.n_human})" for cell in cells)))
    lines += [
        "",
        "The best mix of both kinds against each kind alone (difference +- standard error, paired by seed):",
        "",
        _row("budget", "best mix", "over weak only", "over human only", "beats both by 2 standard errors"),
        _row(*["---"] * 5),
    ]
    for comparison in (compare(table, budget) for budget in BUDGETS):
        mixed = comparison.mixed
        lines.append(
            _row(
                str(comparison.budget),
                f"{mixed.n_weak}+{mixed.n_human}: {mixed.mean:.3f}",
                f"{comparison.weak_margin:+.3f} +- {comparison.weak_error:.3f}",
                f"{comparison.human_margin:+.3f} +- {comparison.human_error:.3f}",
                "yes" if comparison.mix_wins else "no",
            )
        )
    return "\n".join(lines) + "\n"
