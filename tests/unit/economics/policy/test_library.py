from __future__ import annotations

import csv
from importlib.resources import files

import pytest

from isocost.economics.policy.library import (
    LibraryPoint,
    dataset_key,
    held_out_keys,
    library_datasets,
    library_points,
)
from isocost.replay.surface import COLUMNS

_FOLDER = files("isocost.economics.policy").joinpath("library")
_FILES = sorted(file.name for file in _FOLDER.iterdir() if file.name.endswith(".csv"))
_DATASETS = sorted({point.group.split(":")[0] for point in library_points()})


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(_FOLDER.joinpath(name).read_text(encoding="utf-8").splitlines()))


@pytest.mark.parametrize("name", _FILES)
def test_a_file_has_the_columns_and_ranges_of_a_surface(name: str) -> None:
    rows = _rows(name)
    assert rows
    for row in rows:
        assert tuple(row) == COLUMNS
        assert dataset_key(row["dataset"])
        assert row["method"]
        n_weak, n_human = int(row["n_weak"]), int(row["n_human"])
        assert min(n_weak, n_human) >= 0
        assert n_weak + n_human > 0
        assert 0.0 < float(row["accuracy"]) <= 1.0
        assert not row["accuracy_std"] or 0.0 <= float(row["accuracy_std"]) <= 0.5
        assert not row["n_runs"] or int(row["n_runs"]) >= 1
        assert not row["weak_label_accuracy"] or 0.5 <= float(row["weak_label_accuracy"]) <= 1.0
        assert n_weak == 0 or row["weak_label_accuracy"]
    mixes = [(row["dataset"], row["n_weak"], row["n_human"]) for row in rows]
    assert len(set(mixes)) == len(mixes)


@pytest.mark.parametrize("name", _FILES)
def test_the_points_are_the_rows_of_the_files(name: str) -> None:
    points = [point for point in library_points() if point.surface.startswith(f"{name}:")]
    rows = _rows(name)
    assert len(points) == len(rows)
    for point, row in zip(points, rows, strict=True):
        assert point.group == f"{dataset_key(row['dataset'])}:{row['method']}"
        assert (point.n_weak, point.n_human) == (int(row["n_weak"]), int(row["n_human"]))
        assert point.accuracy == float(row["accuracy"])
        assert (point.accuracy_std is None) == (row["accuracy_std"] == "")
        assert (point.weak_accuracy is None) == (row["weak_label_accuracy"] == "")
        if row["n_runs"]:
            assert point.n_runs == int(row["n_runs"])
        else:
            # A spread over seeds shows that there was more than one.
            assert (point.n_runs > 1) == (row["accuracy_std"] != "")


def test_every_file_is_in_the_library() -> None:
    assert len(library_points()) == sum(len(_rows(name)) for name in _FILES)
    assert {point.surface.split(":")[0] for point in library_points()} == set(_FILES)


@pytest.mark.parametrize("dataset", _DATASETS)
def test_a_dataset_is_held_out_and_nothing_else_is(dataset: str) -> None:
    def is_of(point: LibraryPoint) -> bool:
        return point.surface.endswith(f":{dataset}")

    kept = library_points([dataset])
    assert not [point for point in kept if is_of(point)]
    assert kept == tuple(point for point in library_points() if not is_of(point))
    assert len(kept) < len(library_points())


@pytest.mark.parametrize("spelling", ["Social IQa", "SOCIAL_IQA", "social-iqa", "SocialIQA"])
def test_a_dataset_is_held_out_in_any_spelling(spelling: str) -> None:
    assert dataset_key(spelling) in _DATASETS
    assert held_out_keys([spelling]) == held_out_keys(["socialiqa"])
    assert held_out_keys(["Bool-Q", spelling]) == held_out_keys(["boolq", "socialiqa"])
    assert "socialiqa" in held_out_keys([spelling])


def test_a_mean_is_held_out_with_its_datasets() -> None:
    assert held_out_keys(["SciQ"]) == {"sciq", "mean5"}
    assert held_out_keys(["mean5"]) == {"mean5", "hellaswag", "sciq", "cosmosqa", "socialiqa"}
    # Part of the mean, but without a surface of its own.
    assert held_out_keys(["QuAIL"]) == {"mean5"}
    assert held_out_keys(["BoolQ"]) == {"boolq"}


def test_an_unknown_dataset_holds_nothing_out() -> None:
    assert held_out_keys(["no such dataset", ""]) == frozenset()
    assert library_points(["no such dataset"]) == library_points()


def test_the_datasets_are_those_of_the_surfaces_and_of_the_means() -> None:
    assert library_datasets() == {*_DATASETS, "quail"}


def test_surfaces_of_one_dataset_and_method_share_their_group() -> None:
    groups: dict[str, set[str]] = {}
    for point in library_points():
        groups.setdefault(point.group, set()).add(point.surface)
    assert max(len(surfaces) for surfaces in groups.values()) > 1
    # A surface belongs to one group only.
    assert sum(len(surfaces) for surfaces in groups.values()) == len({point.surface for point in library_points()})
