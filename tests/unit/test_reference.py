"""The reference pages are the generated ones, on any machine, and a change of the code is noticed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from enum import StrEnum
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "generate_reference"
PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))


def _load() -> Any:
    loader = SourceFileLoader("generate_reference", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    # Nothing compiled is left beside the script.
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module


reference = _load()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of all that the script reads and writes."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copytree(ROOT / "docs" / "reference", tmp_path / "docs" / "reference")
    (tmp_path / "scripts").mkdir()
    for path in (ROOT / "buf.yaml", SCRIPT):
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    return tmp_path


def _run(tree: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(tree / "scripts" / "generate_reference"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_committed_pages_are_the_generated_ones_on_any_machine(tmp_path: Path) -> None:
    done = _run(
        ROOT,
        "--check",
        COLUMNS="30",
        HOME=str(tmp_path),
        USER="somebody",
        LANG="de_DE.UTF-8",
        FORCE_COLOR="1",
        ISOCOST_BUDGET_DATABASE_URL="postgresql://somebody@nowhere/budget",
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_changed_comment_is_noticed(tree: Path) -> None:
    proto = tree / "proto" / "isocost" / "v1" / "queue_service.proto"
    text = proto.read_text(encoding="utf-8")
    assert "  // Required. The lease.\n" in text
    proto.write_text(text.replace("  // Required. The lease.\n", "  // Required. Which lease.\n", 1), encoding="utf-8")

    done = _run(tree, "--check")
    assert done.returncode == 1
    assert "+| `lease_id` | 2 | string | Required. Which lease. |" in done.stderr
    assert "docs/reference/grpc.md is not up to date: run 'make stubs'" in done.stderr
    assert "cli.md" not in done.stderr

    assert _run(tree).returncode == 0
    assert _run(tree, "--check").returncode == 0


@pytest.mark.parametrize("missing", [True, False])
def test_a_page_changed_by_hand_or_missing_is_noticed(
    tree: Path, missing: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tree / "docs" / "reference" / "cli.md"
    generated = page.read_text(encoding="utf-8")
    if missing:
        page.unlink()
    else:
        page.write_text(generated.replace("`--engine`", "`--motor`"), encoding="utf-8")
    monkeypatch.setattr(reference, "ROOT", tree)
    assert not reference.check("cli.md", generated)
    assert "docs/reference/cli.md is not up to date: run 'make stubs'" in capsys.readouterr().err
    page.write_text(generated, encoding="utf-8")
    assert reference.check("cli.md", generated)


def test_what_buf_refuses_is_said(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "proto" / "isocost" / "v1" / "queue_service.proto").write_text("message {", encoding="utf-8")
    monkeypatch.setattr(reference, "ROOT", tree)
    with pytest.raises(SystemExit, match=r"buf cannot build proto/: .*queue_service\.proto:1:"):
        reference.descriptors()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_a_page_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    anchors = {reference.anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}
    links = set(re.findall(r"\]\(#([^)]*)\)", text))
    assert links
    assert links - anchors == set()


def test_every_rpc_field_and_value_has_a_comment() -> None:
    rows = [
        line
        for line in (ROOT / "docs" / "reference" / "grpc.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    assert len(rows) > 500
    assert [row for row in rows if row.endswith("| |")] == []


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def test_a_command_is_shown_whole_and_what_is_hidden_is_not() -> None:
    app = typer.Typer(help="An app.")
    group = typer.Typer(help="A group.")
    app.add_typer(group, name="group")

    @app.command("paint")
    def paint(
        files: Annotated[list[Path], typer.Argument(help="What to paint.")],
        colour: Annotated[Colour, typer.Option(help="With a | in it.", envvar="COLOUR")] = Colour.BLUE,
        layers: Annotated[int, typer.Option(help="How many.", min=1, max=1000)] = 2,
        dry: Annotated[bool, typer.Option("--dry/--wet", help="Or wet.")] = True,
        secret: Annotated[str, typer.Option(hidden=True)] = "",
    ) -> None:
        """Paints FILE_*, but not `FILE_*`.

        A second paragraph.
        """

    @app.command("hidden", hidden=True)
    def hidden() -> None:
        """Not for everybody."""

    @group.command("below")
    def below(token: Annotated[str, typer.Option(help="A token.")]) -> None:
        """Is below."""

    text = reference.cli_page(app)
    assert (
        "    isocost paint FILES... [OPTIONS]\n\nPaints FILE\\_\\*, but not `FILE_*`.\n\nA second paragraph.\n" in text
    )
    assert "| `FILES...` | path, may be repeated | required | What to paint. |" in text
    colour_row = "| `--colour` | one of `red`, `blue` | `blue` | With a \\| in it. Environment variable: `COLOUR`. |"
    assert colour_row in text
    assert "| `--layers` | whole number, 1 to 1,000 | `2` | How many. |" in text
    assert "| `--dry`, `--wet` | flag | on | Or wet. |" in text
    assert "### isocost group below\n\n    isocost group below --token TOKEN\n" in text
    assert "secret" not in text
    assert "hidden" not in text


def test_headings_that_would_share_an_anchor_are_refused() -> None:
    with pytest.raises(SystemExit, match="two headings have the anchor plan"):
        reference.page("Title", "somewhere", ["## Plan", "## plan"])
