"""The channels by which human labels arrive."""

from __future__ import annotations

import random
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from isocost.campaign.config import CampaignConfig
from isocost.campaign.source import FileChannel, HumanSource, QueueChannel
from isocost.client.answer_file import AnswerForm
from isocost.client.row_file import read_rows
from isocost.client.table import QUEUE, QueueRow
from isocost.client.table_file import open_table_file
from isocost.core.errors import IsocostError
from isocost.resources.label import Label, one_hot
from isocost.resources.task import Item, Task

__all__ = ["HumanChannel", "LabelsAwaitedError", "open_channel"]


class LabelsAwaitedError(IsocostError):
    """People have not answered everything yet; the campaign goes on when they have."""


class HumanChannel(Protocol):
    """Where human labels come from."""

    def answers(self, items: Sequence[Item]) -> list[Label]:
        """The labels that are there by now and not settled yet, for some or all of the items, in their order."""

    def ask(self, items: Sequence[Item]) -> str:
        """Asks people for labels of the items; returns the sentence that tells them what to do."""


class _SimulatedAnnotator:
    """Reads the gold answer; errs with probability `noise`, on an item always in the same way.

    Args:
        task: The question.
        gold: The right choice of each item.
        noise: Probability of a wrong answer.
        seed: Of the errors; annotators of different seeds err on different items.
    """

    def __init__(self, task: Task, gold: Mapping[str, int], noise: float, seed: str) -> None:
        self._task = task
        self._gold = gold
        self._noise = noise
        self._seed = seed

    def answers(self, items: Sequence[Item]) -> list[Label]:
        return [
            Label(item.item_id, one_hot(self._choice(item.item_id), len(self._task.choices)), annotator="simulated")
            for item in items
        ]

    def _choice(self, item_id: str) -> int:
        # Seeded by the item, not by the moment: a resumed campaign hears the same answer.
        draw = random.Random(f"{self._seed}:{item_id}")
        gold = self._gold[item_id]
        if draw.random() >= self._noise:
            return gold
        return draw.choice([choice for choice in range(len(self._task.choices)) if choice != gold])

    def ask(self, items: Sequence[Item]) -> str:
        raise AssertionError(f"a simulated annotator has answered all {len(items)} items")


class _FileAnnotator:
    """Reads answers from a file that people fill; asks by writing the open items into another, in the same format.

    Args:
        task: The question.
        path: The file that people fill.
        asked: The file of open items.
        field: The place in the campaign file that an error names.
    """

    def __init__(self, task: Task, path: Path, asked: Path, field: str) -> None:
        self._task = task
        self._path = path
        self._asked = asked
        self._field = field

    def answers(self, items: Sequence[Item]) -> list[Label]:
        if not self._path.is_file():
            return []
        form = AnswerForm(self._path, self._task.choices, self._field)
        wanted = {item.item_id for item in items}
        labels: dict[str, Label] = {}
        for number, row in read_rows(self._path, field=self._field):
            # What is settled is not read again: it may have changed since.
            if form.item_id(number, row) in wanted and (label := form.answer(number, row)) is not None:
                labels[label.item_id] = label
        return [labels[item.item_id] for item in items if item.item_id in labels]

    def ask(self, items: Sequence[Item]) -> str:
        with open_table_file(self._asked, QUEUE) as file:
            for item in items:
                file.add(QueueRow(item, self._task.choices))
        return (
            f"{len(items)} human labels are awaited: answer the items of {self._asked} with one of "
            f"{', '.join(repr(choice.strip()) for choice in self._task.choices)} in the column 'label', "
            f"add the rows to {self._path}, and run the same command again"
        )


class _Queue:
    """People answer the order itself, at the budget service: there is nothing to read, and nothing to hand over.

    Args:
        terminal, browser: What people at this machine answer with.
    """

    def __init__(self, terminal: Sequence[str], browser: Sequence[str]) -> None:
        self._terminal, self._browser = shlex.join(terminal), shlex.join(browser)

    def answers(self, items: Sequence[Item]) -> list[Label]:  # noqa: ARG002
        return []

    def ask(self, items: Sequence[Item]) -> str:
        return (
            f"{len(items)} human labels are awaited: answer them in the terminal (`{self._terminal}`), in a browser "
            f"(`{self._browser}`) or through any client of the human queue, then repeat `isocost run`"
        )


def open_channel(config: CampaignConfig, human: HumanSource, gold: Mapping[str, int], out: Path) -> HumanChannel:
    """The channel of a grade of human labels.

    Args:
        config: The campaign file.
        human: The grade.
        gold: The right choice of each item, for a simulated annotator.
        out: The campaign's output folder, for files that people fill in.
    """
    if isinstance(human.channel, QueueChannel):
        annotate = ["isocost", "annotate", "--out", str(out), config.campaign, "--source", human.name]
        return _Queue(annotate, ["isocost", "web", "--out", str(out)])
    task = config.task.task()
    is_reference = human == config.human
    if isinstance(human.channel, FileChannel):
        name = "items_to_label.csv" if is_reference else f"items_to_label_{human.name}.csv"
        return _FileAnnotator(task, Path(human.channel.path), out / name, f"sources.{human.name}.channel.path")
    # People of different grades err on different items.
    seed = str(config.seed) if is_reference else f"{config.seed}:{human.name}"
    return _SimulatedAnnotator(task, gold, human.channel.noise, seed)
