"""What a labeler has done since it started: counted in its process, shown to Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

__all__ = ["Tally", "make_collector"]


@dataclass(slots=True)
class Tally:
    """Counts.

    Attributes:
        n_computed: Labels and predictions that a model made.
        n_stored: Labels that came from the store.
        n_errors: Items without a label, by reason.
        n_prompts: Prompts handed to engines, repeats after a refusal included.
        n_prompt_tokens: Their tokens.
    """

    n_computed: int = 0
    n_stored: int = 0
    n_errors: Counter[str] = field(default_factory=Counter)
    n_prompts: int = 0
    n_prompt_tokens: int = 0


def make_collector(tally: Tally) -> Collector | None:
    """Counters for Prometheus, or None where its library is not installed.

    - `isocost_labeler_labels_total`, by `origin`: computed or stored
    - `isocost_labeler_item_errors_total`, by `reason`
    - `isocost_labeler_prompts_total`, `isocost_labeler_prompt_tokens_total`
    """
    try:
        from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - an extra
        from prometheus_client.registry import Collector  # noqa: PLC0415
    except ImportError:
        return None

    class TallyCollector(Collector):
        def collect(self) -> Iterable[Metric]:
            labels = CounterMetricFamily("isocost_labeler_labels", "Items answered.", labels=["origin"])
            labels.add_metric(["computed"], tally.n_computed)
            labels.add_metric(["stored"], tally.n_stored)
            errors = CounterMetricFamily("isocost_labeler_item_errors", "Items without a label.", labels=["reason"])
            for reason, count in tally.n_errors.items():
                errors.add_metric([reason.lower()], count)
            prompts = CounterMetricFamily("isocost_labeler_prompts", "Prompts sent to engines.", value=tally.n_prompts)
            tokens = CounterMetricFamily(
                "isocost_labeler_prompt_tokens", "Tokens of these prompts.", value=tally.n_prompt_tokens
            )
            return (labels, errors, prompts, tokens)

    return TallyCollector()
