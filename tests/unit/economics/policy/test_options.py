from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.economics.frontier import ObservedPoint
from isocost.economics.mixes import round_mixes
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.policy.options import Option, Options, skill


def _inputs(
    available_micros: int = 10_000,
    tranche_micros: int | None = None,
    n_items_free: int = 100_000,
    prices: tuple[int, int] = (10, 100),
    bought: tuple[int, int] = (0, 0),
) -> PolicyInputs:
    return PolicyInputs(
        weak=(SourceState("weak", prices[0], bought[0]),),
        human=(SourceState("human", prices[1], bought[1]),),
        available_micros=available_micros,
        tranche_micros=available_micros if tranche_micros is None else tranche_micros,
        n_items_free=n_items_free,
    )


def _options(inputs: PolicyInputs) -> Options:
    return Options(inputs, inputs.weak[0], inputs.human[0])


def _mixes(options: Options, option: Option) -> set[tuple[float, float]]:
    return {options.mixes[row][1:] for row in option.sees.tolist()}


_any_inputs = st.builds(
    _inputs,
    available_micros=st.integers(0, 100_000),
    tranche_micros=st.integers(1, 100_000),
    n_items_free=st.integers(0, 3_000),
    prices=st.tuples(st.integers(1, 5_000), st.integers(1, 5_000)),
    bought=st.tuples(st.integers(0, 2_000), st.integers(0, 2_000)),
)


@given(_any_inputs, st.booleans())
@settings(max_examples=200, deadline=None)
def test_money_and_items_are_kept_to(inputs: PolicyInputs, has_target: bool) -> None:
    options = _options(replace(inputs, target_accuracy=0.8 if has_target else None))
    weak, human = inputs.weak[0], inputs.human[0]
    limits = [
        (options.first, min(inputs.tranche_micros, inputs.available_micros)),
        (options.last, inputs.available_micros),
        *((then, inputs.available_micros) for then in options.then),
    ]
    for group, limit in limits:
        for option in group:
            assert min(option.n_weak, option.n_human) >= 0
            assert 0 < option.n_weak + option.n_human <= inputs.n_items_free
            assert option.cost_micros == option.n_weak * weak.price_micros + option.n_human * human.price_micros
            assert option.cost_micros <= limit
            assert option.total == (weak.n_bought + option.n_weak, human.n_bought + option.n_human)


@given(_any_inputs)
@settings(max_examples=100, deadline=None)
def test_a_purchase_shows_the_nested_mixes_of_its_total(inputs: PolicyInputs) -> None:
    options = _options(inputs)
    for option in (*options.first, *options.last):
        assert _mixes(options, option) == set(round_mixes(*(round(count) for count in option.total)))
    assert len(options.then) == len(options.first)
    for option, then in zip(options.first, options.then, strict=True):
        for later in then:
            assert later.n_weak >= option.n_weak
            assert later.n_human >= option.n_human
            nested = set(round_mixes(*(round(count) for count in later.total)))
            assert _mixes(options, later) == nested | _mixes(options, option)


def test_something_is_for_sale_wherever_one_label_can_be_paid() -> None:
    assert [(one.n_weak, one.n_human) for one in _options(_inputs(10)).first] == [(1, 0)]
    assert not _options(_inputs(9)).first
    assert not _options(_inputs(n_items_free=0)).first
    assert not _options(_inputs(n_items_free=0)).last


def test_both_kinds_alone_and_mixes_are_for_sale() -> None:
    options = _options(_inputs())
    for group in (options.first, options.last):
        assert {(1000, 0), (0, 100)} < {(one.n_weak, one.n_human) for one in group}
        assert len(group) > 3


def test_a_target_may_be_reached_with_less_than_a_tranche() -> None:
    inputs = _inputs(10_000, 4_000)
    without, with_target = _options(inputs), _options(replace(inputs, target_accuracy=0.8))
    assert min(one.cost_micros for one in without.first) > 3_500
    assert min(one.cost_micros for one in with_target.first) <= 1_000
    assert {(one.n_weak, one.n_human) for one in without.first} < {
        (one.n_weak, one.n_human) for one in with_target.first
    }


