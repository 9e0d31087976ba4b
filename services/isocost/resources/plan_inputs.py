"""What a plan was made from, as it is stored with the plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from isocost.core.errors import InvalidArgumentError
from isocost.core.ids import canonical_json
from isocost.economics.frontier import ObservedPoint
from isocost.economics.policy.inputs import PolicyInputs, SourceState

__all__ = ["PlanInputs"]


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """Everything a plan is made from: the same inputs give the same plan.

    Attributes:
        policy: What the policy is given. Prices are what one more label is expected to cost.
        unit_price_micros: By source, what an order reserves for each label; above the expected price of a metered one.
        currency_code: Of all amounts.
        task_name: Of the campaign: what the policy's library has of the same name is left out, so that a testbed's
            campaign never plans by its own answers.
    """

    policy: PolicyInputs
    unit_price_micros: Mapping[str, int]
    currency_code: str
    task_name: str

    def to_json(self) -> str:
        """As canonical JSON: the policy's inputs by their names, and the others."""
        return canonical_json(
            {
                **asdict(self.policy),
                "unit_price_micros": dict(self.unit_price_micros),
                "currency_code": self.currency_code,
                "task_name": self.task_name,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> PlanInputs:
        """What `to_json` wrote.

        Raises:
            InvalidArgumentError: where the text is something else, such as the inputs of another policy.
        """
        try:
            given: dict[str, Any] = json.loads(text)
            unit_price_micros, currency_code = given.pop("unit_price_micros"), given.pop("currency_code")
            task_name, menu = given.pop("task_name"), given.pop("menu")
            policy = PolicyInputs(
                **{
                    **given,
                    "weak": tuple(SourceState(**source) for source in given["weak"]),
                    "human": tuple(SourceState(**source) for source in given["human"]),
                    "observations": tuple(ObservedPoint(**point) for point in given["observations"]),
                    "menu": None if menu is None else tuple((n_weak, n_human) for n_weak, n_human in menu),
                }
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidArgumentError(
                "inputs_json", f"not the inputs of a plan ({error!r}); give the inputs_json of a plan of this policy"
            ) from None
        return cls(policy, unit_price_micros, currency_code, task_name)
