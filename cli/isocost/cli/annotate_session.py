"""One annotator's session at the human queue: lease, ask, store, again, until nothing waits or somebody quits."""

from __future__ import annotations

from dataclasses import dataclass

from rich.markup import escape

from isocost.cli.annotate_view import Standing, print_help, print_item
from isocost.cli.console import console
from isocost.cli.keyboard import End, Keyboard
from isocost.client import BudgetClient, QueueClient
from isocost.client.attended import ATTENDED_LEASE_DURATION, answer_request_id
from isocost.client.queue import KeptLease
from isocost.core.errors import FailedPreconditionError, IsocostError, PermissionDeniedError
from isocost.core.ids import new_id
from isocost.core.money import Money
from isocost.resources.campaign import OrderState
from isocost.resources.label import Label, one_hot
from isocost.resources.queue import LEASE_ITEMS_MAX, Lease, LeaseState
from isocost.resources.task import Item, Task
from isocost.tasks.choice_keys import HELP, QUIT, SKIP, UNDO, ChoiceKeys

__all__ = ["AnnotateSession", "Seat"]


@dataclass(frozen=True, slots=True)
class Seat:
    """Who answers for what.

    Attributes:
        campaign_id, source_id: The campaign, and its HUMAN source.
        annotator: The annotator's name; "" where the token has it.
        batch: Items leased at a time.
    """

    campaign_id: str
    source_id: str
    annotator: str
    batch: int


@dataclass(frozen=True, slots=True)
class _Held:
    """What was done to the last item, and is not stored yet; choice is None where it was skipped."""

    item: Item
    choice: int | None


class AnnotateSession:
    """Asks one annotator about the items that wait for one source.

    An answer that is stored is paid and never changes. So each is held until the next item is answered or skipped, the
    batch ends or somebody quits; until then it can be taken back. Its request id is made of the lease and the item:
    however often it is sent, it is stored once.

    Args:
        budget: Reads where the campaign stands, where its token may.
        queue: Leases and answers.
        keyboard: Where keys come from.
        seat: Who answers for what.
    """

    def __init__(self, budget: BudgetClient, queue: QueueClient, keyboard: Keyboard, seat: Seat) -> None:
        self._budget = budget
        self._queue = queue
        self._keyboard = keyboard
        self._seat = seat
        self._skipped: set[str] = set()
        self._order_ids: set[str] = set()
        self._standing: Standing | None = None
        self._may_read = True
        self._n_paid = 0
        self._n_paid_since = 0

    async def run(self) -> End | None:
        """Asks until nothing waits or somebody quits; what was answered is then stored and the rest given back.

        Returns:
            `End` where the keys ended; None otherwise.

        Raises:
            IsocostError: the service refuses, or is away; the answer that could not be stored is named.
        """
        end: End | None = None
        while True:
            await self._read_standing()
            # Skipped items come first again, and are passed over: ask for as many more.
            n_items = min(self._seat.batch + len(self._skipped), LEASE_ITEMS_MAX)
            leased = await self._queue.lease_items(
                new_id("annotate"),
                self._seat.campaign_id,
                self._seat.source_id,
                self._seat.annotator,
                n_items,
                duration=ATTENDED_LEASE_DURATION,
            )
            if leased.lease is None or leased.task is None:
                self._say_nothing_waits()
                break
            items = [item for item in leased.items if item.item_id not in self._skipped]
            if not items:
                await self._give_back(leased.lease)
                console.print("Only items that you skipped are left; they are given back.")
                break
            async with self._queue.keep_lease(leased.lease) as kept:
                batch = _Batch(self, leased.task, items, kept)
                goes_on = await batch.ask()
                await self._give_back(leased.lease)
            if not goes_on:
                end = batch.end
                break
        await self._read_standing()
        where = f"; {self.standing_line(0)}" if self._standing else ""
        console.print(escape(f"{self._n_paid:,} stored in this session{where}."))
        return end

    @property
    def keyboard(self) -> Keyboard:
        """Where keys come from."""
        return self._keyboard

    def standing_line(self, n_held: int) -> str:
        """Where things stand, in a line; `n_held` answers are not stored yet."""
        if self._standing is None:
            return f"{self._n_paid + n_held:,} answered in this session"
        return self._standing.line(self._n_paid, self._n_paid_since, n_held)

    def skip(self, item: Item, *, skipped: bool = True) -> None:
        """Shows an item no more in this session; or shows it again."""
        if skipped:
            self._skipped.add(item.item_id)
        else:
            self._skipped.discard(item.item_id)

    async def store(self, lease_id: str, label: Label) -> LeaseState | None:
        """Stores an answer, which is paid once however often it is sent.

        Returns:
            The lease's state after it; None where the answer is not wanted any more, which is said.

        Raises:
            IsocostError: where it cannot be known whether it is stored; that is said too.
        """
        request_id = answer_request_id(lease_id, label.item_id)
        try:
            answered = await self._queue.answer_items(request_id, lease_id, [label])
        except FailedPreconditionError as error:
            console.print(f"[yellow]not taken and not paid:[/] {escape(error.message)}")
            return None
        except IsocostError:
            console.print(f"[bold red]the answer to item {escape(label.item_id)} may not be stored[/]")
            raise
        self._n_paid += answered.n_accepted
        self._n_paid_since += answered.n_accepted
        return answered.lease.state

    async def _give_back(self, lease: Lease) -> None:
        await self._queue.release_lease(f"{lease.lease_id}:release", lease.lease_id)

    async def _read_standing(self) -> None:
        if not self._may_read:
            return
        campaign_id, source_id = self._seat.campaign_id, self._seat.source_id
        try:
            status = await self._budget.get_campaign(campaign_id)
            sources = {source.source_id: source for source in await self._budget.list_sources(campaign_id)}
            orders = [order async for order in self._budget.orders(campaign_id) if order.source_id == source_id]
        except PermissionDeniedError:
            # An annotator's token: the queue alone.
            self._may_read = False
            return
        if source_id not in sources:
            # The queue says so, with what to do.
            return
        # An order that was open in this session counts on when it is filled.
        self._order_ids.update(order.order_id for order in orders if order.state is OrderState.OPEN)
        wanted = [order for order in orders if order.order_id in self._order_ids]
        self._standing = Standing(
            n_answered=sum(order.n_settled for order in wanted),
            n_ordered=sum(order.n_labels - order.n_released for order in wanted),
            settled=status.balance.settled,
            budget=status.balance.budget,
            unit_price=Money(sources[source_id].unit_price.micros, status.balance.budget.currency_code),
        )
        self._n_paid_since = 0

    def _say_nothing_waits(self) -> None:
        n_awaited = self._standing.n_ordered - self._standing.n_answered if self._standing else 0
        if n_awaited:
            console.print(
                f"Nothing is left for you: the {n_awaited:,} labels that are still awaited are in others' hands, or on "
                "items that you have answered. What a session that was killed held is free again "
                f"{ATTENDED_LEASE_DURATION.total_seconds() / 60:g} minutes after it."
            )
        else:
            console.print("Nothing waits for an answer.")


