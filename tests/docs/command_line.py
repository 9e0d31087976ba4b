"""Simple commands in the text of a block: words, without what stands around them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Command", "commands"]

_HEREDOC = re.compile(r"<<'?(\w+)'?\n.*?^\1$", re.MULTILINE | re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_OPERATORS = frozenset({"|", "||", "&", "&&", ";", ";;", "(", ")"})
_KEYWORDS = frozenset({"do", "done", "else", "export", "fi", "if", "then", "until", "while", "!"})
_REDIRECTIONS = frozenset({">", ">>", "<"})


@dataclass(frozen=True)
class Command:
    """A program and its arguments, as written: variables stay as they are."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)

    @property
    def program(self) -> str:
        return self.words[0].rpartition("/")[2]


def commands(text: str) -> list[Command]:
    """The commands of a block, in order."""
    text = _HEREDOC.sub("", text).replace("\\\n", " ")
    return [command for line in text.splitlines() for command in _of_line(line)]


def _of_line(line: str) -> Iterator[Command]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    skip = False
    for word in [*lexer, ";"]:
        if skip:
            skip = False
        elif word in _REDIRECTIONS:
            skip = True
        elif word in _OPERATORS:
            if words:
                yield Command(tuple(words))
            words = []
        elif words or not (word in _KEYWORDS or _ASSIGNMENT.match(word)):
            words.append(word)
