from __future__ import annotations

import pytest

from isocost.economics.frontier import ObservedPoint
from isocost.economics.policy.decision import Policy
from isocost.economics.policy.inputs import PolicyInputs, SourceState
from isocost.economics.policy.registry import make_policy

#: Weak labels cost 1, human ones 10. Costs: 100, 1000 (weak only); 100, 1000 (human only); 100, 400, 1000 (both).
_MENU = ((100, 0), (1000, 0), (0, 10), (0, 100), (50, 5), (300, 10), (400, 60), (800, 20))


def inputs(
    available: int,
    bought: tuple[int, int] = (0, 0),
    *,
    menu: tuple[tuple[int, int], ...] | None = _MENU,
    target: float | None = None,
    seen: dict[tuple[int, int], float] | None = None,
    n_items_free: int = 100_000,
    tranche: int | None = None,
) -> PolicyInputs:
    return PolicyInputs(
        weak=(SourceState("weak", 1, bought[0]),),
        human=(SourceState("human", 10, bought[1]),),
        available_micros=available,
        tranche_micros=available if tranche is None else tranche,
        n_items_free=n_items_free,
        observations=tuple(ObservedPoint("m", w, h, 0, accuracy, 0) for (w, h), accuracy in (seen or {}).items()),
        menu=menu,
        target_accuracy=target,
    )


def bought_by(policy: Policy, given: PolicyInputs) -> tuple[int, int]:
    decision = policy.decide(given)
    return given.n_weak + decision.n_labels("weak"), given.n_human + decision.n_labels("human")


def test_all_weak_and_all_human_buy_one_kind_only() -> None:
    for available, weak, human in ((100, (100, 0), (0, 10)), (999, (100, 0), (0, 10)), (1000, (1000, 0), (0, 100))):
        assert bought_by(make_policy("all-weak"), inputs(available)) == weak
        assert bought_by(make_policy("all-human"), inputs(available)) == human


def test_all_weak_buys_what_is_nearest_to_it_where_no_weak_only_mix_is_within_the_money() -> None:
    menu = ((0, 8), (0, 16), (20, 6), (400, 0))
    assert bought_by(make_policy("all-weak"), inputs(160, menu=menu)) == (20, 6)


@pytest.mark.parametrize(
    ("share", "mix"),
    [
        ("0.45", (400, 60)),  # a share of .4
        ("0.79", (800, 20)),  # a share of .8
        ("0.05", (0, 100)),
    ],
)
def test_a_fixed_share_buys_the_mix_nearest_to_it_that_spends_the_money(share: str, mix: tuple[int, int]) -> None:
    # (50, 5) has a share of .5 and (300, 10) one of .75, but they spend a tenth and two fifths of the money.
    assert bought_by(make_policy(f"fixed:{share}"), inputs(1000)) == mix


def test_without_a_menu_the_money_is_shared_to_the_label() -> None:
    assert bought_by(make_policy("fixed:0.5"), inputs(1000, menu=None)) == (500, 50)
    assert bought_by(make_policy("all-human"), inputs(1005, menu=None)) == (0, 100)
    # What is bought already counts: of 1,100 in all, 550 are to be weak.
    assert bought_by(make_policy("fixed:0.5"), inputs(1000, (100, 0), menu=None)) == (550, 55)
    # Too many weak labels at hand: the rest is human.
    assert bought_by(make_policy("fixed:0.5"), inputs(100, (900, 0), menu=None)) == (900, 10)
    n_weak, n_human = bought_by(make_policy("fixed:0.5"), inputs(1000, menu=None, n_items_free=55))
    assert (n_weak, n_human) == (50, 5)


def test_a_tranche_is_the_most_that_is_spent() -> None:
    assert bought_by(make_policy("fixed:0.5"), inputs(1000, tranche=100)) == (50, 5)
    assert bought_by(make_policy("fixed:0.5"), inputs(1000, tranche=100, menu=None)) == (50, 5)


@pytest.mark.parametrize("name", ["all-weak", "all-human", "fixed:0.5", "paper-advice", "power-law"])
@pytest.mark.parametrize("available", [100, 640, 1000, 5000, 10_240])
def test_a_rule_that_buys_once_stops_then(name: str, available: int) -> None:
    policy = make_policy(name)
    given = inputs(available)
    n_purchases = 0
    while not policy.decide(given).stop:
        mix = bought_by(policy, given)
        seen = {(w, h): 0.5 + w / 1e4 + h / 1e3 for w, h in _MENU if w <= mix[0] and h <= mix[1]}
        given = inputs(available - mix[0] - 10 * mix[1], mix, seen=seen)
        n_purchases += 1
    # A power law is fitted after a pilot.
    assert 1 <= n_purchases <= (2 if name == "power-law" else 1)


def test_the_papers_advice_depends_on_the_budget_in_human_labels() -> None:
    policy = make_policy("paper-advice")
    assert bought_by(policy, inputs(640, menu=None)) == (640, 0)
    assert bought_by(policy, inputs(650, menu=None)) == (260, 39)
    assert bought_by(policy, inputs(10_230, menu=None)) == (4092, 613)
    assert bought_by(policy, inputs(10_240, menu=None)) == (0, 1024)
    # The budget is what is left and what was spent on labels: 640 + 100 here.
    assert bought_by(policy, inputs(640, (100, 0), menu=None)) == (296, 44)
    assert bought_by(policy, inputs(1000)) == (400, 60)


def test_the_papers_advice_ships_what_it_purchased_only_where_asked_to() -> None:
    given = inputs(0, (400, 60), seen={(400, 60): 0.6, (300, 10): 0.9})
    assert make_policy("paper-advice").decide(given).shipped is None
    assert make_policy("paper-advice:purchased").decide(given).shipped == (400, 60)


def test_towards_a_target_a_rule_doubles_what_it_spends_until_a_run_reached_it() -> None:
    policy = make_policy("all-human")
    menu = ((0, 10), (0, 20), (0, 25), (0, 100), (0, 200), (5, 5))
    mix, path = (0, 0), []
    seen: dict[tuple[int, int], float] = {}
    while True:
        given = inputs(2000 - mix[0] - 10 * mix[1], mix, menu=menu, target=0.8, seen=seen)
        decision = policy.decide(given)
        if decision.stop:
            break
        mix = bought_by(policy, given)
        path.append(mix)
        seen = {mix: 0.5 + mix[1] / 300}
    # From 25 a doubling buys nothing, two doublings do. 100 labels reach .83: the 200 are not bought.
    assert path == [(0, 10), (0, 20), (0, 25), (0, 100)]
    assert "reached the target" in decision.reason


def test_the_static_rules_want_no_evaluation_labels() -> None:
    for name in ("all-weak", "all-human", "fixed:0.3", "paper-advice"):
        policy = make_policy(name)
        assert policy.choose_n_eval(inputs(10_000)) == 0  # type: ignore[attr-defined]
