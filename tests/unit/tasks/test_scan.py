"""Files that are read row by row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from isocost.core.errors import InvalidArgumentError
from isocost.tasks.scan import Scan

N_ROWS = 2_000
#: Of the large file, and of what reading it may add to a process: the readers' own buffers take most of it.
LARGE_MIB, GROWTH_MIB_MAX = 700, 420

_READER = """
import resource, sys
from pathlib import Path
from isocost.tasks.scan import Scan
scan = Scan(Path(sys.argv[1]), field="--input")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
n_rows = sum(1 for row in scan.rows(["text"]) if len(row["text"]) > 1000)
print(scan.count(), n_rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def write(folder: Path, suffix: str) -> Path:
    frame = pl.DataFrame({"id": [f"r{n}" for n in range(N_ROWS)], "n": range(N_ROWS), "other": ["x"] * N_ROWS})
    path = folder / f"rows{suffix}"
    if suffix == ".csv":
        frame.write_csv(path)
    elif suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_come_in_order_and_from_any_place(tmp_path: Path, suffix: str) -> None:
    scan = Scan(write(tmp_path, suffix), field="--input")
    assert scan.columns == ("id", "n", "other")
    assert scan.count() == N_ROWS
    expected = [{"n": str(n), "id": f"r{n}"} for n in range(N_ROWS)]
    assert list(scan.rows(["n", "id"])) == expected
    assert list(scan.rows(["n", "id"], start=700, stop=1300)) == expected[700:1300]
    assert list(scan.rows(["n", "id"], start=1990)) == expected[1990:]


def test_text_far_below_numbers_is_text(tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    path.write_text("n,text\n" + "".join(f"00{n},\n" for n in range(1_000)) + 'word,"two\nlines"\n')
    rows = list(Scan(path, field="--input").rows(["n", "text"]))
    assert rows[5] == {"n": "005", "text": ""}
    assert rows[-1] == {"n": "word", "text": "two\nlines"}


def test_a_bad_line_of_json_is_an_error_of_its_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n\n{"text": 7, "more": [1]}\nnot json\n[1]\n{"more": true}\n{"text": "b"}\n')
    scan = Scan(path, field="--input")
    assert scan.count() == 6
    rows = list(scan.rows(["text", "more"]))
    assert rows[0] == {"text": "a", "more": ""}
    assert rows[1] == {"text": "7", "more": "[1]"}
    assert isinstance(rows[2], str)
    assert "not JSON" in rows[2]
    assert isinstance(rows[3], str)
    assert "no JSON object" in rows[3]
    assert rows[4:] == [{"text": "", "more": "true"}, {"text": "b", "more": ""}]


def test_a_malformed_csv_is_found_by_counting(tmp_path: Path) -> None:
    path = tmp_path / "ragged.csv"
    path.write_text("a,b\n" + "1,2\n" * 5_000 + "1,2,3\n")
    with pytest.raises(
        InvalidArgumentError, match=r"--input: .*ragged\.csv' is not a readable csv file: .*more fields"
    ):
        Scan(path, field="--input").count()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.txt", "a", "no known suffix; give a .csv, .jsonl or .parquet file"),
        ("none.csv", None, "there is no file"),
        ("empty.csv", "", "has no rows"),
        ("empty.jsonl", "\n", "has no rows"),
        ("list.jsonl", "[1]\n", "holds no JSON objects"),
        ("rows.parquet", "not parquet", "not a readable parquet file"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        Scan(tmp_path / name, field="--input")
    assert caught.value.field == "--input"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_large_file_is_not_held_in_memory(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"large{suffix}"
    text = "word " * 20_000
    n_rows = LARGE_MIB * (1 << 20) // len(text)
    with path.open("w") as file:
        file.write("text\n" if suffix == ".csv" else "")
        for number in range(n_rows):
            file.write(f"{number} {text}\n" if suffix == ".csv" else json.dumps({"text": f"{number} {text}"}) + "\n")
    done = subprocess.run([sys.executable, "-c", _READER, path], capture_output=True, text=True, check=True)
    path.unlink()
    n_counted, n_read, growth_mib = map(int, done.stdout.split())
    assert (n_counted, n_read) == (n_rows, n_rows)
    assert growth_mib < GROWTH_MIB_MAX
