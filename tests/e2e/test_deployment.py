"""The containers of `overlays/cpu-dev` as separate processes, and a campaign driven through them from another one."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isocost.client import BudgetClient, LabelerClient, TrainerClient
from isocost.core.channel import ChannelSettings
from isocost.core.errors import UnauthenticatedError, UnavailableError
from isocost.microworld.carried import model_dir
from tests.e2e import deployment_client
from tests.e2e.campaigns import environment, small_campaign, write_campaign
from tests.e2e.deployment import Deployment, issue_certificates
from tests.postgres import PostgresServer
from tests.unit.deploy.manifests import render

pytestmark = [pytest.mark.e2e, pytest.mark.vllm]

BUDGET = "Deployment/isocost-budget"
LABELER = "StatefulSet/isocost-labeler"
TRAINER = "StatefulSet/isocost-trainer"
VLLM = "Deployment/isocost-vllm"
MIGRATE = "Job/isocost-migrate"
SERVICES = {"budget": BUDGET, "labeler": LABELER, "trainer": TRAINER}


@pytest.fixture
def database_url(postgres: PostgresServer) -> Iterator[str]:
    """An empty database of a user who may do nothing else, as the Secret would name it."""
    name = postgres.create_database(migrated=False)
    user, password = f"isocost_{name}", secrets.token_hex(8)
    try:
        postgres.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
        postgres.execute(f"ALTER DATABASE {name} OWNER TO {user}")
        yield postgres.url(name).replace("postgresql+psycopg://postgres@", f"postgresql://{user}:{password}@")
    finally:
        postgres.drop_database(name)
        postgres.execute(f"DROP ROLE IF EXISTS {user}")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: vLLM binds sockets within its /tmp, and their paths hold 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="iso") as path:
        yield Path(path)


def _tiny_campaign() -> dict[str, Any]:
    raw = small_campaign()
    raw["n_tranches"] = raw["n_seeds"] = 1
    for recipe in ("weak_recipe", "human_recipe"):
        raw["method"][recipe] = {"learning_rate": 2e-3, "max_examples": 64}
    return raw


def _drive(deployment: Deployment, folder: Path, token: str) -> dict[str, Any]:
    """A whole campaign from a process that has nothing but addresses, a token and a certificate."""
    folder.mkdir()
    addresses = {name: deployment.address(at) for name, at in SERVICES.items()}
    files = {"CA": "ca.crt", "CERT": "tls.crt", "KEY": "tls.key"}
    shown = {
        f"ISOCOST_{name}_FILE": str(deployment.secret_file("isocost-client-tls", key)) for name, key in files.items()
    }
    done = subprocess.run(
        [sys.executable, deployment_client.__file__, write_campaign(folder, _tiny_campaign()), json.dumps(addresses)],
        env={**environment(), **shown, "ISOCOST_TOKEN": token},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


async def _check_strangers_are_refused(deployment: Deployment) -> None:
    """Who trusts the authority and no more gets nothing, though its certificate has the right name."""

    def channel(name: str, token: str = "") -> ChannelSettings:
        ca_path = deployment.secret_file("isocost-client-tls", "ca.crt")
        return ChannelSettings(ca_path=ca_path, token=token, server_name=f"isocost-{name}")

    for token in ("", "made-up"):
        async with BudgetClient(deployment.address(BUDGET), channel=channel("budget", token)) as budget:
            with pytest.raises(UnauthenticatedError):
                await budget.get_campaign("microworld")
    async with LabelerClient(deployment.address(LABELER), channel=channel("labeler")) as labeler:
        with pytest.raises(UnavailableError):
            await labeler.describe()
    async with TrainerClient(deployment.address(TRAINER), channel=channel("trainer")) as trainer:
        with pytest.raises(UnavailableError):
            await trainer.get_run("run")


def _read_page(deployment: Deployment, token: str) -> str:
    """The campaign's page, as a browser gets it after the sign-in."""
    context = ssl.create_default_context(cafile=deployment.secret_file("isocost-client-tls", "ca.crt"))
    # The certificate has the name of the Service.
    context.check_hostname = False
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context), urllib.request.HTTPCookieProcessor()
    )
    form = urllib.parse.urlencode({"secret": token, "next": "/campaigns/microworld"}).encode()
    with opener.open(f"https://{deployment.address(BUDGET, 'web')}/sign-in", form, timeout=60) as answer:
        page: str = answer.read().decode()
    return page


def test_a_campaign_through_the_containers(folder: Path, database_url: str) -> None:
    made = issue_certificates(render("cpu-dev with all"))
    made["isocost-database"] = {"url": database_url}
    made["isocost-vllm"] = {"api-key": secrets.token_hex(16)}
    # The model is a choice of each overlay; this one is carried by the package.
    patches = {"MODEL": str(model_dir("weak")), "MAX_MODEL_LEN": "1024"}
    with Deployment(render("cpu-dev"), folder, made, patches) as deployment:
        migrated = deployment.run(MIGRATE)
        assert migrated.returncode == 0, migrated.stdout + migrated.stderr
        for name in (VLLM, BUDGET, LABELER, TRAINER):
            deployment.start(name)
        for name in (BUDGET, LABELER, TRAINER, VLLM):
            deployment.wait_ready(name)
        token = deployment.run(BUDGET, ["isocost", "token", "create", "--role", "pipeline", "--name", "reviews"])
        assert token.returncode == 0, token.stderr

        result = _drive(deployment, folder / "client", token.stdout.strip())
        assert result["state"] == "FINISHED"
        assert 0 < result["settled"] <= result["budget"]
        assert result["reserved"] == 0
        assert result["run_state"] == "SUCCEEDED"
        assert (Path(result["output_path"]) / "adapter_config.json").is_file()
        # Beside the other state of the trainer's volume, not where a default would put it.
        assert (folder / "claim-isocost-trainer-state") in Path(result["output_path"]).parents
        # The weak labels came from the container's vLLM.
        assert any("vllm" in model and n_tokens > 0 for model, n_tokens in result["prompt_tokens"].items())
        proof = deployment.run(BUDGET, ["isocost", "ledger", "verify"])
        assert proof.returncode == 0, proof.stdout + proof.stderr
        assert "proved  1 campaign" in proof.stdout

        page = _read_page(deployment, token.stdout.strip())
        assert "campaign finished" in page
        assert "<svg" in page
        asyncio.run(_check_strangers_are_refused(deployment))

        assert deployment.stop() == dict.fromkeys((VLLM, BUDGET, LABELER, TRAINER), 0)
