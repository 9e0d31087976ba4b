"""The ledger's entries replayed one by one, each held against its order and the budget. `proof` reads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from isocost.budget.campaigns import CampaignStatus
from isocost.core.errors import FailedPreconditionError
from isocost.resources.campaign import EntryKind, LedgerEntry, Order, OrderState

__all__ = ["Replay", "require"]


def require(condition: bool, campaign_id: str, what: str) -> None:
    """Raises where something that is said about a campaign's money does not hold.

    Raises:
        FailedPreconditionError: says what.
    """
    if not condition:
        raise FailedPreconditionError(
            f"the ledger of campaign {campaign_id!r} is damaged: {what}; stop buying and restore a backup"
        )


@dataclass(slots=True)
class _Account:
    """One order's part of the ledger; `remainder_micros` is what labels did not cost and is not released yet."""

    reserved_micros: int = 0
    n_reserve: int = 0
    n_settle: int = 0
    given_up_micros: int = 0
    remainder_micros: int = 0


class Replay:
    """Replays a campaign's entries.

    Args:
        status: The campaign.
        orders: Its orders by id.

    Attributes:
        n_entries: Entries so far.
        settled_micros, reserved_micros: The money by them.
    """

    def __init__(self, status: CampaignStatus, orders: Mapping[str, Order]) -> None:
        self._campaign_id = status.campaign.campaign_id
        self._budget = status.campaign.budget
        self._orders = orders
        self._accounts: dict[str, _Account] = defaultdict(_Account)
        #: The order whose labels were just paid less than was reserved for them; "" where there is none.
        self._remainder_of = ""
        self.n_entries = 0
        self.settled_micros = 0
        self.reserved_micros = 0

    def _require(self, condition: bool, what: str) -> None:
        require(condition, self._campaign_id, f"entry {self.n_entries}: {what}")

    def add(self, entry: LedgerEntry, prompt_tokens: Mapping[str, int]) -> None:
        """Replays one entry.

        Args:
            entry: The next one.
            prompt_tokens: Tokens by label id, at least of the label that is paid where its source is metered.

        Raises:
            FailedPreconditionError: says what is wrong with it.
        """
        self.n_entries += 1
        self._require(entry.sequence == self.n_entries, f"its sequence is {entry.sequence}; one is missing")
        self._require(entry.amount.currency_code == self._budget.currency_code, "it is in another currency")
        self._require(entry.order_id in self._orders, f"there is no order {entry.order_id!r}")
        order = self._orders[entry.order_id]
        self._require(entry.source_id == order.source_id, f"it pays {entry.source_id!r}, not the order's source")
        names_label = entry.kind in (EntryKind.SETTLE, EntryKind.CORRECT)
        self._require(bool(entry.label_id) == names_label, "only a payment names a label, and its correction")
        follows = entry.order_id == self._remainder_of and entry.kind in (EntryKind.SETTLE, EntryKind.RELEASE)
        self._require(follows or not self._remainder_of, f"order {self._remainder_of!r} has not released its remainder")
        if entry.kind is EntryKind.CORRECT:
            self._require(bool(entry.reason), "a correction without a reason")
            self._require(0 < entry.corrects_sequence < entry.sequence, "it corrects no entry before it")
            self.settled_micros += entry.amount.micros
        else:
            self._require(entry.amount.micros >= 0, "its amount is negative")
            self._move(entry, order, prompt_tokens)
        self._require(self.settled_micros >= 0, "more is given back than was paid")
        spoken_for = self.settled_micros + self.reserved_micros
        self._require(spoken_for <= self._budget.micros, f"{spoken_for} micros are spoken for; {self._budget} allowed")

    def _move(self, entry: LedgerEntry, order: Order, prompt_tokens: Mapping[str, int]) -> None:
        """Moves money into, or out of, an order's reservation."""
        account = self._accounts[entry.order_id]
        micros = entry.amount.micros
        if entry.kind is EntryKind.RESERVE:
            self._require(account.n_reserve == 0, f"order {entry.order_id!r} is reserved a second time")
            self._require(micros == order.n_labels * order.unit_price.micros, "it does not reserve the order's price")
            account.n_reserve += 1
            account.reserved_micros += micros
            self.reserved_micros += micros
            return
        self._require(micros <= account.reserved_micros, f"order {entry.order_id!r} has less reserved than it takes")
        account.reserved_micros -= micros
        self.reserved_micros -= micros
        if entry.kind is EntryKind.SETTLE:
            self._check_price(entry, order, prompt_tokens)
            account.n_settle += 1
            account.remainder_micros += order.unit_price.micros - micros
            self._remainder_of = entry.order_id if account.remainder_micros else ""
            self.settled_micros += micros
        elif account.remainder_micros:
            self._require(
                micros == account.remainder_micros, "it does not release what the labels before it did not cost"
            )
            account.remainder_micros = 0
            self._remainder_of = ""
        else:
            account.given_up_micros += micros

    def _check_price(self, entry: LedgerEntry, order: Order, prompt_tokens: Mapping[str, int]) -> None:
        micros, unit_micros = entry.amount.micros, order.unit_price.micros
        if order.price_per_million_tokens is None:
            self._require(micros == unit_micros, "it does not pay the order's unit price")
            return
        self._require(entry.label_id in prompt_tokens, f"there is no label {entry.label_id!r}")
        n_tokens = prompt_tokens[entry.label_id]
        price = f"{n_tokens} tokens at {order.price_per_million_tokens} per million"
        self._require(micros == order.label_micros(n_tokens), f"it does not pay {price}")
        self._require(0 < micros <= unit_micros, f"it pays {price}, which is beyond the order's unit price or nothing")

    def close(self, order: Order) -> None:
        """Holds an order's own counts against its entries, once all are replayed.

        Raises:
            FailedPreconditionError: says what is wrong.
        """
        account = self._accounts[order.order_id]
        name, price_micros = f"order {order.order_id!r}", order.unit_price.micros
        closed_early = order.n_pending == 0 and order.n_released > 0
        expected = {
            OrderState.OPEN: order.n_pending > 0,
            OrderState.SETTLED: order.n_settled == order.n_labels,
            OrderState.CANCELLED: closed_early,
            OrderState.EXPIRED: closed_early,
        }
        for condition, what in (
            (account.n_reserve == 1, "was never reserved"),
            (account.n_settle == order.n_settled, f"counts {order.n_settled} labels as paid"),
            (not account.remainder_micros, "has not released its remainder"),
            (
                account.given_up_micros == order.n_released * price_micros,
                f"counts {order.n_released} labels as released",
            ),
            (account.reserved_micros == order.n_pending * price_micros, "reserves another amount"),
            (expected[order.state], f"is {order.state.name} with {order.n_pending} labels pending"),
        ):
            require(condition, self._campaign_id, f"{name} {what}")
