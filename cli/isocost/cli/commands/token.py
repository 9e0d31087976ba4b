"""`isocost token`: who may call the budget service. Works on its database, with the service running or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from isocost.cli.console import console
from isocost.core.caller import Role
from isocost.core.environment import read_environment

if TYPE_CHECKING:
    from isocost.budget.database import Database

__all__ = ["token"]

token = typer.Typer(help="Tokens of callers, and their roles.", no_args_is_help=True)

_DatabaseUrl = Annotated[
    str | None, typer.Option(help="The budget service's database; else ISOCOST_BUDGET_DATABASE_URL, or its default.")
]


@contextmanager
def _open_database(url: str | None) -> Iterator[Database]:
    from isocost.budget.database import Database  # noqa: PLC0415 - only here
    from isocost.budget.settings import BudgetSettings  # noqa: PLC0415

    database = Database(url if url is not None else read_environment(BudgetSettings).database_url)
    try:
        database.migrate()
        yield database
    finally:
        database.close()


@token.command("create")
def create(
    name: Annotated[str, typer.Option(help="Who it is for; an annotator's answers carry this name.")],
    role: Annotated[Role, typer.Option(help="What it allows.")],
    days: Annotated[float | None, typer.Option(min=0, max=36_500, help="Days until it expires; else never.")] = None,
    database_url: _DatabaseUrl = None,
) -> None:
    """Makes a token and prints its secret, the only time that it can be seen."""
    from isocost.budget import clock  # noqa: PLC0415
    from isocost.budget.tokens import create_token  # noqa: PLC0415

    expire_time_us = None if days is None else clock.now_us() + clock.us_from_delta(timedelta(days=days))
    with _open_database(database_url) as database, database.write() as connection:
        token_id, secret = create_token(connection, name, role, expire_time_us)
    # Apart, so that a script can take the secret from standard output.
    typer.echo(f"{token_id}  {name}, {role.value}; keep the secret, it is stored nowhere:", err=True)
    typer.echo(secret)


@token.command("list")
def list_all(database_url: _DatabaseUrl = None) -> None:
    """Lists the tokens, without their secrets."""
    from isocost.budget import clock  # noqa: PLC0415
    from isocost.budget.tokens import list_tokens  # noqa: PLC0415

    with _open_database(database_url) as database, database.read() as connection:
        tokens = list_tokens(connection)
    now_us = clock.now_us()
    # Lines, not a table: a narrow terminal must not cut the ids.
    for known in tokens:
        state = "valid" if known.is_valid(now_us) else "revoked" if known.revoke_time_us is not None else "expired"
        created = f"{clock.time_from_us(known.create_time_us):%Y-%m-%d}"
        expires = "never" if known.expire_time_us is None else f"{clock.time_from_us(known.expire_time_us):%Y-%m-%d}"
        typer.echo(
            f"{known.token_id}  {known.role.value:<9}  {state:<7}  made {created}  expires {expires:<10}  "
            f"{known.principal}"
        )


@token.command("revoke")
def revoke(
    token_id: Annotated[str, typer.Argument(help="From `isocost token list`.")], database_url: _DatabaseUrl = None
) -> None:
    """Ends a token for good, within seconds on a running service."""
    from isocost.budget.tokens import revoke_token  # noqa: PLC0415

    with _open_database(database_url) as database, database.write() as connection:
        revoked = revoke_token(connection, token_id)
    console.print(f"[dim]revoked[/]  {token_id}  ({escape(revoked.principal)}, {revoked.role.value})")
