from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from isocost.sweep.grid import LabelLimits, Mix, grid_points, label_need, mix_on_line

prices = st.decimals("0.001", 2, places=3)
budgets = st.decimals(1, 10_000, places=2)
fractions = st.decimals(0, 1, places=2)


@given(budgets, fractions, prices, prices, st.integers(1, 8))
def test_a_mix_costs_no_more_than_its_budget_and_leaves_less_than_a_label(
    budget: Decimal, fraction: Decimal, weak_price: Decimal, human_price: Decimal, n_min: int
) -> None:
    mix = mix_on_line(budget, fraction, weak_price, human_price, n_min)
    left = budget - mix.n_weak * weak_price - mix.n_human * human_price
    assert left >= 0
    # The kind that is bought at last leaves less than its own price.
    assert left < (weak_price if mix.n_weak or fraction == 1 else human_price)
    assert mix.n_weak == 0 or mix.n_human == 0 or min(mix.n_weak, mix.n_human) >= n_min


@given(budgets, prices, prices)
def test_the_ends_of_a_line_hold_one_kind(budget: Decimal, weak_price: Decimal, human_price: Decimal) -> None:
    assert mix_on_line(budget, Decimal(0), weak_price, human_price, 4) == Mix(0, int(budget // human_price))
    assert mix_on_line(budget, Decimal(1), weak_price, human_price, 4) == Mix(int(budget // weak_price), 0)


def test_money_that_a_double_would_lose() -> None:
    # 0.7 / 0.1 is 6.999... in doubles.
    assert mix_on_line(Decimal("0.7"), Decimal(1), Decimal("0.1"), Decimal(1), 4) == Mix(7, 0)
    assert mix_on_line(Decimal(64), Decimal("0.2"), Decimal("0.1"), Decimal(1), 4) == Mix(130, 51)


def test_too_few_of_a_kind_go_to_the_other() -> None:
    assert mix_on_line(Decimal(16), Decimal("0.95"), Decimal("0.1"), Decimal(1), 4) == Mix(160, 0)
    assert mix_on_line(Decimal(16), Decimal("0.05"), Decimal("0.5"), Decimal(1), 4) == Mix(0, 16)


def test_points_beyond_the_items_are_capped() -> None:
    points = grid_points(
        budgets=[Decimal(16), Decimal(64)],
        weak_fractions=[Decimal(0), Decimal("0.5"), Decimal(1)],
        weak_prices=[Decimal("0.1")],
        human_price=Decimal(1),
        n_min=4,
        limits=LabelLimits(n_weak=200, n_human=20),
    )
    assert [(point.mix.n_weak, point.mix.n_human, point.is_capped) for point in points] == [
        (0, 16, False),
        (80, 8, False),
        (160, 0, False),
        (0, 20, True),
        (200, 20, True),
        (200, 0, True),
    ]
    assert label_need(points) == LabelLimits(200, 20)