class _Batch:
    """The items of one lease, asked one after another."""

    def __init__(self, session: AnnotateSession, task: Task, items: list[Item], kept: KeptLease) -> None:
        self._session = session
        self._task = task
        self._items = items
        self._kept = kept
        self._keys = ChoiceKeys(task.choices)
        self._held: _Held | None = None
        self._lost = False
        #: Why the keys ended; None where they did not.
        self.end: End | None = None

    async def ask(self) -> bool:
        """Asks about every item; returns whether the session goes on."""
        index = 0
        while index < len(self._items):
            item = self._items[index]
            n_held = int(self._held is not None and self._held.choice is not None)
            print_item(self._task, item, self._keys, self._session.standing_line(n_held))
            key = await self._command_or_choice()
            if isinstance(key, End):
                self.end = key
            if key == QUIT or self.end is not None:
                await self._store_held()
                return False
            if key == UNDO:
                index -= self._undo()
                continue
            choice = None if key == SKIP else self._keys.choice(str(key))
            await self._store_held()
            self._hold(item, choice)
            index += 1
            if self._has_ended():
                # The answer that is held goes now, while its item may still be free.
                await self._store_held()
                console.print("[yellow]The lease has ended meanwhile.[/] What you answered is kept; leasing again.")
                return True
        await self._store_held()
        return True

    async def _command_or_choice(self) -> str | End:
        """The next key that means something."""
        while True:
            key = await self._session.keyboard.read(whole_numbers=self._keys.needs_enter)
            if isinstance(key, End):
                return key
            if key.casefold() in (UNDO, SKIP, QUIT):
                return key.casefold()
            if key == HELP:
                print_help(self._task, self._keys)
            elif self._keys.choice(key) is not None:
                return key
            elif key != "\n":
                console.print(f"[yellow]{escape(repr(key))} means nothing here;[/] {HELP} shows the keys")

    def _hold(self, item: Item, choice: int | None) -> None:
        self._held = _Held(item, choice)
        if choice is None:
            self._session.skip(item)
            console.print("[dim]->[/] skipped")
        else:
            console.print(f"[dim]->[/] {escape(self._task.choices[choice].strip())}")

    def _undo(self) -> int:
        """Takes back what was done to the last item, where it is held; returns how many items to go back."""
        if self._held is None:
            console.print("[yellow]nothing to undo:[/] what is stored cannot be changed")
            return 0
        self._session.skip(self._held.item, skipped=False)
        self._held = None
        return 1

    async def _store_held(self) -> None:
        held, self._held = self._held, None
        if held is None or held.choice is None:
            return
        label = Label(held.item.item_id, one_hot(held.choice, len(self._task.choices)))
        state = await self._session.store(self._kept.lease.lease_id, label)
        self._lost = self._lost or state not in (LeaseState.OPEN, LeaseState.ANSWERED)

    def _has_ended(self) -> bool:
        """Whether the lease ended before its items were answered: by its time, or with its order."""
        error = self._kept.error
        return self._lost or isinstance(error, FailedPreconditionError)
