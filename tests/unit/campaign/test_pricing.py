from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.campaign.config import CampaignConfig
from isocost.campaign.pricing import price_sources
from isocost.core.errors import InvalidArgumentError
from isocost.core.money import Money
from isocost.resources.task import SourceKind


def _config(
    *models: dict[str, Any], budget: float = 100, n_measured: int = 12, n_tranches: int = 4, crowd: float = 0
) -> CampaignConfig:
    channel = {"kind": "simulated"}
    second = {"kind": "human", "name": "crowd", "unit_price": crowd, "channel": channel}
    return CampaignConfig.model_validate(
        {
            "campaign": "c",
            "budget": budget,
            "task": {"name": "t", "template": "{text}", "choices": ["a", "b"]},
            "data": {"path": "x.csv", "gold_column": "g"},
            "sources": [
                *({"kind": "model", "model": "m", **model} for model in models),
                {"kind": "human", "unit_price": 1, "channel": channel},
                *([second] if crowd else []),
            ],
            "strong_model": "m",
            "evaluation": {"n_labels": 10},
            "pilot": {"n_weak": 40, "n_human": 20, "n_measured": n_measured},
            "n_tranches": n_tranches,
        }
    )


FIXED, METERED = {"name": "fixed", "unit_price": 0.1}, {"name": "metered", "price_per_million_tokens": 0.15}


def test_prices_are_exact_and_a_metered_source_costs_at_most_its_longest_label() -> None:
    prices = price_sources(_config(FIXED, METERED), {"fixed": 900, "metered": 901})
    fixed, metered = prices.models
    assert fixed.unit_price == Money(100_000)
    assert fixed.price_per_million_tokens is None
    # 901 tokens at 0.15 micros each are 135.15, rounded up.
    assert metered.unit_price == Money(136)
    assert metered.price_per_million_tokens == Money(150_000)
    assert [source.source_id for source in prices.sources] == ["fixed", "metered", "human"]
    assert prices.human.kind is SourceKind.HUMAN


@given(st.integers(1, 10**6), st.integers(1, 10**5), st.integers(0, 10**5))
def test_no_label_costs_more_than_what_is_reserved(price_micros: int, n_tokens_max: int, n_tokens: int) -> None:
    config = _config({"name": "m", "price_per_million_tokens": price_micros / 1e6})
    (source,) = price_sources(config, {"m": n_tokens_max}).models
    assert source.label_price(min(n_tokens, n_tokens_max)).micros <= source.unit_price.micros
    assert source.label_price(n_tokens_max) == source.unit_price


def test_the_pilot_reckons_with_measuring_all_and_buying_from_the_dearest() -> None:
    prices = price_sources(_config(FIXED, {"name": "dear", "unit_price": 0.2}), {})
    # 30 human labels, 12 measured on each, 40 at the dearer price.
    assert prices.pilot == Money(30_000_000 + 12 * 300_000 + 40 * 200_000)
    assert prices.tranche == Money(-(-(100_000_000 - prices.pilot.micros) // 4))


def test_every_grade_but_the_reference_is_measured_and_paid_for_it() -> None:
    config = _config(FIXED, crowd=0.25, budget=50)
    prices = price_sources(config, {})
    assert [source.source_id for source in prices.sources] == ["fixed", "human", "crowd"]
    assert prices.human.source_id == "human"
    # 30 labels of the reference, 12 measured on either of the others, 40 weak ones.
    assert prices.pilot == Money(30_000_000 + 12 * (100_000 + 250_000) + 40 * 100_000)
    assert prices.with_stored(prices.sources) == prices


def test_a_tranche_buys_a_label_at_least() -> None:
    prices = price_sources(_config(FIXED, budget=36, n_tranches=50), {})
    assert prices.tranche == Money(1_000_000)


def test_a_budget_that_does_not_pay_for_the_pilot_is_named_with_what_it_takes() -> None:
    prices = price_sources(_config(FIXED, METERED, budget=35.2), {"metered": 1000})
    with pytest.raises(InvalidArgumentError, match=r"2 weak sources on 12 items, cost up to \$35.2018") as caught:
        prices.check_affordable()
    assert caught.value.field == "budget"
    price_sources(_config(FIXED, METERED, budget=35.21), {"metered": 1000}).check_affordable()


def test_without_measuring_nothing_is_said_of_it() -> None:
    with pytest.raises(InvalidArgumentError, match=r"at up to \$0.10 cost up to \$34.00"):
        price_sources(_config(FIXED, budget=33, n_measured=0), {}).check_affordable()


def test_a_campaign_goes_on_at_the_prices_it_began_with() -> None:
    config = _config(FIXED, METERED)
    began = price_sources(config, {"metered": 1000})
    shorter = price_sources(config, {"metered": 10})
    assert shorter.with_stored(began.sources) == began
    assert shorter.with_stored([]) == shorter
    with pytest.raises(InvalidArgumentError, match="holds longer items than when the campaign began") as caught:
        price_sources(config, {"metered": 1001 * 10}).with_stored(began.sources)
    assert caught.value.field == "data"


def test_models_keep_their_order() -> None:
    prices = price_sources(_config(METERED, FIXED), {})
    assert [(model.source_id, model.model) for model in prices.models] == [("metered", "m"), ("fixed", "m")]
