"""One pass of the sync: answers in, items out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isocost.client import BudgetClient, QueueClient
from isocost.core.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    IsocostError,
    NotFoundError,
)
from isocost.core.ids import content_digest
from isocost.label_studio.board import Annotation, Board, BoardTask
from isocost.label_studio.demand import Demand
from isocost.label_studio.hands import Hands
from isocost.label_studio.project import open_project
from isocost.label_studio.question import Question
from isocost.label_studio.server import LabelStudioServer
from isocost.label_studio.users import Users
from isocost.label_studio.webhook import Webhook
from isocost.resources.campaign import CampaignState
from isocost.resources.label import Label, one_hot
from isocost.resources.task import Item

__all__ = ["LabelStudioSync", "Tally"]


@dataclass(slots=True)
class Tally:
    """What a pass did.

    Attributes:
        n_paid: Answers stored and paid.
        n_refused: Annotations that were not taken, and are not paid.
        n_changed: Annotations that were changed after their label was paid, which changes nothing.
        n_added, n_removed: Tasks made and deleted in Label Studio.
        is_finished: Whether the campaign is finished, so that nothing will be asked any more.
    """

    n_paid: int = 0
    n_refused: int = 0
    n_changed: int = 0
    n_added: int = 0
    n_removed: int = 0
    is_finished: bool = False


class LabelStudioSync:
    """Brings the items that await an answer of one source into a project, and the answers back.

    Every pass compares what the budget service and Label Studio have, and does what is missing; one that was killed
    anywhere is made good by the next.

    Args:
        budget, queue: The budget service, with a pipeline's token.
        server: Label Studio.
        campaign_id, source_id: The campaign, and its HUMAN source.
        title: The project's title.
        n_items: Items in Label Studio's hands at a time, 1 to 1,000.
        webhook: What Label Studio is to call; None to call nothing.
        say: Takes lines for a person.
    """

    def __init__(
        self,
        budget: BudgetClient,
        queue: QueueClient,
        server: LabelStudioServer,
        campaign_id: str,
        source_id: str,
        *,
        title: str,
        n_items: int,
        webhook: Webhook | None,
        say: Callable[[str], None],
    ) -> None:
        self._budget = budget
        self._queue = queue
        self._server = server
        self._campaign_id = campaign_id
        self._source_id = source_id
        self._title = title
        self._webhook = webhook
        self._say = say
        self._demand = Demand(budget, campaign_id, source_id)
        self._hands = Hands(budget, queue, campaign_id, source_id, n_items)
        self._users = Users(server)
        self._board: Board | None = None
        #: What was said about annotations: an answer that is refused is tried once, and again when it has other leases.
        self._told: set[tuple[object, ...]] = set()

    async def run_once(self) -> Tally:
        """One pass in both directions.

        Raises:
            IsocostError: where a side is away, or refuses; what was done is kept, and the next pass goes on.
        """
        tally = Tally()
        status = await self._budget.get_campaign(self._campaign_id)
        question = Question(status.campaign.task)
        board = await self._open(question)
        await self._demand.refresh()
        await board.refresh()
        await self._answer(question, board, tally)
        await self._demand.refresh()
        await self._hands.refresh(_shown(board))
        tally.is_finished = status.campaign.state is CampaignState.FINISHED
        if not tally.is_finished and await self._fill():
            # Of an order made meanwhile, or of an item that was in another's hands when it was answered here.
            await self._demand.refresh()
            await self._answer(question, board, tally)
            await self._demand.refresh()
        await self._show(board, tally)
        return tally

    async def _open(self, question: Question) -> Board:
        """The project, looked for once; the webhook follows it."""
        if self._board is None:
            await self._check_source()
            project = await open_project(self._server, self._title, question)
            self._say(
                f"project {self._title!r} {'made' if project.is_new else 'found'}: "
                f"{self._server.url}/projects/{project.project_id}"
            )
            if self._webhook is not None:
                await self._webhook.register(self._server, project.project_id, self._say)
            self._board = Board(self._server, project.project_id, self._campaign_id, self._source_id, question)
        return self._board

    async def _check_source(self) -> None:
        """Before anything is made in Label Studio."""
        sources = {source.source_id: source for source in await self._budget.list_sources(self._campaign_id)}
        if self._source_id not in sources:
            raise InvalidArgumentError(
                "source_id",
                f"the campaign has no source {self._source_id!r}; name one of {', '.join(sources) or 'none'}",
            )

    async def _fill(self) -> int:
        """Leases more; returns how many items."""
        try:
            return await self._hands.fill(self._demand)
        except FailedPreconditionError:
            if (await self._budget.get_campaign(self._campaign_id)).campaign.state is not CampaignState.FINISHED:
                raise
            return 0

    async def _answer(self, question: Question, board: Board, tally: Tally) -> None:
        """Sends what people answered."""
        for task in list(board.tasks.values()):
            for annotation in task.annotations:
                if annotation.is_skip:
                    continue
                if annotation.choice is None:
                    if self._is_news("no choice", annotation.annotation_id, annotation.updated_at):
                        tally.n_refused += 1
                        self._say(f"{_named(annotation, task)} is passed over: it gives none of the task's choices")
                    continue
                annotator = await self._users.name(annotation.user_id)
                paid = self._demand.paid.get((task.item_id, annotator))
                if paid is None:
                    label = Label(task.item_id, one_hot(annotation.choice, len(question.choices)), annotator=annotator)
                    await self._pay(label, annotation, task, tally)
                elif paid != annotation.choice and self._is_news(
                    "changed", annotation.annotation_id, annotation.updated_at
                ):
                    tally.n_changed += 1
                    self._say(
                        f"{_named(annotation, task)} says {question.choices[annotation.choice]!r}, but {annotator} was "
                        f"paid for {question.choices[paid]!r}: a label never changes"
                    )

    async def _pay(self, label: Label, annotation: Annotation, task: BoardTask, tally: Tally) -> None:
        """Sends one answer under the first lease that takes it; where none does, says so once."""
        held = self._hands.awaited(self._demand).get(task.item_id, [])
        # An answer under a lease that has ended is taken while nobody else has the item.
        ended = [each for each in reversed(task.lease_ids) if each not in held]
        lease_ids = [each for each in [*held, *ended] if (each, task.item_id) not in self._demand.answered]
        refused = ("refused", annotation.annotation_id, *lease_ids)
        if refused in self._told:
            return
        reason = "all answers that were asked for are given"
        for lease_id in lease_ids:
            # However often it is sent, it is paid once.
            request_id = f"{lease_id}:{content_digest([label.item_id, label.annotator])}"
            try:
                answered = await self._queue.answer_items(request_id, lease_id, [label])
            except AlreadyExistsError:
                # It was sent with another choice, and changed before anybody knew that it was stored.
                self._demand.answered.add((lease_id, task.item_id))
                return
            except (FailedPreconditionError, NotFoundError, InvalidArgumentError) as error:
                reason = _in_short(error)
                continue
            tally.n_paid += answered.n_accepted
            self._demand.paid[label.item_id, label.annotator] = label.choice
            self._demand.answered.add((lease_id, task.item_id))
            return
        self._told.add(refused)
        tally.n_refused += 1
        self._say(f"{_named(annotation, task)} by {label.annotator} is not taken and not paid: {reason}")

    async def _show(self, board: Board, tally: Tally) -> None:
        """Makes the tasks what they should be: each item that awaits an answer is shown once, and nothing else is."""
        awaited = self._hands.awaited(self._demand)
        tasks = board.by_item()
        missing: list[tuple[Item, list[str]]] = []
        for item_id, lease_ids in awaited.items():
            task = tasks[item_id].pop(0) if item_id in tasks else None
            if task is not None:
                await self._reopen(board, task, lease_ids)
            elif (item := self._hands.item(item_id)) is not None:
                missing.append((item, lease_ids))
            else:
                # Somebody deleted the task, and what it said is not known here: lease it anew.
                for lease_id in lease_ids:
                    await self._hands.give_back(lease_id)
        for task in (task for of_item in tasks.values() for task in of_item if task.n_annotators == 0):
            tally.n_removed += await board.remove(task)
        if missing:
            await board.add(missing)
            tally.n_added = len(missing)
            await board.refresh()
            tasks = board.by_item()
            for item, lease_ids in missing:
                for task in tasks.get(item.item_id, ())[:1]:
                    await self._reopen(board, task, lease_ids)

    async def _reopen(self, board: Board, task: BoardTask, lease_ids: list[str]) -> None:
        """Asks as many more people about an item as answers are awaited.

        Each task has its own number: changing the project's would open tasks anew that are answered.
        """
        overlap = task.n_annotators + min(len(lease_ids), self._demand.n_left(task.item_id))
        of_task = [*task.lease_ids, *(each for each in lease_ids if each not in task.lease_ids)]
        if (overlap, of_task, False) != (task.overlap, list(task.lease_ids), task.is_labeled):
            await board.reopen(task, of_task, overlap)

    def _is_news(self, *what: object) -> bool:
        """Whether this was not said before in this process; from now on it was."""
        is_news = what not in self._told
        self._told.add(what)
        return is_news


def _shown(board: Board) -> dict[str, set[str]]:
    """By lease, the items that are shown."""
    shown: dict[str, set[str]] = {}
    for task in board.tasks.values():
        for lease_id in task.lease_ids:
            shown.setdefault(lease_id, set()).add(task.item_id)
    return shown


def _named(annotation: Annotation, task: BoardTask) -> str:
    return f"annotation {annotation.annotation_id} of item {task.item_id!r} (task {task.task_id})"


def _in_short(error: IsocostError) -> str:
    return error.message.removesuffix("; leave it out")
