"""The manifests say to the code only what the code knows: ports, variables, flags, times."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic_settings import BaseSettings
from typer.testing import CliRunner

from isocost.budget.settings import BudgetSettings
from isocost.cli import connection
from isocost.cli.app import app
from isocost.cli.commands.serve import PORTS, ServiceName
from isocost.cli.commands.web import WEB_PORT
from isocost.core.environment import read_environment
from isocost.core.server_settings import (
    SERVER_ENVIRONMENT,
    ServerSettings,
    check_exposure,
    check_metrics_exposure,
    read_server_settings,
)
from isocost.labeler import vllm_process
from isocost.labeler.settings import LabelerSettings
from isocost.labeler.vllm_adapters import ADAPTERS_MAX
from isocost.trainer.fine_tuning.settings import FineTuningSettings
from isocost.trainer.settings import TrainerSettings
from tests.unit.deploy.manifests import Container, Object, Pod, of_kind, pods, render

_SERVED: dict[str, type[BaseSettings]] = {
    "budget": BudgetSettings,
    "labeler": LabelerSettings,
    "trainer": TrainerSettings,
}


def _variables(kind: type[BaseSettings]) -> set[str]:
    return {kind.model_config["env_prefix"] + name.upper() for name in kind.model_fields}


_SERVER = {SERVER_ENVIRONMENT + name.upper() for name in ServerSettings.model_fields}


def _served(container: Container) -> str | None:
    """The service that a container's command serves."""
    return container.command[2] if container.command[:2] == ["isocost", "serve"] else None


def _commands(templates: list[Pod]) -> list[list[str]]:
    commands = [container.command for pod in templates for container in pod.containers]
    commands += [list(pod.entrypoint) for pod in templates if pod.entrypoint]
    return [command for command in commands if command[:1] == ["isocost"]]


def _parsed(command: list[str]) -> dict[str, Any]:
    """The values that the CLI reads from a command; it refuses what it does not know."""
    words, known = command[1:], typer.main.get_command(app)
    while hasattr(known, "commands"):
        known = known.commands[words.pop(0)]
    return dict(known.make_context(known.name, words).params)


def test_every_command_is_one_that_the_cli_knows(templates: list[Pod]) -> None:
    commands = _commands(templates)
    assert {command[1] for command in commands} >= {"serve", "token"}
    for command in commands:
        _parsed(command)


def test_a_flag_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Exception, match="--hots"):
        _parsed(["isocost", "serve", "budget", "--hots", "0.0.0.0"])


def test_every_variable_is_one_that_the_settings_read(templates: list[Pod]) -> None:
    for pod in templates:
        for container in pod.containers:
            ours = {name for name in container.env if name.startswith("ISOCOST_")}
            served = _served(container)
            if served is not None:
                known = _SERVER | _variables(_SERVED[served])
                known |= _variables(FineTuningSettings) if served == "trainer" else set()
            elif container.command[:2] == ["isocost", "token"]:
                known = _variables(BudgetSettings)
            elif pod.entrypoint:
                known = (
                    _variables(TrainerSettings) | _variables(FineTuningSettings) | _variables(connection._Environment)
                )
            else:
                known = _variables(FineTuningSettings)
            assert ours <= known, f"{container.name}: {ours - known}"


