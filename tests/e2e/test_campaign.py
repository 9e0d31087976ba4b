"""One whole campaign through real vLLM, and what it leaves behind."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import psutil
import pytest

from tests.e2e.campaigns import isocost, read_result, small_campaign, write_campaign

pytestmark = pytest.mark.e2e


def _vllm_processes() -> set[int]:
    names = ("vllm.entrypoints", "VLLM::", "vllm_guard")
    return {
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(name in " ".join(process.info["cmdline"] or ()) for name in names)
    }


def _check_outputs(out: Path) -> None:
    result = read_result(out)
    assert result["budget"] == 70
    assert result["spent"] <= result["budget"]
    assert result["reserved"] == 0
    assert set(result["labels_bought"]) == {"weak", "human"}
    assert result["labels_bought"]["human"] >= 42
    assert result["labels_bought"]["weak"] >= 60
    assert result["n_eval"] == 30
    low, high = result["accuracy_interval"]
    assert 0 <= low <= result["accuracy"] <= high <= 1
    assert result["test"]["n_eval"] == 100
    assert result["plans"]
    assert result["plans"][-1]["decision"] == "stop"
    costs = [point["cost"] for point in result["frontier"]]
    accuracies = [point["accuracy"] for point in result["frontier"]]
    assert costs == sorted(costs)
    assert accuracies == sorted(accuracies)

    ledger = pl.read_parquet(out / "ledger.parquet")
    settled = ledger.filter(kind="settle")
    assert settled["amount_micros"].sum() == round(result["spent"] * 1e6)
    assert settled["label_id"].n_unique() == settled.height == sum(result["labels_bought"].values())
    observations = pl.read_parquet(out / "observations.parquet")
    assert observations.height == result["n_runs"]
    assert observations.select("method", "n_weak", "n_human", "seed").is_unique().all()
    best = observations.filter(run_id=result["run_id"])
    assert best["accuracy"].item() == result["accuracy"]

    html = (out / "report.html").read_text()
    # Mixes, frontier, spending, and the isocost line of the last plan.
    assert html.count("<svg") == 4
    assert not re.search(r"""(src|href)=["']https?:""", html)
    for plan in result["plans"]:
        assert plan["reason"].split("(")[0].strip()[:40] in html


def test_a_campaign_in_process(undisturbed: Path) -> None:
    _check_outputs(undisturbed)


def test_the_adapter_is_the_shipped_model(undisturbed: Path) -> None:
    """Loaded with plain transformers and peft it has the accuracy that the report states, to the label."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from isocost.microworld.carried import model_dir
    from isocost.microworld.claims import TASK_CHOICES, task_prompt, test_frame

    base = str(model_dir("strong"))
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(undisturbed / "adapter"))
    choice_ids = [tokenizer.encode(choice, add_special_tokens=False)[0] for choice in TASK_CHOICES]
    right = 0
    frame = test_frame(100, 0)
    for row in frame.iter_rows(named=True):
        prompt = tokenizer(task_prompt(row["entity"], row["relation"], row["value"]), return_tensors="pt")
        with torch.no_grad():
            logits = model(input_ids=prompt["input_ids"]).logits[0, -1, choice_ids]
        right += TASK_CHOICES[int(logits.argmax())] == row["label"]
    assert right / frame.height == pytest.approx(read_result(undisturbed)["test"]["accuracy"])


@pytest.mark.vllm
@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_the_shipped_model_is_a_source_like_any_other(undisturbed: Path, tmp_path: Path, engine: str) -> None:
    """`isocost predict` with the run's folder, hot-loaded onto its base, has the accuracy that the report states."""
    from isocost.microworld.claims import test_frame

    frame = test_frame(100, 0)
    frame.write_parquet(tmp_path / "claims.parquet")
    done = isocost(
        *("predict", "--input", tmp_path / "claims.parquet", "--output", tmp_path / "predictions.parquet"),
        *("--model", undisturbed / "adapter", "--state", tmp_path / "state", "--id-column", "id"),
        engine=engine,
    )
    assert done.returncode == 0, done.stderr
    predictions = pl.read_parquet(tmp_path / "predictions.parquet")
    assert predictions["id"].to_list() == frame["id"].to_list()
    assert all("+lora@" in text and engine in text for text in predictions["engine_fingerprint"])
    n_right = (predictions["choice"] == frame["label"]).sum()
    assert n_right / frame.height == pytest.approx(read_result(undisturbed)["test"]["accuracy"])


@pytest.mark.vllm
def test_a_campaign_through_vllm_equals_the_one_in_process(tmp_path: Path, undisturbed: Path) -> None:
    before = _vllm_processes()
    path = write_campaign(tmp_path, small_campaign())
    done = isocost("run", path, "--out", tmp_path / "out", "--engine", "vllm")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accuracy" in done.stdout
    assert "report.html" in done.stdout
    _check_outputs(tmp_path / "out")
    # Both engines give the same probabilities, so everything bought and decided is the same.
    ours, theirs = read_result(tmp_path / "out"), read_result(undisturbed)
    assert ours["labels_bought"] == theirs["labels_bought"]
    assert [plan["decision"] for plan in ours["plans"]] == [plan["decision"] for plan in theirs["plans"]]
    assert not _vllm_processes() - before


def test_the_same_command_again_does_nothing_new(undisturbed: Path) -> None:
    ledger = (undisturbed / "ledger.parquet").read_bytes()
    observations = pl.read_parquet(undisturbed / "observations.parquet")
    done = isocost("run", undisturbed.parent / "campaign.yaml", "--out", undisturbed, "--engine", "transformers")
    assert done.returncode == 0, done.stderr
    assert "training runs" not in done.stdout
    assert (undisturbed / "ledger.parquet").read_bytes() == ledger
    assert pl.read_parquet(undisturbed / "observations.parquet").equals(observations)


def test_status_and_report_read_the_finished_campaign(undisturbed: Path, tmp_path: Path) -> None:
    status = isocost("status", "--out", undisturbed)
    assert status.returncode == 0
    assert re.search(r"microworld\s+finished", status.stdout)
    before = read_result(undisturbed)
    (undisturbed / "report.html").unlink()
    report = isocost("report", "--out", undisturbed)
    assert report.returncode == 0, report.stderr
    assert read_result(undisturbed) == before
    assert (undisturbed / "report.html").is_file()
    nothing = isocost("status", "--out", tmp_path)
    assert nothing.returncode == 2
    assert "holds no campaign" in nothing.stderr
