"""Benchmarks: rows with known answers in, balanced items with their gold choices out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from isocost.core.errors import InvalidArgumentError
from isocost.core.ids import content_digest
from isocost.resources.task import Item, Task
from isocost.tasks.library.draw import show_answer, uniform
from isocost.tasks.library.row import Row, read_rows
from isocost.tasks.library.spec import TaskSpec, load_spec
from isocost.tasks.library.table import has_split, read_split

__all__ = ["TEST_SHARE", "Benchmark", "load_benchmark"]

#: Share of the contexts that are for testing where one file holds all rows.
TEST_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Items with their gold answers, in an order drawn by the seed.

    Attributes:
        task: The question.
        items: What it is asked of; ids and texts differ.
        gold: For each item, the index of its right choice.
        rows: For each item, the place of its row in the split's table, from 0.
        left_out: Number of rows by the reason why they are no items: `empty` (a text is not there), `repeated` (asked
            before), `contradictory` (asked twice with different right answers), `in_test` (training rows whose context
            is one of the test split's), `no_wrong_answer`, `unbalanced` (undersampled), `not_asked_for` (more than
            `n_items`).
    """

    task: Task
    items: tuple[Item, ...]
    gold: tuple[int, ...]
    rows: tuple[int, ...]
    left_out: Mapping[str, int]

    def to_frame(self) -> pl.DataFrame:
        """One row an item: `item_id`, a column for each field, and `gold`, the right choice; all text.

        A campaign reads it from a file with `id_column: item_id` and `gold_column: gold`.
        """
        columns = {name: [item.fields[name] for item in self.items] for name in self.task.fields}
        ids = [item.item_id for item in self.items]
        return pl.DataFrame({"item_id": ids, **columns, "gold": [self.task.choices[index] for index in self.gold]})


@dataclass(frozen=True, slots=True)
class _Candidate:
    item: Item
    gold: int
    row: int
    order: float
    turn: float