def test_the_services_take_the_values(templates: list[Pod], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every service starts as far as it can without its files: its settings are valid, and it may listen there."""
    found = set()
    for container in (container for pod in templates for container in pod.containers):
        name = _served(container)
        if name is None:
            continue
        found.add(name)
        with monkeypatch.context() as patch:
            for variable, value in container.env.items():
                patch.setenv(variable, value)
            settings, server = read_environment(_SERVED[name]), read_server_settings()
        tokens = settings.require_tokens if isinstance(settings, BudgetSettings) else None
        host = _parsed(container.command)["host"]
        check_exposure(name, host, server, requires_tokens=tokens, insecure=_parsed(container.command)["insecure"])
        check_metrics_exposure(server)
        if isinstance(settings, BudgetSettings):
            web_host = settings.web_address.rpartition(":")[0]
            check_exposure("page", web_host, server, requires_tokens=tokens, insecure=False)
        assert server.uses_tls
        assert not _parsed(container.command)["insecure"]
    assert found == _SERVED.keys()


def test_ports_are_the_codes(templates: list[Pod]) -> None:
    for container in (container for pod in templates for container in pod.containers):
        served = _served(container)
        if served is None:
            continue
        port = _parsed(container.command)["port"] or PORTS[ServiceName(served)]
        metrics = container.env["ISOCOST_SERVER_METRICS_ADDRESS"].rpartition(":")[2]
        web = container.env.get("ISOCOST_BUDGET_WEB_ADDRESS", "").rpartition(":")[2]
        assert container.ports == {"grpc": port, "metrics": int(metrics), **({"web": int(web)} if web else {})}
        assert (served == "budget") == (web == str(WEB_PORT))
        # The manifests keep the code's own ports, so that its documentation is right about them.
        assert port == PORTS[ServiceName(served)]
        for probe in container.probes.values():
            assert probe["exec"]["command"][-2:] == ["--port", str(port)]


def test_vllm_listens_where_its_port_says(templates: list[Pod]) -> None:
    (vllm,) = [c for pod in templates for c in pod.containers if c.spec["name"] == "vllm"]
    assert f"--port={vllm.ports['http']}" in vllm.command
    names = re.findall(r"\$\((\w+)\)", " ".join(vllm.command))
    assert set(names) <= vllm.env.keys()


@pytest.mark.vllm
def test_vllm_knows_its_flags() -> None:
    """By its own parser, in a process of its own: its import is slow and warns."""
    renders = [pods(render(name)) for name in ("gpu", "cpu-dev")]
    servers = [c.spec for one in renders for pod in one for c in pod.containers if c.spec["name"] == "vllm"]
    assert len(servers) == 2
    flags = []
    for server in servers:
        line = "\n".join(server["args"])
        # As the kubelet does with $(NAME).
        for variable in server["env"]:
            line = line.replace(f"$({variable['name']})", variable.get("value", ""))
        assert "$(" not in line
        flags.append(line.split("\n"))
    program = """if True:
        import json, sys
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
        from vllm.utils.argparse_utils import FlexibleArgumentParser
        for flags in json.loads(sys.argv[1]):
            make_arg_parser(FlexibleArgumentParser()).parse_args(flags)
            print("known")
    """
    command = [sys.executable, "-c", program, json.dumps([*flags, ["--no-such-flag"]])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines().count("known") == 2, done.stderr
    assert done.returncode == 2


def test_ports_of_ray_are_what_it_is_started_with(objects: tuple[Object, ...]) -> None:
    for made in [*of_kind(objects, "RayCluster"), *of_kind(objects, "RayJob")]:
        cluster = made["spec"].get("rayClusterSpec", made["spec"])
        for group in cluster["workerGroupSpecs"]:
            (port,) = group["template"]["spec"]["containers"][0]["ports"]
            assert group["rayStartParams"]["node-manager-port"] == str(port["containerPort"])
        # Ray's own: store, dashboard, clients.
        ports = {
            port["containerPort"] for port in cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
        }
        assert ports == {6379, 8265, 10001}


def test_services_lead_to_ports_that_exist(objects: tuple[Object, ...], templates: list[Pod]) -> None:
    for service in of_kind(objects, "Service"):
        wanted = service["spec"]["selector"].items()
        chosen = [pod for pod in templates if wanted <= pod.labels.items()]
        assert len(chosen) == 1, service["metadata"]["name"]
        ports = {name: port for container in chosen[0].containers for name, port in container.ports.items()}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"], service["metadata"]["name"]


def test_addresses_name_services_of_the_render(objects: tuple[Object, ...], templates: list[Pod]) -> None:
    known = {
        (made["metadata"]["name"], port["port"])
        for made in of_kind(objects, "Service")
        for port in made["spec"]["ports"]
    }
    # KubeRay makes the service of a cluster's head.
    known |= {(f"{made['metadata']['name']}-head-svc", 10001) for made in of_kind(objects, "RayCluster")}
    texts = [value for pod in templates for c in pod.containers for value in c.env.values()]
    texts += [word for pod in templates for word in pod.entrypoint]
    named = {(name, int(port)) for text in texts for name, port in re.findall(r"\b(isocost-[a-z-]+):(\d+)", text)}
    assert ("isocost-vllm", 8000) in named
    assert named <= known


def test_there_is_time_to_drain(templates: list[Pod]) -> None:
    for pod in templates:
        for container in pod.containers:
            served = _served(container)
            if served is not None:
                given = container.env.get("ISOCOST_SERVER_DRAIN_SECONDS")
                drain = ServerSettings().drain_seconds if given is None else float(given)
                if served == "trainer":
                    drain += TrainerSettings.model_fields["cancel_wait_seconds"].default
            elif container.spec["name"] == "vllm":
                (given,) = [one for one in container.command if one.startswith("--shutdown-timeout=")]
                drain = float(given.partition("=")[2])
            else:
                continue
            wait = container.spec["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert wait + drain + 2 <= pod.spec["terminationGracePeriodSeconds"], pod.name


def test_the_migration_migrates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = [pod for pod in pods(render("base")) if pod.name == "Job/isocost-migrate"]
    (container,) = job.containers
    file = tmp_path / "budget.db"
    monkeypatch.setenv("ISOCOST_BUDGET_DATABASE_URL", f"sqlite:///{file}")
    done = CliRunner().invoke(app, container.command[1:])
    assert done.exit_code == 0
    assert container.env.keys() == {"ISOCOST_BUDGET_DATABASE_URL"}
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


def test_state_is_on_volumes(templates: list[Pod]) -> None:
    for container in (container for pod in templates for container in pod.containers):
        mounts = {mount["mountPath"]: mount for mount in container.spec["volumeMounts"]}
        for variable in ("ISOCOST_LABELER_STATE_DIR", "ISOCOST_TRAINER_STATE_DIR", "HF_HOME"):
            if variable in container.env:
                assert "readOnly" not in mounts[container.env[variable]], f"{container.name}: {variable}"


def test_vllm_reads_the_labelers_state_at_the_same_path(templates: list[Pod]) -> None:
    """The labeler tells the server where its copies of adapters lie."""
    by_name = {container.spec["name"]: container for pod in templates for container in pod.containers}
    path = by_name["labeler"].env["ISOCOST_LABELER_STATE_DIR"]
    claims = []
    for name in ("labeler", "vllm"):
        volumes = {volume["name"]: volume for volume in by_name[name].pod.spec["volumes"]}
        (mount,) = [one for one in by_name[name].spec["volumeMounts"] if one["mountPath"] == path]
        claims.append(volumes[mount["name"]]["persistentVolumeClaim"]["claimName"])
    assert claims[0] == claims[1]
    n_loras = (f"--max-loras={vllm_process._LORAS_IN_BATCH}", f"--max-cpu-loras={ADAPTERS_MAX + 1}")
    assert {"--enable-lora", *n_loras} <= set(by_name["vllm"].command)
    assert by_name["vllm"].env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert by_name["vllm"].env["VLLM_API_KEY"] == by_name["labeler"].env["ISOCOST_LABELER_VLLM_API_KEY"]


def test_certificates_are_read_from_their_mount(templates: list[Pod], monkeypatch: pytest.MonkeyPatch) -> None:
    for container in (container for pod in templates for container in pod.containers):
        paths = [Path(value) for value in container.env.values() if value.startswith("/etc/isocost/")]
        mounts = {Path(mount["mountPath"]) for mount in container.spec["volumeMounts"]}
        assert all(path.parent in mounts and path.name in {"tls.crt", "tls.key", "ca.crt"} for path in paths)
        if container.pod.entrypoint:
            for name, value in container.env.items():
                monkeypatch.setenv(name, value)
            assert connection.channel_settings().is_encrypted
