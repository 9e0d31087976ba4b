"""What the documentation's commands name is there: commands, options, targets, manifests, files; run or not."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from isocost.cli.app import app
from tests.docs.command_line import Command, commands
from tests.docs.page import ROOT, pages, read_blocks
from tests.unit.deploy.manifests import kustomize, render

#: Folders of the repository that commands read from; what they write is in `runs` or where the reader is.
_FOLDERS = ("docs", "deploy", "services", "tests", "scripts", "requirements")
_CLI: Any = typer.main.get_command(app)


def _of_blocks(page: str) -> Iterator[tuple[str, Command]]:
    for block in read_blocks(page):
        if block.language in {"bash", "console", "sh"}:
            for command in commands(block.text):
                yield str(block), command


def _of_sentences(page: str) -> Iterator[tuple[str, Command]]:
    """Commands in the text, such as `isocost plan --last`."""
    text = re.sub(r"^( *)```.*?^\1```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`((?:[A-Z_]+=\S+ )*(?:isocost|make|python -m) [^`]+)`", text):
        for command in commands(code.replace("...", "").replace("\n", " ")):
            yield f"{page}: `{code}`", command


def _isocost(command: Command) -> tuple[str, ...] | None:
    """The words after `isocost`, of the command itself or of what `kubectl exec ... --` runs; None for others."""
    if command.program == "isocost":
        return command.words[1:]
    inner = command.words[command.words.index("--") + 1 :] if "--" in command.words else ()
    return inner[1:] if inner[:1] == ("isocost",) else None


def _find(words: list[str]) -> tuple[Any, list[str]]:
    """The typer command that is meant, and what is left of the words."""
    known = _CLI
    while hasattr(known, "commands") and words and not words[0].startswith("-"):
        assert words[0] in known.commands, f"isocost has no command {words[0]!r}"
        known = known.commands[words.pop(0)]
    return known, words


def _check_isocost(command: Command, given_words: tuple[str, ...], *, whole: bool) -> None:
    known, words = _find(list(given_words))
    options = {
        name: each for each in known.params for name in (*each.opts, *each.secondary_opts) if name.startswith("-")
    }
    arguments = [each for each in known.params if each.param_type_name == "argument"]
    given, n_arguments = set(), 0
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            n_arguments += 1
            continue
        name, equals, _ = word.partition("=")
        if name == "--help":
            continue
        assert name in options, f"`{command}`: no option {name}"
        given.add(options[name].name)
        if not options[name].is_flag and not equals:
            next(rest, None)
    assert n_arguments <= len(arguments) or any(each.nargs == -1 for each in arguments), f"`{command}`: too many words"
    if whole:
        missing = {each.name for each in options.values() if each.required} - given
        assert not missing, f"`{command}` lacks {missing}"
        assert n_arguments >= sum(each.required for each in arguments), f"`{command}` lacks an argument"


def _check(command: Command, *, whole: bool) -> None:
    if (words := _isocost(command)) is not None:
        _check_isocost(command, words, whole=whole)
    if command.program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        wanted = {word for word in command.words[1:] if "=" not in word}
        assert wanted <= targets, f"`{command}`: the Makefile has no {wanted - targets}"
    if command.program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "optional-dependencies"
        ]
        named = [word.strip("]").partition("[")[2].split(",") for word in command.words if word.startswith("isocost[")]
        assert {extra for each in named for extra in each} <= extras.keys(), f"`{command}`: no such extra"
    if command.program == "python" and "-m" in command.words:
        module = command.words[command.words.index("-m") + 1]
        assert importlib.util.find_spec(module), f"`{command}`: no such module"
    for word in command.words:
        path = word.rpartition("=")[2]
        if path.split("/")[0] in _FOLDERS and "/" in path and "*" not in path:
            assert (ROOT / path).exists(), f"`{command}`: there is no {path}"


def _check_all(placed: Iterable[tuple[str, Command]], *, whole: bool) -> None:
    for place, command in placed:
        try:
            _check(command, whole=whole)
        except AssertionError as error:
            raise AssertionError(f"{place}: {error}") from None


@pytest.mark.parametrize("page", pages())
def test_what_commands_of_blocks_name_is_there(page: str) -> None:
    _check_all(_of_blocks(page), whole=True)


@pytest.mark.parametrize("page", pages())
def test_what_commands_in_sentences_name_is_there(page: str) -> None:
    _check_all(_of_sentences(page), whole=False)


@pytest.mark.parametrize("page", pages())
def test_paths_in_sentences_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    # A reader's own overlay.
    text = text.replace("deploy/kustomize/overlays/mine/", "deploy/kustomize/overlays/gpu/")
    for path in re.findall(r"`((?:services|proto|deploy|tests|docs|scripts|requirements|cli)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), f"{page}: there is no {path}"


def test_manifests_that_are_applied_render() -> None:
    folders = {
        command.words[command.words.index(word) + 1]
        for page in pages()
        for _, command in _of_blocks(page)
        if command.program == "kubectl"
        for word in ("-k", "kustomize")
        if word in command.words
    }
    assert folders
    render("gpu")  # Skips where there is no kubectl.
    for folder in sorted(folders):
        kustomize(Path(ROOT / folder))


def test_images_are_built_from_files_that_are_there() -> None:
    files = [
        command.words[command.words.index("--file") + 1]
        for page in pages()
        for _, command in _of_blocks(page)
        if command.words[:2] == ("docker", "build")
    ]
    assert files
    assert all((ROOT / file).is_file() for file in files)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("isocost rum x.yaml --out y", "no command 'rum'"),
        ("FOO=1 .venv/bin/isocost run x.yaml --out y --engin vllm", "no option --engin"),
        ("isocost run x.yaml", "lacks {'out'}"),
        ("printf y | isocost annotate a b --out runs/x", "too many words"),
        ("kubectl exec deployment/x -- isocost ledger prove", "no command 'prove'"),
        ("make demmo", "the Makefile has no"),
        ("isocost run docs/examples/none.yaml --out x", "there is no docs/examples/none.yaml"),
        ("pip install 'isocost[rays]'", "no such extra"),
        ("until isocost run docs/examples/microworld.yaml --oot x; do test $? -eq 3; done", "no option --oot"),
    ],
)
def test_what_is_not_there_is_told(line: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        _check_all((("", command) for command in commands(line)), whole=True)
