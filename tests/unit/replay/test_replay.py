from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocost.core.errors import InvalidArgumentError
from isocost.economics.policy.decision import PolicyDecision, SourcePurchase
from isocost.economics.policy.inputs import PolicyInputs
from isocost.economics.policy.registry import POLICY_NAMES, make_policy
from isocost.replay import replay
from isocost.replay.evaluation import Evaluation, EvaluationKind, measured_accuracy
from isocost.replay.replay import PolicyMisbehavedError, Setting, play, replay_budget
from isocost.replay.results import BudgetResult, Skipped
from isocost.replay.surface import Surface, SurfacePoint
from tests.unit.replay.surfaces import accuracy, make_surface

_UNIT = 1_000_000
_EXACT = Evaluation(EvaluationKind.EXACT)
_NAMES = tuple(name.replace("X", "0.5") for name in POLICY_NAMES)

Mix = tuple[int, int]


class Script:
    """A policy that buys up to given mixes, keeps what it was given, and ships what it is told to."""

    def __init__(self, mixes: Sequence[Mix], shipped: Mix | None = None, n_eval: int | None = 0) -> None:
        self.name = "script"
        self.seen: list[PolicyInputs] = []
        self._mixes, self._shipped, self._n_eval = list(mixes), shipped, n_eval

    def decide(self, inputs: PolicyInputs) -> PolicyDecision:
        step = len(self.seen)
        self.seen.append(inputs)
        if step >= len(self._mixes):
            return PolicyDecision((), "stop: the script is over", self._shipped)
        return buy(inputs, self._mixes[step])

    def choose_n_eval(self, inputs: PolicyInputs) -> int | None:
        return self._n_eval


class Wanderer:
    """A policy that buys any mix within the money, and stops when it likes."""

    name = "wanderer"

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def decide(self, inputs: PolicyInputs) -> PolicyDecision:
        within = [mix for mix in inputs.menu or () if affordable(inputs, mix)]
        if not within or ((inputs.n_weak or inputs.n_human) and self._rng.random() < 0.2):
            return PolicyDecision((), "stop")
        return buy(inputs, self._rng.choice(within))


def buy(inputs: PolicyInputs, mix: Mix) -> PolicyDecision:
    more = {"weak": mix[0] - inputs.n_weak, "human": mix[1] - inputs.n_human}
    return PolicyDecision(tuple(SourcePurchase(name, n) for name, n in more.items() if n), "buy")


def affordable(inputs: PolicyInputs, mix: Mix) -> bool:
    n_weak, n_human = mix[0] - inputs.n_weak, mix[1] - inputs.n_human
    cost = n_weak * inputs.weak[0].price_micros + n_human * inputs.human[0].price_micros
    return min(n_weak, n_human) >= 0 and n_weak + n_human > 0 and cost <= inputs.available_micros


def setting(
    surface: Surface | None = None, name: str = "all-human", n_eval: int | None = 0, price: float = 0.1
) -> Setting:
    return Setting(surface or make_surface(), round(price * _UNIT), _UNIT, name, n_eval)


