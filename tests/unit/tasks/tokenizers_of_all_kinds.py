"""Small tokenizers, trained on a few sentences, of the kinds that language models have."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

__all__ = ["KINDS", "SENTENCES", "build_tokenizer"]

SENTENCES = [
    "Question: is this review positive? Answer: yes",
    "Question: is this review positive? Answer: no",
    "The review is very good. The review is very bad. No idea, none at all, not known.",
    "Sports, business, science and the world: which topic? world",
    "is the claim true or false? true\nis the claim true or false? false\n",
] * 20
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN = _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")


def _byte_level(pattern: str | None, special: list[str], n_tokens: int = 600) -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    if pattern is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def _gpt_2(_: Path) -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=_byte_level(None, ["<|endoftext|>"]), eos_token="<|endoftext|>")


def _llama_3(_: Path) -> Any:
    tokenizer = _byte_level(_LLAMA_3, ["<|begin_of_text|>", "<|end_of_text|>"])
    tokenizer.post_processor = TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>"
    )


def _qwen(_: Path) -> Any:
    tokenizer = _byte_level(_QWEN, ["<|endoftext|>", "<|im_end|>"])
    tokenizer.normalizer = normalizers.NFC()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _sentencepiece(folder: Path) -> Any:
    """As Llama 2's: a space before a text that begins, bytes for what is not in the vocabulary."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer", "legacy": false}')
    tokenizer = AutoTokenizer.from_pretrained(folder)
    shutil.rmtree(folder)
    return tokenizer


KINDS: dict[str, Callable[[Path], Any]] = {
    "gpt-2": _gpt_2,
    "llama-3": _llama_3,
    "qwen": _qwen,
    "sentencepiece": _sentencepiece,
}


def build_tokenizer(kind: str, folder: Path) -> Any:
    """A tokenizer of a kind of `KINDS`; `folder` does not exist before and after."""
    return KINDS[kind](folder)
