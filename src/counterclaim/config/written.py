"""Numbers as a file writes them: 0.450 has three decimals, and says more than 0.45 does."""

from __future__ import annotations

from decimal import Decimal
from typing import Any


class Written(float):
    """A number that knows how it was written.

    Attributes:
        decimals: how many; 0 for whole numbers, 5 for 1e-05.
    """

    decimals: int

    def __new__(cls, literal: str | float) -> Written:
        """Read a number from its literal; from a float, as Python prints it."""
        made = super().__new__(cls, literal)
        exponent = Decimal(str(literal)).as_tuple().exponent
        made.decimals = max(0, -exponent) if isinstance(exponent, int) else 0
        return made

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """A finite number, which stays as it was written."""
        from pydantic_core.core_schema import float_schema, no_info_wrap_validator_function

        return no_info_wrap_validator_function(cls._kept, float_schema(allow_inf_nan=False))

    @classmethod
    def _kept(cls, value: Any, valid: Any) -> Written:
        checked = valid(value)
        return value if isinstance(value, cls) else cls(value if type(value) is int else checked)


def decimals_of(number: float) -> int:
    """In how many decimals a number was written: those of its literal, or, where there is none, as Python prints it."""
    return (number if isinstance(number, Written) else Written(number)).decimals


def as_written(number: float) -> str:
    """A number in the decimals in which it was written."""
    return f"{number:.{decimals_of(number)}f}"


def rounds_to(found: float, stated: float, decimals: int | None = None) -> bool:
    """Whether a number rounds to the one that was stated, halves either way.

    Args:
        found: the exact number.
        stated: the rounded one.
        decimals: to how many it was rounded; those of ``decimals_of`` where None.
    """
    unit = 10.0 ** -(decimals_of(stated) if decimals is None else decimals)
    return abs(found - stated) <= unit / 2 * (1 + 1e-6) + 1e-12 * abs(stated)
