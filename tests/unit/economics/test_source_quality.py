from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta
from sklearn.metrics import recall_score

from isocost.economics.source_quality import (
    MeasuredLabel,
    SourceQuality,
    choose_source,
    information_per_price,
    measure_source,
)


def quality(n_right: int, n_measured: int, price: float, n_choices: int = 2) -> SourceQuality:
    return SourceQuality(n_choices, n_measured, n_right, (None,) * n_choices, None, price * 1e6)


@st.composite
def qualities(draw: st.DrawFn) -> SourceQuality:
    n_measured = draw(st.integers(0, 500))
    return quality(
        draw(st.integers(0, n_measured)), n_measured, draw(st.floats(1e-6, 100)), n_choices=draw(st.integers(2, 6))
    )


def test_measuring_counts_and_averages() -> None:
    draw = np.random.default_rng(0)
    rows = draw.dirichlet([1, 1, 1], 60)
    human = draw.integers(0, 3, 60)
    labels = [
        MeasuredLabel(tuple(row.tolist()), int(choice), 0.5 if index % 2 else 0.0, 10 + index)
        for index, (row, choice) in enumerate(zip(rows, human, strict=True))
    ]
    measured = measure_source(labels, n_choices=3, price_micros=7)
    assert (measured.n_measured, measured.n_right) == (60, int((rows.argmax(axis=1) == human).sum()))
    assert measured.recalls == pytest.approx(recall_score(human, rows.argmax(axis=1), average=None).tolist())
    # Where the mass is not known it is not counted as none.
    assert measured.choices_mass == 0.5
    assert measured.price_micros == pytest.approx(39.5)
    low, high = measured.accuracy_interval
    assert low <= measured.accuracy <= high


def test_what_is_not_measured_counts_as_a_guesser_at_its_own_price() -> None:
    measured = measure_source([], n_choices=4, price_micros=7)
    assert (measured.accuracy, measured.accuracy_interval, measured.price_micros) == (0.25, (0.0, 1.0), 7.0)
    assert measured.information == 0
    assert measured.recalls == (None,) * 4
    assert measured.choices_mass is None


@given(qualities())
def test_the_cautious_accuracy_is_the_posteriors_by_scipy(measured: SourceQuality) -> None:
    posterior = beta(measured.n_right + 1, measured.n_measured - measured.n_right + measured.n_choices - 1)
    expected = max(0.0, posterior.mean() - posterior.std())
    assert measured.cautious_accuracy == pytest.approx(expected, abs=1e-9)


@given(qualities())
def test_information_is_from_none_to_one_label(measured: SourceQuality) -> None:
    assert 0 <= measured.information <= 1
    assert information_per_price(measured) >= 0
    if measured.cautious_accuracy <= 1 / measured.n_choices:
        assert measured.information == 0


def test_for_two_choices_information_is_the_noise_discount() -> None:
    # Measured so often that nothing is left of the prior.
    n = 10**9
    assert quality(7 * n // 10, n, 1).information == pytest.approx((1 - 2 * 0.3) ** 2, abs=1e-3)
    assert quality(n // 4, n, 1, n_choices=4).information == pytest.approx(0, abs=1e-3)
    assert quality(n, n, 1, n_choices=4).information == pytest.approx(1, abs=1e-3)


@given(qualities(), st.floats(1.01, 100))
def test_the_cheaper_of_two_that_are_equally_good_is_chosen(measured: SourceQuality, factor: float) -> None:
    dearer = SourceQuality(
        measured.n_choices, measured.n_measured, measured.n_right, (), None, measured.price_micros * factor
    )
    assert choose_source({"dear": dearer, "cheap": measured}, currency="USD").name == "cheap"


@given(st.lists(qualities().filter(lambda one: one.n_choices == 2), min_size=1, max_size=5), st.randoms())
def test_the_choice_has_the_most_information_for_its_price_whatever_the_order(
    measured: list[SourceQuality], random: object
) -> None:
    named = {f"s{index}": one for index, one in enumerate(measured)}
    best = choose_source(named, currency="USD")
    assert information_per_price(named[best.name]) == max(map(information_per_price, measured))
    backwards = choose_source(dict(reversed(named.items())), currency="USD")
    chosen, other = named[best.name], named[backwards.name]
    assert (chosen.cautious_accuracy, chosen.price_micros) == (other.cautious_accuracy, other.price_micros) or (
        best.name == backwards.name
    )


def test_the_reason_has_the_numbers() -> None:
    choice = choose_source({"large": quality(90, 100, 0.1), "small": quality(71, 100, 0.01)}, currency="USD")
    small, large = quality(71, 100, 0.01), quality(90, 100, 0.1)
    times = information_per_price(small) / information_per_price(large)
    assert choice.name == "small"
    assert choice.reason == (
        f"small: .71 (.61 to .79) at 0.01 USD; {times:.3g} times the information per USD of "
        "large: .90 (.83 to .94) at 0.1 USD"
    )


def test_the_reason_says_where_there_is_nothing_to_compare() -> None:
    assert choose_source({"w": quality(0, 0, 0.1)}, currency="EUR").reason == (
        "w (not measured) at 0.1 EUR, the only weak source"
    )
    none = choose_source({"a": quality(40, 100, 0.1), "b": quality(45, 100, 0.2)}, currency="EUR")
    assert none.name == "b"
    assert "no weak source is told from guessing" in none.reason
    some = choose_source({"a": quality(40, 100, 0.1), "b": quality(90, 100, 0.2)}, currency="EUR")
    assert some.reason.endswith("; a: .40 (.31 to .50) at 0.1 EUR, not told from guessing")


def test_no_source_is_refused() -> None:
    with pytest.raises(ValueError, match="no weak source"):
        choose_source({}, currency="USD")


def test_a_guesser_at_a_tenth_of_the_price_is_seldom_chosen_by_luck() -> None:
    """Of 2,000 draws with 32 measured items, as in the testbed; by the mean alone it would be about one in four."""
    draw = np.random.default_rng(0)
    good, guesser = draw.binomial(32, 0.75, 2_000), draw.binomial(32, 0.5, 2_000)
    lucky = plain = 0
    for right, guessed in zip(good.tolist(), guesser.tolist(), strict=True):
        pair = {"good": quality(right, 32, 0.10), "guesser": quality(guessed, 32, 0.01)}
        lucky += choose_source(pair, currency="USD").name == "guesser"
        plain += max(0, (guessed + 1) / 34 - 0.5) ** 2 / 0.01 > max(0, (right + 1) / 34 - 0.5) ** 2 / 0.10
    assert lucky / 2_000 < 0.12
    assert lucky < plain / 2
    assert math.isclose(plain / 2_000, 0.25, abs_tol=0.08)
