"""A whole campaign whose strong model is only sold: trained and asked through the fine-tuning API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.campaigns import isocost, read_result, small_campaign, write_campaign
from tests.integration.trainer.fine_tuning.fake_api import BASE_MODEL, KEY, FakeApi

pytestmark = pytest.mark.e2e


def test_a_campaign_with_a_closed_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = small_campaign()
    raw |= {"strong_model": f"openai:{BASE_MODEL}", "budget": 40, "n_seeds": 1, "n_tranches": 1}
    raw["evaluation"] = {"n_labels": 12, "n_unlabelled": 10}
    raw["pilot"] = {"n_weak": 16, "n_human": 8}
    raw["test"]["n_items_max"] = 20
    path, out = write_campaign(tmp_path, raw), tmp_path / "out"
    with FakeApi() as api:
        monkeypatch.setenv("ISOCOST_FINE_TUNING_BASE_URL", api.url)
        monkeypatch.setenv("ISOCOST_FINE_TUNING_API_KEY", KEY)
        monkeypatch.setenv("ISOCOST_FINE_TUNING_POLL_INTERVAL_SECONDS", "0.01")
        done = isocost("run", path, "--out", out, "--engine", "transformers")
        assert done.returncode == 0, done.stdout + done.stderr
        result = read_result(out)
        assert result["spent"] <= 40
        assert result["n_eval"] == 12
        card = json.loads((out / "adapter" / "isocost.json").read_text())
        jobs = dict(api.jobs)
        assert card["fine_tuned_model"] in {job["fine_tuned_model"] for job in jobs.values()}
        again = isocost("run", path, "--out", out, "--engine", "transformers")
        assert again.returncode == 0, again.stdout + again.stderr
        assert dict(api.jobs) == jobs
    content = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert KEY.encode() not in content