@given(
    st.tuples(st.integers(1, 100), st.integers(1, 100)),
    st.tuples(st.integers(0, 500), st.integers(0, 500)),
    st.integers(1_000, 50_000),
)
@settings(max_examples=100, deadline=None)
def test_the_line_costs_the_same_and_goes_from_human_to_weak(
    prices: tuple[int, int], bought: tuple[int, int], available_micros: int
) -> None:
    options = _options(_inputs(available_micros, prices=prices, bought=bought))
    money = bought[0] * prices[0] + bought[1] * prices[1] + available_micros
    shares = []
    for n_weak, n_human, row in options.line:
        cost = n_weak * prices[0] + n_human * prices[1]
        assert money - max(prices) < cost <= money
        assert options.mixes[row] == (0, n_weak, n_human)
        shares.append(n_weak * prices[0] / cost)
    assert shares == sorted(shares)
    assert options.line[0][0] == 0
    assert options.line[-1][1] == 0


def test_the_line_ends_with_the_pool() -> None:
    options = _options(_inputs(10_000, n_items_free=60, bought=(30, 10)))
    assert options.line
    assert all(n_weak + n_human <= 100 for n_weak, n_human, _ in options.line)


# Menus ---------------------------------------------------------------------------------------------------------------

_mix = st.tuples(st.integers(0, 20).map(lambda n: n * 10), st.integers(0, 20)).filter(any)


