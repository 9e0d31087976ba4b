"""A word-level tokenizer over the made-up world's words.

Words are separated by whitespace, so a leading space changes nothing ("yes" and " yes" are one id). Like
Llama's, it puts a beginning-of-sequence token before a text unless told `add_special_tokens=False`, and no
token after it; whoever hands token ids to a model must include that token once, at the very beginning (of the
few-shot block, where there is one).
"""

from __future__ import annotations

import json
import pathlib

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from isocost.microworld.corpus import all_words
from isocost.microworld.world import World

__all__ = ["BOS", "EOS", "PAD", "UNK", "build_tokenizer", "save_tokenizer"]

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"


def build_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """Make the tokenizer: four special tokens (ids 0 to 3), then the world's words in sorted order."""
    vocabulary = {word: k for k, word in enumerate((PAD, BOS, EOS, UNK, *all_words(world)))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNK))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: pathlib.Path) -> None:
    """Write the tokenizer's files into a folder under a class name that older transformers know too."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    # transformers 5 writes a class name that 4 does not know; this one is known to both.
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
