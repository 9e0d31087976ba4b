"""Draws that depend on the seed and on one row alone, so that one more row changes no other row's draw."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from isocost.tasks.library.row import Row

__all__ = ["show_answer", "uniform"]


def uniform(seed: int, purpose: str, key: str) -> float:
    """A number in [0, 1), the same for the same arguments on every machine: the top 53 bits of a SHA-256."""
    digest = hashlib.sha256(f"{seed}\0{purpose}\0{key}".encode()).digest()
    return (int.from_bytes(digest[:8]) >> 11) / 2**53


def show_answer(row: Row, seed: int, never_shown: Collection[str] = ()) -> str | None:
    """The answer that the item of a multiple-choice row shows.

    With probability 1/2 the right one, else one of the wrong ones, each as likely as the others (Mallen and Belrose
    2024, section 3). A row whose right answer is never shown always shows a wrong one.

    Args:
        row: The row; of answers with equal text one counts.
        seed: Another seed is another draw.
        never_shown: Answers that are not drawn.

    Returns:
        The answer, or None where there is no wrong one to draw from.
    """
    wrong = [answer for answer in row.answers if answer != row.right and answer not in never_shown]
    if not wrong:
        return None
    if row.right not in never_shown and uniform(seed, "is the right answer shown", row.row_id) < 0.5:
        return row.right
    return wrong[int(uniform(seed, "which wrong answer is shown", row.row_id) * len(wrong))]
