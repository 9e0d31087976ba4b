"""Buying: an order is placed once, and filled until every label has arrived."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from isocost.campaign.channel import HumanChannel, LabelsAwaitedError
from isocost.campaign.item_choice import ChosenItems, ItemChooser
from isocost.campaign.labeller import WeakLabeller
from isocost.client.budget import BudgetClient
from isocost.client.labeler import LabelerClient
from isocost.core.errors import InvalidArgumentError
from isocost.core.ids import content_digest
from isocost.core.progress import Progress
from isocost.resources.campaign import Order, OrderState, Sharing
from isocost.resources.label import Label, Purpose
from isocost.resources.task import Item

__all__ = ["Buyer"]

#: Items labelled, then settled, at a time: what a crash can make the labeler send again.
CHUNK_ITEMS = 1_000


class Buyer:
    """Places and fills the orders of one campaign.

    Every request id is made from the campaign and what is bought, never drawn: a campaign that is killed and started
    again repeats the same requests and gets the same orders.

    Args:
        budget, labeler: Clients of the services.
        channels: By grade, how people's labels arrive.
        progress: Where to report to.
        campaign_id: The campaign.
    """

    def __init__(
        self,
        budget: BudgetClient,
        labeler: LabelerClient,
        channels: Mapping[str, HumanChannel],
        progress: Progress,
        *,
        campaign_id: str,
    ) -> None:
        self._budget = budget
        self._labeler = labeler
        self._channels = channels
        self._progress = progress
        self._campaign_id = campaign_id

    async def buy_human(
        self,
        name: str,
        source_id: str,
        purpose: Purpose,
        n_labels: int,
        *,
        items_of: Order | None = None,
        chooser: ItemChooser | None = None,
    ) -> Order:
        """Buys labels from people.

        Args:
            name: Names the purchase among those of the campaign.
            source_id: The grade.
            purpose: What the labels are for.
            n_labels: How many.
            items_of: Ask about the first items of that order, once more.
            chooser: Chooses the items; at random where None.

        Raises:
            LabelsAwaitedError: where people have not answered everything yet; what they have answered is settled.
        """
        channel = self._channels[source_id]
        # An order that is there has its items: choosing again would look at a pool without them.
        order = await self._placed(name) if chooser else None
        if order is None:
            chosen = await chooser.choose(name, n_labels) if chooser else ChosenItems()
            order = await self._place(name, source_id, purpose, n_labels, items_of, chosen)
        if order.state is not OrderState.OPEN:
            return order
        pending = [item async for item in self._budget.order_items(order.order_id, pending_only=True)]
        with self._progress.bar(f"human labels: {name}", order.n_labels) as bar:
            bar.advance(order.n_settled)
            for chunk in _chunks(pending):
                labels = channel.answers(chunk)
                if labels:
                    order = await self._submit(order, labels)
                    bar.advance(len(labels))
        if order.n_pending:
            missing = [item async for item in self._budget.order_items(order.order_id, pending_only=True)]
            raise LabelsAwaitedError(channel.ask(missing))
        return order

    async def buy_weak(
        self, name: str, purpose: Purpose, n_labels: int, weak: WeakLabeller, *, items_of: Order | None = None
    ) -> Order:
        """Buys labels from a weak labeller; with `items_of` for the first items of that order, once more.

        Raises:
            InvalidArgumentError: names the first item that it cannot answer; every other label is settled.
        """
        order = await self._place(name, weak.source_id, purpose, n_labels, items_of)
        if order.state is not OrderState.OPEN:
            return order
        pending = [item async for item in self._budget.order_items(order.order_id, pending_only=True)]
        errors: list[tuple[str, str]] = []
        with self._progress.bar(f"weak labels: {name}", order.n_labels) as bar:
            bar.advance(order.n_settled, note="starting the model")
            for chunk in _chunks(pending):
                labels = []
                async for result in self._label(chunk, weak):
                    bar.advance()
                    if isinstance(result, Label):
                        labels.append(result)
                    else:
                        errors.append(result)
                if labels:
                    # In the order's sequence, whatever the engine's: nested subsets do not depend on its timing.
                    position = {item.item_id: index for index, item in enumerate(chunk)}
                    order = await self._submit(order, sorted(labels, key=lambda label: position[label.item_id]))
        if errors:
            item_id, message = errors[0]
            raise InvalidArgumentError(
                f"item {item_id}",
                f"{message} ({len(errors)} of {order.n_labels} items have no weak label; the others are settled)",
            )
        return order

    async def _label(self, items: Sequence[Item], weak: WeakLabeller) -> AsyncIterator[Label | tuple[str, str]]:
        async for result in self._labeler.label(
            items, weak.task, model=weak.model, runner=weak.runner, few_shot_examples=weak.few_shot_examples
        ):
            yield result.label if result.label is not None else (result.item_id, result.error)

    def _request_id(self, name: str) -> str:
        return f"{self._campaign_id}:order:{name}"

    async def _placed(self, name: str) -> Order | None:
        """The order of that name, where there is one."""
        async for order in self._budget.orders(self._campaign_id):
            if order.request_id == self._request_id(name):
                return order
        return None

    async def _place(
        self,
        name: str,
        source_id: str,
        purpose: Purpose,
        n_labels: int,
        items_of: Order | None = None,
        chosen: ChosenItems | None = None,
    ) -> Order:
        chosen = chosen or ChosenItems()
        order = await self._budget.create_order(
            self._request_id(name),
            self._campaign_id,
            source_id,
            purpose,
            n_labels,
            chosen.item_ids,
            # The other order gives the items, where there is one.
            sampling=None if items_of else chosen.sampling,
            # Measuring asks about items that are trained on: their weak labels are for evaluation, so never trained on.
            sharing=Sharing.ALL if items_of else Sharing.NONE,
            items_of_order_id=items_of.order_id if items_of else "",
        )
        # A repeated request is answered as it was the first time: what has arrived since must be read.
        return await self._budget.get_order(order.order_id)

    async def _submit(self, order: Order, labels: Sequence[Label]) -> Order:
        digest = content_digest([label.item_id for label in labels])
        submitted = await self._budget.submit_labels(f"{order.order_id}:{digest}", order.order_id, labels)
        return submitted.order


def _chunks(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + CHUNK_ITEMS] for start in range(0, len(items), CHUNK_ITEMS)]
