"""The blocks of pages whose commands need no model server and no whole campaign, as written and in order."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import isocost.client
from isocost.budget.service import BudgetService
from isocost.budget.settings import BudgetSettings
from isocost.client import BudgetClient, Label, Purpose, QueueClient, SyncBudgetClient, one_hot
from isocost.core.grpc_server import ServiceHost
from isocost.microworld.claims import pool_frame
from tests.authority import Authority
from tests.docs.accounts import blocks_of
from tests.docs.page import ROOT
from tests.docs.shell import Shell, free_port
from tests.integration.client.running import Running
from tests.integration.client.served import environment, serve_budget
from tests.integration.sweep.sweeps import write_spec

#: Ports that a test's machine may use for something else: the system picks free ones.
_ANY_PORT = {
    "isocost serve budget": "isocost serve budget --port 0",
    "isocost serve trainer": "isocost serve trainer --port 0",
    "isocost serve labeler": "isocost serve labeler --port 0",
    " --port 7601": "",
    " --port 7602": "",
    " --port 7603": "",
}
#: Weak labels in this process: vLLM takes half a minute to start.
_IN_PROCESS = {"ISOCOST_LABELER_ENGINE": "transformers"}


async def _fill(database: Path, campaign_id: str) -> None:
    """A campaign with five weak labels and two human ones; ten more are awaited."""
    service = BudgetService(BudgetSettings(database_url=f"sqlite:///{database}"))
    async with ServiceHost(service, "127.0.0.1:0") as host:
        await Running(host.address, "").create(n_items=60, campaign_id=campaign_id)
        async with BudgetClient(host.address) as budget, QueueClient(host.address) as queue:
            weak = await budget.create_order("o1", campaign_id, "weak", Purpose.TRAINING, 5)
            ids = [item.item_id async for item in budget.order_items(weak.order_id)]
            await budget.submit_labels("s1", weak.order_id, [Label(each, (0.25, 0.75)) for each in ids])
            await budget.create_order("o2", campaign_id, "human", Purpose.EVALUATION, 12)
            leased = await queue.lease_items("l", campaign_id, "human", "ann", n_items=2)
            assert leased.lease is not None
            answers = [Label(item.item_id, one_hot(1, 2)) for item in leased.items]
            await queue.answer_items("a", leased.lease.lease_id, answers)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A budget service's database with the campaign `reviews`, to be copied."""
    database = tmp_path_factory.mktemp("filled") / "budget.db"
    asyncio.run(_fill(database, "reviews"))
    return database


