"""Campaigns, orders and the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from isocost.core.errors import InvalidArgumentError
from isocost.core.ids import check_id
from isocost.core.money import Money
from isocost.resources.label import Purpose, time_from_proto, time_to_proto
from isocost.resources.task import TOKENS_PER_PRICE, Task
from isocost.v1 import resources_pb2

__all__ = [
    "Balance",
    "Campaign",
    "CampaignState",
    "EntryKind",
    "LedgerEntry",
    "Order",
    "OrderState",
    "Sampling",
    "Sharing",
]


class CampaignState(Enum):
    """Where a campaign stands."""

    ACTIVE = resources_pb2.CAMPAIGN_STATE_ACTIVE
    FINISHED = resources_pb2.CAMPAIGN_STATE_FINISHED


class OrderState(Enum):
    """Where an order stands."""

    OPEN = resources_pb2.ORDER_STATE_OPEN
    SETTLED = resources_pb2.ORDER_STATE_SETTLED
    CANCELLED = resources_pb2.ORDER_STATE_CANCELLED
    EXPIRED = resources_pb2.ORDER_STATE_EXPIRED


class Sampling(Enum):
    """How an order chooses its items."""

    RANDOM = resources_pb2.SAMPLING_RANDOM
    GIVEN = resources_pb2.SAMPLING_GIVEN
    UNCERTAINTY = resources_pb2.SAMPLING_UNCERTAINTY


class Sharing(Enum):
    """Which items an order may take although another order has taken them."""

    NONE = resources_pb2.SHARING_NONE
    SOURCES = resources_pb2.SHARING_SOURCES
    ALL = resources_pb2.SHARING_ALL


class EntryKind(Enum):
    """Kind of a ledger entry."""

    RESERVE = resources_pb2.ENTRY_KIND_RESERVE
    SETTLE = resources_pb2.ENTRY_KIND_SETTLE
    RELEASE = resources_pb2.ENTRY_KIND_RELEASE
    EXPIRE = resources_pb2.ENTRY_KIND_EXPIRE
    CORRECT = resources_pb2.ENTRY_KIND_CORRECT


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign.

    Attributes:
        campaign_id: Chosen by the caller.
        task: The question asked of each item.
        budget: The most that may ever be settled plus reserved; greater than zero.
        strong_model: Folder or hub name of the model that is trained.
        config_json: The campaign file as canonical JSON; "" where there is none.
        state, create_time: Set by the budget service.
    """

    campaign_id: str
    task: Task
    budget: Money
    strong_model: str
    config_json: str = ""
    state: CampaignState = CampaignState.ACTIVE
    create_time: datetime | None = None

    def __post_init__(self) -> None:
        check_id("campaign.campaign_id", self.campaign_id)
        if self.budget.micros <= 0:
            raise InvalidArgumentError("campaign.budget", f"{self.budget}; a budget must be greater than zero")
        if not self.strong_model:
            raise InvalidArgumentError("campaign.strong_model", "empty; name a folder or a hub model")

    @classmethod
    def from_proto(cls, message: resources_pb2.Campaign) -> Campaign:
        """Converts from the wire."""
        return cls(
            campaign_id=message.campaign_id,
            task=Task.from_proto(message.task),
            budget=Money.from_proto(message.budget),
            strong_model=message.strong_model,
            config_json=message.config_json,
            state=CampaignState(message.state) if message.state else CampaignState.ACTIVE,
            create_time=time_from_proto(message.create_time),
        )

    def to_proto(self) -> resources_pb2.Campaign:
        """Converts to the wire."""
        return resources_pb2.Campaign(
            campaign_id=self.campaign_id,
            task=self.task.to_proto(),
            budget=self.budget.to_proto(),
            strong_model=self.strong_model,
            config_json=self.config_json,
            state=self.state.value,
            create_time=time_to_proto(self.create_time),
        )


