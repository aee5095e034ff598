"""How often an answer changes with the size of the batch it was made in; with keyed sampling only rounding can change it.

python scripts/batch_invariance.py [MODEL] [PROMPTS]
"""

from __future__ import annotations

import sys

from counterclaim.lab.config import PromptChoice
from counterclaim.lab.models import open_model
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.records import Decode
from counterclaim.registry import Ask, ModelSpec, Runtime

SIZES = (1, 7, 64)
TEMPERATURES = (0.0, 0.7, 1.0)


def answers(model: str, asks: list[Ask], batch_size: int, temperature: float) -> list[str | None]:
    """The texts, in the order of ``asks``."""
    opened = open_model(ModelSpec(model), Runtime(batch_size=batch_size))
    decode = Decode(48, temperature=temperature, seed=1)
    made = {i: answer.text for batch in opened.answer(asks, decode) for i, answer in batch}
    opened.close()
    return [made[i] for i in range(len(asks))]


def main() -> None:
    model, prompts = (*sys.argv[1:], *("tiny:qwen3", "tiny")[len(sys.argv) - 1 :])
    asks = [Ask(prompt.id, prompt.messages) for prompt in choose_prompts(PromptChoice(prompts, limit=200))]
    for temperature in TEMPERATURES:
        alone = answers(model, asks, SIZES[0], temperature)
        for size in SIZES[1:]:
            same = sum(a == b for a, b in zip(alone, answers(model, asks, size, temperature), strict=True))
            print(
                f"temperature {temperature}, batches of {size} against {SIZES[0]}: {same} of {len(asks)} answers equal"
            )


if __name__ == "__main__":
    main()
