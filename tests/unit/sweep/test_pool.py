from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.core.errors import InvalidArgumentError
from isocost.sweep.config import PoolConfig
from isocost.sweep.grid import LabelLimits
from isocost.sweep.plan import make_plan
from isocost.sweep.pool import TaskPool, load_task_pool, share_items
from isocost.sweep.weak_labels import hardened, labels_of_column
from tests.unit.sweep.specs import config

FINE_TUNED = {"name": "weak", "model": "microworld:weak", "fine_tune": {"n_labels": 300}}


def _pool(need: LabelLimits, *, takes_all: bool = False, **changes: Any) -> TaskPool:
    spec = config(**changes)
    return load_task_pool(spec, spec.tasks[0], need, takes_all=takes_all)


def _ids(examples: Any) -> list[str]:
    return [example.item_id for example in examples]


@given(st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 5_000))
def test_items_are_shared_without_overlap(n_items: int, n_weak: int, n_human: int) -> None:
    limits = share_items(n_items, LabelLimits(n_weak, n_human), PoolConfig())
    assert limits.n_weak + limits.n_human <= n_items
    assert limits.n_weak <= n_weak
    assert limits.n_human <= n_human
    # Nothing is refused while there are items.
    assert limits.n_weak == n_weak or limits.n_weak + limits.n_human == n_items
    assert limits.n_human == n_human or limits.n_human == n_items // 2


def test_sets_are_disjoint_and_the_test_is_the_same_for_all_seeds() -> None:
    pool = _pool(LabelLimits(1_280, 512), weak_labellers=[FINE_TUNED])
    assert pool.limits == LabelLimits(1_280, 512)
    assert len(pool.test) == 20
    assert len(pool.gold) == 300
    for seed_pool in pool.seeds.values():
        human, weak = _ids(seed_pool.human), _ids(seed_pool.weak)
        together = [*human, *weak, *_ids(pool.gold), *_ids(pool.test)]
        assert len(set(together)) == len(together)
        assert len(human) == 512
        assert len(weak) >= 1_280
    assert pool.seeds[1] != pool.seeds[2]


def test_one_more_label_never_reshuffles_the_rest() -> None:
    small, large = _pool(LabelLimits(200, 50)), _pool(LabelLimits(1_500, 700))
    for seed in (1, 2):
        assert large.seeds[seed].human[:50] == small.seeds[seed].human
        assert large.seeds[seed].weak[: len(small.seeds[seed].weak)] == small.seeds[seed].weak
    # Another seed more changes nothing either.
    assert _pool(LabelLimits(200, 50), seeds=[1, 2, 3]).seeds[1] == small.seeds[1]


def test_the_most_items_that_there_are() -> None:
    pool = _pool(LabelLimits(10_000, 10_000))
    assert pool.limits == LabelLimits(1_420, 1_420)
    assert [len(pool.seeds[seed].weak) + len(pool.seeds[seed].human) for seed in (1, 2)] == [2_840, 2_840]


def test_uncertainty_sampling_chooses_among_all_that_weak_labels_leave() -> None:
    pool = _pool(LabelLimits(1_000, 64), takes_all=True)
    assert pool.limits == LabelLimits(1_000, 64)
    # 50 spare items stand behind the weak ones.
    assert len(pool.seeds[1].human) == 2_840 - 1_050
    limited = _pool(LabelLimits(1_000, 64), takes_all=True, pool={"n_test": 20, "n_human_max": 200})
    assert limited.seeds[1].human == pool.seeds[1].human[:200]


def test_limits_of_the_spec() -> None:
    pool = _pool(LabelLimits(1_000, 500), pool={"n_test": 20, "n_human_max": 40, "n_weak_max": 100})
    assert pool.limits == LabelLimits(100, 40)


def _own_task(folder: Path, values: list[Any]) -> dict[str, Any]:
    (folder / "mine.yaml").write_text(
        'name: mine\ntemplate: "{text} good?"\nchoices: ["no", "yes"]\n'
        'label: {column: gold, values: {"0": "no", "1": "yes"}}\n',
        encoding="utf-8",
    )
    data = folder / "mine"
    data.mkdir(exist_ok=True)
    n_rows = len(values)
    frame = pl.DataFrame(
        {"text": [f"train {k}" for k in range(n_rows)], "gold": [k % 2 for k in range(n_rows)], "said": values}
    )
    frame.write_parquet(data / "train.parquet")
    frame.with_columns(text=pl.col("text").str.replace("train", "test")).write_parquet(data / "test.parquet")
    return {
        "tasks": [{"benchmark": str(folder / "mine.yaml")}],
        "data": str(folder),
        "weak_labellers": [{"name": "said", "column": "said"}],
    }


