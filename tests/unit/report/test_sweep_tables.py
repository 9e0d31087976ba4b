from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.economics.frontier import ObservedPoint, average_seeds
from isocost.economics.separability import frontier_groups, line_separability
from isocost.report.sweep.cells import ALL_TASKS, Setting, form_cells, mean_over_tasks, settings, with_cost
from isocost.report.sweep.charts import few_shot_chart, frontier_chart, mix_chart, money
from isocost.report.sweep.findings import SweepFindings, find
from isocost.report.sweep.scores import SweepScores
from isocost.report.sweep.tables import budget_lines, few_shot_rows, frontier_rows
from tests.unit.report.sweep_folder import (
    HUMAN_ONLY,
    PROMPTING,
    SEQUENTIAL,
    TWO_SHOT,
    WEAK_ONLY,
    Method,
    SweepFolder,
    flat,
    regimes,
)


def _find(sweep: SweepFolder, folder: Path) -> SweepFindings:
    return find(sweep.write(folder / "sweep"))


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> SweepFindings:
    sweep = SweepFolder(
        tasks=("claims", "facts"), weak_prices=(0.5, 0.01), n_eval=300, seed_sd=0.02, seeds=3, pool=3000
    )
    return _find(sweep, tmp_path_factory.mktemp("sweep"))


def _slow_cells(results: pl.DataFrame) -> dict[tuple[str, str, int, int], list[float]]:
    """Accuracies of the seeds by task, method and mix, without a data frame's help."""
    cells: dict[tuple[str, str, int, int], list[float]] = {}
    for row in results.iter_rows(named=True):
        if row["state"] == "succeeded":
            cells.setdefault((row["task"], row["method"], row["n_weak"], row["n_human"]), []).append(row["accuracy"])
    return cells


def test_the_best_within_a_budget_is_that_of_a_slow_search(findings: SweepFindings) -> None:
    source, (found,) = findings.source, findings.settings
    cells = _slow_cells(source.results)
    mixes = {(method, n_weak, n_human) for _, method, n_weak, n_human in cells}
    checked = 0
    for row in found.best.iter_rows(named=True):
        tasks = source.tasks if row["task"] == ALL_TASKS else [row["task"]]
        reached = {}
        for method, n_weak, n_human in mixes:
            cost = n_weak * row["weak_price"] + n_human * source.human_price
            seeds = [cells.get((task, method, n_weak, n_human)) for task in tasks]
            if method == row["method"] and cost <= row["budget"] + 1e-9 and all(seeds):
                reached[n_weak, n_human] = sum(sum(s) / len(s) for s in seeds if s) / len(tasks)
        assert row["accuracy"] == pytest.approx(max(reached.values()))
        assert row["accuracy"] == pytest.approx(reached[row["n_weak"], row["n_human"]])
        assert row["cost"] == pytest.approx(row["n_weak"] * row["weak_price"] + row["n_human"])
        assert row["weak_cost_share"] == pytest.approx(row["n_weak"] * row["weak_price"] / row["cost"])
        assert row["weak_label_share"] == pytest.approx(row["n_weak"] / (row["n_weak"] + row["n_human"]))
        assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]
        checked += 1
    # 3 scopes x 2 prices x 4 budgets x 5 methods.
    assert checked == 120
    best = found.best.group_by("task", "weak_price", "budget").agg(
        pl.col("is_best").sum(), pl.col("accuracy").filter("is_best").first().alias("top"), pl.col("accuracy").max()
    )
    assert (best["is_best"] == 1).all()
    assert best["top"].equals(best["accuracy"].alias("top"))


def test_cells_average_seeds_as_the_campaigns_report_does(findings: SweepFindings) -> None:
    results = findings.source.results.filter(pl.col("task") == "claims")
    cells = form_cells(results, findings.settings[0].setting)
    expected = average_seeds(
        [
            ObservedPoint(row["method"], row["n_weak"], row["n_human"], row["seed"], row["accuracy"], row["n_eval"])
            for row in results.iter_rows(named=True)
        ],
        weak_price_micros=0,
        human_price_micros=0,
    )
    by_mix = {(point.method, point.n_weak, point.n_human): point for point in expected}
    assert cells.height == len(by_mix)
    for row in cells.iter_rows(named=True):
        point = by_mix[row["method"], row["n_weak"], row["n_human"]]
        assert (row["accuracy"], row["accuracy_low"], row["accuracy_high"], row["n_seeds"]) == pytest.approx(
            (point.accuracy, point.accuracy_low, point.accuracy_high, point.n_seeds)
        )


