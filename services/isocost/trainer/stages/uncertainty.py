"""Which labels a model learns most from: those of the items it is least certain about.

Legend of the shape suffixes: n items, c choices.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["most_uncertain"]


def most_uncertain(probabilities_nc: npt.NDArray[np.float64], n_chosen: int, n_given: int = 0) -> list[int]:
    """Rows of the items with the highest predictive entropy (uncertainty sampling; Lewis & Gale 1994).

    The first n_given rows are among them in any case, and come first. More chosen rows go behind fewer: the choice of n
    is the beginning of that of n + 1.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        terms_nc = np.where(probabilities_nc > 0, probabilities_nc * np.log(probabilities_nc), 0.0)
    order = n_given + np.argsort(terms_nc[n_given:].sum(axis=-1), kind="stable")
    return [*range(n_given), *order.tolist()][:n_chosen]
