"""All checks, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from isocost.core.channel import ChannelSettings
from isocost.doctor import database, machine, packages, services
from isocost.doctor.finding import Finding, failed

__all__ = ["Subject", "diagnose", "run_checks"]

Check = Callable[[], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at beside the machine itself.

    Attributes:
        out: Output folder of a campaign, there or not; its database is looked at where it has one.
        address: host:port of a budget service.
        channel: Token and encryption for `address`.
        database_url: URL of a budget service's database.
        vllm_url: Base URL of a vLLM server.
        vllm_api_key: Its key.
        ports: Default port of each service.
    """

    out: Path | None = None
    address: str = ""
    channel: ChannelSettings = field(default_factory=ChannelSettings)
    database_url: str = ""
    vllm_url: str = ""
    vllm_api_key: str = field(default="", repr=False)
    ports: Mapping[str, int] = field(default_factory=dict)


def diagnose(subject: Subject) -> Iterator[Finding]:
    """Looks at everything; what each check finds as soon as it is found. Changes nothing, raises nothing."""
    return run_checks(_checks(subject))


def run_checks(checks: Mapping[str, Check]) -> Iterator[Finding]:
    """Runs checks by name; one that crashes is a failed one, and the next goes on."""
    for name, check in checks.items():
        try:
            yield from check()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other checks are still wanted
            said = " ".join(str(error).split())
            yield failed(
                name, f"the check itself failed: {type(error).__name__}: {said}", "look at what the message names"
            )


def _checks(subject: Subject) -> dict[str, Check]:
    checks: dict[str, Check] = {
        "python": packages.check_python,
        "packages": lambda: packages.check_packages(packages.installed_versions()),
        "extras": lambda: packages.check_extras(packages.installed_versions()),
        "fit": lambda: packages.check_fit(packages.installed_versions()),
        "gpu": machine.check_gpu,
        "transformers": machine.check_transformers,
        "vllm": machine.check_vllm,
        "disk": lambda: machine.check_disk(subject.out),
        "open files": machine.check_open_files,
        "ports": lambda: services.check_ports(subject.ports),
    }
    if subject.out is not None and (file := subject.out / "state" / "budget.db").is_file():
        checks["database of the folder"] = lambda: database.check_database(f"sqlite:///{file.absolute()}")
    if subject.database_url:
        checks["database"] = lambda: database.check_database(subject.database_url)
    if subject.address:
        checks["budget service"] = lambda: services.check_budget_service(subject.address, subject.channel)
    if subject.vllm_url:
        checks["vllm server"] = lambda: services.check_vllm_server(subject.vllm_url, subject.vllm_api_key)
    return checks
