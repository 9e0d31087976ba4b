"""Runs on a closed model, against a real server on loopback."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest

from isocost.core.errors import FailedPreconditionError, InvalidArgumentError, UnauthenticatedError, UnavailableError
from isocost.resources.method import Method, Recipe, Stage
from isocost.resources.run import Example
from isocost.resources.task import LabelKind, Task
from isocost.trainer.fine_tuning.http import RefusedError
from isocost.trainer.models.prediction import Cancelled
from tests.integration.trainer.fine_tuning.fake_api import BASE_MODEL, KEY, FakeApi, Fault
from tests.integration.trainer.fine_tuning.scene import HUMAN, SEQUENTIAL, TASK, TEST, WEAK, Scene, make_examples

JOBS = "/fine_tuning/jobs"
CHAT = "/chat/completions"
PROMPTING = Method("prompting", (), few_shot_count=2, few_shot_kind=LabelKind.HUMAN)
HUMAN_SFT = Method("human_sft", (Stage(LabelKind.HUMAN),))


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as opened:
        yield opened


@pytest.fixture
def scene(tmp_path: Path, api: FakeApi) -> Scene:
    return Scene(tmp_path / "state", api.url)


def _predictions(scene: Scene, run_id: str) -> pl.DataFrame:
    return pl.read_parquet(scene.folder / "runs" / run_id / "predictions" / "test.parquet")


def _conversations(content: bytes) -> list[tuple[str, str]]:
    records = [json.loads(line)["messages"] for line in content.decode().splitlines()]
    return [(question["content"], answer["content"]) for question, answer in records]


def test_a_sequential_run_trains_the_second_stage_on_the_first_ones_model(scene: Scene, api: FakeApi) -> None:
    run = scene.resolve()
    result = scene.execute(run)

    first, second = api.jobs.values()
    assert first["model"] == BASE_MODEL
    assert second["model"] == first["fine_tuned_model"]
    # A fifth is held out; no item is in both files, which the server checks as well.
    assert [(stage.n_labels, stage.n_holdout) for stage in result.stages] == [(30, 6), (20, 4)]
    for job, examples, n_train in ((first, WEAK, 24), (second, HUMAN, 16)):
        pairs = [_conversations(api.files[job[name]]) for name in ("training_file", "validation_file")]
        assert [len(part) for part in pairs] == [n_train, len(examples) - n_train]
        # Soft labels have become their most probable choice.
        expected = {(TASK.render(part.fields), TASK.choices[part.choice]) for part in examples}
        assert set(pairs[0]) | set(pairs[1]) == expected
    assert [stage.n_examples for stage in result.stages] == [24 * 3, 16 * 3]
    assert [stage.n_tokens for stage in result.stages] == [job["trained_tokens"] for job in (first, second)]
    assert [(stage.n_steps, stage.seconds, stage.reused) for stage in result.stages] == [(3, 600.0, False)] * 2
    assert [stage.stage_id for stage in result.stages] == [planned.stage_id for planned in run.stages]

    (evaluation,) = result.evaluations
    assert evaluation.accuracy == 1.0
    assert evaluation.n_eval == len(TEST)
    assert set(api.completions) == {(second["fine_tuned_model"], TASK.render(part.fields)) for part in TEST}
    card = json.loads(Path(result.output_path, "isocost.json").read_text())
    assert card["fine_tuned_model"] == second["fine_tuned_model"]
    assert (0, 2, 3, 0.5) in {(one.stage_index, one.step, one.max_steps, one.loss) for one, _ in scene.reports}


def test_predictions_are_what_the_server_believes(scene: Scene, api: FakeApi) -> None:
    run = scene.resolve()
    scene.execute(run)
    frame = _predictions(scene, run.run_id)
    believed = [api.believed[api_key] for api_key in _asked(api)]
    expected = np.array([[part["yes"], part["no"]] for part in believed])
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.array(frame["probabilities"].to_list()), expected, rtol=1e-9)
    assert frame["item_id"].to_list() == [example.item_id for example in TEST]
    assert 0.5 < expected.max() < 1.0


def _asked(api: FakeApi) -> list[tuple[str, str]]:
    last = list(api.jobs.values())[-1]["fine_tuned_model"] if api.jobs else BASE_MODEL
    return [(last, TASK.render(example.fields)) for example in TEST]


def test_the_same_run_again_asks_for_nothing(scene: Scene, api: FakeApi) -> None:
    run = scene.resolve()
    first = scene.execute(run)
    api.requests.clear()
    again = scene.execute(run)
    assert not api.requests
    assert again.evaluations == first.evaluations
    assert [(stage.reused, stage.seconds) for stage in again.stages] == [(True, 0.0)] * 2


def test_another_state_folder_finds_the_jobs_that_were_paid_for(scene: Scene, api: FakeApi, tmp_path: Path) -> None:
    scene.execute(scene.resolve())
    for number in range(3):
        scene.execute(scene.resolve(HUMAN_SFT, seed=number + 1))
    n_jobs = len(api.jobs)
    assert n_jobs == 5
    other = Scene(tmp_path / "other", api.url)
    result = other.execute(other.resolve())
    # They are on the list's last page.
    assert len(api.jobs) == n_jobs
    assert result.evaluations[0].accuracy == 1.0


def test_a_recipe_that_the_server_does_not_read_pays_for_no_other_job(scene: Scene, api: FakeApi) -> None:
    scene.execute(scene.resolve(HUMAN_SFT))
    other = Method("human_sft", (Stage(LabelKind.HUMAN, Recipe(learning_rate=1e-5)),), lora_rank=64)
    run = scene.resolve(other)
    scene.execute(run)
    assert len(api.jobs) == 1
    assert (scene.folder / "stages" / run.stages[0].stage_id / "fine_tuned_model.json").is_file()


@pytest.mark.parametrize(
    ("changes", "sent"),
    [
        ({"n_epochs": 2}, {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": "auto"}),
        ({"batch_size": "recipe"}, {"n_epochs": "auto", "batch_size": 32, "learning_rate_multiplier": "auto"}),
        (
            {"learning_rate_multiplier": 0.5},
            {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": 0.5},
        ),
    ],
)
def test_settings_that_decide_the_result_make_another_stage(
    scene: Scene, api: FakeApi, changes: dict[str, Any], sent: dict[str, Any]
) -> None:
    plain = scene.resolve(HUMAN_SFT)
    scene.execute(plain)
    scene.changes = changes
    run = scene.resolve(HUMAN_SFT)
    assert run.run_id != plain.run_id
    scene.execute(run)
    assert len(api.jobs) == 2
    assert api.jobs["ftjob-1"]["method"]["supervised"]["hyperparameters"] == sent


def test_holding_nothing_out_trains_on_all(scene: Scene, api: FakeApi) -> None:
    scene.changes = {"holds_out": False}
    result = scene.execute(scene.resolve(HUMAN_SFT))
    assert api.jobs["ftjob-0"]["validation_file"] is None
    assert len(_conversations(api.files[api.jobs["ftjob-0"]["training_file"]])) == len(HUMAN)
    assert result.stages[0].n_holdout == 0


def test_fewer_labels_than_the_server_takes_are_repeated(scene: Scene, api: FakeApi) -> None:
    result = scene.execute(scene.resolve(HUMAN_SFT, human=HUMAN[:6]))
    pairs = _conversations(api.files[api.jobs["ftjob-0"]["training_file"]])
    # Two are held out.
    assert len(pairs) == 12
    assert {pairs.count(pair) for pair in pairs} == {3}
    assert result.stages[0].n_holdout == 2


def test_prompting_asks_the_base_model_with_the_block_and_trains_nothing(scene: Scene, api: FakeApi) -> None:
    shown = HUMAN[:2]
    result = scene.execute(scene.resolve(PROMPTING, test=[*TEST, shown[0]]))
    assert not api.jobs
    assert not api.files
    assert result.stages == ()
    assert result.output_path == ""
    lines = [f"{TASK.render(part.fields)} {TASK.choices[part.choice]}\n" for part in shown]
    expected = {(BASE_MODEL, f"{lines[0]}{lines[1]}{TASK.render(part.fields)}") for part in TEST}
    # An item of the block is asked without its own answer in view.
    expected.add((BASE_MODEL, f"{lines[1]}{TASK.render(shown[0].fields)}"))
    assert set(api.completions) == expected


def test_training_prompts_have_the_block_too(scene: Scene, api: FakeApi) -> None:
    scene.execute(scene.resolve(replace(HUMAN_SFT, few_shot_count=2, few_shot_kind=LabelKind.HUMAN)))
    pairs = dict(_conversations(b"".join(api.files.values())))
    lines = [f"{TASK.render(part.fields)} {TASK.choices[part.choice]}\n" for part in HUMAN[:2]]
    assert pairs[f"{lines[0]}{lines[1]}{TASK.render(HUMAN[5].fields)}"] == TASK.choices[HUMAN[5].choice]
    assert pairs[f"{lines[0]}{TASK.render(HUMAN[1].fields)}"] == TASK.choices[HUMAN[1].choice]


@pytest.mark.parametrize("tells_bytes", [True, False])
def test_choices_that_share_their_first_token_are_told_apart_along_the_answer(
    tmp_path: Path, tells_bytes: bool
) -> None:
    task = Task("weather", "Diary: {text}\nThe weather is:", ("very good", "very bad", "so so"))
    markers = ("sunny", "rainy", "cloudy")
    with FakeApi(task.choices) as api:
        api.tells_bytes = tells_bytes
        scene = Scene(tmp_path / "state", api.url)
        test = make_examples(30, "test", markers=markers)
        run = scene.resolve(
            HUMAN_SFT, task=task, human=make_examples(60, "human", markers=markers), weak=test, test=test
        )
        result = scene.execute(run)
    assert result.evaluations[0].accuracy > 0.9
    frame = _predictions(scene, run.run_id)
    name = api.jobs["ftjob-0"]["fine_tuned_model"]
    seen = set()
    for example, probabilities in zip(test, frame["probabilities"], strict=True):
        believed = api.believed[name, task.render(example.fields)]
        expected = [believed[choice] / sum(believed.values()) for choice in task.choices]
        if expected[2] > expected[0] + expected[1]:
            # The model did not go on from "very": what it holds of it is shared.
            expected[0] = expected[1] = (expected[0] + expected[1]) / 2
        seen.add(int(np.argmax(expected)))
        np.testing.assert_allclose(list(probabilities), expected, rtol=1e-9)
    assert seen == {0, 1, 2}


def test_an_interrupted_upload_and_an_overloaded_server_cost_no_second_job(scene: Scene, api: FakeApi) -> None:
    api.faults = [
        Fault("POST", "/files", "drop"),
        Fault("POST", "/files", "drop_after"),
        Fault("POST", JOBS, status=500),
        Fault("GET", JOBS, status=503, times=2),
        Fault("GET", f"{JOBS}/ftjob-0", "drop"),
        Fault("GET", f"{JOBS}/ftjob-0/events", status=500, times=100),
        Fault("POST", CHAT, "drop", after=3),
        Fault("POST", CHAT, status=429, headers={"Retry-After": "2"}, after=5, times=2),
    ]
    result = scene.execute(scene.resolve())
    assert len(api.jobs) == 2
    assert result.evaluations[0].accuracy == 1.0
    assert all(not fault.times for fault in api.faults if not fault.path.endswith("events"))
    assert set(api.completions.values()) == {1}


@pytest.mark.parametrize("keeps", ["metadata", "suffix", "neither"])
@pytest.mark.parametrize("action", ["drop_after", "drop"])
def test_a_job_whose_creation_was_not_answered_is_looked_for_before_it_is_asked_for_again(
    scene: Scene, api: FakeApi, keeps: Literal["metadata", "suffix", "neither"], action: str
) -> None:
    api.keeps_metadata, api.keeps_suffix = keeps == "metadata", keeps == "suffix"
    api.faults = [Fault("POST", JOBS, action)]
    scene.execute(scene.resolve(HUMAN_SFT))
    assert len(api.jobs) == 1
    assert api.requests[f"POST {JOBS}"] == (1 if action == "drop_after" else 2)


def _kill_when_held(scene: Scene, api: FakeApi) -> None:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("child.py")), str(scene.folder), scene.url]
    )
    try:
        assert api.held.wait(120)
    finally:
        process.kill()
        process.wait()
    api.held.clear()


@pytest.mark.parametrize("stage", [0, 1])
def test_sigkill_before_the_answer_about_a_new_job_is_stored(scene: Scene, api: FakeApi, stage: int) -> None:
    api.faults = [Fault("POST", JOBS, "hold", after=stage)]
    _kill_when_held(scene, api)
    assert len(api.jobs) == stage + 1
    result = scene.execute(scene.resolve())
    assert len(api.jobs) == 2
    assert api.requests[f"POST {JOBS}"] == 2
    assert [part.reused for part in result.stages] == [True] * stage + [False] * (2 - stage)
    assert api.jobs["ftjob-1"]["model"] == api.jobs["ftjob-0"]["fine_tuned_model"]


def test_sigkill_among_predictions_repeats_none_that_was_answered(scene: Scene, api: FakeApi) -> None:
    api.faults = [Fault("POST", CHAT, "hold", after=7)]
    _kill_when_held(scene, api)
    run = scene.resolve()
    log = scene.folder / "runs" / run.run_id / "answers.jsonl"
    assert len(log.read_bytes().splitlines()) == 7
    # As a kill in the middle of a write leaves it.
    with log.open("ab") as file:
        file.write(b'{"key":"half')
    scene.execute(run)
    assert sorted(api.completions.values()) == [1] * (len(TEST) - 1) + [2]
    assert len(api.completions) == len(TEST)
    assert len(api.jobs) == 2
    api.requests.clear()
    scene.execute(run)
    assert not api.requests


def test_a_failed_job_says_why_and_the_next_try_begins_another(scene: Scene, api: FakeApi) -> None:
    api.fail_jobs_with = "The job failed due to an unsafe training file"
    with pytest.raises(FailedPreconditionError, match=r"ftjob-0 failed: The job failed due to an unsafe"):
        scene.execute(scene.resolve())
    api.fail_jobs_with = ""
    scene.execute(scene.resolve())
    assert [job["status"] for job in api.jobs.values()] == ["failed", "succeeded", "succeeded"]


def test_a_job_cancelled_at_the_server_fails_the_run(scene: Scene, api: FakeApi) -> None:
    def cancel_there() -> bool:
        for job in api.jobs.values():
            job["status"] = "cancelled"
        return False

    with pytest.raises(FailedPreconditionError, match="ftjob-0 was cancelled at the server"):
        scene.execute(scene.resolve(), cancel_there)


def _is_running(scene: Scene) -> bool:
    return any(progress.step for progress, _ in scene.reports)


def test_cancelling_the_run_cancels_the_job(scene: Scene, api: FakeApi) -> None:
    with pytest.raises(Cancelled):
        scene.execute(scene.resolve(), lambda: _is_running(scene))
    assert [job["status"] for job in api.jobs.values()] == ["cancelled"]
    scene.execute(scene.resolve())
    assert [job["status"] for job in api.jobs.values()] == ["cancelled", "succeeded", "succeeded"]


def test_cancelling_while_the_creation_is_not_answered_cancels_the_job(scene: Scene, api: FakeApi) -> None:
    api.faults = [Fault("POST", JOBS, "drop_after")]
    with pytest.raises(Cancelled):
        scene.execute(scene.resolve(), lambda: bool(api.jobs))
    assert [job["status"] for job in api.jobs.values()] == ["cancelled"]


def test_a_process_that_stops_leaves_the_job_and_takes_it_up_again(scene: Scene, api: FakeApi) -> None:
    scene.is_stopping = True
    with pytest.raises(Cancelled):
        scene.execute(scene.resolve(), lambda: _is_running(scene))
    assert [job["status"] for job in api.jobs.values()] == ["running"]
    scene.execute(scene.resolve())
    assert [job["status"] for job in api.jobs.values()] == ["succeeded", "succeeded"]


def test_cancelling_among_predictions_keeps_what_was_answered(scene: Scene, api: FakeApi) -> None:
    with pytest.raises(Cancelled):
        scene.execute(scene.resolve(), lambda: len(api.completions) >= 5)
    assert 5 <= len(api.completions) < len(TEST)
    scene.execute(scene.resolve())
    assert set(api.completions.values()) == {1}
    assert len(api.completions) == len(TEST)


def test_a_run_that_shares_a_stage_waits_for_the_one_that_trains_it(scene: Scene, api: FakeApi) -> None:
    other = Scene(scene.folder, scene.url)
    waits: list[float] = []

    async def noted(seconds: float) -> None:
        waits.append(seconds)

    other.sleep = noted
    ended = threading.Event()

    def execute_the_other() -> None:
        other.execute(other.resolve(HUMAN_SFT))
        ended.set()

    second = threading.Thread(target=execute_the_other)

    def begin_the_other() -> bool:
        # The first one has looked for a job, found none, and is about to create it.
        if api.files and not api.jobs and not second.ident:
            second.start()
        # Until it has come to the lock, and found it held.
        while second.ident and len(waits) < 3 and not ended.is_set():
            time.sleep(0.001)
        return False

    scene.execute(scene.resolve(HUMAN_SFT), begin_the_other)
    second.join(60)
    assert ended.is_set()
    assert len(api.jobs) == 1


@pytest.mark.parametrize("key", ["sk-wrong-key-98765", ""])
def test_a_wrong_key_is_final_and_said_nowhere(
    scene: Scene, api: FakeApi, key: str, capfd: pytest.CaptureFixture[str]
) -> None:
    scene.changes = {"api_key": key}
    with pytest.raises(UnauthenticatedError, match="ISOCOST_FINE_TUNING_API_KEY") as caught:
        scene.execute(scene.resolve())
    assert sum(api.requests.values()) == 1
    if key:
        assert key not in str(caught.value)
        _assert_nowhere(key, scene.folder, capfd)


def test_the_key_is_in_no_file_log_or_error(scene: Scene, api: FakeApi, capfd: pytest.CaptureFixture[str]) -> None:
    api.faults = [Fault("GET", JOBS, status=500), Fault("POST", CHAT, status=400, after=3)]
    with pytest.raises(InvalidArgumentError, match=r"item 'test-\d+': .* you sent Bearer \*\*\*") as caught:
        scene.execute(scene.resolve())
    assert KEY not in str(caught.value)
    scene.execute(scene.resolve())
    _assert_nowhere(KEY, scene.folder, capfd)


def _assert_nowhere(key: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if key.encode() in path.read_bytes()]
    captured = capfd.readouterr()
    assert key not in captured.out + captured.err


@pytest.mark.parametrize("header", ["7.5", "date"])
def test_retry_after_is_obeyed(scene: Scene, api: FakeApi, header: str) -> None:
    slept: list[float] = []

    async def note(seconds: float) -> None:
        slept.append(seconds)

    scene.sleep = note
    scene.changes = {"poll_interval_seconds": 0.001, "predictions_in_flight": 1}
    value = formatdate(time.time() + 500, usegmt=True) if header == "date" else header
    api.faults = [Fault("POST", CHAT, status=429, headers={"Retry-After": value}, after=2)]
    scene.execute(scene.resolve(PROMPTING))
    # In slices, so that a cancellation is noticed.
    assert max(slept) <= 1.0
    if header == "date":
        assert 400 < sum(slept) <= 501
    else:
        assert sum(slept) == pytest.approx(7.5)
    assert sum(api.completions.values()) == len(TEST)


def test_without_retry_after_waits_grow(scene: Scene, api: FakeApi) -> None:
    slept: list[float] = []

    async def note(seconds: float) -> None:
        slept.append(seconds)

    scene.sleep = note
    scene.changes = {"predictions_in_flight": 1}
    api.faults = [Fault("POST", CHAT, status=500, times=3)]
    scene.execute(scene.resolve(PROMPTING))
    # Half of it at least, all of it at most: 1 + 2 + 4 seconds.
    assert 3.5 <= sum(slept) <= 7.0


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", CHAT, status=503, times=100),
        Fault("POST", CHAT, status=429, headers={"Retry-After": "5000"}),
        Fault("POST", CHAT, "drop", times=100),
        Fault("GET", JOBS, status=500, times=100),
        Fault("POST", JOBS, status=500, times=100),
    ],
)
def test_a_server_that_stays_away_ends_the_run_with_what_to_do(scene: Scene, api: FakeApi, fault: Fault) -> None:
    fault = replace(fault)
    api.faults = [fault]
    with pytest.raises(UnavailableError, match="create the run again later"):
        scene.execute(scene.resolve(HUMAN_SFT))
    fault.times = 0
    assert scene.execute(scene.resolve(HUMAN_SFT)).evaluations[0].accuracy == 1.0
    assert len(api.jobs) == 1


def test_an_account_without_money_is_not_asked_again(scene: Scene, api: FakeApi) -> None:
    api.faults = [Fault("POST", JOBS, status=429, code="insufficient_quota", times=100)]
    with pytest.raises(RefusedError, match="status 429"):
        scene.execute(scene.resolve())
    assert api.requests[f"POST {JOBS}"] == 1


def test_as_many_predictions_at_a_time_as_allowed(scene: Scene, api: FakeApi) -> None:
    scene.changes = {"predictions_in_flight": 3}
    scene.execute(scene.resolve(PROMPTING))
    assert api.in_flight_max <= 3


def test_equal_prompts_are_asked_once(scene: Scene, api: FakeApi) -> None:
    twins = [Example(f"twin-{index}", TEST[0].fields, TEST[0].probabilities) for index in range(5)]
    result = scene.execute(scene.resolve(PROMPTING, test=twins))
    assert sum(api.completions.values()) == 1
    assert result.evaluations[0].n_eval == 5


def test_choices_that_are_not_shown_are_equal(tmp_path: Path) -> None:
    # Twenty fillers push the answers out of what is told.
    with FakeApi(fillers=20, filler_mass=0.999) as api:
        scene = Scene(tmp_path / "state", api.url)
        run = scene.resolve(PROMPTING)
        scene.execute(run)
    rows = np.array(_predictions(scene, run.run_id)["probabilities"].to_list())
    assert math.isclose(rows.min(), 0.5)
    assert math.isclose(rows.max(), 0.5)


def test_sequential_beats_its_first_stage_alone_where_the_weak_labels_mislead(scene: Scene, api: FakeApi) -> None:
    flipped = [replace(example, probabilities=example.probabilities[::-1]) for example in WEAK[:12]]
    weak_only = replace(SEQUENTIAL, name="weak_sft", stages=SEQUENTIAL.stages[:1])
    misled = scene.execute(scene.resolve(weak_only, weak=flipped))
    both = scene.execute(scene.resolve(weak=flipped, human=make_examples(90, "many")))
    assert misled.evaluations[0].accuracy < 0.2
    assert both.evaluations[0].accuracy > 0.8
    # The first stage was there already.
    assert both.stages[0].reused
    assert len(api.jobs) == 2
