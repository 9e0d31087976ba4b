"""`isocost doctor`: is this machine fit, and what is to be done where it is not."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer
from rich.markup import escape

from isocost.cli.commands.serve import PORTS
from isocost.cli.connection import (
    AddressOption,
    CaFileOption,
    CertFileOption,
    KeyFileOption,
    OutOption,
    TokenOption,
    channel_settings,
)
from isocost.cli.console import console

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def doctor(
    out: OutOption = None,
    address: AddressOption = None,
    database_url: Annotated[
        str,
        typer.Option(
            help="Database of a budget service, sqlite:///FILE or postgresql://...; that in --out is looked at too.",
            envvar="ISOCOST_BUDGET_DATABASE_URL",
        ),
    ] = "",
    vllm_url: Annotated[
        str, typer.Option(help="Base URL of a running vLLM server.", envvar="ISOCOST_LABELER_VLLM_URL")
    ] = "",
    vllm_api_key: Annotated[
        str, typer.Option(help="Its key; better in the variable.", envvar="ISOCOST_LABELER_VLLM_API_KEY")
    ] = "",
    token: TokenOption = None,
    ca_file: CaFileOption = None,
    cert_file: CertFileOption = None,
    key_file: KeyFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Checks versions, GPU, vLLM, disk, ports, and the services and database that are named; says what to do.

    Changes nothing. Exit code 1 where a check failed; warnings are what this machine may not need.
    """
    from isocost.doctor.diagnosis import Subject, diagnose  # noqa: PLC0415 - no other command needs it
    from isocost.doctor.finding import State  # noqa: PLC0415

    subject = Subject(
        out=out,
        address=address or "",
        channel=channel_settings(token, ca_file, cert_file, key_file),
        database_url=database_url,
        vllm_url=vllm_url,
        vllm_api_key=vllm_api_key,
        ports={name.value: port for name, port in PORTS.items()},
    )
    findings = []
    for finding in diagnose(subject):
        findings.append(finding)
        if not as_json:
            state = finding.state.value
            console.print(
                f"[{_COLOURS[state]}]{state:<8}[/] [bold]{escape(finding.check)}[/]: {escape(finding.message)}"
            )
            if finding.remedy:
                console.print(f"         -> {escape(finding.remedy)}")
    n_failed = sum(finding.state is State.FAILED for finding in findings)
    n_warnings = sum(finding.state is State.WARNING for finding in findings)
    if as_json:
        checks = [dataclasses.asdict(finding) for finding in findings]
        typer.echo(json.dumps({"ok": n_failed == 0, "checks": checks}, indent=2))
    else:
        console.print(
            f"{len(findings)} checks: {n_failed} failed, {n_warnings} warning{'' if n_warnings == 1 else 's'}"
        )
    if n_failed:
        raise typer.Exit(1)
