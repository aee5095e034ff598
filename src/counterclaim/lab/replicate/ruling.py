"""What is said of one reported claim."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from counterclaim.records import Estimate, Json

Word = Literal["supported", "refuted", "inconclusive", "not recomputable"]
WORDS: tuple[Word, ...] = ("supported", "refuted", "inconclusive", "not recomputable")


@dataclass(frozen=True, slots=True)
class Ruling:
    """What reported numbers support.

    Attributes:
        word: of ``WORDS``.
        because: one sentence with the numbers.
        settles: what would settle it; "" where it is settled.
        estimate: with the widest interval that the numbers allow; None where there is none.
        narrowest: the same with the narrowest; None where they do not differ.
        p: the smallest and the largest that the numbers allow.
        details: more numbers.
    """

    word: Word
    because: str
    settles: str = ""
    estimate: Estimate | None = None
    narrowest: Estimate | None = None
    p: tuple[float, float] | None = None
    details: dict[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """``estimate`` and ``narrowest`` in the contract's shape."""
        return {
            "word": self.word,
            "because": self.because,
            "settles": self.settles or None,
            "estimate": None if self.estimate is None else self.estimate.to_json(),
            "narrowest": None if self.narrowest is None else self.narrowest.to_json(),
            "p_range": None if self.p is None else list(self.p),
            "details": self.details,
        }
