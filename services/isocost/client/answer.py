"""What the budget service's calls return where that is more than one domain object."""

from __future__ import annotations

from dataclasses import dataclass

from isocost.resources.campaign import Balance, Campaign, LedgerEntry, Order
from isocost.resources.queue import Agreement, AnnotatorRecord, Lease
from isocost.resources.task import Item, Task

__all__ = [
    "AddedItems",
    "AnnotatorAgreement",
    "AnsweredItems",
    "CampaignStatus",
    "Correction",
    "ItemError",
    "LeasedItems",
    "SubmittedLabels",
]


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item was refused; index counts from 0 in the items as they were given."""

    item_id: str
    index: int
    message: str


@dataclass(frozen=True, slots=True)
class AddedItems:
    """What became of a stream of items; errors holds at most 1,000 of the n_errors."""

    n_added: int
    n_duplicate: int
    n_errors: int
    errors: tuple[ItemError, ...]


@dataclass(frozen=True, slots=True)
class CampaignStatus:
    """A campaign, its money, the size of its pool (all items, and those no order has taken), and its rows.

    Labels and entries of the ledger are numbered from 1: the counts are the sequences of the last.
    """

    campaign: Campaign
    balance: Balance
    n_items: int
    n_items_free: int
    n_labels: int
    n_entries: int


@dataclass(frozen=True, slots=True)
class SubmittedLabels:
    """What became of submitted labels, and the order after it."""

    n_accepted: int
    n_duplicate: int
    order: Order


@dataclass(frozen=True, slots=True)
class Correction:
    """A correction's entry in the ledger, and the campaign's money after it."""

    entry: LedgerEntry
    balance: Balance


@dataclass(frozen=True, slots=True)
class AnnotatorAgreement:
    """How well a source's annotators agree with each other, and one record an annotator, by name."""

    agreement: Agreement
    annotators: tuple[AnnotatorRecord, ...]


@dataclass(frozen=True, slots=True)
class LeasedItems:
    """Items handed out and the question asked of each; no lease and no items where nothing waits."""

    lease: Lease | None
    items: tuple[Item, ...]
    task: Task | None


@dataclass(frozen=True, slots=True)
class AnsweredItems:
    """What became of answers, and the lease after it."""

    n_accepted: int
    n_duplicate: int
    lease: Lease
