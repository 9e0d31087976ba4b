"""Takes the figures of docs/concepts.md out of the folders that its commands wrote.

python docs/figures/take.py runs/regimes runs/demo bench/policy.svg
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
#: The charts of a campaign's report, in their order on the page.
CHARTS = ("mix", "frontier", "line", "spending")


def main() -> None:
    """Writes the figures beside this file."""
    sweep, campaign, policy = map(Path, sys.argv[1:])
    shutil.copyfile(sweep / "figures" / "mix-sequential-sft.svg", HERE / "regimes.svg")
    page = (campaign / "report.html").read_text(encoding="utf-8")
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    for name, chart in zip(CHARTS, charts, strict=True):
        if name in {"frontier", "line"}:
            (HERE / f"campaign_{name}.svg").write_text(chart + "\n", encoding="utf-8")
    shutil.copyfile(policy, HERE / "policies.svg")


if __name__ == "__main__":
    main()
