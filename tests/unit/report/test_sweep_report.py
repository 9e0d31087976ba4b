from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from isocost.cli.app import app
from isocost.core.errors import FailedPreconditionError, InvalidArgumentError
from isocost.report.sweep.findings import find
from isocost.report.sweep.latex import escape_latex, latex_table
from isocost.report.sweep.page import write_sweep_report
from tests.unit.report.sweep_folder import (
    HUMAN_ONLY,
    PROMPTING,
    SEQUENTIAL,
    TWO_SHOT,
    WEAK_ONLY,
    Method,
    SweepFolder,
    flat,
    regimes,
)


class _Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def _written(sweep: SweepFolder, folder: Path) -> tuple[Path, _Page]:
    out = sweep.write(folder / "sweep")
    write_sweep_report(out)
    return out, _Page((out / "report.html").read_text())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], _Page]:
    """Two of everything that may be several, and one run that failed."""
    out = SweepFolder(
        truth=lambda method, task, model, labeller, w, h: (
            regimes(method, task, model, labeller, w, h) + 0.06 * (labeller == "big") - 0.08 * model.endswith("tiny")
        ),
        tasks=("claims", "facts"),
        labellers=("small", "big"),
        models=("models/strong", "models/tiny"),
        budgets=(16, 256),
        fractions=(0, 0.5, 1),
        n_eval=200,
        failed=(0,),
    ).write(tmp_path_factory.mktemp("sweep") / "out")
    paths = write_sweep_report(out)
    return out, paths, _Page((out / "report.html").read_text())


def _assert_latex(text: str) -> None:
    """Braces and environments close in order; nothing special stands bare; rows have as many cells as columns."""
    bare = re.sub(r"\\[&%$#_{}]", "", text)
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", bare):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    outside_maths = re.sub(r"\$\\approx\$", "", bare)
    # A label's underscores would be fine, but there are none; & stands between cells only.
    assert not re.search(r"[%#$_^~<>]", outside_maths)
    for table in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", bare, re.DOTALL):
        for row in re.findall(r"^ *(.*) \\\\$", table[1], re.MULTILINE):
            assert row.count("&") == len(table[0]) - 1
    assert text.isascii()


def test_every_figure_and_table_is_written_in_every_form(written: tuple[Path, list[Path], _Page]) -> None:
    out, paths, _ = written
    assert paths[0] == out / "report.html"
    assert all(path.stat().st_size for path in paths)
    assert not list(out.rglob("*.partial"))
    figures = {path.name for path in (out / "figures").iterdir()}
    stems = {name.rsplit(".", 1)[0] for name in figures}
    assert figures == {f"{stem}.{end}" for stem in stems for end in ("svg", "png")}
    for kind in ("mix", "mix-tasks", "frontier", "frontier-tasks", "few-shot", "weak-labeller", "strong-model"):
        assert any(stem.startswith(kind) for stem in stems), kind
    for path in (out / "figures").glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
    for path in (out / "figures").glob("*.svg"):
        assert path.read_text().startswith("<svg")
    tables = {path.name for path in (out / "tables").iterdir()}
    names = (
        "methods",
        "lines",
        "frontier",
        "regimes",
        "few_shot",
        "measures",
        "weak_labellers",
        "strong_models",
        "measured",
        "failed",
    )
    assert tables == {f"{name}.{end}" for name in names for end in ("csv", "parquet", "tex")}
    for name in names:
        parquet = pl.read_parquet(out / "tables" / f"{name}.parquet")
        assert pl.read_csv(out / "tables" / f"{name}.csv").columns == parquet.columns
        assert parquet.height == pl.read_csv(out / "tables" / f"{name}.csv").height > 0
        _assert_latex((out / "tables" / f"{name}.tex").read_text())


def test_the_page_has_no_scripts_and_needs_nothing_from_outside(written: tuple[Path, list[Path], _Page]) -> None:
    out, _, page = written
    assert "script" not in page.tags
    assert not {"link", "iframe", "img", "object"} & set(page.tags)
    assert not [name for name in page.attributes if name.startswith("on")]
    html = (out / "report.html").read_text()
    assert not re.search(r"""(?:href|src|url\()\s*=?\s*["']?https?:""", html)
    assert html.count("<svg") == len(list((out / "figures").glob("*.svg")))


