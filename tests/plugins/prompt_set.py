"""A prompt set: sums of two small numbers, each with its result."""

from counterclaim import Prompt, promptset


@promptset("sums", about="Sums of two numbers from 1 to 9, each with its result.")
def sums() -> list[Prompt]:
    pairs = [(a, b) for a in range(1, 10) for b in range(1, 10)]
    return [Prompt.of_text(f"What is {a} + {b}?", gold={"answer": str(a + b)}) for a, b in pairs]
