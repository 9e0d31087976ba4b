"""Money as whole micros of a currency: no float ever holds an amount."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from isocost.core.errors import InvalidArgumentError
from isocost.v1 import resources_pb2

__all__ = ["MICROS_MAX", "MICROS_PER_UNIT", "Money"]

MICROS_PER_UNIT = 1_000_000
#: Largest amount accepted: 9 million million units. Sums of two such amounts still fit into an int64.
MICROS_MAX = 2**62
_CURRENCY = re.compile(r"[A-Z]{3}\Z")


@dataclass(frozen=True, slots=True, order=False)
class Money:
    """An amount of money.

    Attributes:
        micros: Millionths of one unit of the currency.
        currency_code: ISO 4217 code.

    Raises:
        InvalidArgumentError: where the code is not three capital letters or the amount is out of range.
    """

    micros: int
    currency_code: str = "USD"

    def __post_init__(self) -> None:
        if not _CURRENCY.match(self.currency_code):
            raise InvalidArgumentError(
                "currency_code",
                f"{self.currency_code!r} is not an ISO 4217 code; give three capital letters, such as USD",
            )
        if abs(self.micros) > MICROS_MAX:
            raise InvalidArgumentError("micros", f"{self.micros} micros is out of range")

    @classmethod
    def parse(cls, amount: str | int | float | Decimal, currency_code: str = "USD", *, field: str = "amount") -> Money:
        """Reads an amount in units of the currency, rounding up to whole micros.

        Raises:
            InvalidArgumentError: names `field` where the amount is not a finite number.
        """
        try:
            value = Decimal(str(amount))
        except InvalidOperation:
            raise InvalidArgumentError(
                field, f"{amount!r} is not an amount of money; give a number such as 0.10"
            ) from None
        if not value.is_finite():
            raise InvalidArgumentError(field, f"{amount!r} is not a finite amount of money")
        micros = int((value * MICROS_PER_UNIT).to_integral_value(rounding="ROUND_CEILING"))
        return cls(micros, currency_code)

    @classmethod
    def from_proto(cls, message: resources_pb2.Money) -> Money:
        """Converts from the wire; an unset currency counts as USD."""
        return cls(message.micros, message.currency_code or "USD")

    def to_proto(self) -> resources_pb2.Money:
        """Converts to the wire."""
        return resources_pb2.Money(currency_code=self.currency_code, micros=self.micros)

    @property
    def units(self) -> float:
        """The amount in units of the currency, for display and charts only."""
        return self.micros / MICROS_PER_UNIT

    def __str__(self) -> str:
        value = Decimal(self.micros) / MICROS_PER_UNIT
        digits = max(2, -int(value.normalize().as_tuple().exponent)) if value else 2
        amount = f"{value:,.{digits}f}"
        return f"${amount}" if self.currency_code == "USD" else f"{amount} {self.currency_code}"