@pytest.mark.parametrize(
    "values",
    [
        ["yes" if k % 4 else "no" for k in range(40)],
        [int(bool(k % 4)) for k in range(40)],
        [[0.25, 0.75] if k % 4 else [0.75, 0.25] for k in range(40)],
    ],
)
def test_weak_labels_of_a_column(tmp_path: Path, values: list[Any]) -> None:
    spec = config(**_own_task(tmp_path, values))
    pool = load_task_pool(spec, spec.tasks[0], LabelLimits(20, 10), takes_all=False)
    labels = labels_of_column(spec.weak_labellers[0], pool, pool.seeds[1], 20)
    assert len(labels.examples) == 20
    for example in labels.examples:
        row = int(example.fields["text"].removeprefix("train "))
        assert example.choice == int(bool(row % 4))
    # Rows 2 mod 4 are labelled wrongly.
    wrong = sum(int(example.fields["text"].split()[1]) % 4 == 2 for example in labels.examples)
    assert labels.accuracy == 1 - wrong / 20
    assert {max(example.probabilities) for example in hardened(labels.examples)} == {1.0}


@pytest.mark.parametrize("bad", ["maybe", "2", "-1"])
def test_a_column_s_value_that_is_no_label_is_named(tmp_path: Path, bad: str) -> None:
    spec = config(**_own_task(tmp_path, [bad] * 40))
    pool = load_task_pool(spec, spec.tasks[0], LabelLimits(4, 4), takes_all=False)
    with pytest.raises(InvalidArgumentError, match=f"has '{bad}'; give one of 'no', 'yes'"):
        labels_of_column(spec.weak_labellers[0], pool, pool.seeds[1], 4)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    changes = _own_task(tmp_path, ["yes"] * 40)
    spec = config(**{**changes, "weak_labellers": [{"name": "said", "column": "sad"}]})
    pool = load_task_pool(spec, spec.tasks[0], LabelLimits(4, 4), takes_all=False)
    with pytest.raises(InvalidArgumentError, match="no column 'sad'"):
        labels_of_column(spec.weak_labellers[0], pool, pool.seeds[1], 4)


def test_a_task_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="did you mean 'hellaswag'"):
        make_plan(config(tasks=["helaswag"]))
    with pytest.raises(InvalidArgumentError, match=r"tasks\.boolq: data: there is no file or folder"):
        make_plan(config(tasks=["boolq"], data=str(tmp_path)))


def test_the_size_of_a_sweep_is_known_before() -> None:
    plan = make_plan(config(weak_labellers=[FINE_TUNED, {"name": "other", "model": "microworld:weak"}]))
    counts = plan.counts()
    # Two budgets, three fractions, one price.
    assert (counts.n_points, counts.n_capped) == (6, 0)
    # Two seeds, of two human mixes once and four mixes with weak labels for each labeller.
    assert counts.n_runs == 2 * (2 + 2 * 4)
    # A stage for each of them, and a second one for the two with both kinds of each labeller.
    assert counts.n_stages == 2 * (2 + 2 * (4 + 2))
    assert counts.n_weak_labels == {"weak": 2 * 640, "other": 2 * 640}
    assert counts.n_gold_labels == {"weak": 300, "other": 0}
    assert counts.n_human_labels == 2 * 64


def test_real_data_are_divided(shared_data: Path) -> None:
    plan = make_plan(config(tasks=["social_i_qa", "boolq"], data=str(shared_data), budgets=[64, 512]))
    for pool in plan.pools.values():
        for seed_pool in pool.seeds.values():
            human = {tuple(example.fields.items()) for example in seed_pool.human}
            weak = {tuple(example.fields.items()) for example in seed_pool.weak}
            assert not human & weak
            assert (len(human), len(weak)) == (len(seed_pool.human), len(seed_pool.weak))
