import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from isocost.campaign.config_file import load_config
from isocost.core.errors import InvalidArgumentError

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


def _model(**fields: object) -> dict[str, Any]:
    """The example with one field or more of its model source changed; None takes a field away."""
    changed = {**BASE["sources"][0], **fields}
    return _changed("sources", 0, value={name: value for name, value in changed.items() if value is not None})


def _grades(*humans: dict[str, Any], **pilot: int) -> dict[str, Any]:
    """The example with more grades of human labels."""
    raw = _changed("sources", value=[*BASE["sources"], *({**BASE["sources"][1], **human} for human in humans)])
    raw["pilot"].update(pilot)
    return raw


def _more_models(*models: dict[str, Any], **pilot: int) -> dict[str, Any]:
    raw = _changed("sources", value=[*({**BASE["sources"][0], **model} for model in models), BASE["sources"][1]])
    raw["pilot"].update(pilot)
    return raw


@pytest.mark.parametrize(
    ("name", "n_models", "n_measured"),
    [
        ("microworld.yaml", 1, 32),
        ("ag_news.yaml", 1, 50),
        ("two_weak_sources.yaml", 2, 20),
        ("microworld_grades.yaml", 1, 20),
    ],
)
def test_the_examples_are_valid(name: str, n_models: int, n_measured: int) -> None:
    config = load_config(EXAMPLES / name)
    assert len(config.models) == n_models
    assert config.n_measured == n_measured


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
        (_changed("sources", value=[BASE["sources"][0]]), "CAMPAIGN", "one or more of kind human"),
        (_changed("sources", value=[BASE["sources"][1]]), "CAMPAIGN", "one or more of kind model"),
        (_grades({}), "CAMPAIGN", "two sources have the name 'human'"),
        (_grades({"name": "crowd"}, n_measured=9), "pilot.n_measured", "grades of human labels are compared on them"),
        (_grades({"name": "crowd", "unit_price": 4}), "budget", "1 weak sources and 1 more of human labels on 32"),
        (_changed("human_sampling", value="hardest"), "human_sampling", "'random', 'uncertainty' or 'cost_aware'"),
        (
            {**_changed("evaluation", "n_unlabelled", value=100), "human_sampling": "cost_aware"},
            "human_sampling",
            "evaluation.n_unlabelled to 0",
        ),
        (_changed("target_accuracy", value=1), "target_accuracy", "less than 1"),
        (_changed("target_accuracy", value=0.5), "target_accuracy", "guessing has 0.5"),
        (_changed("gain_min", value=-0.1), "gain_min", "greater than or equal to 0"),
        (_more_models({}, {}), "CAMPAIGN", "two sources have the name 'weak'"),
        (_model(name="human"), "CAMPAIGN", "two sources have the name 'human'"),
        (_model(unit_price=None), "sources.0", "exactly one of 'unit_price' and 'price_per_million_tokens'"),
        (_model(price_per_million_tokens=2), "sources.0", "exactly one of 'unit_price'"),
        (_model(unit_price=None, price_per_million_tokens=0), "sources.0.price_per_million_tokens", "greater than 0"),
        (_model(calibration="platt"), "sources.0.calibration", "'none', 'temperature' or 'isotonic'"),
        (_model(template="is {value} {colour} ?"), "sources.weak.template", "shows {colour}, which items do not have"),
        (_model(template="open {"), "sources.weak.template", "braces|expected|single"),
        (_model(few_shot_count=40), "pilot.n_human", "lower pilot.n_measured or few_shot_count"),
        (_changed("pilot", "n_measured", value=33), "pilot.n_human", "measured on 33"),
        (_more_models({}, {"name": "b"}, n_measured=9), "pilot.n_measured", "compared on them"),
        (_more_models({"calibration": "isotonic"}, n_measured=0), "pilot.n_measured", "'weak' is calibrated on them"),
        (_more_models({"unit_price": 2.5}, {"name": "b"}), "budget", "measuring 2 weak sources on 32 items"),
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
    assert config.strong_model == config.models[0].model == "/models/mini"


def test_paths_are_relative_to_the_campaign_file(tmp_path: Path) -> None:
    config = load_config(_write(tmp_path, _changed("data", "path", value="items.csv")))
    assert config.data.path == str(tmp_path / "items.csv")


@pytest.mark.parametrize(
    ("fields", "pilot", "n_measured"),
    [
        ({}, {}, 32),
        ({"few_shot_count": 8}, {}, 24),
        ({"few_shot_count": 8}, {"n_measured": 10}, 10),
        ({"runner": "classify", "fine_tune": {}}, {}, 8),
        # So few that fine-tuning needs them all.
        ({"runner": "classify", "fine_tune": {}}, {"n_human": 4}, 0),
    ],
)
def test_no_source_is_measured_by_human_labels_that_it_sees(
    tmp_path: Path, fields: dict[str, Any], pilot: dict[str, int], n_measured: int
) -> None:
    config = load_config(_write(tmp_path, _more_models(fields, **pilot)))
    assert config.n_measured == n_measured


def test_a_configuration_survives_its_stored_form() -> None:
    config = load_config(EXAMPLES / "ag_news.yaml")
    assert type(config).model_validate_json(config.model_dump_json()) == config


def test_the_first_grade_is_the_reference(tmp_path: Path) -> None:
    config = load_config(_write(tmp_path, _grades({"name": "crowd", "unit_price": 0.3})))
    assert [human.name for human in config.humans] == ["human", "crowd"]
    assert config.human.name == "human"
    assert (config.human_sampling, config.target_accuracy, config.gain_min) == ("random", None, None)
