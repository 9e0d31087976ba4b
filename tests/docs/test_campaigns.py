"""The blocks of pages that train, start vLLM or start a Ray cluster, as written and in order."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from isocost.microworld.claims import pool_frame
from isocost.tasks.model_path import resolve_model
from tests.authority import Authority
from tests.docs.accounts import blocks_of
from tests.docs.page import ROOT
from tests.docs.shell import Shell, free_port
from tests.integration.client.served import serve_budget

#: Two workers on two cores; they label in process.
_RAY = {"ISOCOST_LABELER_ENGINE": "transformers", "RAY_USAGE_STATS_ENABLED": "0"}
#: In place of `vllm`: the CPU build's own command looks for the metadata of a package of another name, and without
#: these flags it takes all memory and compiles for minutes.
_VLLM = """#!/bin/bash
set -eu
test "$1" = serve
export VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 HF_HUB_OFFLINE=1
export VLLM_ENABLE_V1_MULTIPROCESSING=0 TORCHDYNAMO_DISABLE=1 VLLM_CPU_OMP_THREADS_BIND=nobind
exec python -m vllm.entrypoints.openai.api_server --model "${@:2}" --dtype float32 --enforce-eager \\
  --kv-cache-memory-bytes 268435456 --block-size 32
"""


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of the tutorial after its last block, and what each block printed."""
    folder = tmp_path_factory.mktemp("tutorial")
    with Shell(folder) as shell:
        said = [shell.run(block) for block in blocks_of("test_tutorial")]
    return folder / "runs" / "tutorial", said


@pytest.mark.e2e
def test_tutorial(tutorial: tuple[Path, list[str]]) -> None:
    folder, said = tutorial
    everything = "\n".join(said)
    assert "60 human labels are awaited" in everything
    assert "3 stored in this session; 3 of 60 answered" in everything
    assert "isocost line" in everything
    assert "proved  1 campaign" in everything
    result = json.loads((folder / "out" / "result.json").read_text())
    assert result["plans"][-1]["decision"] == "stop"
    assert result["spent"] <= 150
    # The page promises a model that is better than the weak one, which is right on three of four.
    right = float(said[-1].split("%")[0])
    assert right > 80


@pytest.mark.e2e
def test_bulk_predictions(tutorial: tuple[Path, list[str]], tmp_path: Path) -> None:
    (predict,) = blocks_of("test_bulk_predictions")
    with Shell(tmp_path, variables={"ISOCOST_LABELER_ENGINE": "transformers"}) as shell:
        shutil.copytree(tutorial[0] / "out" / "adapter", tmp_path / "runs" / "demo" / "adapter")
        pool_frame(200, 0).drop("label").write_csv(tmp_path / "claims.csv")
        assert "200 of 200 rows" in shell.run(predict)
    assert pl.read_parquet(tmp_path / "predictions.parquet").height == 200


@pytest.mark.ray
def test_bulk_labelling_on_ray(tmp_path: Path) -> None:
    (label,) = blocks_of("test_bulk_labelling_on_ray")
    with Shell(tmp_path, variables=_RAY) as shell:
        pool_frame(200, 0).drop("label").write_csv(tmp_path / "claims.csv")
        task = yaml.safe_load((ROOT / "docs" / "examples" / "facts.yaml").read_text())["task"]
        (tmp_path / "claims.yaml").write_text(yaml.safe_dump(task))
        shell.run(label)
    assert pl.read_parquet(tmp_path / "labels" / "part-*.parquet").height == 200


@pytest.mark.ray
def test_ray(tmp_path: Path) -> None:
    label, trainer = blocks_of("test_ray")
    with Shell(tmp_path, {" --port 7603": " --port 0"}, _RAY) as shell:
        shell.run(label)
        assert pl.read_parquet(tmp_path / "labels" / "part-*.parquet").height == 2_840
        shell.serve(trainer, STATE_DIR=str(tmp_path / "trainer"), RAY_ADDRESS="local", N_WORKERS="1")


@pytest.mark.vllm
def test_remote_vllm(tmp_path: Path) -> None:
    serve, doctor, run, label = blocks_of("test_remote_vllm")
    model, port = str(resolve_model("microworld:weak")), str(free_port())
    variables: dict[str, Any] = {"VLLM_URL": f"http://127.0.0.1:{port}", "MODEL": model}
    with Shell(tmp_path) as shell:
        shell.shim("vllm", _VLLM)
        _write_campaign(tmp_path, model)
        shell.serve(serve, listening="(Application startup complete)", PORT=port, **variables)
        assert "ok       vllm server" in shell.run(doctor, **variables)
        said = shell.run(run, CAMPAIGN="campaign.yaml", **variables)
        assert "on 10 bought evaluation labels" in said
        pool_frame(60, 1).drop("label").write_csv(tmp_path / "rows.csv")
        assert "60 of 60 rows" in shell.run(label, ROWS="rows.csv", TASK="campaign.yaml", **variables)


def _write_campaign(folder: Path, weak_model: str) -> None:
    """A campaign that is done in seconds: its people are played, its runs take a few steps."""
    raw: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "examples" / "facts.yaml").read_text(encoding="utf-8"))
    pool_frame(80, 0).write_csv(folder / "facts.csv")
    weak, human = raw["sources"]
    raw |= {"budget": 25, "evaluation": {"n_labels": 10}, "pilot": {"n_weak": 10, "n_human": 10}, "n_tranches": 1}
    raw["data"]["gold_column"] = "label"
    raw["sources"] = [weak | {"model": weak_model}, human | {"channel": {"kind": "simulated"}}]
    raw["method"] = {stage: {**recipe, "max_examples": 64} for stage, recipe in raw["method"].items()}
    (folder / "campaign.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")


@contextmanager
def _answering(bodies: dict[str, Any]) -> Iterator[str]:
    """A server that has these paths, as a vLLM server has; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(bodies.get(self.path)).encode()
            self.send_response(200 if self.path in bodies else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.e2e
def test_doctor(tmp_path: Path) -> None:
    (doctor,) = blocks_of("test_doctor")
    authority = Authority(tmp_path, "ca")
    certificate, key = authority.issue("server")
    tls = {"ISOCOST_SERVER_CERTIFICATE_PATH": str(certificate), "ISOCOST_SERVER_KEY_PATH": str(key)}
    database = tmp_path / "budget.db"
    with (
        serve_budget(database, **tls) as address,
        _answering({"/health": {}, "/v1/models": {"data": [{"id": "small"}]}}) as vllm_url,
        Shell(tmp_path / "clone") as shell,
    ):
        said = shell.run(
            doctor,
            DATABASE_URL=f"sqlite:///{database}",
            ADDRESS=address,
            CA_FILE=str(authority.path),
            VLLM_URL=vllm_url,
        )
    checks = {check["check"]: check["state"] for check in json.loads(said)["checks"]}
    assert {checks[name] for name in ("database", "budget service", "vllm server")} == {"ok"}