def test_a_mean_is_of_all_tasks_or_not_at_all() -> None:
    rows = pl.DataFrame(
        {
            "task": ["a", "b", "a"], "mix": [1, 1, 2], "accuracy": [0.6, 0.8, 0.9], "accuracy_low": [0.57, 0.76, 0.8],
            "accuracy_high": [0.63, 0.84, 1.0], "n_seeds": [3, 2, 3], "n_eval": [10, 20, 10],
            "run_ids": [["r1", "r2"], ["r3"], ["r4"]],
        }
    )  # fmt: skip
    (mean,) = mean_over_tasks(rows, ["mix"], 2).filter(pl.col("task") == ALL_TASKS).iter_rows(named=True)
    assert mean["mix"] == 1
    assert mean["accuracy"] == pytest.approx(0.7)
    # Half-widths .03 and .04 in quadrature over 2.
    assert (mean["accuracy_low"], mean["accuracy_high"]) == pytest.approx((0.675, 0.725))
    assert (mean["n_seeds"], mean["n_eval"], mean["run_ids"]) == (2, 30, ["r1", "r2", "r3"])
    assert mean_over_tasks(rows, ["mix"], 1).equals(rows)


@pytest.mark.parametrize("tasks", [("claims",), ("claims", "facts")])
def test_regimes_are_recovered(tasks: tuple[str, ...], tmp_path: Path) -> None:
    findings = _find(SweepFolder(tasks=tasks, methods=(SEQUENTIAL, TWO_SHOT), n_eval=600, seeds=3), tmp_path)
    (setting,) = findings.settings
    found = setting.regimes.filter(pl.col("method") == "sequential_sft", pl.col("task") == setting.scopes[0])
    assert setting.scopes[0] == ("claims" if len(tasks) == 1 else ALL_TASKS)
    assert found["budget"].to_list() == [16, 64, 256, 1024]
    assert found["regime"].to_list() == ["quantity-dominant", "mixed", "mixed", "quality-dominant"]
    assert (found["probability"] > 0.6).all()
    three = found.select(pl.sum_horizontal("quantity_dominant", "mixed", "quality_dominant"))
    assert three.to_series().to_list() == pytest.approx([1] * 4)


def test_no_regime_is_sure_where_all_is_the_same(tmp_path: Path) -> None:
    findings = _find(SweepFolder(truth=flat, methods=(SEQUENTIAL,), n_eval=400, seeds=3), tmp_path)
    assert (findings.settings[0].regimes["probability"] < 0.9).all()
    assert not findings.settings[0].lines["sequential_sft"]["is_separable"].any()


def test_an_end_that_was_not_measured_has_no_probability(tmp_path: Path) -> None:
    sweep = SweepFolder(methods=(SEQUENTIAL,), n_eval=100, fractions=(0.2, 0.8, 1))
    found = _find(sweep, tmp_path).settings[0].regimes
    assert found["quality_dominant"].null_count() == found.height > 0
    assert found["mixed"].null_count() == 0


def test_lines_are_the_grids_points(findings: SweepFindings) -> None:
    (found,) = findings.settings
    lines = found.lines["sequential_sft"]
    grid = findings.source.grid
    cells = _slow_cells(findings.source.results)
    claims = lines.filter(pl.col("task") == "claims")
    assert claims.height == grid.filter(pl.col("task") == "claims").height
    for row in claims.iter_rows(named=True):
        (point,) = grid.filter(
            *(pl.col(name) == row[name] for name in ("task", "weak_price", "budget", "weak_fraction"))
        ).iter_rows(named=True)
        assert (point["n_weak"], point["n_human"]) == (row["n_weak"], row["n_human"])
        assert row["accuracy"] == pytest.approx(
            np.mean(cells["claims", "sequential_sft", row["n_weak"], row["n_human"]])
        )
    assert claims.filter("is_capped").height == grid.filter(pl.col("task") == "claims", "is_capped").height > 0
    # A block of two human labels costs more than the budget of 16 alone allows: at all weak labels by an eighth.
    two_shot = found.lines["sequential_sft_2shot_human"].filter(pl.col("task") == "claims", pl.col("weak_price") == 0.5)
    assert 1.0 not in two_shot.filter(pl.col("budget") == 16)["weak_fraction"]
    (end,) = two_shot.filter(pl.col("budget") == 64, pl.col("weak_fraction") == 1).iter_rows(named=True)
    assert (end["n_weak"], end["n_human"], end["cost"]) == (128, 2, 66)


