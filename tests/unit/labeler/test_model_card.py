"""What is known of a model before it is loaded."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from isocost.core.errors import InvalidArgumentError
from isocost.labeler import model_card
from isocost.labeler.engine import Runner
from isocost.labeler.model_card import ModelCatalog
from isocost.labeler.model_files import folder_digest
from isocost.labeler.question import Question, Request
from isocost.resources.task import Task
from isocost.tasks.prompt import FewShotExample


def make_folder(path: Path, architecture: str = "LlamaForCausalLM", **changes: object) -> Path:
    path.mkdir()
    tokenizer = Tokenizer(WordLevel({"<unk>": 0, "no": 1, "yes": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(path)
    config = {"model_type": "llama", "architectures": [architecture], "max_position_embeddings": 64, **changes}
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").write_bytes(b"weights")
    return path


def test_digest_is_of_what_decides_the_answers(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m")
    before = folder_digest(folder)
    (folder / "README.md").write_text("words")
    (folder / "training.log").write_text("words")
    assert folder_digest(folder) == before
    assert folder_digest(folder.rename(tmp_path / "moved")) == before
    (tmp_path / "moved" / "model.safetensors").write_bytes(b"weightz")
    assert folder_digest(tmp_path / "moved") != before


async def test_limits_of_a_generating_model(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m")
    card = await ModelCatalog(0, tmp_path).find(str(folder), Runner.GENERATE)
    assert card.n_tokens_max == 63, "one place is the answer's"
    assert card.fingerprint.startswith("m@")
    assert (await ModelCatalog(16, tmp_path).find(str(folder), Runner.GENERATE)).n_tokens_max == 15


async def test_limits_of_a_classifying_model(tmp_path: Path) -> None:
    labels = {"id2label": {"0": "a", "1": "b", "2": "c"}}
    folder = make_folder(tmp_path / "m", "LlamaForSequenceClassification", **labels)
    card = await ModelCatalog(0, tmp_path).find(str(folder), Runner.CLASSIFY)
    assert (card.n_tokens_max, card.n_classes) == (64, 3)


async def test_card_is_remembered_until_the_files_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digested: list[Path] = []

    def counting(folder: Path) -> str:
        digested.append(folder)
        return folder_digest(folder)

    monkeypatch.setattr(model_card, "folder_digest", counting)
    folder = make_folder(tmp_path / "m")
    catalog = ModelCatalog(0, tmp_path)
    first = await catalog.find(str(folder), Runner.GENERATE)
    assert await catalog.find(str(folder), Runner.GENERATE) is first
    assert len(digested) == 1
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert (await catalog.find(str(folder), Runner.GENERATE)).identity != first.identity


@pytest.mark.parametrize(
    ("architecture", "runner", "message"),
    [
        ("LlamaForCausalLM", Runner.CLASSIFY, "classify needs a sequence-classification model"),
        ("LlamaForSequenceClassification", Runner.GENERATE, "generate needs a causal language model"),
        ("LlamaModel", Runner.GENERATE, "is a LlamaModel"),
    ],
)
async def test_wrong_kind_of_model_is_refused(tmp_path: Path, architecture: str, runner: Runner, message: str) -> None:
    folder = make_folder(tmp_path / "m", architecture)
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        await ModelCatalog(0, tmp_path).find(str(folder), runner)
    assert caught.value.field == "config.runner"


async def test_model_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    catalog = ModelCatalog(0, tmp_path)
    for name in ("", "org/no-such-model", str(tmp_path / "nowhere")):
        with pytest.raises(InvalidArgumentError) as caught:
            await catalog.find(name, Runner.GENERATE)
        assert caught.value.field == "config.model"
        assert repr(name) in caught.value.message or not name
        assert "folder" in caught.value.message


async def test_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(InvalidArgumentError, match="the tokenizer of"):
        await ModelCatalog(0, tmp_path).find(str(folder), Runner.GENERATE)


async def test_question_names_what_does_not_suit_the_model(tmp_path: Path) -> None:
    generating = await ModelCatalog(0, tmp_path).find(str(make_folder(tmp_path / "g")), Runner.GENERATE)
    classifier = make_folder(tmp_path / "c", "LlamaForSequenceClassification")
    classifying = await ModelCatalog(0, tmp_path).find(str(classifier), Runner.CLASSIFY)
    two, three = (Task("t", "{x}", choices) for choices in (("no", "yes"), ("no", "yes", "perhaps")))
    example = FewShotExample({"y": "1"}, 0)
    cases = [
        (Request("m", Runner.CLASSIFY, three), classifying, "config.task.choices", "3 choices, but"),
        (Request("m", Runner.GENERATE, three), generating, "config.task.choices", "'perhaps' is not in"),
        (Request("m", Runner.GENERATE, two, (example,)), generating, "config.few_shot_examples[0].fields.x", "missing"),
    ]
    for request, card, field, message in cases:
        with pytest.raises(InvalidArgumentError, match=message) as caught:
            Question(request, card)
        assert caught.value.field == field
    with pytest.raises(InvalidArgumentError, match="reads no examples"):
        Request("m", Runner.CLASSIFY, two, (example,))