def results_of(found: list[BudgetResult] | Skipped) -> list[BudgetResult]:
    assert isinstance(found, list)
    return found


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Makes every setting use one policy."""

    def _use(policy: object) -> None:
        monkeypatch.setattr(replay, "make_policy", lambda _name, **_: policy)

    return _use


def test_a_policy_sees_prices_money_coordinates_and_the_accuracies_of_what_it_could_train() -> None:
    surface = make_surface()
    policy = Script([(80, 4), (80, 64), (320, 64)])
    play(policy, setting(surface), _EXACT, 200 * _UNIT)
    bought = [(0, 0), (80, 4), (80, 64), (320, 64)]
    assert len(policy.seen) == len(bought)
    for inputs, (n_weak, n_human) in zip(policy.seen, bought, strict=True):
        assert (inputs.n_weak, inputs.n_human) == (n_weak, n_human)
        assert inputs.available_micros == 200 * _UNIT - n_weak * 100_000 - n_human * _UNIT
        assert inputs.menu == tuple(sorted(point.mix for point in surface.points))
        seen = {(run.n_weak, run.n_human): run.accuracy for run in inputs.observations}
        assert seen == {p.mix: p.accuracy for p in surface.points if p.n_weak <= n_weak and p.n_human <= n_human}
        assert all(run.n_eval == 0 and run.seed == 0 for run in inputs.observations)
        # Neither the dataset, nor how good the weak labels are, nor the file.
        assert all(source.accuracy is None for source in (*inputs.weak, *inputs.human))
        assert "made" not in repr(inputs)


def test_every_label_of_a_mix_can_be_bought() -> None:
    policy = Script([(640, 128)])
    play(policy, setting(), _EXACT, 200 * _UNIT)
    assert policy.seen[0].n_items_free == 640 + 128
    assert policy.seen[1].n_items_free == 0


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("n_eval", [0, 40])
def test_lies_beyond_what_was_bought_change_nothing(name: str, n_eval: int) -> None:
    """Of the surface only what the purchases dominate may matter: all else may be turned round, or not a number."""
    truth = make_surface()
    for budget in (60, 150):
        available = (budget - n_eval) * _UNIT
        evaluation = Evaluation(EvaluationKind.BOUGHT, n_eval) if n_eval else _EXACT
        honest = play(make_policy(name), setting(truth), evaluation, available, seed=1)
        n_weak, n_human = honest.purchases[-1]

        def turned(w: int, h: int, true: float, n_weak: int = n_weak, n_human: int = n_human) -> float:
            return true if w <= n_weak and h <= n_human else 1.4 - true

        def not_a_number(w: int, h: int, true: float, n_weak: int = n_weak, n_human: int = n_human) -> float:
            return true if w <= n_weak and h <= n_human else math.nan

        for lie in (turned, not_a_number):
            lied = play(make_policy(name), setting(make_surface(lie)), evaluation, available, seed=1)
            assert (lied.purchases, lied.shipped, lied.accuracy) == (honest.purchases, honest.shipped, honest.accuracy)


def test_a_lie_matters_from_the_purchase_on_that_reaches_it() -> None:
    lie = make_surface(lambda w, h, true: 0.999 if (w, h) == (160, 16) else true)
    for surface, shipped in ((make_surface(), (160, 64)), (lie, (160, 16))):
        episode = play(Script([(80, 64), (160, 64)]), setting(surface), _EXACT, 200 * _UNIT)
        assert episode.shipped == shipped


def test_what_is_shipped_is_the_best_that_was_observed_the_dearest_of_equals() -> None:
    flat = make_surface(lambda _w, _h, _true: 0.7)
    assert play(Script([(80, 64)]), setting(flat), _EXACT, 200 * _UNIT).shipped == (80, 64)
    falling = make_surface(lambda w, h, _true: 0.9 - (w + h) / 1000)
    episode = play(Script([(80, 64)]), setting(falling), _EXACT, 200 * _UNIT)
    assert (episode.shipped, episode.accuracy) == ((0, 4), 0.896)


def test_what_a_policy_ships_is_shipped_where_it_could_be_trained() -> None:
    assert play(Script([(80, 64)], shipped=(20, 4)), setting(), _EXACT, 200 * _UNIT).shipped == (20, 4)
    for shipped in ((160, 4), (81, 4)):
        with pytest.raises(PolicyMisbehavedError, match="'script' ships"):
            play(Script([(80, 64)], shipped=shipped), setting(), _EXACT, 200 * _UNIT)


@pytest.mark.parametrize(
    ("mixes", "words"),
    [
        ([], "stops before it has bought anything"),
        ([(81, 4)], "no new point"),
        ([(80, 4), (20, 16)], "not for sale"),
        ([(320, 128), (320, 129)], "no new point"),
        ([(640, 128)], "192000000 micros of 191000000"),
    ],
)
def test_a_policy_that_breaks_a_rule_is_named(mixes: list[Mix], words: str) -> None:
    with pytest.raises(PolicyMisbehavedError, match=f"policy 'script' .*{words}"):
        play(Script(mixes), setting(), _EXACT, 191 * _UNIT)


@pytest.mark.parametrize(
    ("purchase", "words"), [(SourcePurchase("expert", 4), "not for sale"), (SourcePurchase("weak", 0), "no new point")]
)
def test_a_purchase_of_nothing_or_from_a_source_that_is_not_there_is_refused(
    purchase: SourcePurchase, words: str
) -> None:
    class Stranger(Script):
        def decide(self, inputs: PolicyInputs) -> PolicyDecision:
            return PolicyDecision((purchase,), "buy")

    with pytest.raises(PolicyMisbehavedError, match=words):
        play(Stranger([]), setting(), _EXACT, 191 * _UNIT)


def test_evaluation_labels_are_bought_first_from_the_budget(use: Callable[[object], None]) -> None:
    policy = Script([(80, 4), (80, 16)])
    use(policy)
    result = results_of(replay_budget(setting(n_eval=30), 60 * _UNIT))[0]
    assert policy.seen[0].available_micros == 30 * _UNIT
    assert policy.seen[0].n_eval == 30
    assert result.spent_micros == (30 + 8 + 16) * _UNIT
    assert result.evaluation == Evaluation(EvaluationKind.BOUGHT, 30)
    # The best within the whole budget: 30 labels that only measure are part of what is missed.
    assert result.best_accuracy == max(accuracy(160, 16), accuracy(320, 16), accuracy(20, 16))
    assert result.regret == result.best_accuracy - result.accuracy


def test_what_is_seen_is_noisy_and_what_is_reached_is_not(use: Callable[[object], None]) -> None:
    surface = make_surface(std=0.05)
    seen = []
    for seed in (0, 1):
        policy = Script([(80, 4), (80, 16)])
        play(policy, setting(surface), Evaluation(EvaluationKind.BOUGHT, 50), 60 * _UNIT, seed=seed)
        looks = [{(run.n_weak, run.n_human): run.accuracy for run in inputs.observations} for inputs in policy.seen]
        # The same at every look.
        assert all(looks[2][mix] == drawn for mix, drawn in looks[1].items())
        assert all(run.n_eval == 50 for run in policy.seen[2].observations)
        seen.append(looks[2])
    assert seen[0] != seen[1]
    use(Script([(80, 16)], shipped=(80, 16)))
    result = results_of(replay_budget(setting(surface, n_eval=30), 60 * _UNIT))[0]
    assert result.accuracy == accuracy(80, 16)


@pytest.mark.parametrize("name", ["paper-advice", "loc", "power-law", "fixed:0.5"])
def test_the_noise_of_a_seed_is_reproducible(name: str) -> None:
    def run() -> list[BudgetResult]:
        found = replay_budget(setting(make_surface(std=0.03), name, 20), 100 * _UNIT, n_seeds=3)
        return [dataclasses.replace(result, seconds=0.0, seconds_max=0.0) for result in results_of(found)]

    first = run()
    assert first == run()
    assert [result.seed for result in first] == [0, 1, 2]


def test_a_policy_that_wants_no_evaluation_labels_sees_nothing_and_ships_what_it_purchased(
    use: Callable[[object], None],
) -> None:
    for n_eval in (None, 0):
        policy = Script([(80, 4), (80, 16)], n_eval=n_eval)
        use(policy)
        result = results_of(replay_budget(setting(n_eval=None), 60 * _UNIT))[0]
        assert all(inputs.observations == () and inputs.n_eval is None for inputs in policy.seen)
        assert result.shipped == (80, 16)
        assert (result.evaluation, result.spent_micros) == (Evaluation(EvaluationKind.NONE), 24 * _UNIT)


def test_a_policy_chooses_how_many_evaluation_labels_it_wants(use: Callable[[object], None]) -> None:
    policy = Script([(80, 4)], n_eval=25)
    use(policy)
    result = results_of(replay_budget(setting(n_eval=None), 60 * _UNIT))[0]
    assert (result.evaluation.n_labels, result.spent_micros) == (25, 37 * _UNIT)
    for n_eval in (-1, 60):
        use(Script([(80, 4)], n_eval=n_eval))
        with pytest.raises(PolicyMisbehavedError, match=f"wants {n_eval} evaluation labels"):
            replay_budget(setting(n_eval=None), 60 * _UNIT)


def test_a_case_that_can_buy_nothing_is_skipped_with_the_reason() -> None:
    surface = make_surface()
    found = replay_budget(setting(surface), _UNIT)
    assert isinstance(found, Skipped)
    assert "within the budget" in found.reason
    found = replay_budget(setting(surface, n_eval=59), 60 * _UNIT)
    assert isinstance(found, Skipped)
    assert "59 evaluation labels leave no money" in found.reason


def test_where_nothing_is_random_all_seeds_are_the_same(use: Callable[[object], None]) -> None:
    policy = Script([(80, 4)])
    use(policy)
    results = results_of(replay_budget(setting(), 60 * _UNIT, n_seeds=3))
    assert [result.seed for result in results] == [0, 1, 2]
    assert len({dataclasses.replace(result, seed=0) for result in results}) == 1


def test_an_unknown_policy_is_a_wrong_option() -> None:
    with pytest.raises(InvalidArgumentError, match="no policy"):
        replay_budget(setting(name="best"), 60 * _UNIT)


@st.composite
def _surfaces(draw: st.DrawFn) -> Surface:
    mixes = draw(
        st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)).filter(any), min_size=1, max_size=12, unique=True)
    )
    return Surface(
        "s",
        "d",
        "m",
        tuple(SurfacePoint(w, h, draw(st.floats(0, 1)), draw(st.sampled_from([None, 0.1]))) for w, h in mixes),
    )


_cases = given(
    surface=_surfaces(),
    budget=st.integers(1, 60),
    price=st.sampled_from([0.5, 0.1, 0.01]),
    n_eval=st.integers(0, 20),
    seed=st.integers(0, 10_000),
)


def _check(case: Setting, found: list[BudgetResult] | Skipped, budget_micros: int) -> None:
    points = {point.mix: point for point in case.surface.points}
    if isinstance(found, Skipped):
        left = budget_micros - (case.n_eval or 0) * _UNIT
        assert all(case.cost_micros(point) > left for point in points.values())
        return
    for result in found:
        chain = [(0, 0), *result.purchases]
        assert all(a != b and a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(chain))
        assert set(result.purchases) <= set(points)
        last = points[result.purchases[-1]]
        assert result.spent_micros == case.cost_micros(last) + result.evaluation.n_labels * _UNIT <= budget_micros
        assert result.shipped[0] <= last.n_weak
        assert result.shipped[1] <= last.n_human
        assert result.accuracy == points[result.shipped].accuracy
        assert 0.0 <= result.regret <= 1.0


@_cases
@settings(deadline=None)
def test_whatever_is_bought_rises_is_paid_and_is_on_the_surface(
    surface: Surface, budget: int, price: float, n_eval: int, seed: int
) -> None:
    rng = random.Random(seed)
    case = setting(surface, "wanderer", n_eval, price)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "make_policy", lambda _name, **_: Wanderer(rng))
        _check(case, replay_budget(case, budget * _UNIT, n_seeds=2), budget * _UNIT)


@_cases
@settings(deadline=None, max_examples=25)
@pytest.mark.parametrize("name", [name for name in _NAMES if name != "adaptive"])
def test_the_simple_policies_play_by_the_rules_on_any_surface(
    name: str, surface: Surface, budget: int, price: float, n_eval: int, seed: int
) -> None:
    for labels in (n_eval, None):
        case = setting(surface, name, labels, price)
        _check(case, replay_budget(case, budget * _UNIT), budget * _UNIT)


def test_the_policys_own_library_leaves_out_the_replayed_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spy(name: str, *, held_out_datasets: Sequence[str] = ()) -> Script:
        asked.append(tuple(held_out_datasets))
        return Script([(80, 4)])

    monkeypatch.setattr(replay, "make_policy", spy)
    replay_budget(setting(name="adaptive"), 60 * _UNIT)
    assert asked == [("made",)]


def test_measured_accuracies_are_those_of_the_seed() -> None:
    surface, evaluation = make_surface(), Evaluation(EvaluationKind.BOUGHT, 50)
    policy = Script([(80, 16)])
    play(policy, setting(surface), evaluation, 60 * _UNIT, seed=7)
    points = {point.mix: point for point in surface.points}
    for run in policy.seen[1].observations:
        assert run.accuracy == measured_accuracy(points[run.n_weak, run.n_human], evaluation, 7)
