"""A page of the documentation: its fenced blocks, in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(
    r"(?:^<!-- exit: (?P<code>\d+) -->\n)?^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```\s*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    """The page's path from the repository's root."""
    line: int
    """Where its fence is, from 1."""
    language: str
    text: str
    returncode: int = 0
    """What its last command is documented to end with: `<!-- exit: N -->` on the line before the fence."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """All pages that people write, from the repository's root."""
    written = [path for path in (ROOT / "docs").rglob("*.md") if "reference" not in path.parts]
    return ["README.md", "CONTRIBUTING.md", *sorted(str(path.relative_to(ROOT)) for path in written)]


def read_blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in its order."""
    return list(_blocks(page, (ROOT / page).read_text(encoding="utf-8")))


def _blocks(page: str, text: str) -> Iterator[Block]:
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        indent = found["indent"]
        code = "".join(row.removeprefix(indent) for row in found["text"].splitlines(keepends=True))
        yield Block(page, line, found["language"], code, int(found["code"] or 0))
