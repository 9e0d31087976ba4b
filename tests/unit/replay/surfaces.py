"""Made surfaces."""

from __future__ import annotations

from collections.abc import Callable

from isocost.replay.surface import Surface, SurfacePoint

WEAK = (0, 20, 80, 160, 320, 640)
HUMAN = (0, 4, 16, 64, 128)


def accuracy(n_weak: int, n_human: int) -> float:
    return round(0.5 + 0.4 * (1 - 1 / (1 + n_weak / 300 + n_human / 25)), 4)


def make_surface(
    lie: Callable[[int, int, float], float] = lambda _w, _h, truth: truth, *, std: float | None = None
) -> Surface:
    """A grid of mixes; `lie` gives the accuracy of a mix in place of the true one."""
    points = tuple(SurfacePoint(w, h, lie(w, h, accuracy(w, h)), std) for w in WEAK for h in HUMAN if w or h)
    return Surface("made.csv", "made", "sequential_sft", points)
