"""Tables of a sweep as LaTeX, for `\\input` in a paper; they need the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["escape_latex", "latex_table"]

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # Brackets after a line's end would be read as its optional argument.
    "[": "{[}",
    "]": "{]}",
}


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands; line ends become spaces."""
    return "".join(_ESCAPES.get(character, character) for character in " ".join(text.split()))


def latex_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str, label: str, n_text_columns: int = 1
) -> str:
    """A `table` with `booktabs` rules.

    Args:
        header: LaTeX of the headings.
        rows: LaTeX of the cells, as many as there are headings; use `escape_latex` for text from outside.
        caption: LaTeX of the caption.
        label: For `\\ref`.
        n_text_columns: Leading columns that are set left; the others are set right.

    Raises:
        ValueError: where a row has another number of cells than the header.
    """
    wrong = [row for row in rows if len(row) != len(header)]
    if wrong:
        raise ValueError(f"a row has {len(wrong[0])} cells, the header {len(header)}")
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{caption}}}",
        rf"  \label{{{label}}}",
        rf"  \begin{{tabular}}{{{'l' * n_text_columns}{'r' * (len(header) - n_text_columns)}}}",
        r"    \toprule",
        f"    {' & '.join(header)} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(row)} \\\\" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
