from __future__ import annotations

import importlib
import math
import sys
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.economics.interval import wilson_interval
from isocost.economics.ppi import hand_label_share, powered_mean

Floats = npt.NDArray[np.float64]
ANSWERS = [1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0]
PROXIES = [0.9, 0.2, 0.7, 0.8, 0.4, 0.6, 0.95, 0.3, 0.85, 0.5, 0.75, 0.1]
OTHERS = [0.8, 0.3, 0.9, 0.6, 0.7, 0.2, 0.85, 0.95, 0.4, 0.5, 0.65, 0.15, 0.9, 0.75, 0.55, 0.35]


@pytest.fixture
def ppi_py(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The authors' ppi-python. It compiles functions that means do not use by numba, which need not be there."""
    if importlib.util.find_spec("ppi_py") is None:
        pytest.skip("ppi-python is not installed")
    if importlib.util.find_spec("numba") is None:
        numba = ModuleType("numba")
        numba.njit = lambda function: function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "numba", numba)
    return importlib.import_module("ppi_py")


def _draw(n: int, n_others: int, seed: int, *, noise: float) -> tuple[Floats, Floats, Floats]:
    """Answers with mean 0.7, and proxies that are biased by 0.1 and know less the more noise."""
    draw = np.random.default_rng(seed)
    answers = (draw.random(n + n_others) < 0.7).astype(np.float64)
    proxies = 0.1 + 0.6 * answers + noise * draw.normal(size=n + n_others)
    return answers[:n], proxies[:n], proxies[n:]


@pytest.mark.parametrize("power", [None, 0.0, 0.4, 1.0])
@pytest.mark.parametrize(("n", "n_others", "noise"), [(40, 60, 0.2), (50, 1000, 0.05), (300, 30, 0.5), (60, 60, 1.0)])
def test_means_and_intervals_are_ppi_pythons(
    ppi_py: Any, n: int, n_others: int, noise: float, power: float | None
) -> None:
    answers, proxies, others = _draw(n, n_others, n, noise=noise)
    found = powered_mean(answers, proxies, others, power=power)
    low, high = ppi_py.ppi_mean_ci(answers, proxies, others, alpha=0.05, lam=power)
    # Ours are kept within 0 to 1.
    mean = ppi_py.ppi_mean_pointestimate(answers, proxies, others, lam=power)
    assert (found.low, found.mean, found.high) == pytest.approx(
        tuple(min(1.0, float(np.squeeze(one))) for one in (low, mean, high)), abs=1e-9
    )


@pytest.mark.parametrize(
    ("power", "low", "mean", "high"),
    [
        (None, 0.48055049305683656, 0.6752149781113195, 0.8698794631658024),
        (1.0, 0.48080059342942905, 0.6760416666666668, 0.8712827399039045),
        (0.5, 0.4595133639879423, 0.6713541666666667, 0.8831949693453911),
        (0.0, 0.3999493513135939, 0.6666666666666666, 0.9333839820197394),
    ],
)
def test_means_and_intervals_are_those_that_ppi_python_0_2_3_gave(
    power: float | None, low: float, mean: float, high: float
) -> None:
    found = powered_mean(ANSWERS, PROXIES, OTHERS, power=power)
    assert (found.low, found.mean, found.high) == pytest.approx((low, mean, high), abs=1e-12)
    assert (found.n_labelled, found.n_unlabelled) == (12, 16)


@pytest.mark.parametrize("power", [None, 1.0])
@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_the_interval_covers_the_true_mean_though_the_proxy_is_biased(noise: float, power: float | None) -> None:
    found = [powered_mean(*_draw(100, 900, seed, noise=noise), power=power) for seed in range(800)]
    assert 0.93 <= np.mean([one.low <= 0.7 <= one.high for one in found]) <= 0.97


