"""The library: accuracy surfaces that the prior is learned from.

Each CSV file in the folder `library` has one row a trained point. `*_llama38b.csv` are surfaces of sequential SFT read
from the figures of Mallen & Belrose 2024 (arXiv 2410.13215); `human_only_llama31.csv` holds human-only curves that its
authors published with their code; `microworld_*.csv` are means of five seeds of our own sweeps of the carried testbed,
with the paper's stopping rule and with the default one.
"""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["LibraryPoint", "dataset_key", "held_out_keys", "library_datasets", "library_points"]

#: Seeds behind a mean whose file does not say how many; the paper's figures show a band of three.
_N_RUNS = 3
#: Datasets whose mean a surface is: who holds out one of them holds out the mean, and the other way round.
_MEANS = {"mean5": frozenset({"hellaswag", "sciq", "cosmosqa", "quail", "socialiqa"})}


@dataclass(frozen=True, slots=True)
class LibraryPoint:
    """One point of a surface.

    Attributes:
        surface: Name of the surface: two of one dataset differ in their weak labels.
        group: What shares one efficiency: the dataset and the method.
        n_weak, n_human: Labels trained on.
        accuracy: 0 to 1; guessing is 0.5.
        accuracy_std: Standard deviation over seeds; None where the source does not show it.
        n_runs: Seeds averaged.
        weak_accuracy: Share of the weak labels that are right; None where there are none.
    """

    surface: str
    group: str
    n_weak: int
    n_human: int
    accuracy: float
    accuracy_std: float | None
    n_runs: int
    weak_accuracy: float | None


def dataset_key(name: str) -> str:
    """A dataset's name without case, spaces and punctuation: "Social IQa" and "social_iqa" are the same."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


@cache
def _all_points() -> tuple[tuple[str, LibraryPoint], ...]:
    folder = files(__package__).joinpath("library")
    points = []
    for file in sorted((entry for entry in folder.iterdir() if entry.name.endswith(".csv")), key=lambda one: one.name):
        for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
            key = dataset_key(row["dataset"])
            std = float(row["accuracy_std"]) if row["accuracy_std"] else None
            points.append(
                (
                    key,
                    LibraryPoint(
                        surface=f"{file.name}:{key}",
                        group=f"{key}:{row['method']}",
                        n_weak=int(row["n_weak"]),
                        n_human=int(row["n_human"]),
                        accuracy=float(row["accuracy"]),
                        accuracy_std=std,
                        n_runs=int(row["n_runs"]) if row["n_runs"] else (1 if std is None else _N_RUNS),
                        weak_accuracy=float(row["weak_label_accuracy"]) if row["weak_label_accuracy"] else None,
                    ),
                )
            )
    return tuple(points)


def library_datasets() -> frozenset[str]:
    """Keys of all datasets of which the library has a surface, or a mean that they are part of."""
    return frozenset({key for key, _ in _all_points()}.union(*_MEANS.values()))


def held_out_keys(datasets: Collection[str]) -> frozenset[str]:
    """Keys of the library's datasets that are held out with these, which are named in any spelling."""
    held_out = {dataset_key(name) for name in datasets}
    for mean, members in _MEANS.items():
        if held_out & members:
            held_out.add(mean)
        if mean in {dataset_key(name) for name in datasets}:
            held_out |= members
    return frozenset(held_out & {key for key, _ in _all_points()})


def library_points(held_out: Collection[str] = ()) -> tuple[LibraryPoint, ...]:
    """All points but those of some datasets, given by their keys (see `held_out_keys`)."""
    return tuple(point for key, point in _all_points() if key not in held_out)
