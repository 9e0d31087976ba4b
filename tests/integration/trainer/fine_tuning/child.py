"""Executes a run until it ends or is killed: `python child.py STATE_DIR URL`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[4]))

from tests.integration.trainer.fine_tuning.scene import Scene

if __name__ == "__main__":
    scene = Scene(Path(sys.argv[1]), sys.argv[2], {"predictions_in_flight": 1})
    scene.execute(scene.resolve())