def test_shares_that_buy_the_same_end_are_one_point() -> None:
    """Where money for too few labels of a kind went to the other kind."""
    grid = pl.DataFrame(
        {
            "task": "t", "weak_price": 0.1, "budget": 16.0, "weak_fraction": [0.0, 0.5, 0.95, 1.0],
            "n_weak": [0, 80, 160, 160], "n_human": [16, 8, 0, 0], "is_capped": False,
        }
    )  # fmt: skip
    cells = pl.DataFrame(
        {
            "task": "t", "method": "m", "n_weak": [0, 80, 160], "n_human": [16, 8, 0], "few_shot_kind": "",
            "few_shot_count": 0, "n_eval": 10, "n_seeds": 1, "run_ids": [["a"], ["b"], ["c"]],
            "accuracy": [0.5, 0.6, 0.7], "accuracy_low": 0.4, "accuracy_high": 0.8,
        }
    )  # fmt: skip
    lines = budget_lines(cells, grid, SweepScores({}), method="m", human_price=1.0)
    assert lines["weak_fraction"].to_list() == [0, 0.5, 1]
    assert lines["is_best"].to_list() == [False, False, True]
    assert not lines["is_separable"].any()


def test_separability_of_one_task_is_that_of_the_economics(findings: SweepFindings) -> None:
    results, folder = findings.source.results, findings.source.folder

    def right(run_ids: list[str]) -> np.ndarray:
        rows = []
        for run_id in run_ids:
            frame = pl.read_parquet(folder / "predictions" / f"{run_id}.parquet")
            rows.append(
                [max(range(2), key=p.__getitem__) == c for p, c in frame.select("probabilities", "choice").iter_rows()]
            )
        return np.array(rows)

    (found,) = findings.settings
    line = found.lines["sequential_sft"].filter(
        pl.col("task") == "facts", pl.col("weak_price") == 0.5, pl.col("budget") == 256
    )
    expected = line_separability([right(ids) for ids in line["run_ids"].to_list()])
    assert line["is_best"].to_list().index(True) == expected.best
    assert line["is_separable"].to_list() == [not tied for tied in expected.tied]
    assert [1.0 if p is None else p for p in line["p_value"]] == pytest.approx(expected.p_values)
    assert 0 < sum(expected.tied) < line.height

    frontier = found.frontier.filter(
        pl.col("task") == "facts", pl.col("weak_price") == 0.5, pl.col("method") == "sequential_sft"
    )
    groups = frontier_groups([right(ids) for ids in frontier["run_ids"].to_list()])
    proven = [index == 0 or groups[index] > groups[index - 1] for index in range(len(groups))]
    assert frontier["is_separable"].to_list() == proven
    assert 1 < sum(proven) < len(proven)
    assert results.height


def test_the_frontier_is_what_nothing_beats(findings: SweepFindings) -> None:
    (found,) = findings.settings
    cells = form_cells(findings.source.results, found.setting)
    for (price, method), frontier in found.frontier.filter(pl.col("task") == "claims").group_by("weak_price", "method"):
        costed = with_cost(cells.filter(pl.col("task") == "claims", pl.col("method") == method), float(str(price)), 1.0)
        points = list(costed.select("cost", "accuracy").iter_rows())
        expected = {
            (cost, accuracy)
            for cost, accuracy in points
            if not any((c <= cost and a > accuracy) or (c < cost and a >= accuracy) for c, a in points)
        }
        assert set(frontier.select("cost", "accuracy").iter_rows()) == expected


