"""Plays somebody at `isocost annotate`: reads each question that it shows and presses the key of the right answer.

    python annotator.py facts.csv answers.csv runs/facts [N]

answers N items and quits, or all that wait. `facts.csv` has a row for each item, `answers.csv` each item's id and
answer.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

QUESTION = "question : has {entity} {relation} {value} ? answer :"


def main() -> int:
    """The exit code of `isocost annotate`."""
    items, answers, folder, *rest = sys.argv[1:]
    n_left = int(rest[0]) if rest else None
    with Path(answers).open(encoding="utf-8") as file:
        answer_by_id = {row["id"]: row["answer"] for row in csv.DictReader(file)}
    with Path(items).open(encoding="utf-8") as file:
        key_by_question = {QUESTION.format(**row): answer_by_id[row["id"]][0] for row in csv.DictReader(file)}
    command = ["isocost", "annotate", "--out", folder, "--annotator", "ann"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as session:
        assert session.stdin is not None
        assert session.stdout is not None
        for line in session.stdout:
            print(line, end="")
            key = key_by_question.get(line.strip())
            if key is None:
                continue
            if n_left == 0:
                key = "q"
            elif n_left is not None:
                n_left -= 1
            session.stdin.write(f"{key}\n")
    return session.returncode


if __name__ == "__main__":
    sys.exit(main())