@given(st.lists(_mix, min_size=1, max_size=15), st.integers(0, 4_000), st.integers(0, 4_000), st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_of_a_menu_the_affordable_totals_are_for_sale(
    menu: list[tuple[int, int]], available_micros: int, tranche_micros: int, choice: int
) -> None:
    bought = [(0, 0), *menu][choice % (len(menu) + 1)]
    inputs = replace(_inputs(available_micros, tranche_micros, bought=bought), menu=tuple(menu))
    options = _options(inputs)
    affordable = {
        (w, h): 10 * (w - bought[0]) + 100 * (h - bought[1])
        for w, h in menu
        if (w, h) != bought and w >= bought[0] and h >= bought[1]
    }
    affordable = {mix: cost for mix, cost in affordable.items() if cost <= available_micros}
    assert {one.total: one.cost_micros for one in options.first} == {
        mix: cost for mix, cost in affordable.items() if cost <= tranche_micros
    }
    # Last come the totals that no other one holds.
    largest = {mix for mix in affordable if not any(o != mix and o[0] >= mix[0] and o[1] >= mix[1] for o in affordable)}
    assert {one.total for one in options.last} == largest
    for option, then in zip(options.first, options.then, strict=True):
        assert {one.total for one in then} == {
            mix for mix in largest if mix[0] >= option.total[0] and mix[1] >= option.total[1]
        }
        assert then
    for option in (*options.first, *options.last):
        assert _mixes(options, option) == {
            mix for mix in menu if mix[0] <= option.total[0] and mix[1] <= option.total[1]
        }
    for mix in menu:
        assert options.mixes[options.row(mix)] == (0, *mix)


def test_the_items_left_limit_a_menu() -> None:
    inputs = replace(_inputs(n_items_free=50), menu=((40, 10), (41, 10), (0, 50), (0, 51)))
    assert {one.total for one in _options(inputs).first} == {(40, 10), (0, 50)}


def test_the_line_of_a_menu_holds_its_largest_affordable_totals() -> None:
    menu = ((0, 5), (0, 10), (50, 5), (40, 5), (100, 0), (100, 1), (90, 0), (10, 9))
    options = _options(replace(_inputs(1_000), menu=menu))
    assert [mix[:2] for mix in options.line] == [(0, 10), (10, 9), (50, 5), (100, 0)]
    # Of the labels at hand and the money left together, whatever is at hand.
    later = _options(replace(_inputs(500, bought=(50, 0)), menu=menu))
    assert [mix[:2] for mix in later.line] == [(0, 10), (10, 9), (50, 5), (100, 0)]
    shares = [w / (w + h) for w, h, _ in options.line]
    assert all(one < other for one, other in pairwise(shares))


# Several sources -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.05, 0.2, 0.3])
def test_noisy_labels_count_by_the_square_of_what_is_right_beyond_chance(eta: float) -> None:
    discount = (1 - 2 * eta) ** 2
    inputs = replace(
        _inputs(),
        weak=(SourceState("exact", 10, 300, 1.0), SourceState("noisy", 10, 100, 1 - eta)),
        human=(SourceState("expert", 100, 20, 1.0), SourceState("crowd", 10, 40, 1 - eta)),
    )
    exact, noisy = inputs.weak
    expert, crowd = inputs.human
    assert Options(inputs, exact, expert).bought == pytest.approx((300 + discount * 100, 20 + discount * 40))
    # In labels of the source at hand; a better label counts for several, up to four.
    assert Options(inputs, noisy, crowd).bought == pytest.approx(
        (min(4.0, 1 / discount) * 300 + 100, 20 + discount * 40)
    )
    for option in Options(inputs, exact, crowd).first:
        assert option.total[1] == pytest.approx(20 + discount * (40 + option.n_human))


def test_labels_of_unknown_accuracy_count_in_full() -> None:
    inputs = replace(
        _inputs(),
        weak=(SourceState("a", 10, 300), SourceState("b", 10, 100)),
        human=(SourceState("expert", 100, 20), SourceState("crowd", 10, 40)),
    )
    assert Options(inputs, inputs.weak[0], inputs.human[0]).bought == (400, 60)


def test_runs_belong_to_the_surface_of_their_weak_source() -> None:
    inputs = replace(
        _inputs(),
        weak=(SourceState("a", 10, 300, 0.8), SourceState("b", 10, 100, 0.8)),
        human=(SourceState("expert", 100, 20, 1.0), SourceState("crowd", 10, 40, 0.75)),
        observations=(
            ObservedPoint("m", 300, 0, 0, 0.6, 0, "a"),
            ObservedPoint("m", 100, 0, 0, 0.7, 0, "b"),
            ObservedPoint("m", 100, 20, 0, 0.7, 0, "b", "expert"),
            ObservedPoint("m", 0, 40, 0, 0.7, 0, "", "crowd"),
        ),
    )
    for weak in inputs.weak:
        options = Options(inputs, weak, inputs.human[0])
        at_hand = inputs.weak.index(weak)
        assert [options.mixes[row] for row in options.observed] == [
            (0, 300.0, 0.0),
            (1, 100.0, 0.0),
            (1, 100.0, 20.0),
            # Without weak labels a run belongs to all of them; crowd labels count for a quarter.
            (at_hand, 0.0, 10.0),
        ]
        points = options.points()
        assert len({int(surface) for surface in points.surface}) == 2
        assert (points.surface < 0).all()
        assert (points.group < 0).all()


def test_accuracies_of_a_task_with_many_choices_are_told_as_those_of_two() -> None:
    # Of four choices, .25 is guessing: .625 is as far from it and from 1 as .75 is of two.
    weak = SourceState("weak", 10, accuracy=0.625)
    inputs = replace(_inputs(), weak=(weak,), n_choices=4)
    assert Options(inputs, weak, inputs.human[0]).points().weak_accuracy == pytest.approx(0.75)
    unknown = _options(_inputs())
    assert (unknown.points().weak_accuracy != unknown.points().weak_accuracy).all()


def test_skill_is_the_share_above_guessing() -> None:
    assert skill(SourceState("s", 1, accuracy=0.75), 2, "weak") == pytest.approx(0.5)
    assert skill(SourceState("s", 1, accuracy=0.75), 4, "weak") == pytest.approx(2 / 3)
    assert skill(SourceState("s", 1, accuracy=1.0), 3, "human") == 1.0
    # No better than guessing, but never worth nothing: prices are divided by it.
    assert 0.0 < skill(SourceState("s", 1, accuracy=0.4), 2, "weak") < 0.1


def test_an_accuracy_measured_on_few_labels_is_believed_little() -> None:
    usual = skill(SourceState("s", 1), 2, "human")
    skills = [skill(SourceState("s", 1, accuracy=0.6, n_measured=n), 2, "human") for n in (1, 10, 100, 10**6)]
    assert [usual, *skills] == sorted([usual, *skills], reverse=True)
    assert skills[-1] == pytest.approx(skill(SourceState("s", 1, accuracy=0.6), 2, "human"), abs=1e-3)
    assert skill(SourceState("s", 1), 2, "weak") < usual
