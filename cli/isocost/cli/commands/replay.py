"""`isocost replay`: what policies would have bought and reached on accuracy surfaces that are known already."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from isocost.cli.console import RichProgress, console
from isocost.cli.replay_view import print_regrets, print_skipped, print_targets
from isocost.core.errors import InvalidArgumentError
from isocost.core.money import Money
from isocost.economics.policy.registry import POLICY_NAMES
from isocost.replay.replay import Setting, replay_budget
from isocost.replay.results import BudgetResult, Skipped, TargetResult, write_results
from isocost.replay.surface import read_surface
from isocost.replay.target import replay_target

__all__ = ["replay"]

_BUDGETS = "16,64,256,512,1024,4096"
_WEAK_PRICES = "0.5,0.1,0.01"
_AUTO = "auto"
Goal = TypeVar("Goal")
Result = TypeVar("Result")


def replay(
    files: Annotated[list[Path], typer.Argument(help="Accuracy surfaces (CSV).", show_default=False)],
    budgets: Annotated[str | None, typer.Option(help=f"Budgets, separated by commas (else {_BUDGETS}).")] = None,
    targets: Annotated[
        str | None, typer.Option(help="Accuracies to reach at least cost, instead of budgets; separated by commas.")
    ] = None,
    weak_prices: Annotated[str, typer.Option(help="Prices of a weak label, separated by commas.")] = _WEAK_PRICES,
    human_price: Annotated[str, typer.Option(help="Price of a human label.")] = "1.0",
    policy: Annotated[
        list[str] | None,
        typer.Option(help=f"One of {', '.join(POLICY_NAMES)}; may be repeated (else adaptive)."),
    ] = None,
    eval_labels: Annotated[
        str,
        typer.Option(
            help="Evaluation labels bought first. 0: accuracies are exact and free; auto: the policy chooses."
        ),
    ] = "0",
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the evaluation's noise.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write the results here (JSON).", dir_okay=False)] = None,
) -> None:
    """Lets policies buy labels on known accuracy surfaces, and shows what they missed.

    A policy sees the accuracy of those points only that the labels it has bought can train.
    """
    if budgets is not None and targets is not None:
        raise InvalidArgumentError("--targets", "is instead of --budgets; give one of the two")
    budgets_micros = [_micros(text, "--budgets") for text in _items(budgets or _BUDGETS, "--budgets")]
    accuracies = [_target(text) for text in _items(targets, "--targets")] if targets is not None else None
    prices_micros = [_micros(text, "--weak-prices") for text in _items(weak_prices, "--weak-prices")]
    human_price_micros = _micros(human_price, "--human-price")
    n_eval = _n_eval(eval_labels)
    surfaces = [read_surface(path) for path in files]
    settings = [
        Setting(surface, price_micros, human_price_micros, name, n_eval)
        for name, surface, price_micros in product(policy or ["adaptive"], surfaces, prices_micros)
    ]
    for setting in settings:
        setting.make_policy()
    if accuracies is not None:
        reached = _collect(
            lambda setting, target: replay_target(setting, target, n_seeds=seeds), product(settings, accuracies)
        )
        _write(out, reached[0])
        print_targets(reached[0])
        print_skipped(reached[1])
    else:
        found = _collect(
            lambda setting, micros: replay_budget(setting, micros, n_seeds=seeds), product(settings, budgets_micros)
        )
        _write(out, found[0])
        print_regrets(found[0])
        print_skipped(found[1])


def _collect(
    run: Callable[[Setting, Goal], list[Result] | Skipped], cases: Iterable[tuple[Setting, Goal]]
) -> tuple[list[Result], list[Skipped]]:
    """Runs all cases; returns what they found, and those that were skipped."""
    todo = list(cases)
    results: list[Result] = []
    skipped: list[Skipped] = []
    with RichProgress() as progress, progress.bar("replay", len(todo)) as bar:
        for setting, goal in todo:
            found = run(setting, goal)
            if isinstance(found, Skipped):
                skipped.append(found)
            else:
                results.extend(found)
            bar.advance(note=setting.policy_name)
    return results, skipped


def _write(out: Path | None, results: list[BudgetResult] | list[TargetResult]) -> None:
    if out is None:
        return
    try:
        write_results(out, results)
    except OSError as error:
        raise InvalidArgumentError("--out", f"{str(out)!r} cannot be written: {error.strerror}") from None
    console.print(f"[dim]written[/]  {out}")


def _items(text: str, field: str) -> list[str]:
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise InvalidArgumentError(field, f"{text!r} has an empty place; give values separated by commas")
    return items


def _micros(text: str, field: str) -> int:
    micros = Money.parse(text, field=field).micros
    if micros <= 0:
        raise InvalidArgumentError(field, f"{text!r} is not more than nothing; give an amount such as 0.10")
    return micros


def _target(text: str) -> float:
    try:
        accuracy = float(text)
    except ValueError:
        accuracy = 0.0
    if not 0.0 < accuracy <= 1.0:
        raise InvalidArgumentError("--targets", f"{text!r} is not an accuracy; give a share such as 0.8")
    return accuracy


def _n_eval(text: str) -> int | None:
    if text == _AUTO:
        return None
    if not text.isdecimal():
        raise InvalidArgumentError(
            "--eval-labels", f"{text!r} is not a number of labels; give one from 0, or {_AUTO} to let the policy choose"
        )
    return int(text)
