import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from isocost.campaign.config_file import load_config
from isocost.core.errors import InvalidArgumentError
from isocost.core.money import Money

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
BASE: dict[str, Any] = yaml.safe_load((EXAMPLES / "microworld.yaml").read_text())


def _write(tmp_path: Path, raw: object) -> Path:
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def _changed(*path: str | int, value: object) -> dict[str, Any]:
    raw = copy.deepcopy(BASE)
    place: Any = raw
    for step in path[:-1]:
        place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
    place[path[-1]] = value
    return raw


@pytest.mark.parametrize("name", ["microworld.yaml", "ag_news.yaml"])
def test_the_examples_are_valid(name: str) -> None:
    config = load_config(EXAMPLES / name)
    assert len(config.sources) == 2


@pytest.mark.parametrize(
    ("raw", "field", "words"),
    [
        (_changed("budgget", value=3), "budgget", "did you mean 'budget'"),
        (
            _changed("method", "weak_recipe", "learning_rat", value=3),
            "method.weak_recipe.learning_rat",
            "learning_rate",
        ),
        (_changed("budget", value="plenty"), "budget", "plenty"),
        (_changed("budget", value=0), "budget", "greater than 0"),
        (_changed("budget", value=100), "budget", "does not pay for the pilot"),
        (_changed("sources", 0, "unit_price", value=0), "sources.0.unit_price", "greater than 0"),
        (_changed("sources", 0, "unit_price", value=-1), "sources.0.unit_price", "greater than 0"),
        (_changed("task", "choices", value=["yes"]), "task.choices", "at least two"),
        (_changed("task", "choices", value=["yes", "yes"]), "task.choices", "same"),
        (_changed("task", "template", value="no field"), "task.template", "placeholder"),
        (_changed("task", "template", value="{open"), "task.template", "braces|expected"),
        (_changed("pilot", "n_human", value="many"), "pilot.n_human", "many"),
        (_changed("method", "weak_recipe", "learning_rate", value=-1), "recipe.learning_rate", "above 0"),
        (_changed("data", "hub", value={"name": "x/y"}), "data", "exactly one"),
        (_changed("sources", value=[BASE["sources"][0]]), "CAMPAIGN", "exactly one source of kind model"),
        ({key: value for key, value in BASE.items() if key != "pilot"}, "pilot", "missing"),
        ([1, 2], "CAMPAIGN", "holds no campaign"),
    ],
)
def test_each_mistake_is_named_once(tmp_path: Path, raw: object, field: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        load_config(_write(tmp_path, raw))
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["a: [1, 2", "\tb: 1"])
def test_what_is_not_yaml_is_said_to_be_so(tmp_path: Path, content: str) -> None:
    path = tmp_path / "campaign.yaml"
    path.write_text(content)
    with pytest.raises(InvalidArgumentError, match="not YAML"):
        load_config(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        load_config(tmp_path / "gone.yaml")


def test_options_replace_the_hubs_data_and_model_everywhere(tmp_path: Path) -> None:
    config = load_config(EXAMPLES / "ag_news.yaml", data=tmp_path / "a.parquet", strong_model="/models/mini")
    assert config.data.hub is None
    assert config.data.path == str(tmp_path / "a.parquet")
    assert config.strong_model == config.weak.model == "/models/mini"


def test_paths_are_relative_to_the_campaign_file(tmp_path: Path) -> None:
    config = load_config(_write(tmp_path, _changed("data", "path", value="items.csv")))
    assert config.data.path == str(tmp_path / "items.csv")


def test_prices_are_exact() -> None:
    config = load_config(EXAMPLES / "microworld.yaml")
    assert config.source(config.weak).unit_price == Money(100_000)


def test_a_configuration_survives_its_stored_form() -> None:
    config = load_config(EXAMPLES / "ag_news.yaml")
    assert type(config).model_validate_json(config.model_dump_json()) == config