def _put(database: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(database) as source, sqlite3.connect(target) as copy:
        source.backup(copy)
    return target


def _small_campaign(folder: Path, **changes: Any) -> None:
    """`reviews.yaml` and its items: people are awaited at once."""
    raw = yaml.safe_load((ROOT / "docs" / "examples" / "facts.yaml").read_text(encoding="utf-8"))
    pool_frame(120, 0).drop("label").write_csv(folder / "facts.csv")
    raw |= {"campaign": "reviews", "budget": 60, "evaluation": {"n_labels": 10}, "pilot": {"n_weak": 10, "n_human": 10}}
    (folder / "reviews.yaml").write_text(yaml.safe_dump(raw | changes), encoding="utf-8")


def test_readme(tmp_path: Path) -> None:
    campaign, run = blocks_of("test_readme")
    # Models that need no hub.
    text = campaign.text.replace("Qwen/Qwen2.5-0.5B", "microworld:weak")
    text = text.replace("meta-llama/Llama-3.1-8B", "microworld:strong")
    with Shell(tmp_path) as shell:
        (tmp_path / "reviews.yaml").write_text(text, encoding="utf-8")
        rows = [f"{number}: works, and I loved the look" for number in range(1_300)]
        pl.DataFrame({"text": rows}).write_csv(tmp_path / "reviews.csv")
        assert "150 human labels are awaited" in shell.run(run)


def test_annotating(tmp_path: Path, filled: Path) -> None:
    here_or_there, campaign, serve, script = (b for b in blocks_of("test_annotating") if b.language == "bash")
    first, answer, again = campaign.text.splitlines()
    with (
        serve_budget(_put(filled, tmp_path / "elsewhere" / "budget.db")) as address,
        Shell(tmp_path / "clone", {**_ANY_PORT, "budget.example.org:7601": address}) as shell,
    ):
        _small_campaign(shell.folder)
        # The page says what these end with in words.
        assert "isocost annotate --out" in shell.run(replace(campaign, text=first), returncode=3)
        # Nobody is at the keyboard: the session ends at once.
        assert shell.run(here_or_there).count("0 stored in this session") == 2
        shell.run(replace(campaign, text=answer))
        assert "are awaited" in shell.run(replace(campaign, text=again), returncode=3)
        assert "3 stored in this session" in shell.run(script)
        shell.serve(serve)


def test_budget_service(tmp_path: Path, filled: Path) -> None:
    verify, plan, create, revoke, tokens, tls = blocks_of("test_budget_service")
    substitutions = {**_ANY_PORT, "--host 0.0.0.0": "--host 127.0.0.1"}
    authority = Authority(tmp_path, "clients")
    with (
        serve_budget(_put(filled, tmp_path / "elsewhere" / "budget.db")) as address,
        Shell(tmp_path / "clone", substitutions) as shell,
    ):
        _put(filled, shell.folder / "isocost.db")
        _put(filled, shell.folder / "runs" / "reviews" / "state" / "budget.db")
        assert "proved  1 campaign" in shell.run(verify)
        assert '"decision"' in shell.run(plan, ADDRESS=address)
        token_ids = re.findall(r"token-[0-9a-f-]+", shell.run(create))
        assert "revoked" in shell.run(revoke, TOKEN_ID=token_ids[-1])
        served = shell.serve(tokens)
        shell.stop_servers()
        assert served.startswith("127.0.0.1:")
        certificate, key = authority.issue("server")
        for made, name in ((certificate, "server.pem"), (key, "server.key"), (authority.path, "clients.pem")):
            shutil.copyfile(made, shell.folder / name)
        shell.serve(tls)


def test_bulk_labelling(tmp_path: Path) -> None:
    task, label = blocks_of("test_bulk_labelling")
    with Shell(tmp_path, variables=_IN_PROCESS) as shell:
        (tmp_path / "claims.yaml").write_text(task.text, encoding="utf-8")
        pool_frame(200, 0).drop("label").write_csv(tmp_path / "claims.csv")
        assert "200 of 200 rows" in shell.run(label)
    assert pl.read_parquet(tmp_path / "labels.parquet").height == 200


def _serves(folder: Path, test: str) -> None:
    (serve,) = blocks_of(test)
    with Shell(folder, _ANY_PORT) as shell:
        assert shell.serve(serve).startswith("127.0.0.1:")


def test_closed_models(tmp_path: Path) -> None:
    _serves(tmp_path, "test_closed_models")


def test_labeler(tmp_path: Path) -> None:
    _serves(tmp_path, "test_labeler")


def test_trainer(tmp_path: Path) -> None:
    _serves(tmp_path, "test_trainer")


def test_paper(tmp_path: Path) -> None:
    (count,) = blocks_of("test_paper")
    with Shell(tmp_path) as shell:
        assert re.search(r"runs +591,", shell.run(count))


def test_pipeline(tmp_path: Path, filled: Path) -> None:
    serve, export = blocks_of("test_pipeline")
    with Shell(tmp_path, _ANY_PORT) as shell:
        address = shell.serve(serve)
        example = ROOT / "docs" / "examples" / "pipeline.py"
        subprocess.run([sys.executable, str(example)], check=True, env=environment(ISOCOST_ADDRESS=address), timeout=60)
        _put(filled, tmp_path / "runs" / "reviews" / "state" / "budget.db")
        said = shell.run(replace(export, text=export.text.replace("127.0.0.1:7601", address)))
        assert "(2 rows)" in said
        assert "proved  1 campaign" in said


async def test_pipeline_snippets(tmp_path: Path, filled: Path) -> None:
    """Each snippet of Python, with the names that the sentences around it presume."""
    snippets = [block for block in blocks_of("test_pipeline_snippets") if block.language == "python"]
    assert len(snippets) == 6
    authority = Authority(tmp_path, "ca")
    with serve_budget(_put(filled, tmp_path / "budget.db")) as address, SyncBudgetClient(address) as budget:
        names: dict[str, Any] = {
            **{name: getattr(isocost.client, name) for name in isocost.client.__all__},
            "timedelta": timedelta,
            "Path": Path,
            "os": type("os", (), {"environ": {"ISOCOST_TOKEN": "secret"}}),
            "budget": budget,
            "human": next(order for order in budget.list_orders("reviews") if order.source_id == "human"),
            "ask": lambda item, _task: Label(item.item_id, one_hot(0, 2)),
        }
        made: dict[str, Any] = {}
        for block in snippets:
            scope = dict(names)
            text = block.text.replace("127.0.0.1:7601", address).replace("ca.pem", str(authority.path))
            # The campaign here is a small one.
            text = text.replace("n_labels=100", "n_labels=10")
            code = compile(text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = eval(code, scope)
            if inspect.isawaitable(running):
                await running
            made |= scope
        assert made["weak"].n_labels == 10
        assert made["labels"]


def test_policy(tmp_path: Path, filled: Path) -> None:
    plan, replay = blocks_of("test_policy")
    with Shell(tmp_path) as shell:
        _put(filled, tmp_path / "runs" / "demo" / "state" / "budget.db")
        assert "isocost line" in shell.run(plan)
        assert "adaptive" in shell.run(replay, SURFACE=_surface())


def test_replay(tmp_path: Path) -> None:
    (replay,) = blocks_of("test_replay")
    with Shell(tmp_path) as shell:
        assert "paper-advice" in shell.run(replay, SURFACE=_surface())
    assert (tmp_path / "result.json").is_file()


def _surface() -> str:
    """The surface that the page names in its first line."""
    (replay,) = blocks_of("test_replay")
    found = re.search(r"# SURFACE=(\S+)", replay.text)
    assert found
    return found[1]


def test_sweep(tmp_path: Path) -> None:
    sweep, report = blocks_of("test_sweep")
    write_spec(tmp_path, methods=["sequential_sft"], weak_fractions=[0, 0.5])
    with Shell(tmp_path, variables=_IN_PROCESS) as shell:
        said = shell.run(sweep, SPEC="spec.yaml", DIR="runs/small")
        assert "2 of 2 runs" in said
        assert "report.html" in shell.run(report, DIR="runs/small")


def test_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (snippet,) = blocks_of("test_tasks")
    data = tmp_path / "data" / "hellaswag"
    data.mkdir(parents=True)
    endings = ["sits.", "runs.", "sings.", "eats."]
    for split, numbers in (("train", range(8_400)), ("test", range(9_000, 9_040))):
        contexts = [f"Scene {number}. Somebody" for number in numbers]
        rows = pl.DataFrame({"ctx": contexts, "label": [str(number % 4) for number in numbers]})
        rows.with_columns(activity_label=pl.lit("Acting"), endings=pl.lit(endings)).write_parquet(
            data / f"{split}.parquet"
        )
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet.text, str(snippet), "exec"), {})
    assert pl.read_parquet("hellaswag.parquet").columns[0] == "item_id"