@dataclass(frozen=True, slots=True)
class Order:
    """A purchase of labels from one source; n_labels = n_settled + n_released + those still awaited.

    Attributes:
        unit_price: Price of one label; for a metered source, the most that one label may cost.
        overlap: Annotators who answer each item; n_labels is a multiple of it.
        sampling: How the items were chosen.
        sharing: Which items of other orders it was allowed to take.
        expire_time: When the labels that have not arrived are given up; None for never.
        price_per_million_tokens: For a metered source, price of a million prompt tokens; None if fixed.
        items_of_order_id: The order whose items it took; "" where it named none.
    """

    order_id: str
    campaign_id: str
    source_id: str
    purpose: Purpose
    n_labels: int
    n_settled: int
    n_released: int
    unit_price: Money
    state: OrderState
    request_id: str
    create_time: datetime | None = None
    overlap: int = 1
    sampling: Sampling = Sampling.RANDOM
    sharing: Sharing = Sharing.NONE
    expire_time: datetime | None = None
    price_per_million_tokens: Money | None = None
    items_of_order_id: str = ""

    @property
    def n_items(self) -> int:
        """Items of the order."""
        return self.n_labels // self.overlap

    @property
    def n_pending(self) -> int:
        """Labels still awaited."""
        return self.n_labels - self.n_settled - self.n_released

    def label_micros(self, prompt_tokens: int) -> int:
        """What one label of so many prompt tokens costs, in micros: the fixed price, or the metered one rounded up.

        It may be more than `unit_price`, and more than any amount of money; such a label is refused.
        """
        if self.price_per_million_tokens is None:
            return self.unit_price.micros
        return -(-prompt_tokens * self.price_per_million_tokens.micros // TOKENS_PER_PRICE)

    @classmethod
    def from_proto(cls, message: resources_pb2.Order) -> Order:
        """Converts from the wire."""
        metered = message.HasField("price_per_million_tokens")
        return cls(
            order_id=message.order_id,
            campaign_id=message.campaign_id,
            source_id=message.source_id,
            purpose=Purpose(message.purpose),
            n_labels=message.n_labels,
            n_settled=message.n_settled,
            n_released=message.n_released,
            unit_price=Money.from_proto(message.unit_price),
            state=OrderState(message.state),
            request_id=message.request_id,
            create_time=time_from_proto(message.create_time),
            overlap=message.overlap or 1,
            sampling=Sampling(message.sampling or Sampling.RANDOM.value),
            sharing=Sharing(message.sharing or Sharing.NONE.value),
            expire_time=time_from_proto(message.expire_time),
            price_per_million_tokens=Money.from_proto(message.price_per_million_tokens) if metered else None,
            items_of_order_id=message.items_of_order_id,
        )

    def to_proto(self) -> resources_pb2.Order:
        """Converts to the wire."""
        metered = self.price_per_million_tokens
        return resources_pb2.Order(
            order_id=self.order_id,
            campaign_id=self.campaign_id,
            source_id=self.source_id,
            purpose=self.purpose.value,
            n_labels=self.n_labels,
            n_settled=self.n_settled,
            n_released=self.n_released,
            unit_price=self.unit_price.to_proto(),
            state=self.state.value,
            request_id=self.request_id,
            create_time=time_to_proto(self.create_time),
            overlap=self.overlap,
            sampling=self.sampling.value,
            sharing=self.sharing.value,
            expire_time=time_to_proto(self.expire_time),
            price_per_million_tokens=metered.to_proto() if metered else None,
            items_of_order_id=self.items_of_order_id,
        )


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One row of the append-only ledger; sequence counts from 1 in each campaign, without gaps.

    Attributes:
        amount: Negative only where a CORRECT entry refunds.
        label_id: For SETTLE and CORRECT, the label paid.
        reason: For CORRECT, why.
        corrects_sequence: For CORRECT, the SETTLE entry that it corrects; else 0.
    """

    sequence: int
    campaign_id: str
    order_id: str
    source_id: str
    kind: EntryKind
    amount: Money
    label_id: str = ""
    create_time: datetime | None = None
    reason: str = ""
    corrects_sequence: int = 0

    @classmethod
    def from_proto(cls, message: resources_pb2.LedgerEntry) -> LedgerEntry:
        """Converts from the wire."""
        return cls(
            sequence=message.sequence,
            campaign_id=message.campaign_id,
            order_id=message.order_id,
            source_id=message.source_id,
            kind=EntryKind(message.kind),
            amount=Money.from_proto(message.amount),
            label_id=message.label_id,
            create_time=time_from_proto(message.create_time),
            reason=message.reason,
            corrects_sequence=message.corrects_sequence,
        )

    def to_proto(self) -> resources_pb2.LedgerEntry:
        """Converts to the wire."""
        return resources_pb2.LedgerEntry(
            sequence=self.sequence,
            campaign_id=self.campaign_id,
            order_id=self.order_id,
            source_id=self.source_id,
            kind=self.kind.value,
            amount=self.amount.to_proto(),
            label_id=self.label_id,
            create_time=time_to_proto(self.create_time),
            reason=self.reason,
            corrects_sequence=self.corrects_sequence,
        )


@dataclass(frozen=True, slots=True)
class Balance:
    """A campaign's money at one instant: settled + reserved + available = budget."""

    budget: Money
    settled: Money
    reserved: Money

    @property
    def available(self) -> Money:
        """Free to spend."""
        return Money(self.budget.micros - self.settled.micros - self.reserved.micros, self.budget.currency_code)

    @classmethod
    def from_proto(cls, message: resources_pb2.Balance) -> Balance:
        """Converts from the wire."""
        return cls(*(Money.from_proto(part) for part in (message.budget, message.settled, message.reserved)))

    def to_proto(self) -> resources_pb2.Balance:
        """Converts to the wire."""
        return resources_pb2.Balance(
            budget=self.budget.to_proto(),
            settled=self.settled.to_proto(),
            reserved=self.reserved.to_proto(),
            available=self.available.to_proto(),
        )
