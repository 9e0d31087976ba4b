"""Where a model is."""

from pathlib import Path

import pytest

from isocost.core.errors import InvalidArgumentError
from isocost.tasks.model_path import resolve_model


def test_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for name in ("model", "./model", str(tmp_path / "model")):
        assert resolve_model(name) == str((tmp_path / "model").resolve())


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"holds no config\.json") as caught:
        resolve_model(str(tmp_path), field="sources[0].model")
    assert caught.value.field == "sources[0].model"


@pytest.mark.parametrize("name", ["/nowhere/at-all", "./nowhere", "~/nowhere-at-all", "a/b/c", "nowhere"])
def test_path_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is not a folder"):
        resolve_model(name)


def test_hub_name_stays() -> None:
    assert resolve_model("org/model") == "org/model"


def test_carried_models_are_folders_of_the_package() -> None:
    assert Path(resolve_model("microworld:weak")).name == "weak"
    with pytest.raises(InvalidArgumentError, match="'microworld:medium'"):
        resolve_model("microworld:medium")
