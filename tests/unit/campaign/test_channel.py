from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from isocost.campaign.channel import HumanChannel, open_channel
from isocost.campaign.config import CampaignConfig
from isocost.core.errors import InvalidArgumentError
from isocost.resources.task import Item

ITEMS = [Item(f"i{n}", {"text": f"text {n}"}) for n in range(400)]
GOLD = {item.item_id: index % 3 for index, item in enumerate(ITEMS)}


def _config(channel: dict[str, object], seed: int = 0, second: dict[str, object] | None = None) -> CampaignConfig:
    return CampaignConfig.model_validate(
        {
            "campaign": "c",
            "budget": 100,
            "seed": seed,
            "task": {"name": "t", "template": "{text}", "choices": ["a", "b", "c"]},
            "data": {"path": "x.csv", "gold_column": "g"},
            "sources": [
                {"kind": "model", "unit_price": 0.1, "model": "m"},
                {"kind": "human", "unit_price": 1, "channel": channel},
                *([{"kind": "human", "name": "crowd", "unit_price": 0.3, "channel": second}] if second else []),
            ],
            "strong_model": "m",
            "evaluation": {"n_labels": 10},
            "pilot": {"n_weak": 10, "n_human": 10},
        }
    )


def _open(config: CampaignConfig, gold: dict[str, int], out: Path) -> HumanChannel:
    return open_channel(config, config.human, gold, out)


def test_a_simulated_annotator_reads_the_gold_column(tmp_path: Path) -> None:
    labels = _open(_config({"kind": "simulated"}), GOLD, tmp_path).answers(ITEMS)
    assert [label.choice for label in labels] == [GOLD[item.item_id] for item in ITEMS]


def test_noise_is_of_the_asked_size_and_the_same_for_an_item_whenever_it_is_asked(tmp_path: Path) -> None:
    config = _config({"kind": "simulated", "noise": 0.3})
    labels = _open(config, GOLD, tmp_path).answers(ITEMS)
    wrong = sum(label.choice != GOLD[label.item_id] for label in labels)
    # Five standard errors around 0.3 of 400.
    assert 74 <= wrong <= 166
    again = _open(config, GOLD, tmp_path).answers(ITEMS[200:])
    assert again == labels[200:]
    other_seed = _open(_config({"kind": "simulated", "noise": 0.3}, seed=1), GOLD, tmp_path).answers(ITEMS)
    assert other_seed != labels


def test_a_file_answers_what_it_holds_and_asks_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    pl.DataFrame({"item_id": ["i1", "i0", "elsewhere", "i3"], "label": ["b", "c", "a", None]}).write_ndjson(path)
    channel = _open(_config({"kind": "file", "path": str(path)}), {}, tmp_path)
    labels = channel.answers(ITEMS[:4])
    assert [(label.item_id, label.choice) for label in labels] == [("i0", 2), ("i1", 1)]
    said = channel.ask(ITEMS[2:4])
    assert "2 human labels are awaited" in said
    asked = pl.read_csv(tmp_path / "items_to_label.csv")
    assert asked.columns == ["item_id", "lease_id", "annotator", "label", "choices", "fields.text"]
    assert asked["item_id"].to_list() == ["i2", "i3"]
    assert asked["fields.text"].to_list() == ["text 2", "text 3"]


def test_the_file_that_asks_is_the_file_that_answers(tmp_path: Path) -> None:
    """Filled in as it is, under its own name or appended to: the columns are the same."""
    path = tmp_path / "items_to_label.csv"
    channel = _open(_config({"kind": "file", "path": str(path)}), {}, tmp_path)
    channel.ask(ITEMS[:3])
    assert channel.answers(ITEMS) == []
    filled = pl.read_csv(path, infer_schema=False).with_columns(
        label=pl.Series(["b", None, "C"]), annotator=pl.Series(["ann", None, "bob"])
    )
    filled.write_csv(path)
    labels = channel.answers(ITEMS)
    assert [(label.item_id, label.choice, label.annotator) for label in labels] == [("i0", 1, "ann"), ("i2", 2, "bob")]


def test_a_file_that_is_not_there_yet_answers_nothing(tmp_path: Path) -> None:
    channel = _open(_config({"kind": "file", "path": str(tmp_path / "gone.csv")}), {}, tmp_path)
    assert channel.answers(ITEMS) == []


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pl.DataFrame({"item_id": ["i0"], "label": ["d"]}), "'d' for item i0 is none of the choices"),
        (pl.DataFrame({"item_id": ["i0"], "answer": ["a"]}), "no column 'label'"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, frame: pl.DataFrame, words: str) -> None:
    path = tmp_path / "answers.csv"
    frame.write_csv(path)
    channel = _open(_config({"kind": "file", "path": str(path)}), {}, tmp_path)
    with pytest.raises(InvalidArgumentError, match=words):
        channel.answers(ITEMS)


def test_people_of_different_grades_err_on_different_items(tmp_path: Path) -> None:
    noisy: dict[str, object] = {"kind": "simulated", "noise": 0.3}
    config = _config(noisy, second=noisy)
    experts, crowd = [open_channel(config, human, GOLD, tmp_path).answers(ITEMS) for human in config.humans]
    both = sum(a.choice != GOLD[a.item_id] != b.choice for a, b in zip(experts, crowd, strict=True))
    # Independent errors of 0.3: 36 of 400 on average, where the same errors would be 120.
    assert 10 <= both <= 70
    # A second grade changes nothing of what the first one answers.
    assert open_channel(_config(noisy), config.human, GOLD, tmp_path).answers(ITEMS) == experts


def test_each_grade_is_asked_in_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "crowd.csv"
    pl.DataFrame({"item_id": ["i0"], "label": ["d"]}).write_csv(path)
    config = _config({"kind": "file", "path": "experts.csv"}, second={"kind": "file", "path": str(path)})
    experts, crowd = [open_channel(config, human, {}, tmp_path) for human in config.humans]
    experts.ask(ITEMS[:2])
    assert "items_to_label_crowd.csv" in crowd.ask(ITEMS[2:3])
    assert pl.read_csv(tmp_path / "items_to_label.csv")["item_id"].to_list() == ["i0", "i1"]
    assert pl.read_csv(tmp_path / "items_to_label_crowd.csv")["item_id"].to_list() == ["i2"]
    with pytest.raises(InvalidArgumentError) as caught:
        crowd.answers(ITEMS)
    assert caught.value.field == "sources.crowd.channel.path"


def test_the_queue_hands_nothing_over_and_names_the_command_that_answers(tmp_path: Path) -> None:
    config = _config({"kind": "queue"}, second={"kind": "queue"})
    out = tmp_path / "a folder"
    experts, crowd = [open_channel(config, human, {}, out) for human in config.humans]
    assert experts.answers(ITEMS) == []
    asked = experts.ask(ITEMS[:2])
    assert "2 human labels are awaited" in asked
    assert f"`isocost annotate --out '{out}' c --source human`" in asked
    assert f"`isocost web --out '{out}'`" in asked
    assert "c --source crowd`" in crowd.ask(ITEMS)
    # Nothing is written that people would fill in.
    assert not out.exists()


def test_the_queue_has_no_settings() -> None:
    with pytest.raises(ValueError, match="path"):
        _config({"kind": "queue", "path": "answers.csv"})
