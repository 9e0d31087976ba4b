"""Answers of a file into a campaign: under the leases that the file names, and else into orders that await them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isocost.client.answer import AnsweredItems, SubmittedLabels
from isocost.client.answer_file import AnswerForm, AnswerRow, read_answers
from isocost.client.budget import BudgetClient
from isocost.client.queue import QueueClient
from isocost.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    IsocostError,
    NotFoundError,
    PermissionDeniedError,
)
from isocost.core.ids import new_id
from isocost.core.money import Money
from isocost.resources.campaign import OrderState
from isocost.resources.label import Label
from isocost.resources.queue import LEASE_ITEMS_MAX, Lease, LeaseState
from isocost.resources.task import SourceKind

__all__ = ["AnswerImport", "ImportTally", "Refusal"]

#: How the service names one of the labels that it was sent.
_LABEL_FIELD = re.compile(r"labels\[(\d+)\]\.(\w+)\Z")

_Send = Callable[[Sequence[Label]], Awaitable[AnsweredItems | SubmittedLabels]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is not stored and not paid: its row in the file, its item, and why."""

    row: int
    item_id: str
    reason: str


@dataclass(slots=True)
class ImportTally:
    """What became of a file's rows so far.

    Attributes:
        n_accepted: Answers stored and paid.
        n_duplicate: Answers that were stored before; not paid again.
        n_unanswered: Rows without an answer.
        n_others: Rows that are another source's labels, left out.
        n_returned: Items of the file's leases that nobody answered and that are back in the queue, where asked for.
        refused: Answers that come too late, or of which the item has enough.
        paid: What the accepted ones cost; None where the token may not know.
    """

    n_accepted: int = 0
    n_duplicate: int = 0
    n_unanswered: int = 0
    n_others: int = 0
    n_returned: int = 0
    refused: list[Refusal] = field(default_factory=list)
    paid: Money | None = None


@dataclass(frozen=True, slots=True)
class _Purse:
    """What a token that may read the campaign sees of it."""

    choices: tuple[str, ...]
    unit_price: Money
    leases: dict[str, Lease]


