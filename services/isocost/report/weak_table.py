"""The weak sources as a table for people: the same cells in the report and on the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from isocost.economics.calibration import CalibrationReport
from isocost.report.evidence import Evidence

__all__ = ["WeakSourceRow", "weak_source_rows"]

_UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class WeakSourceRow:
    """One weak source, as text; "-" where a cell is not known.

    Attributes:
        source: Its id.
        chosen: Whether labels were bought from it.
        price: Fixed, or metered and the most that a label may cost.
        price_in_short: Without the most.
        mean_price: What a label cost on average.
        accuracy, interval: Measured against human labels, with its 95 % interval.
        n_measured: Items that it was measured on.
        choices_mass: Mean probability of the choices before normalising.
        calibration: Method, temperature, and the negative log-likelihood without and with it.
    """

    source: str
    chosen: bool
    price: str
    price_in_short: str
    mean_price: str
    accuracy: str
    interval: str
    n_measured: str
    choices_mass: str
    calibration: str


def weak_source_rows(evidence: Evidence) -> list[WeakSourceRow]:
    """One row a weak source, in the order of the campaign file."""
    rows = []
    for weak in evidence.weak_sources.sources:
        source, quality = weak.source, weak.quality
        metered = source.price_per_million_tokens
        price = f"{metered} per million tokens, at most {source.unit_price}" if metered else str(source.unit_price)
        low, high = quality.accuracy_interval
        rows.append(
            WeakSourceRow(
                source=source.source_id,
                chosen=source.source_id == evidence.weak_sources.chosen,
                price=price,
                price_in_short=f"{metered}/M tokens" if metered else price,
                mean_price=str(evidence.mean_price(source.source_id) or _UNKNOWN),
                accuracy=f"{100 * quality.accuracy:.1f} %" if quality.n_measured else _UNKNOWN,
                interval=f"{100 * low:.1f} to {100 * high:.1f}" if quality.n_measured else _UNKNOWN,
                n_measured=f"{quality.n_measured:,}",
                choices_mass=_UNKNOWN if quality.choices_mass is None else f"{quality.choices_mass:.2f}",
                calibration=_calibration(weak.calibration) if weak.calibration else "none",
            )
        )
    return rows


def _calibration(report: CalibrationReport) -> str:
    temperature = "" if report.temperature is None else f" {report.temperature:.2f}"
    nll = f"NLL {report.nll_before:.2f} to {report.nll_after:.2f}"
    return f"{report.method.value}{temperature}, {nll}{'' if report.used else '; not used'}"
