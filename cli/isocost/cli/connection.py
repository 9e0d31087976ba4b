"""Reaching a budget service: a remote one by its address, or the one whose state lies in an output folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic_settings import BaseSettings, SettingsConfigDict

from isocost.client import BudgetClient
from isocost.core.channel import ChannelSettings
from isocost.core.environment import read_environment
from isocost.core.errors import InvalidArgumentError

__all__ = [
    "AddressOption",
    "CaFileOption",
    "CertFileOption",
    "KeyFileOption",
    "OutOption",
    "TokenOption",
    "channel_settings",
    "open_budget",
    "state_database",
]

OutOption = Annotated[Path | None, typer.Option("--out", help="Output folder of `isocost run`.")]
AddressOption = Annotated[str | None, typer.Option("--address", help="host:port of a budget service.")]
TokenOption = Annotated[
    str | None,
    typer.Option("--token", help="Token for --address; better in ISOCOST_TOKEN, as others see command lines."),
]
CaFileOption = Annotated[
    Path | None, typer.Option("--ca-file", help="PEM authorities that sign the server's certificate [ISOCOST_CA_FILE].")
]
CertFileOption = Annotated[
    Path | None, typer.Option("--cert-file", help="PEM certificate of this client, for mTLS [ISOCOST_CERT_FILE].")
]
KeyFileOption = Annotated[
    Path | None, typer.Option("--key-file", help="PEM private key of --cert-file [ISOCOST_KEY_FILE].")
]


class _Environment(BaseSettings):
    """How to reach a server, for what no option says; from `ISOCOST_TOKEN` and so on."""

    model_config = SettingsConfigDict(env_prefix="ISOCOST_", env_ignore_empty=True)

    token: str = ""
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""
    insecure_token: bool = False


def channel_settings(
    token: str | None = None,
    ca_file: Path | None = None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
) -> ChannelSettings:
    """Token and encryption of a connection: from the options, and from the environment what they leave open.

    `ISOCOST_TLS=1` encrypts without files, `ISOCOST_SERVER_NAME` is the name in the server's certificate, and
    `ISOCOST_INSECURE_TOKEN=1` sends the token unencrypted beyond loopback.

    Raises:
        InvalidArgumentError: where a certificate is given without its key, or a variable makes no sense.
    """
    environment = read_environment(_Environment)
    return ChannelSettings(
        token=environment.token if token is None else token,
        tls=environment.tls,
        ca_path=ca_file or environment.ca_file,
        certificate_path=cert_file or environment.cert_file,
        key_path=key_file or environment.key_file,
        server_name=environment.server_name,
        insecure=environment.insecure_token,
    )


def state_database(out: Path) -> Path:
    """The budget database in an output folder.

    Raises:
        InvalidArgumentError: where the folder holds no campaign.
    """
    database = (out / "state" / "budget.db").resolve()
    if not database.is_file():
        raise InvalidArgumentError(
            "--out", f"{str(out)!r} holds no campaign; give the folder that `isocost run` wrote to"
        )
    return database


@asynccontextmanager
async def open_budget(
    out: Path | None, address: str | None, channel: ChannelSettings | None = None
) -> AsyncIterator[BudgetClient]:
    """A client of the budget service.

    Args:
        out: Output folder whose service is started in this process.
        address: Address of a running service.
        channel: Token and encryption for `address`; from the environment where it is None.

    Raises:
        InvalidArgumentError: where neither or both are given, or the folder holds no campaign.
    """
    if (out is None) == (address is None):
        raise InvalidArgumentError("--out", "give either --out DIR or --address HOST:PORT")
    if address is not None:
        async with BudgetClient(address, channel=channel or channel_settings()) as client:
            yield client
        return
    assert out is not None
    database = state_database(out)
    from isocost.budget.service import BudgetService  # noqa: PLC0415 - only for a local folder
    from isocost.budget.settings import BudgetSettings  # noqa: PLC0415
    from isocost.core.grpc_server import ServiceHost  # noqa: PLC0415

    service = BudgetService(BudgetSettings(database_url=f"sqlite:///{database}"))
    async with ServiceHost(service, "127.0.0.1:0") as host, BudgetClient(host.address) as client:
        yield client