def load_benchmark(
    name_or_path: str | Path,
    *,
    split: Literal["train", "test"],
    data: Path | None = None,
    n_items: int | None = None,
    seed: int = 0,
    balance: bool = True,
) -> Benchmark:
    """Loads one split of a benchmark.

    Each row is one item. What a row shows and where it stands in the order depend on the seed and the row alone; rows
    are left out by comparison with others only where they ask the same, or where a class is undersampled. `n_items`
    takes the first of the order, so that a smaller number is a part of a larger one.

    Usage::

        benchmark = load_benchmark("hellaswag", data=Path("data/hellaswag"), split="train", n_items=1000)
        prompts = [benchmark.task.render(item.fields) for item in benchmark.items]

    Args:
        name_or_path: A task of the library by its name, or a task file (.yaml).
        split: `train` or `test`; no context of a test row is in the training rows.
        data: Folder with `train` and `test` files (.parquet, .csv, .jsonl); or one file, of which a fifth of the
            contexts, whatever the seed, are for testing; or None for the hub, which needs isocost[hub].
        n_items: Number of items; None for all.
        seed: Seed of the draws.
        balance: Undersample, so that every class is as frequent as the rarest. Classes are then equal in every
            beginning of the items whose length is a multiple of their number.

    Raises:
        InvalidArgumentError: names the task file's field, `data`, `split` or `n_items` that is wrong.
    """
    if split not in ("train", "test"):
        raise InvalidArgumentError("split", f"{split!r} is neither 'train' nor 'test'")
    spec = load_spec(name_or_path)
    data = None if data is None else Path(data).expanduser()
    left_out: Counter[str] = Counter()
    rows = _split_rows(spec, data, split, left_out)
    candidates = _different(_candidates(spec, rows, seed, left_out), left_out)
    kept = _balanced(spec, candidates) if balance else sorted(candidates, key=_order)
    left_out["unbalanced"] += len(candidates) - len(kept)
    if not kept:
        raise InvalidArgumentError(
            "data", f"no {split} items are left of {spec.name!r} ({dict(left_out)}); give rows of every class"
        )
    if n_items is not None:
        if not 1 <= n_items <= len(kept):
            raise InvalidArgumentError("n_items", f"{n_items}, but {spec.name!r} has 1 to {len(kept)} {split} items")
        left_out["not_asked_for"] += len(kept) - n_items
        kept = kept[:n_items]
    return Benchmark(
        task=spec.task,
        items=tuple(one.item for one in kept),
        gold=tuple(one.gold for one in kept),
        rows=tuple(one.row for one in kept),
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def _split_rows(spec: TaskSpec, data: Path | None, split: str, left_out: Counter[str]) -> list[Row]:
    """The rows of a split that ask something, each once, apart from the other split's."""
    is_one_file = data is not None and not data.is_dir()
    rows = read_rows(read_split(spec, data, split), spec)
    if is_one_file:
        tests = [
            row for row in rows if uniform(0, "is for testing", min(row.contexts, default=row.content)) < TEST_SHARE
        ]
    elif split == "train" and has_split(data, "test"):
        tests = read_rows(read_split(spec, data, "test"), spec)
    else:
        tests = []
    if is_one_file:
        numbers = {row.number for row in tests}
        rows = [row for row in rows if (row.number in numbers) == (split == "test")]
    if split == "train":
        apart = _apart(rows, tests)
        left_out["in_test"] += len(rows) - len(apart)
        rows = apart
    full = [row for row in rows if not row.is_empty]
    left_out["empty"] += len(rows) - len(full)
    return _once(full, left_out)


def _apart(rows: Sequence[Row], tests: Sequence[Row]) -> list[Row]:
    contexts = frozenset[str]().union(*(row.contexts for row in tests))
    contents = {row.content for row in tests}
    apart = [row for row in rows if row.content not in contents and not row.contexts & contexts]
    ids = {row.row_id for row in tests}
    if twin := next((row for row in apart if row.row_id in ids), None):
        raise InvalidArgumentError(
            "id_column", f"{twin.row_id!r} is the id of a training and of another test row; leave id_column out"
        )
    return apart


def _once(rows: Sequence[Row], left_out: Counter[str]) -> list[Row]:
    """The rows without those that ask what an earlier one asks, and without those that contradict one another."""
    of_content: dict[str, Row] = {}
    contradictory: set[str] = set()
    for row in rows:
        if of_content.setdefault(row.content, row).right != row.right:
            contradictory.add(row.content)
    left_out["contradictory"] += sum(row.content in contradictory for row in rows)
    once = [row for content, row in of_content.items() if content not in contradictory]
    left_out["repeated"] += sum(row.content not in contradictory for row in rows) - len(once)
    ids = Counter(row.row_id for row in once)
    if twice := next((row_id for row_id, count in ids.items() if count > 1), None):
        raise InvalidArgumentError(
            "id_column", f"{twice!r} is the id of two rows with other texts; leave id_column out"
        )
    return once


def _candidates(spec: TaskSpec, rows: Iterable[Row], seed: int, left_out: Counter[str]) -> list[_Candidate]:
    candidates = []
    for row in rows:
        item_id, fields = row.row_id, dict(row.fields)
        gold = spec.choices.index(row.right) if spec.answers is None else 0
        if spec.answers is not None:
            shown = show_answer(row, seed, spec.answers.never_shown)
            if shown is None:
                left_out["no_wrong_answer"] += 1
                continue
            # Another seed may show another answer, and then it is another item.
            item_id = f"{row.row_id}-{row.answers.index(shown)}"
            fields[spec.answers.field] = shown
            gold = int(shown == row.right)
        order, turn = (uniform(seed, purpose, row.row_id) for purpose in ("order", "turn in a round"))
        candidates.append(_Candidate(Item(item_id, fields), gold, row.number, order, turn))
    return candidates


def _different(candidates: Sequence[_Candidate], left_out: Counter[str]) -> list[_Candidate]:
    """Those whose text no other has: rows with other answers may show the same one, as right and as wrong."""
    of_text: dict[str, _Candidate] = {}
    golds: dict[str, set[int]] = {}
    texts = [content_digest(dict(one.item.fields)) for one in candidates]
    for text, one in zip(texts, candidates, strict=True):
        golds.setdefault(text, set()).add(one.gold)
        of_text[text] = min(of_text.get(text, one), one, key=_order)
    left_out["contradictory"] += sum(len(golds[text]) > 1 for text in texts)
    different = [one for text, one in of_text.items() if len(golds[text]) == 1]
    left_out["repeated"] += sum(len(golds[text]) == 1 for text in texts) - len(different)
    return different


def _balanced(spec: TaskSpec, candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """As many of every class, the first of each; every class comes once before one comes again."""
    of_class = [
        sorted((one for one in candidates if one.gold == gold), key=_order) for gold in range(len(spec.choices))
    ]
    return [one for rank in zip(*of_class, strict=False) for one in sorted(rank, key=_turn)]


def _order(candidate: _Candidate) -> float:
    return candidate.order


def _turn(candidate: _Candidate) -> float:
    # Not by the order: a class whose items come early would begin one round after another.
    return candidate.turn
