"""Which run goes next: in sequence, but none that needs what another one is making."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable

__all__ = ["RunQueue"]


class RunQueue:
    """Runs that wait, and what those that run are making.

    A run needs products: its stages, and what is made before them. A product that is missing is made by the first run
    that needs it and is begun; whoever else needs it waits until it is there, or until that run has ended without it.
    So no stage is trained twice, also side by side. A run that has begun waits for nobody, so there is always one that
    goes on. Runs that wait for a product do not hold up those behind them; otherwise first come, first served.

    Usage::

        queue.put("run-1", ["stage-a", "stage-b"])
        run_id = queue.take()
        queue.made(["stage-a"])
        queue.end(run_id)
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        #: What each run that is begun makes and is not there yet.
        self._making: dict[str, set[str]] = {}
        self._made: set[str] = set()

    def __len__(self) -> int:
        """Runs that wait."""
        return len(self._waiting)

    def put(self, run_id: str, products: Iterable[str], *, made: Iterable[str] = (), is_first: bool = False) -> None:
        """Adds a run that neither waits nor has begun.

        Args:
            run_id: The run.
            products: All that it needs.
            made: Those of them that are there already.
            is_first: Before all that wait, instead of behind them.
        """
        assert run_id not in self._waiting, f"{run_id} waits already"
        assert run_id not in self._making, f"{run_id} has begun already"
        self._waiting[run_id] = tuple(products)
        self.made(made)
        if is_first:
            self._waiting.move_to_end(run_id, last=False)

    def take(self) -> str | None:
        """Begins the next run and returns it; None where none waits, or all wait for what is being made."""
        in_the_making = set().union(*self._making.values())
        for run_id, products in self._waiting.items():
            missing = self._missing(products)
            if missing.isdisjoint(in_the_making):
                del self._waiting[run_id]
                self._making[run_id] = missing
                return run_id
        return None

    def made(self, products: Iterable[str]) -> bool:
        """Notes products that are there from now on; returns whether one was new."""
        new = set(products) - self._made
        self._made |= new
        for making in self._making.values():
            making.difference_update(new)
        return bool(new)

    def end(self, run_id: str) -> None:
        """Ends a run that was begun, also one that goes back; others may make what it did not."""
        del self._making[run_id]

    def remove(self, run_id: str) -> bool:
        """Takes a run out that waits; returns whether it did."""
        return self._waiting.pop(run_id, None) is not None

    def _missing(self, products: Collection[str]) -> set[str]:
        return {product for product in products if product not in self._made}