class AnswerImport:
    """One file's way into a campaign.

    Answers of rows that name a lease of the campaign are given under it; the others are labels of the oldest open order
    of the source that awaits their item. Every row is checked before the first is stored. The service pays each
    annotator's answer to an item once, so the same import may be made again at any time, whatever ended the first.

    Usage::

        tally = await AnswerImport(budget, queue, "reviews", "human", Path("items.csv")).run()

    Args:
        budget, queue: Clients of one service. An annotator's token suffices for answers under its own leases.
        campaign_id, source_id: The campaign, and its HUMAN source that is paid.
        path: A .csv, .jsonl or .parquet file with the columns of `QUEUE` or of exported labels.
        call_labels: Labels in one call, at most 1,000.

    Attributes:
        tally: What became of the rows so far, also after an error.
    """

    def __init__(
        self,
        budget: BudgetClient,
        queue: QueueClient,
        campaign_id: str,
        source_id: str,
        path: Path,
        *,
        call_labels: int = LEASE_ITEMS_MAX,
    ) -> None:
        self._budget = budget
        self._queue = queue
        self._campaign_id = campaign_id
        self._source_id = source_id
        self._path = path
        self._call_labels = call_labels
        self._form = AnswerForm(path, None)
        self._purse: _Purse | None = None
        self.tally = ImportTally()

    async def run(self, *, release: bool = False) -> ImportTally:
        """Imports the file.

        Args:
            release: Whether the leases of the file give the items that are not answered back afterwards.

        Raises:
            InvalidArgumentError: names `file` with row, column and remedy, or `campaign_id` or `source_id`.
            IsocostError: what the service said otherwise; what was stored until then is in `tally`.
        """
        self._purse = await self._open()
        self._form = AnswerForm(self._path, self._purse.choices if self._purse else None)
        rows = read_answers(self._form)
        own = [row for row in rows if row.source_id in ("", self._source_id)]
        answered = [row for row in own if row.label is not None]
        self.tally.n_others, self.tally.n_unanswered = len(rows) - len(own), len(own) - len(answered)
        await self._check(answered)
        for lease_id in dict.fromkeys(row.lease_id for row in answered if self._is_leased(row)):

            async def give(labels: Sequence[Label], lease_id: str = lease_id) -> AnsweredItems:
                return await self._queue.answer_items(new_id("import"), lease_id, labels)

            await self._send_all([row for row in answered if row.lease_id == lease_id], give, self.tally.refused)
        if free := [row for row in answered if not self._is_leased(row)]:
            await self._submit(free)
        if release:
            await self._release(own)
        return self.tally

    async def _open(self) -> _Purse | None:
        """The campaign's choices, the source's price and the leases; None where the token may not read them.

        Raises:
            NotFoundError: where there is no such campaign.
            InvalidArgumentError: where it has no such source of people.
        """
        try:
            task = (await self._budget.get_campaign(self._campaign_id)).campaign.task
        except PermissionDeniedError:
            return None
        humans = [s for s in await self._budget.list_sources(self._campaign_id) if s.kind is SourceKind.HUMAN]
        source = next((each for each in humans if each.source_id == self._source_id), None)
        if source is None:
            names = ", ".join(repr(each.source_id) for each in humans) or "none; it has no source of people"
            raise InvalidArgumentError("source_id", f"{self._source_id!r} is no HUMAN source; name one of {names}")
        self.tally.paid = Money(0, source.unit_price.currency_code)
        leases = {lease.lease_id: lease for lease in await self._budget.list_leases(self._campaign_id)}
        return _Purse(task.choices, source.unit_price, leases)

    def _is_leased(self, row: AnswerRow) -> bool:
        """Whether a row is answered under its lease. A lease of another campaign says nothing in this one."""
        return self._purse is None or row.lease_id in self._purse.leases

    async def _check(self, rows: Sequence[AnswerRow]) -> None:
        """Checks the rows against the campaign, before anything is stored.

        Raises:
            InvalidArgumentError: names the first row that is wrong.
        """
        if self._purse is None:
            self._check_own(rows)
            return
        for row in rows:
            lease = self._purse.leases.get(row.lease_id)
            if lease is not None and lease.source_id != self._source_id:
                raise self._form.error(
                    row.number, "lease_id", f"was leased for source {lease.source_id!r}; import with that source"
                )
        unknown = {_label(row).item_id: row for row in reversed(rows)}
        async for pool_item in self._budget.items(self._campaign_id):
            if not unknown:
                break
            unknown.pop(pool_item.item.item_id, None)
        if unknown:
            row = min(unknown.values(), key=lambda each: each.number)
            raise self._form.error(
                row.number,
                "item_id",
                f"{_label(row).item_id!r} is no item of campaign {self._campaign_id!r}; correct it, or remove the row",
            )

    def _check_own(self, rows: Sequence[AnswerRow]) -> None:
        """What an annotator's token allows: answers under leases, in one name."""
        names: dict[str, int] = {}
        for row in rows:
            if not row.lease_id:
                raise self._form.error(
                    row.number, "lease_id", "empty, and this token may answer under leases only; keep the column"
                )
            if name := _label(row).annotator:
                names.setdefault(name, row.number)
        if len(names) > 1:
            first, (other, number) = next(iter(names)), list(names.items())[1]
            raise self._form.error(
                number,
                "annotator",
                f"{other!r}, and {first!r} above; this token answers in one name, so leave it empty",
            )

    async def _send_all(self, rows: Sequence[AnswerRow], send: _Send, refused: list[Refusal]) -> None:
        for start in range(0, len(rows), self._call_labels):
            await self._send(rows[start : start + self._call_labels], send, refused)

    async def _send(self, rows: Sequence[AnswerRow], send: _Send, refused: list[Refusal]) -> None:
        """Sends rows in one call; where it takes not all of them, those that it takes, found by halving."""
        try:
            result = await send([_label(row) for row in rows])
        except FailedPreconditionError as error:
            if len(rows) == 1:
                refused.append(Refusal(rows[0].number, _label(rows[0]).item_id, error.message))
                return
            half = len(rows) // 2
            await self._send(rows[:half], send, refused)
            await self._send(rows[half:], send, refused)
        except (InvalidArgumentError, NotFoundError, PermissionDeniedError) as error:
            raise self._at_row(error, rows) from None
        else:
            self.tally.n_accepted += result.n_accepted
            self.tally.n_duplicate += result.n_duplicate
            if self._purse is not None:
                price = self._purse.unit_price
                self.tally.paid = Money(price.micros * self.tally.n_accepted, price.currency_code)

    def _at_row(self, error: IsocostError, rows: Sequence[AnswerRow]) -> IsocostError:
        """The error of a call as one of the file, where the service names a label or the lease."""
        if found := _LABEL_FIELD.match(error.field):
            return self._form.error(rows[int(found.group(1))].number, found.group(2), error.message)
        if error.field == "lease_id":
            return self._form.error(rows[0].number, "lease_id", error.message)
        return error

    async def _submit(self, rows: Sequence[AnswerRow]) -> None:
        """Gives labels to the open orders that await them, the oldest first."""
        left = {(_label(row).item_id, _label(row).annotator): row for row in rows}
        self.tally.n_duplicate += len(rows) - len(left)
        async for stored in self._budget.labels(self._campaign_id, source_id=self._source_id):
            if left.pop((stored.label.item_id, stored.label.annotator), None) is not None:
                self.tally.n_duplicate += 1
        reasons: dict[int, Refusal] = {}
        async for order in self._budget.orders(self._campaign_id):
            if not left:
                break
            if order.source_id != self._source_id or order.state is not OrderState.OPEN:
                continue
            items = self._budget.order_items(order.order_id, pending_only=True)
            awaited = {item.item_id async for item in items}

            async def give(labels: Sequence[Label], order_id: str = order.order_id) -> SubmittedLabels:
                return await self._budget.submit_labels(new_id("import"), order_id, labels)

            refused: list[Refusal] = []
            chosen = {key: row for key, row in left.items() if key[0] in awaited}
            await self._send_all(list(chosen.values()), give, refused)
            now = {refusal.row: refusal for refusal in refused}
            reasons.update(now)
            left = {key: row for key, row in left.items() if key not in chosen or row.number in now}
        why = f"no open order of {self._source_id!r} awaits it: it is leased, has enough labels or is not ordered"
        for (item_id, _), row in left.items():
            self.tally.refused.append(reasons.get(row.number, Refusal(row.number, item_id, why)))

    async def _release(self, rows: Sequence[AnswerRow]) -> None:
        """Gives back what nobody has answered of the leases that the file names."""
        for lease_id in dict.fromkeys(row.lease_id for row in rows if row.lease_id and self._is_leased(row)):
            if self._purse is not None and self._purse.leases[lease_id].state is not LeaseState.OPEN:
                # It had ended before: nothing is given back now.
                continue
            lease = await self._queue.release_lease(new_id("import"), lease_id)
            if lease.state is not LeaseState.OPEN:
                self.tally.n_returned += lease.n_items - lease.n_answered


def _label(row: AnswerRow) -> Label:
    """The label of a row that has one."""
    assert row.label is not None
    return row.label
