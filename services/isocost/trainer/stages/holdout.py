"""Which of a stage's labels are held out for early stopping."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from isocost.resources.run import Example

__all__ = ["Split", "split_holdout"]

#: Fewest labels held out and fewest labels left to train on (the paper: at least 2 held out).
_SIDE_MIN = 2


@dataclass(frozen=True, slots=True)
class Split:
    """Positions in the stage's list of labels, both ascending; no item is on both sides."""

    train: tuple[int, ...]
    holdout: tuple[int, ...]


def split_holdout(examples: Sequence[Example], fraction: float, seed: int, *, by_choice: bool = True) -> Split:
    """Holds out a share of the items, at least 2, leaving at least 2; with fewer than 4 items none is held out.

    Items are drawn at random within each choice, in the choices' proportions, and every choice with two items or more
    is on both sides where there is room: a handful of labels all of one choice has no AUROC. With `by_choice` false
    they are drawn at random among all. Labels of one item by several annotators stay together.

    The draw orders items by a hash of seed and id: one more label moves at most one or two others to the other side.
    """
    positions: dict[str, list[int]] = {}
    for position, example in enumerate(examples):
        positions.setdefault(example.item_id, []).append(position)
    n_items = len(positions)
    if n_items < 2 * _SIDE_MIN:
        return Split(tuple(range(len(examples))), ())
    n_holdout = min(max(_SIDE_MIN, round(n_items * fraction)), n_items - _SIDE_MIN)
    groups: dict[int, list[str]] = {}
    for item_id, (first, *_) in positions.items():
        groups.setdefault(examples[first].choice if by_choice else 0, []).append(item_id)
    for item_ids in groups.values():
        item_ids.sort(key=lambda item_id: hashlib.sha256(f"{seed}:{item_id}".encode()).digest())
    quotas = _quotas({choice: len(item_ids) for choice, item_ids in groups.items()}, n_holdout)
    held_out = {item_id for choice, item_ids in groups.items() for item_id in item_ids[: quotas[choice]]}
    holdout = sorted(position for item_id in held_out for position in positions[item_id])
    train = sorted(position for item_id in positions.keys() - held_out for position in positions[item_id])
    return Split(tuple(train), tuple(holdout))


def _quotas(counts: dict[int, int], n_holdout: int) -> dict[int, int]:
    """How many items of each choice are held out: one after the other, always of the choice furthest behind its share.

    A choice's first item counts as furthest behind, and its last one is taken only when nothing else is left.
    """
    n_items = sum(counts.values())
    quotas = dict.fromkeys(counts, 0)
    for _ in range(n_holdout):

        def urgency(choice: int) -> tuple[bool, bool, float, int]:
            taken, count = quotas[choice], counts[choice]
            return (taken < count - 1, taken == 0 and count > 1, n_holdout * count / n_items - taken, count)

        open_choices = [choice for choice in sorted(counts) if quotas[choice] < counts[choice]]
        quotas[max(open_choices, key=urgency)] += 1
    return quotas
