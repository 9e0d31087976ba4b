from __future__ import annotations

import pytest

from isocost.economics.policy.adaptive import AdaptivePolicy
from isocost.economics.policy.registry import POLICY_NAMES, EvaluationChooser, make_policy


def test_every_name_makes_a_policy_of_that_name() -> None:
    for name in (name.replace("X", "0.25") for name in POLICY_NAMES):
        policy = make_policy(name)
        assert policy.name == name
        assert isinstance(policy, EvaluationChooser)


def test_adaptive_is_told_what_it_may_not_know() -> None:
    policy = make_policy("adaptive", held_out_datasets=("SciQ",))
    assert isinstance(policy, AdaptivePolicy)
    assert policy.held_out_datasets == ("SciQ",)


@pytest.mark.parametrize("name", ["fixed:1.5", "fixed:-0.1", "fixed:", "fixed:nan", "fixed:half"])
def test_a_share_is_from_0_to_1(name: str) -> None:
    with pytest.raises(ValueError, match="number from 0 to 1"):
        make_policy(name)


@pytest.mark.parametrize("name", ["", "Adaptive", "best", "all-weak "])
def test_an_unknown_name_is_answered_with_those_that_are_known(name: str) -> None:
    with pytest.raises(ValueError, match=r"adaptive, all-weak, .*fixed:X"):
        make_policy(name)