def test_testbed(tmp_path: Path) -> None:
    (items,) = blocks_of("test_testbed")
    with Shell(tmp_path) as shell:
        assert "2,840 claims" in shell.run(items)


def test_web(tmp_path: Path, filled: Path) -> None:
    folder, beside, before = blocks_of("test_web")
    authority = Authority(tmp_path, "ca")
    certificate, key = authority.issue("server")
    tls = {"ISOCOST_SERVER_CERTIFICATE_PATH": str(certificate), "ISOCOST_SERVER_KEY_PATH": str(key)}
    substitutions = {
        "isocost web": "isocost web --port 0",
        "isocost serve budget": "isocost serve budget --port 0",
        "127.0.0.1:7611": f"127.0.0.1:{free_port()}",
    }
    page = r"page is at (https?://\S+)"
    with (
        serve_budget(_put(filled, tmp_path / "elsewhere" / "budget.db"), **tls) as address,
        Shell(tmp_path / "clone", substitutions) as shell,
    ):
        _put(filled, shell.folder / "runs" / "reviews" / "state" / "budget.db")
        pages = [
            shell.serve(folder, listening=page),
            shell.serve(beside, listening=page),
            shell.serve(before, listening=page, ADDRESS=address, CA_FILE=str(authority.path)),
        ]
        for url in pages:
            with urllib.request.urlopen(url, timeout=30) as answer:
                assert "<html" in answer.read().decode()


def test_weak_model(tmp_path: Path) -> None:
    (label,) = blocks_of("test_weak_model")
    with Shell(tmp_path, variables=_IN_PROCESS) as shell:
        assert "2,840 of 2,840 rows" in shell.run(label)