def test_choosing_on_half_of_the_items_is_honest() -> None:
    """Of many equal points, the best in hindsight looks better than it is; chosen on a half, it does not."""
    rng = np.random.default_rng(1)
    right = {f"r{index}": ("t", rng.random(400) < 0.7) for index in range(300)}
    scores = SweepScores(right)
    points = [[run_id] for run_id in right]
    in_hindsight = max(answers.mean() for _, answers in right.values())
    elsewhere = scores.chosen_on_half(points)
    assert elsewhere is not None
    assert in_hindsight > 0.75
    assert elsewhere == pytest.approx(0.7, abs=0.05)
    # By hand.
    halves = [(answers[::2].mean(), answers[1::2].mean()) for _, answers in right.values()]
    first, second = (max(range(300), key=lambda index: halves[index][half]) for half in (0, 1))
    assert elsewhere == pytest.approx((halves[first][1] + halves[second][0]) / 2)
    assert scores.chosen_on_half([["r0"], ["unknown"]]) is None
    assert scores.chosen_on_half([]) is None


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_tests_do_not_depend_on_the_direction(n_tasks: int, n_seeds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    right = {
        f"{name}{task}{index}": (f"t{task}", rng.random(30) < chance)
        for name, chance in (("a", 0.5), ("b", 0.8))
        for task in range(n_tasks)
        for index in range(n_seeds)
    }
    a, b = ([run_id for run_id in right if run_id.startswith(name)] for name in "ab")
    (_, forth) = SweepScores(right).p_values_of_best([a, b], 0)
    (back, _) = SweepScores(right).p_values_of_best([b, a], 1)
    assert forth is not None
    assert forth == pytest.approx(back)
    assert 0 <= forth <= 1
    assert SweepScores(right).p_values_of_best([a, a], 0) == [None, 1.0]


def test_several_tasks_tell_more_than_one() -> None:
    rng = np.random.default_rng(0)
    right = {
        f"{name}{task}": (f"t{task}", rng.random(300) < chance)
        for name, chance in (("a", 0.70), ("b", 0.76))
        for task in range(8)
    }
    scores = SweepScores(right)
    (_, all_tasks) = scores.p_values_of_best([[f"a{t}" for t in range(8)], [f"b{t}" for t in range(8)]], 0)
    (_, one_task) = scores.p_values_of_best([["a0"], ["b0"]], 0)
    assert all_tasks is not None
    assert one_task is not None
    # Standard error of the mean difference: sqrt(8 * (.21 + .18) / 300) / 8 = .0127, so z is about 4.7.
    difference = np.mean([right[f"b{t}"][1].mean() - right[f"a{t}"][1].mean() for t in range(8)])
    error = math.sqrt(sum(np.var(right[f"b{t}"][1] * 1.0 - right[f"a{t}"][1]) / 300 for t in range(8))) / 8
    assert all_tasks == pytest.approx(math.erfc(difference / error / math.sqrt(2)), rel=0.3)
    assert all_tasks < 1e-4 < one_task


def test_few_shot_settings_by_kind_of_label(tmp_path: Path) -> None:
    methods = (
        PROMPTING,
        SEQUENTIAL,
        TWO_SHOT,
        Method("sequential_sft_8shot_weak", "sequential_sft", "weak>human", 8, "weak"),
        Method("sequential_sft_log_confidence", "sequential_sft_log_confidence", "weak>human"),
    )
    findings = _find(SweepFolder(methods=methods, n_eval=50, budgets=(16, 64), fractions=(0, 0.5, 1)), tmp_path)
    rows = findings.settings[0].few_shot
    found = set(rows.select("sft_kind", "few_shot_count", "few_shot_kind", "n_sft").iter_rows())
    assert ("none", 2, "human", 0) in found
    for count, kind in ((0, ""), (2, "human"), (8, "weak")):
        assert {n for k, c, f, n in found if (k, c, f) == ("weak", count, kind)} == {160, 640}
        assert {n for k, c, f, n in found if (k, c, f) == ("human", count, kind)} == {16, 64}
    assert findings.settings[0].n_few_shot_settings == 3
    assert set(rows["method"]) == {method.name for method in methods[:-1]}
    spec = few_shot_chart(rows)
    drawn = pl.DataFrame(spec["datasets"]["rows"])
    # Prompting alone begins the lines of both panels.
    assert drawn.filter(pl.col("n_sft") == 0)["panel"].sort().to_list() == [
        "fine-tuned on human labels",
        "fine-tuned on weak labels",
    ]


def _marks(specification: dict[str, object]) -> list[tuple[bool, str]]:
    """Of each layer of points, whether it is filled, and what it holds."""
    inner = specification["spec"]
    assert isinstance(inner, dict)
    return [
        (layer["mark"]["filled"], layer["transform"][0]["filter"])
        for layer in inner["layer"]
        if layer["mark"]["type"] == "point"
    ]


def _drawn(specification: dict[str, object], condition: str) -> set[tuple[float, float]]:
    """The points of a layer, by the truth of its condition in Vega's language, of which these are simple enough."""
    rows = specification["datasets"]["rows"]  # type: ignore[index]
    python = condition.replace("!", " not ").replace("&&", "and").replace("||", "or").replace("datum.", "row_")
    names = ("is_separable", "is_best", "is_end")
    return {
        (row["cost"], row["accuracy"])
        for row in rows
        if eval(python, {}, {f"row_{name}": row.get(name) for name in names})
    }


def test_points_are_hollow_where_they_are_not_told_apart(findings: SweepFindings) -> None:
    (found,) = findings.settings
    lines = found.lines["sequential_sft"].filter(pl.col("task") == "claims")
    specification = mix_chart(lines, "USD")
    filled = {condition: is_filled for is_filled, condition in _marks(specification)}
    hollow = next(condition for condition, is_filled in filled.items() if not is_filled)
    assert _drawn(specification, hollow) == set(
        lines.filter(~pl.col("is_separable"), ~pl.col("is_best")).select("cost", "accuracy").iter_rows()
    )
    shown = [_drawn(specification, condition) for condition, is_filled in filled.items() if is_filled]
    assert set.union(*shown) == set(
        lines.filter(pl.col("is_separable") | pl.col("is_best")).select("cost", "accuracy").iter_rows()
    )
    frontier = found.frontier.filter(pl.col("task") == "claims")
    specification = frontier_chart(frontier, "USD")
    for is_filled, condition in _marks(specification):
        expected = frontier.filter(pl.col("is_separable") == is_filled).select("cost", "accuracy").iter_rows()
        assert _drawn(specification, condition) == set(expected)


def test_human_only_runs_belong_to_every_labeller(tmp_path: Path) -> None:
    findings = _find(SweepFolder(labellers=("small", "big"), n_eval=20, budgets=(64,)), tmp_path)
    assert [found.setting.weak_labeller for found in findings.settings] == ["big", "small"]
    for found in findings.settings:
        assert found.best.filter(pl.col("method") == "human_sft").height == 1
        assert 0.0 in found.lines["sequential_sft"]["weak_fraction"]
    assert settings(findings.source.results.filter(pl.col("weak_labeller") == "")) == [Setting("models/strong", "")]


def test_hindsight_is_corrected_where_there_is_noise(tmp_path: Path) -> None:
    """With the truth flat and independent noise, the best of the grid is too high, and the other figure is not."""
    sweep = SweepFolder(truth=lambda *_: 0.7, seed_sd=0.03, seeds=1, methods=(SEQUENTIAL,), n_eval=200, noise=5.0)
    best = _find(sweep, tmp_path).settings[0].best.filter(pl.col("budget") == 1024)
    assert best["accuracy"][0] > 0.72
    assert best["accuracy_elsewhere"][0] < best["accuracy"][0]


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [(0.1, "USD", "$0.10"), (1024.0, "USD", "$1,024"), (0.005, "EUR", "0.005 EUR"), (16.5, "USD", "$16.50")],
)
def test_amounts(amount: float, currency: str, text: str) -> None:
    assert money(amount, currency) == text