def test_text_from_outside_is_escaped(written: tuple[Path, list[Path], _Page]) -> None:
    _, _, page = written
    assert "a & <b>" in page.text
    assert "b" not in page.tags
    assert "out of <memory>" in page.text
    assert "memory" not in page.tags


def test_what_failed_is_listed_with_its_reason(written: tuple[Path, list[Path], _Page]) -> None:
    out, _, page = written
    failed = pl.read_parquet(out / "tables" / "failed.parquet")
    assert failed["run_id"].to_list() == ["run00000"]
    assert failed["error"].to_list() == ["out of <memory>"]
    assert "Runs that did not succeed" in page.text
    assert "1 of" in page.text


def test_contests_name_the_better_one(written: tuple[Path, list[Path], _Page]) -> None:
    out, _, page = written
    assert "Weak labellers compared with strong" in page.text
    assert "Strong models compared with big" in page.text
    labellers = pl.read_parquet(out / "tables" / "weak_labellers.parquet").filter(
        pl.col("task") == "mean", pl.col("budget") == 16, pl.col("strong_model") == "models/strong"
    )
    (best,) = labellers.filter("is_best").iter_rows(named=True)
    (other,) = labellers.filter(~pl.col("is_best")).iter_rows(named=True)
    assert (best["weak_labeller"], other["weak_labeller"]) == ("big", "small")
    assert other["is_separable"]
    assert best["accuracy"] - other["accuracy"] == pytest.approx(0.06, abs=0.01)
    models = pl.read_parquet(out / "tables" / "strong_models.parquet")
    assert set(models.filter("is_best")["strong_model"]) == {"models/strong"}
    # Human labels are the same whoever makes the weak ones: nothing to tell apart where they are the best.
    dear = pl.read_parquet(out / "tables" / "weak_labellers.parquet").filter(pl.col("n_weak") == 0)
    assert not dear["is_separable"].any()


def test_one_task_one_seed_one_labeller_one_method(tmp_path: Path) -> None:
    out, page = _written(SweepFolder(seeds=1, methods=(SEQUENTIAL,), n_eval=50), tmp_path)
    assert {path.name for path in (out / "figures").glob("*.svg")} == {"mix-sequential-sft.svg", "frontier.svg"}
    assert "compared" not in page.text
    assert "Every mix ran with one seed" in page.text
    assert "Few-shot" not in page.text


def test_a_sweep_without_a_method_on_both_kinds_has_no_regimes(tmp_path: Path) -> None:
    out, page = _written(SweepFolder(methods=(WEAK_ONLY, HUMAN_ONLY, PROMPTING), n_eval=50), tmp_path)
    assert "Regimes" not in page.text
    assert pl.read_parquet(out / "tables" / "regimes.parquet").height == 0
    assert "weak_sft" in page.text


@pytest.mark.parametrize("methods", [(HUMAN_ONLY,), (PROMPTING,), (Method("zero", "zero", "none"),)])
def test_a_sweep_without_weak_labels(methods: tuple[Method, ...], tmp_path: Path) -> None:
    _, page = _written(SweepFolder(methods=methods, labellers=(), n_eval=50), tmp_path)
    assert methods[0].name in page.text


def test_no_prices_and_no_budgets(tmp_path: Path) -> None:
    out = SweepFolder(n_eval=50).write(tmp_path / "sweep")
    stated = json.loads((out / "sweep.json").read_text())
    (out / "sweep.json").write_text(json.dumps({**stated, "weak_prices": [], "budgets": []}))
    pl.read_parquet(out / "grid.parquet").clear().write_parquet(out / "grid.parquet")
    write_sweep_report(out)
    assert "What was measured" in (out / "report.html").read_text()


def test_runs_without_predictions_are_shown_but_not_tested(tmp_path: Path) -> None:
    out = SweepFolder(n_eval=50).write(tmp_path / "sweep")
    for path in (out / "predictions").iterdir():
        path.unlink()
    write_sweep_report(out)
    best = pl.read_parquet(out / "tables" / "methods.parquet")
    assert best["p_value"].null_count() == best.height > 0
    assert not best["is_separable"].any()
    assert best["accuracy_elsewhere"].null_count() == best.height
    assert "runs have no predictions" in (out / "report.html").read_text()
    # Accuracies alone still tell the regimes, with less certainty.
    assert pl.read_parquet(out / "tables" / "regimes.parquet").height == 8


