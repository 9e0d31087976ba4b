"""Figures and tables of a sweep's report as files: SVG and PNG; CSV, Parquet and LaTeX."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import vl_convert

from isocost.report.sweep.charts import Chart

__all__ = ["PNG_SCALE", "file_name", "write_figure", "write_table", "write_text"]

#: Pixels of the PNG for each of the SVG's.
PNG_SCALE = 2.0


def file_name(*parts: str) -> str:
    """A name of lower-case letters, digits and hyphens from the parts that are not empty."""
    return "-".join(cleaned for part in parts if (cleaned := re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-")))


def _write(path: Path, content: bytes) -> Path:
    """Writes a file that is whole or not there: it is written beside its place and moved."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
    return path


def write_text(path: Path, text: str) -> Path:
    """Writes a text as UTF-8."""
    return _write(path, text.encode())


def write_figure(folder: Path, name: str, chart: Chart) -> tuple[str, list[Path]]:
    """Writes NAME.svg and NAME.png; returns the SVG and the paths."""
    svg = str(vl_convert.vegalite_to_svg(chart))
    png = bytes(vl_convert.svg_to_png(svg, scale=PNG_SCALE))
    return svg, [write_text(folder / f"{name}.svg", svg), _write(folder / f"{name}.png", png)]


def write_table(folder: Path, name: str, table: pl.DataFrame, latex: str) -> list[Path]:
    """Writes NAME.csv, NAME.parquet and NAME.tex; in the CSV, lists are joined by blanks."""
    lists = [column for column, kind in table.schema.items() if isinstance(kind, pl.List)]
    flat = table.with_columns(pl.col(column).list.join(" ") for column in lists)
    parquet = folder / f"{name}.parquet"
    partial = folder / f".{name}.parquet.partial"
    folder.mkdir(parents=True, exist_ok=True)
    table.write_parquet(partial)
    partial.replace(parquet)
    return [write_text(folder / f"{name}.csv", flat.write_csv()), parquet, write_text(folder / f"{name}.tex", latex)]
