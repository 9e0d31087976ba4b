"""Tiny models of the three kinds that are served, and labelers to serve them."""

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import transformers
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing

from isocost.client.labeler import LabelerClient, LabelResult
from isocost.core.grpc_server import GrpcServer
from isocost.labeler.service import LabelerService
from isocost.labeler.settings import LabelerSettings
from isocost.resources.task import Item, Task
from isocost.tasks.prompt import FewShotExample

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "question", "?", "answer", "no", "yes", *(f"w{n}" for n in range(200))]
N_POSITIONS = 128


@dataclass(frozen=True)
class Models:
    """Folders of tiny models with random weights that are far from uniform."""

    llama: str
    llama_classifier: str
    bert_classifier: str


def save_tokenizer(folder: Path, template: str, **special: str) -> None:
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=[("<s>", 1), ("</s>", 2)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", **special
    ).save_pretrained(folder)


def save_model(model: Any, folder: Path) -> str:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                # The usual initial weights answer nearly uniformly, which would hide errors.
                parameter.mul_(6)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    size: dict[str, Any] = {
        "vocab_size": len(WORDS),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": N_POSITIONS,
        "pad_token_id": 0,
    }
    llama = transformers.LlamaConfig(**size, num_key_value_heads=2, bos_token_id=1, eos_token_id=2)
    labels = {"id2label": {n: f"class {n}" for n in range(3)}, "label2id": {f"class {n}": n for n in range(3)}}
    llama_classes = transformers.LlamaConfig(**size, **labels, num_key_value_heads=2, bos_token_id=1, eos_token_id=2)
    labels = {"id2label": {n: f"class {n}" for n in range(4)}, "label2id": {f"class {n}": n for n in range(4)}}
    bert = transformers.BertConfig(**size, **labels)
    made = Models(
        save_model(transformers.LlamaForCausalLM(llama), folder / "llama"),
        save_model(transformers.LlamaForSequenceClassification(llama_classes), folder / "llama-classifier"),
        save_model(transformers.BertForSequenceClassification(bert), folder / "bert-classifier"),
    )
    save_tokenizer(folder / "llama", "<s> $A", bos_token="<s>", eos_token="</s>")
    save_tokenizer(folder / "llama-classifier", "<s> $A", bos_token="<s>", eos_token="</s>")
    save_tokenizer(folder / "bert-classifier", "<s> $A </s>", cls_token="<s>", sep_token="</s>")
    return made


def make_items(n_items: int, seed: int = 0) -> list[Item]:
    """Items of 1 to 60 words, so that padding matters."""
    rng = random.Random(seed)
    texts = (" ".join(rng.choices(WORDS[9:], k=rng.randint(1, 60))) for _ in range(n_items))
    return [Item(f"item-{index}", {"text": text}) for index, text in enumerate(texts)]


def compute_reference(
    folder: str, task: Task, items: Sequence[Item], examples: Sequence[FewShotExample] = ()
) -> dict[str, tuple[list[float], float]]:
    """Probabilities of the choices and their mass from plain transformers, one prompt at a time, no padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    classifies = config.architectures[0].endswith("ForSequenceClassification")
    loader = transformers.AutoModelForSequenceClassification if classifies else transformers.AutoModelForCausalLM
    model = loader.from_pretrained(folder, dtype=torch.float32).eval()
    block = "".join(f"{task.render(example.fields)} {task.choices[example.choice]}\n" for example in examples)
    answers = {}
    for item in items:
        tokens = torch.tensor([tokenizer.encode(block + task.render(item.fields))])
        with torch.inference_mode():
            logits = model(tokens).logits[0]
        if classifies:
            answers[item.item_id] = (logits.softmax(-1).tolist(), 1.0)
            continue
        ids = tokenizer.convert_tokens_to_ids(list(task.choices))
        chosen = logits[-1].softmax(-1)[ids]
        answers[item.item_id] = ((chosen / chosen.sum()).tolist(), float(chosen.sum()))
    return answers


@dataclass(frozen=True)
class Kit:
    """What the tests of this folder share: test modules cannot import one another."""

    verdict = Task("verdict", "question {text} ? answer", ("no", "yes"))
    topics_3 = Task("topic", "{text}", ("one", "two", "three"))
    topics_4 = Task("topic", "{text}", ("one", "two", "three", "four"))
    n_positions = N_POSITIONS
    make_items = staticmethod(make_items)
    reference = staticmethod(compute_reference)

    @staticmethod
    def assert_close(results: Sequence[LabelResult], reference: dict[str, tuple[list[float], float]]) -> None:
        """Each item once, each probability and mass within 1e-4."""
        assert sorted(result.item_id for result in results) == sorted(reference)
        for result in results:
            probabilities, mass = reference[result.item_id]
            assert result.label is not None, result.error
            assert result.label.probabilities == pytest.approx(probabilities, abs=1e-4)
            assert result.label.choices_mass == pytest.approx(mass, abs=1e-4)


class Forest:
    """A task whose choices share tokens, and are beginnings of one another."""

    choices = ("yes", "yes red", "no blue", "no green")
    task = Task("forest", "question : has {entity} {relation} {value} ? answer :", choices)
    #: A prompt of 10 tokens, asked as it is, behind "yes" and behind "no".
    n_tokens = 10 + 11 + 11

    @staticmethod
    def reference(folder: str, task: Task, items: Sequence[Item]) -> dict[str, tuple[list[float], float]]:
        """Every token's probability by itself, from plain transformers."""
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

        def after(tokens: list[int]) -> torch.Tensor:
            with torch.inference_mode():
                shares: torch.Tensor = model(torch.tensor([tokens])).logits[0, -1].double().softmax(-1)
            return shares

        answers = {}
        yes, red, no, blue, green = tokenizer.convert_tokens_to_ids(["yes", "red", "no", "blue", "green"])
        for item in items:
            prompt = tokenizer.encode(task.render(item.fields))
            start, after_yes, after_no = after(prompt), after([*prompt, yes]), after([*prompt, no])
            # "yes" is what is left of it when it does not go on with "red".
            values = [
                float(start[yes] * (1 - after_yes[red])),
                float(start[yes] * after_yes[red]),
                float(start[no] * after_no[blue]),
                float(start[no] * after_no[green]),
            ]
            answers[item.item_id] = ([value / sum(values) for value in values], sum(values))
        return answers