def test_a_good_proxy_tightens_the_interval_and_a_useless_one_does_no_harm() -> None:
    def widths(noise: float, power: float | None) -> float:
        found = [powered_mean(*_draw(100, 2000, seed, noise=noise), power=power) for seed in range(50)]
        return float(np.mean([one.high - one.low for one in found]))

    by_hand = widths(0.1, 0.0)
    assert widths(0.1, None) < 0.5 * by_hand
    assert widths(3.0, 1.0) > 2 * by_hand
    assert widths(3.0, None) <= by_hand


def test_without_other_items_or_a_proxy_that_varies_the_mean_is_by_hand() -> None:
    for others, proxies in (([], PROXIES), ([0.5] * 9, [0.5] * 12)):
        found = powered_mean(ANSWERS, proxies, others)
        assert found.power == 0
        assert found.mean == pytest.approx(np.mean(ANSWERS))
    assert powered_mean(ANSWERS, PROXIES, [], power=1.0).mean == pytest.approx(np.mean(ANSWERS))


@pytest.mark.parametrize("answer", [0.0, 1.0])
def test_answers_all_alike_are_no_certainty(answer: float) -> None:
    found = powered_mean([answer] * 10, PROXIES[:10], OTHERS)
    assert (found.mean, found.power) == (answer, 0.0)
    assert (found.low, found.high) == wilson_interval(answer, 10)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(0, 20), st.integers(0, 2**32 - 1), st.sampled_from([None, 0.0, 0.7, 1.0]))
def test_the_interval_holds_the_mean_in_any_order(n: int, n_others: int, seed: int, power: float | None) -> None:
    answers, proxies, others = _draw(n, n_others, seed, noise=0.5)
    found = powered_mean(answers, proxies, others, power=power)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    again = powered_mean(answers[::-1], proxies[::-1], others[::-1], power=power)
    for name in ("low", "mean", "high", "power"):
        assert getattr(again, name) == pytest.approx(getattr(found, name), abs=1e-9)


@pytest.mark.parametrize(
    ("answers", "proxies", "others", "power"),
    [
        ([], [], [0.5], None),
        ([1.0], [0.5, 0.5], [], None),
        ([2.0], [0.5], [], None),
        ([math.nan], [0.5], [], None),
        ([1.0], [math.inf], [], None),
        ([1.0], [0.5], [math.nan], None),
        ([1.0, 0.0], [0.5, 0.4], [0.5], 1.5),
    ],
)
def test_what_cannot_be_averaged_is_refused(
    answers: list[float], proxies: list[float], others: list[float], power: float | None
) -> None:
    with pytest.raises(ValueError, match=r"answers|power"):
        powered_mean(answers, proxies, others, power=power)


def _variance_for_money(share: float, error: float, variance: float, price: float) -> float:
    return (variance - error + error / share) * (price + share)


@settings(deadline=None)
@given(st.floats(0.001, 0.24), st.floats(0.05, 0.25), st.floats(0.001, 0.5))
def test_the_share_labelled_by_hand_gives_the_least_variance_for_the_money(
    error: float, variance: float, price: float
) -> None:
    share = hand_label_share(error, variance, proxy_price_micros=price * 1e6, human_price_micros=1e6)
    grid = np.linspace(0.001, 1, 2000)
    best = min(_variance_for_money(float(one), error, variance, price) for one in grid)
    if share < 1:
        assert _variance_for_money(share, error, variance, price) <= best * (1 + 1e-9)
    else:
        # A hand label alone costs 1 and has the whole variance.
        assert variance <= best * (1 + 1e-9)


def test_the_share_by_hand_of_an_example() -> None:
    # sqrt(.01 * .09 / (.25 - .09)) = .075.
    assert hand_label_share(0.09, 0.25, proxy_price_micros=10_000, human_price_micros=1e6) == pytest.approx(0.075)
    assert hand_label_share(0.30, 0.25, proxy_price_micros=10_000, human_price_micros=1e6) == 1
    assert hand_label_share(0.0, 0.25, proxy_price_micros=10_000, human_price_micros=1e6) == 0
    with pytest.raises(ValueError, match="prices"):
        hand_label_share(0.1, 0.25, proxy_price_micros=1, human_price_micros=0)
