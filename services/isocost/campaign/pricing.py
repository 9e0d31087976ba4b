"""What a campaign's sources cost, and what its money buys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isocost.campaign.config import CampaignConfig
from isocost.core.errors import InvalidArgumentError
from isocost.core.money import Money
from isocost.resources.task import Source

__all__ = ["PriceList", "price_sources"]


@dataclass(frozen=True, slots=True)
class PriceList:
    """The sources with their prices; of a metered one `unit_price` is the most that a label may cost.

    Attributes:
        config: The campaign file.
        humans: The grades of human labels, in the order of the file: the reference first.
        models: The sources of weak labels, in the order of the file.
    """

    config: CampaignConfig
    humans: tuple[Source, ...]
    models: tuple[Source, ...]

    @property
    def human(self) -> Source:
        """The reference, from which evaluation labels and the pilot are bought."""
        return self.humans[0]

    @property
    def sources(self) -> tuple[Source, ...]:
        """All sources, in the order of the file."""
        by_name = {source.source_id: source for source in (*self.humans, *self.models)}
        return tuple(by_name[section.name] for section in self.config.sources)

    @property
    def pilot(self) -> Money:
        """The most that may be spent before the first plan: evaluation, pilot, and measuring the other sources.

        The weak source that is chosen is not known before; the dearest is reckoned with.
        """
        config = self.config
        n_human = config.evaluation.n_labels + config.pilot.n_human
        measuring = config.n_measured * sum(source.unit_price.micros for source in self._measured)
        weak = config.pilot.n_weak * max(model.unit_price.micros for model in self.models)
        return Money(n_human * self.human.unit_price.micros + measuring + weak, config.currency)

    @property
    def _measured(self) -> tuple[Source, ...]:
        """The sources that label the measured items once more: all but the reference, whose answers are right."""
        return (*self.models, *self.humans[1:])

    @property
    def tranche(self) -> Money:
        """The budget left after the pilot, cut into `n_tranches`; computed from the file, so that it never changes."""
        left = self._budget.micros - self.pilot.micros
        # At least one label of the dearest source, rounded up: the last tranche may be the smaller one.
        least = max(source.unit_price.micros for source in self.sources)
        return Money(max(-(-left // self.config.n_tranches), least), self.config.currency)

    @property
    def _budget(self) -> Money:
        return self.config.money(self.config.budget, "budget")

    def check_affordable(self) -> None:
        """Checks that the budget pays for the evaluation labels, the pilot and the measuring.

        Raises:
            InvalidArgumentError: names `budget`, what is needed and what is there.
        """
        if self.pilot.micros <= self._budget.micros:
            return
        config = self.config
        weak = max(self.models, key=lambda model: model.unit_price.micros)
        grades = f" and {len(self.humans) - 1} more of human labels" if len(self.humans) > 1 else ""
        measuring = (
            f", and measuring {len(self.models)} weak sources{grades} on {config.n_measured} items,"
            if config.n_measured
            else ""
        )
        raise InvalidArgumentError(
            "budget",
            f"{self._budget} does not pay for the pilot: {config.evaluation.n_labels} evaluation and "
            f"{config.pilot.n_human} pilot labels at {self.human.unit_price} and {config.pilot.n_weak} weak labels at "
            f"up to {weak.unit_price}{measuring} cost up to {self.pilot}; raise the budget or lower "
            "evaluation.n_labels, pilot.n_human, pilot.n_weak or pilot.n_measured",
        )

    def with_stored(self, stored: Iterable[Source]) -> PriceList:
        """The same with the sources that the budget service has already: prices are as they were when it began.

        Raises:
            InvalidArgumentError: names `data` where an item has come in whose label may cost more than that.
        """
        by_name = {source.source_id: source for source in stored}
        for model in self.models:
            agreed = by_name.get(model.source_id, model)
            if model.unit_price.micros > agreed.unit_price.micros:
                raise InvalidArgumentError(
                    "data",
                    f"holds longer items than when the campaign began: a label of {model.source_id!r} may cost "
                    f"{model.unit_price} now, and {agreed.unit_price} is the most agreed on; take them out again",
                )
        return PriceList(self.config, self.humans, tuple(by_name.get(model.source_id, model) for model in self.models))


def price_sources(config: CampaignConfig, n_tokens_max: Mapping[str, int]) -> PriceList:
    """Prices a campaign's sources.

    Args:
        config: The campaign file.
        n_tokens_max: By model source, the most prompt tokens of a label; where a source is missing, one token.

    Raises:
        InvalidArgumentError: names the price that is wrong.
    """
    models = tuple(model.source(config.currency, n_tokens_max.get(model.name, 1)) for model in config.models)
    humans = tuple(human.source(config.currency) for human in config.humans)
    return PriceList(config, humans, models)
