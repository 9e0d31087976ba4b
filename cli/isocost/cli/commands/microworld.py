"""`isocost microworld`: the offline testbed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from isocost.cli.console import RichProgress, console

__all__ = ["microworld"]

microworld = typer.Typer(help="The offline testbed: made-up facts, two tiny models.", no_args_is_help=True)


@microworld.command("items")
def items(
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    n_items: Annotated[int, typer.Option(min=1, help="Rows.")] = 2840,
    seed: Annotated[int, typer.Option(min=0, help="Which rows.")] = 0,
    test: Annotated[bool, typer.Option("--test", help="Claims about the facts kept for testing.")] = False,
) -> None:
    """Writes claims with their gold answers."""
    from isocost.microworld.claims import pool_frame, test_frame  # noqa: PLC0415 - only here

    frame = (test_frame if test else pool_frame)(n_items, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(out)
    console.print(f"[dim]written[/]  {escape(str(out))}  ({frame.height:,} claims)")


@microworld.command("table")
def table(
    out: Annotated[Path, typer.Option(help="Folder for the table and the runs' state; run again to go on.")],
    n_seeds: Annotated[int, typer.Option(min=2, help="Runs of each mix of labels.")] = 5,
) -> None:
    """Measures what sequential SFT does on the testbed, on isocost lines and over seeds."""
    from isocost.embedded.testbed import make_table, write_table  # noqa: PLC0415 - torch takes seconds to import

    with RichProgress() as progress:
        made = asyncio.run(make_table(out, progress, n_seeds=n_seeds))
    for path in write_table(made, out):
        console.print(f"[dim]written[/]  {escape(str(path))}")
    console.print(escape((out / "table.md").read_text(encoding="utf-8")))
