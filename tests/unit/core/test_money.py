import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocost.core.errors import InvalidArgumentError
from isocost.core.money import MICROS_MAX, Money


@pytest.mark.parametrize(
    ("amount", "micros"),
    [("0.10", 100_000), (1, 1_000_000), (0.1, 100_000), ("0.0000001", 1), ("-2.5", -2_500_000)],
)
def test_parse_rounds_up_to_whole_micros(amount: object, micros: int) -> None:
    assert Money.parse(amount).micros == micros  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", ["a lot", "nan", "inf", "", "1e30"])
def test_parse_refuses_what_is_no_amount(amount: str) -> None:
    with pytest.raises(InvalidArgumentError):
        Money.parse(amount, field="budget")


def test_parse_names_the_field() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^budget: "):
        Money.parse("a lot", field="budget")


@pytest.mark.parametrize("code", ["usd", "US", "DOLLAR", ""])
def test_currency_is_an_iso_code(code: str) -> None:
    with pytest.raises(InvalidArgumentError, match="currency_code"):
        Money(1, code)


@given(st.integers(-MICROS_MAX, MICROS_MAX), st.sampled_from(["USD", "EUR", "JPY"]))
def test_wire_round_trip(micros: int, currency: str) -> None:
    money = Money(micros, currency)
    assert Money.from_proto(money.to_proto()) == money


@pytest.mark.parametrize(
    ("money", "text"),
    [
        (Money(100_000), "$0.10"),
        (Money(1_234_567_890), "$1,234.56789"),
        (Money(0), "$0.00"),
        (Money(5), "$0.000005"),
        (Money(2_500_000, "EUR"), "2.50 EUR"),
    ],
)
def test_text_shows_every_micro(money: Money, text: str) -> None:
    assert str(money) == text
