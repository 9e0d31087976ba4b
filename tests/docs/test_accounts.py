"""Every block of the documentation is run or checked, and nothing is said about blocks that there are not."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.accounts import CHECKED_ONLY, EVERY, LANGUAGES, RUN_ELSEWHERE, SCENARIOS, claims
from tests.docs.page import ROOT, pages, read_blocks

_HINT = (
    "give it a scenario in tests/docs, name the test that runs it in RUN_ELSEWHERE, or its reason in CHECKED_ONLY of "
    "tests/docs/accounts.py; CONTRIBUTING.md says how"
)


@pytest.mark.parametrize("page", pages())
def test_each_block_has_one_account(page: str) -> None:
    for block in read_blocks(page):
        if block.language not in LANGUAGES:
            assert block.language == "text", f"{block}: {block.language or 'no'} language: what is printed is text"
            continue
        found = claims(block)
        assert found, f"{block} is run by nothing: {_HINT}\n{block.text}"
        assert len(found) == 1, f"{block} has several accounts: {found}"


def test_each_account_has_a_block() -> None:
    for table in (SCENARIOS, RUN_ELSEWHERE, CHECKED_ONLY):
        for page, accounts in table.items():
            blocks = [block for block in read_blocks(page) if block.language in LANGUAGES]
            claimed = {words for block in blocks for _, words, _ in claims(block)}
            assert accounts.keys() <= claimed, f"{page}: no block holds {sorted(accounts.keys() - claimed)}"


def test_the_tests_that_are_named_exist() -> None:
    named = {test for table in (SCENARIOS, RUN_ELSEWHERE) for accounts in table.values() for test in accounts.values()}
    for test in sorted(named):
        path, _, name = test.partition("::")
        assert (ROOT / path).is_file(), f"{test} does not exist: {_HINT}"
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert not name or name in functions, f"{test} does not exist: {_HINT}"


def test_whole_test_modules_name_their_page() -> None:
    for page, accounts in RUN_ELSEWHERE.items():
        for test in accounts.values():
            if "::" not in test:
                folder = (ROOT / test).parent
                text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
                assert page.removeprefix("docs/") in text, f"{test} reads nothing of {page}"


@pytest.mark.parametrize("page", pages())
def test_code_is_fenced(page: str) -> None:
    """Indented code is not collected."""
    text = re.sub(r"^( *)```.*?^\1```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"\n\n {4,}(isocost|export|make|python|pip|kubectl|docker|from|import)\b", text)


@pytest.mark.parametrize("page", pages())
def test_python_is_python(page: str) -> None:
    for block in read_blocks(page):
        if block.language == "python":
            compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_pages_are_found() -> None:
    assert {"README.md", "docs/tutorial.md", "docs/adr/README.md"} <= set(pages())
    assert not any("reference" in page for page in pages())
    assert EVERY not in CHECKED_ONLY.get("docs/kubernetes.md", {})
