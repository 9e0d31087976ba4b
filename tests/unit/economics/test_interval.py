import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from isocost.economics.interval import wilson_interval


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_equals_scipy(counts: tuple[int, int]) -> None:
    right, n = counts
    expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(right / n, n)
    assert low == pytest.approx(expected.low, abs=1e-9)
    assert high == pytest.approx(expected.high, abs=1e-9)


@given(st.floats(0, 1), st.integers(1, 10**6))
def test_holds_the_accuracy_and_stays_within_zero_and_one(accuracy: float, n_eval: int) -> None:
    low, high = wilson_interval(accuracy, n_eval)
    assert 0 <= low <= accuracy <= high <= 1


def test_refuses_no_evaluation_labels() -> None:
    with pytest.raises(ValueError, match="n_eval"):
        wilson_interval(0.5, 0)
