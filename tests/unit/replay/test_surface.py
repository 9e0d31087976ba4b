from __future__ import annotations

from pathlib import Path

import pytest

from isocost.core.errors import InvalidArgumentError
from isocost.replay.surface import COLUMNS, SurfacePoint, read_surface

_HEADER = ",".join(COLUMNS)
_ROW = "sciq,Qwen,Llama,sequential_sft,0,8,0.5,,1,"


def _write(folder: Path, text: str) -> Path:
    path = folder / "surface.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_surface_is_read_with_and_without_spread(tmp_path: Path) -> None:
    surface = read_surface(_write(tmp_path, f"{_HEADER}\n{_ROW}\n\nsciq,,,,160,8.0,.75,0.02,,0.7\n"))
    assert (surface.name, surface.dataset, surface.method) == ("surface.csv", "sciq", "sequential_sft")
    assert surface.points == (SurfacePoint(0, 8, 0.5), SurfacePoint(160, 8, 0.75, 0.02))


def test_columns_may_come_in_any_order_and_those_not_needed_may_lack(tmp_path: Path) -> None:
    text = "\ufeffn_human, accuracy,n_weak,dataset,accuracy_std,note\n8,0.5,16,sciq,,x\n"
    surface = read_surface(_write(tmp_path, text))
    assert surface.points == (SurfacePoint(16, 8, 0.5),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("is empty", "dataset, weak_model")),
        (f"{_HEADER}\n", ("holds no point",)),
        (f"{_HEADER.replace(',accuracy,', ',')}\n{_ROW}\n", ("row 1", "'accuracy'", "missing")),
        (f"{_HEADER},accuracy\n{_ROW},1\n", ("row 1", "'accuracy'", "twice")),
        (f"{_HEADER}\n{_ROW}\n{_ROW}\n", ("row 3", "'n_weak'", "(0, 8)", "row 2")),
        (f"{_HEADER}\n{_ROW.replace('0.5', '1.2')}\n", ("row 2", "'accuracy'", "'1.2'")),
        (f"{_HEADER}\n{_ROW.replace('0.5', '-0.1')}\n", ("row 2", "'accuracy'", "'-0.1'")),
        (f"{_HEADER}\n{_ROW.replace('0.5', 'nan')}\n", ("row 2", "'accuracy'", "'nan'", "not a number")),
        (f"{_HEADER}\n{_ROW.replace('0.5', '')}\n", ("row 2", "'accuracy'", "not a number")),
        (f"{_HEADER}\n{_ROW.replace('0.5,', '0.5,-1')}\n", ("row 2", "'accuracy_std'", "'-1'")),
        (f"{_HEADER}\n{_ROW}\n{_ROW.replace(',0,8,', ',-5,8,')}\n", ("row 3", "'n_weak'", "'-5'")),
        (f"{_HEADER}\n{_ROW.replace(',0,8,', ',0,8.5,')}\n", ("row 2", "'n_human'", "'8.5'")),
        (f"{_HEADER}\n{_ROW.replace(',0,8,', ',0,many,')}\n", ("row 2", "'n_human'", "'many'")),
        (f"{_HEADER}\n{_ROW.replace(',0,8,', ',0,0,')}\n", ("row 2", "'n_weak'", "at least one")),
        (
            f"{_HEADER}\n{_ROW}\n{_ROW.replace('sciq', 'boolq').replace(',8,', ',9,')}\n",
            ("row 3", "'dataset'", "'boolq'"),
        ),
        (f"{_HEADER}\n{_ROW.replace('sciq', '')}\n", ("row 2", "'dataset'", "empty")),
        (f"{_HEADER}\n{_ROW},1,2\n", ("row 2", "12 values", "10")),
        (f"{_HEADER}\nsciq,a,b\n", ("row 2", "'method'", "3 values")),
    ],
)
def test_a_bad_file_is_one_message_that_says_where(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(InvalidArgumentError) as caught:
        read_surface(path)
    assert caught.value.field == "FILE"
    for word in (str(path), *words):
        assert word in caught.value.message


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    for name in ("none.csv", "binary.csv"):
        with pytest.raises(InvalidArgumentError, match=name):
            read_surface(tmp_path / name)