def test_equal_points_are_on_no_frontier_twice() -> None:
    means = pl.DataFrame(
        {
            "task": "t", "method": "m", "n_weak": 0, "n_human": [0, 1, 2, 3], "accuracy": [0.5, 0.6, 0.6, 0.55],
            "accuracy_low": 0.4, "accuracy_high": 0.8, "n_seeds": 1, "n_eval": 10,
            "run_ids": [["a"], ["b"], ["c"], ["d"]],
        }
    )  # fmt: skip
    frontier = frontier_rows(means, SweepScores({}), weak_prices=[0.1], human_price=1.0)
    assert frontier["n_human"].to_list() == [0, 1]
    # What costs nothing is drawn at half of the lowest cost, as a logarithm has no zero.
    assert {row["cost"] for row in frontier_chart(frontier, "USD")["datasets"]["rows"]} == {0.5, 1.0}
    assert few_shot_rows(
        means.with_columns(
            n_weak_trained=pl.lit(0), n_human_trained="n_human", few_shot_count=pl.lit(0), few_shot_kind=pl.lit(""),
            family=pl.lit("human_sft"),
        )
    )["n_sft"].to_list() == [1, 2, 3, 0]  # fmt: skip


def test_truth_of_the_example_is_what_the_tests_say() -> None:
    assert regimes(WEAK_ONLY, "t", "m", "l", 160, 0) > regimes(HUMAN_ONLY, "t", "m", "", 0, 16)
    assert regimes(SEQUENTIAL, "t", "m", "l", 320, 32) > regimes(HUMAN_ONLY, "t", "m", "", 0, 64)
    assert regimes(HUMAN_ONLY, "t", "m", "", 0, 1024) > regimes(SEQUENTIAL, "t", "m", "l", 2048, 819)
