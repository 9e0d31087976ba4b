"""Reaching a budget service: a remote one by its address, or the one whose state lies in an output folder."""

from __future__ import annotations

import fcntl
import getpass
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from pydantic_settings import BaseSettings, SettingsConfigDict

from isocost.client import BudgetClient, QueueClient
from isocost.core.channel import ChannelSettings
from isocost.core.environment import read_environment
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError

__all__ = [
    "AddressOption",
    "CaFileOption",
    "CertFileOption",
    "KeyFileOption",
    "OutOption",
    "TokenOption",
    "annotator_name",
    "channel_settings",
    "open_budget",
    "open_queue",
    "serve_folder",
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


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Holds an output folder for this process, as `isocost run` does.

    Raises:
        FailedPreconditionError: where another process holds it.
    """
    with (out / "state" / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedPreconditionError(
                f"another isocost process is running in {out}; wait for it or end it (for several annotators at once, "
                "let `isocost web` or `isocost serve budget` serve the campaign)",
                field="--out",
            ) from None
        yield


@asynccontextmanager
async def serve_folder(out: Path, *, exclusively: bool = True) -> AsyncIterator[str]:
    """The address of a budget service in this process, on an output folder.

    Args:
        out: The folder.
        exclusively: Whether nobody else may use it meanwhile, `isocost run` included.

    Raises:
        InvalidArgumentError: where the folder holds no campaign.
        FailedPreconditionError: where another process holds it, and it was to be held.
    """
    database = state_database(out)
    from isocost.budget.service import BudgetService  # noqa: PLC0415 - only for a local folder
    from isocost.budget.settings import BudgetSettings  # noqa: PLC0415
    from isocost.core.grpc_server import ServiceHost  # noqa: PLC0415

    with _locked(out) if exclusively else nullcontext():
        service = BudgetService(BudgetSettings(database_url=f"sqlite:///{database}"))
        async with ServiceHost(service, "127.0.0.1:0") as host:
            yield host.address


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
    async with serve_folder(out, exclusively=False) as served, BudgetClient(served) as client:
        yield client


@asynccontextmanager
async def open_queue(
    out: Path | None, address: str | None, channel: ChannelSettings
) -> AsyncIterator[tuple[BudgetClient, QueueClient]]:
    """Clients of the budget service and its human queue, as `open_budget`; an output folder is held meanwhile.

    Raises:
        InvalidArgumentError: where neither or both are given, or the folder holds no campaign.
        FailedPreconditionError: where another process holds the folder.
    """
    if (out is None) == (address is None):
        raise InvalidArgumentError("--out", "give either --out DIR or --address HOST:PORT")
    if address is not None:
        async with BudgetClient(address, channel=channel) as budget, QueueClient(address, channel=channel) as queue:
            yield budget, queue
        return
    assert out is not None
    async with serve_folder(out) as served, BudgetClient(served) as budget, QueueClient(served) as queue:
        yield budget, queue


def annotator_name(named: str | None, token: str) -> str:
    """Who answers: as named, else as the token says, else the user of this machine.

    Raises:
        InvalidArgumentError: where nobody can be told.
    """
    if named is not None or token:
        return named or ""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise InvalidArgumentError("--annotator", "not given, and this user has no name; give one") from None