@pytest.fixture(scope="session")
def forest() -> type[Forest]:
    return Forest


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[LabelerClient]]]:
    """Serves a labeler in this process; returns its client."""
    opened: list[tuple[GrpcServer, LabelerService, LabelerClient]] = []

    async def start(**settings: Any) -> LabelerClient:
        service = LabelerService(LabelerSettings(**{"state_dir": tmp_path / "labeler", **settings}))
        await service.start()
        server = GrpcServer()
        service.register(server.aio)
        client = LabelerClient(await server.start("127.0.0.1:0", [service.SERVICE_NAME]))
        opened.append((server, service, client))
        return client

    yield start
    for server, service, client in opened:
        await client.close()
        await server.stop(grace_seconds=0.0)
        await service.close()


@dataclass(frozen=True)
class LabelerProcess:
    """A labeler in a process of its own."""

    process: subprocess.Popen[bytes]
    address: str

    def family(self) -> list[psutil.Process]:
        """Its guard, vLLM's server and engine, and whatever else it started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def find_vllm_server(self, model: str) -> psutil.Process | None:
        """The server process of the model whose folder ends so; None while there is none."""
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                command = process.cmdline()
                serves = "vllm.entrypoints.openai.api_server" in command
                if not serves or "isocost.labeler.vllm_guard" in command:
                    continue
                if command[command.index("--model") + 1].endswith(model):
                    return process
        return None

    def vllm_server(self, model: str) -> psutil.Process:
        """The server process of the model whose folder ends so."""
        found = self.find_vllm_server(model)
        assert found is not None
        return found

    def vllm_url(self, model: str) -> str:
        """Where the model's vLLM listens."""
        arguments = self.vllm_server(model).cmdline()
        return f"http://127.0.0.1:{arguments[arguments.index('--port') + 1]}"


def start_labeler_process(folder: Path, state: Path | None = None, **environment: str) -> LabelerProcess:
    folder.mkdir(exist_ok=True)
    address_path = folder / "address"
    script = Path(__file__).with_name("serve_labeler.py")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "ISOCOST_LABELER_STATE_DIR": str(state or folder / "labeler"),
        "ISOCOST_LABELER_KV_CACHE_BYTES": str(256 << 20),
        **environment,
    }
    process = subprocess.Popen([sys.executable, str(script), str(address_path)], env=environment)
    while not address_path.exists():
        assert process.poll() is None, "the labeler could not start"
        time.sleep(0.05)
    return LabelerProcess(process, address_path.read_text())


def end(labeler: LabelerProcess) -> None:
    """Stops a labeler as an operator would; it must leave nothing behind."""
    family = labeler.family() if labeler.process.poll() is None else []
    labeler.process.terminate()
    labeler.process.wait(60)
    _, alive = psutil.wait_procs(family, timeout=20)
    for process in alive:
        process.kill()
    assert alive == []


@contextlib.contextmanager
def running_labeler(folder: Path, state: Path | None = None, **environment: str) -> Iterator[LabelerProcess]:
    """A labeler in a process of its own, with such settings; nothing is left of it at the end."""
    labeler = start_labeler_process(folder, state, **environment)
    try:
        yield labeler
    finally:
        end(labeler)


@pytest.fixture(scope="session")
def start_process() -> Callable[..., contextlib.AbstractContextManager[LabelerProcess]]:
    return running_labeler


@pytest.fixture(scope="module")
def labeler_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelerProcess]:
    """One labeler with vLLM for a whole module: every start of vLLM takes half a minute."""
    folder = tmp_path_factory.mktemp("served")
    settings = {"ENGINE": "vllm", "ENGINES_MAX": "2", "RESTARTS_MAX": "1"}
    environment = {f"ISOCOST_LABELER_{name}": value for name, value in settings.items()}
    with running_labeler(folder, None, **environment) as labeler:
        yield labeler
