from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import recall_score

from isocost.economics.source_quality import MeasuredLabel, measure_source


def test_measuring_counts_and_averages() -> None:
    draw = np.random.default_rng(0)
    rows = draw.dirichlet([1, 1, 1], 60)
    human = draw.integers(0, 3, 60)
    labels = [
        MeasuredLabel(tuple(row.tolist()), int(choice), 0.5 if index % 2 else 0.0, 10 + index)
        for index, (row, choice) in enumerate(zip(rows, human, strict=True))
    ]
    measured = measure_source(labels, n_choices=3, price_micros=7)
    assert (measured.n_measured, measured.n_right) == (60, int((rows.argmax(axis=1) == human).sum()))
    assert measured.recalls == pytest.approx(recall_score(human, rows.argmax(axis=1), average=None).tolist())
    # Where the mass is not known it is not counted as none.
    assert measured.choices_mass == 0.5
    assert measured.price_micros == pytest.approx(39.5)
    low, high = measured.accuracy_interval
    assert low <= measured.accuracy <= high


def test_what_is_not_measured_counts_as_a_guesser_at_its_own_price() -> None:
    measured = measure_source([], n_choices=4, price_micros=7)
    assert (measured.accuracy, measured.accuracy_interval, measured.price_micros) == (0.25, (0.0, 1.0), 7.0)
    assert measured.recalls == (None,) * 4
    assert measured.choices_mass is None
