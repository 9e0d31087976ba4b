"""`isocost ledger`: proofs of the ledger."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from isocost.cli.connection import OutOption, state_database
from isocost.cli.console import console
from isocost.core.errors import InvalidArgumentError

__all__ = ["ledger"]

ledger = typer.Typer(help="The ledger and its proof.", no_args_is_help=True)


def _database_url(out: Path | None, database_url: str | None) -> str:
    if out is None and database_url is None:
        # As the other commands that work on the service's database, so that it runs in the service's container.
        database_url = os.environ.get("ISOCOST_BUDGET_DATABASE_URL") or None
    if (out is None) == (database_url is None):
        raise InvalidArgumentError("--out", "give either --out DIR or --database-url URL")
    if out is not None:
        return f"sqlite:///{state_database(out)}"
    assert database_url is not None
    if "://" not in database_url:
        raise InvalidArgumentError(
            "--database-url", f"{database_url!r} is not a URL; give sqlite:///FILE or postgresql://USER@HOST/NAME"
        )
    return database_url


@ledger.command("verify")
def verify(
    out: OutOption = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            help="URL of the database of a budget service, sqlite:///FILE or postgresql://...; "
            "without --out else ISOCOST_BUDGET_DATABASE_URL."
        ),
    ] = None,
    campaign: Annotated[str, typer.Option(help="Campaign id; all of them when not given.")] = "",
) -> None:
    """Works out all that is said about money again from the rows alone; exit code 1 names the first discrepancy.

    It may run beside the service, which it neither needs nor disturbs.
    """
    from isocost.budget.proof import verify_ledger  # noqa: PLC0415 - SQLAlchemy is an extra

    proofs = verify_ledger(_database_url(out, database_url), campaign)
    table = Table(box=None, padding=(0, 2))
    for heading in ("campaign", "entries", "orders", "labels paid", "settled", "reserved", "budget"):
        table.add_column(heading, justify="left" if heading == "campaign" else "right")
    for proof in proofs:
        table.add_row(
            escape(proof.campaign_id),
            f"{proof.n_entries:,}",
            f"{proof.n_orders:,}",
            f"{proof.n_labels:,}",
            str(proof.settled),
            str(proof.reserved),
            str(proof.budget),
        )
    console.print(table)
    console.print(
        f"[bold green]proved[/]  {len(proofs)} campaign{'' if len(proofs) == 1 else 's'}: every label is paid exactly "
        "once, and settled + reserved never exceeded the budget"
    )