def test_other_items_in_one_run_are_refused(tmp_path: Path) -> None:
    out = SweepFolder(n_eval=50).write(tmp_path / "sweep")
    path = next((out / "predictions").iterdir())
    pl.read_parquet(path).reverse().write_parquet(path)
    with pytest.raises(InvalidArgumentError, match="other items"):
        find(out)


def test_a_sweep_in_which_nothing_succeeded(tmp_path: Path) -> None:
    out = SweepFolder(methods=(SEQUENTIAL,), n_eval=20, failed=range(1000)).write(tmp_path / "sweep")
    with pytest.raises(FailedPreconditionError, match="no run"):
        write_sweep_report(out)


def test_a_folder_without_results_yet(tmp_path: Path) -> None:
    out = SweepFolder(methods=(SEQUENTIAL,), n_eval=20).write(tmp_path / "sweep")
    (out / "results.parquet").unlink()
    with pytest.raises(InvalidArgumentError, match=r"no results\.parquet yet"):
        find(out)


def test_results_of_another_isocost(tmp_path: Path) -> None:
    out = SweepFolder(methods=(SEQUENTIAL,), n_eval=20).write(tmp_path / "sweep")
    pl.read_parquet(out / "results.parquet").drop("sft").write_parquet(out / "results.parquet")
    with pytest.raises(InvalidArgumentError, match="no column 'sft'"):
        find(out)


def test_the_report_twice_is_the_same(tmp_path: Path) -> None:
    out = SweepFolder(methods=(SEQUENTIAL, TWO_SHOT), n_eval=50, budgets=(16, 64)).write(tmp_path / "sweep")
    first = {path: path.read_bytes() for path in write_sweep_report(out) if path.suffix != ".parquet"}
    assert {path: path.read_bytes() for path in write_sweep_report(out) if path.suffix != ".parquet"} == first


@pytest.mark.parametrize("as_option", [False, True])
def test_the_command_prints_the_table_and_what_it_wrote(as_option: bool, tmp_path: Path) -> None:
    out = SweepFolder(methods=(SEQUENTIAL, TWO_SHOT), n_eval=100, budgets=(16, 1024), failed=(1,)).write(tmp_path / "s")
    arguments = ["report", "--out", str(out)] if as_option else ["report", str(out)]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "sequential_sft_2shot_human" in done.output
    assert re.search(r"\$0\.10 +quantity \d+ % +quality \d+ %", done.output)
    assert "1 of" in done.output
    assert "report.html" in done.output
    assert (out / "report.html").is_file()


def test_the_command_wants_one_folder(tmp_path: Path) -> None:
    for arguments in (["report"], ["report", str(tmp_path), "--out", str(tmp_path)]):
        done = CliRunner().invoke(app, arguments)
        assert isinstance(done.exception, InvalidArgumentError)
        assert done.exception.field == "DIR"
    # A folder that holds neither a sweep nor a campaign.
    assert "holds no campaign" in str(CliRunner().invoke(app, ["report", str(tmp_path)]).exception)
    out = SweepFolder(methods=(SEQUENTIAL,), n_eval=20, budgets=(16,)).write(tmp_path / "s")
    done = CliRunner().invoke(app, ["report", str(out), "--campaign", "c"])
    assert "holds a sweep" in str(done.exception)


def test_latex_escapes_everything_special() -> None:
    text = "a_b & 50% of $1 {x} #2 ~ ^ \\ <y> [z] |\nnext"
    _assert_latex(latex_table(["t", "n"], [[escape_latex(text), "1"]], caption=escape_latex(text), label="tab:x"))
    assert escape_latex("a_b") == r"a\_b"
    assert escape_latex("\\") == r"\textbackslash{}"
    with pytest.raises(ValueError, match="3 cells"):
        latex_table(["a"], [["1", "2", "3"]], caption="", label="")


def test_nothing_is_told_apart_where_all_is_the_same(tmp_path: Path) -> None:
    _, page = _written(SweepFolder(truth=flat, methods=(SEQUENTIAL, TWO_SHOT), n_eval=200), tmp_path)
    # In each column but one method's cell, which is the best, every cell has the mark.
    assert page.text.count("≈ 70.0 %") >= 4
