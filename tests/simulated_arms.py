"""Simulated arms of answers whose true endings are known, and a token splitter to cut them with.

The splitter is not the estimator under test: it breaks words by a hash of the word, so that its token counts
and the estimates disagree as two vocabularies do.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable

_SYLLABLES = re.findall(r"\w+", "ba co di fe gra hol in jun kem lo mar ne os pri que ros sta ten ul vor wen xi yor zel")
_SMALL = re.findall(r"\w+", "the a of to and in is that for with as on by it this from at or an be are")
_PIECE = re.compile(r" ?[A-Za-z]+| ?\d| ?[^\w\s]{1,2}|\n+| +|\w")


def split_tokens(text: str) -> list[str]:
    """Tokens whose concatenation is the text: most words whole, some long ones in two or three pieces."""
    tokens = []
    for piece in _PIECE.findall(text):
        core = piece.strip()
        if tokens and core > "\u4e00" and tokens[-1] > "\u4e00" and zlib.crc32((tokens[-1] + core).encode()) % 5 < 2:
            tokens[-1] += core  # some pairs of Chinese characters are one token
            continue
        parts = 1
        if core.isalpha() and len(core) > 5:
            parts = (1, 1, 1, 1, 1, 2, 2, 3)[zlib.crc32(core.lower().encode()) % 8]
        size = -(-len(piece) // parts)
        tokens += [piece[i : i + size] for i in range(0, len(piece), size)]
    return tokens


def cut(text: str, budget: int) -> tuple[str, bool]:
    """The text after ``budget`` tokens, and whether that cut anything off."""
    tokens = split_tokens(text)
    return ("".join(tokens[:budget]), True) if len(tokens) > budget else (text, False)


def word(rng: random.Random) -> str:
    if rng.random() < 0.42:
        return rng.choice(_SMALL)
    return "".join(rng.choices(_SYLLABLES, k=rng.choice((1, 2, 2, 3, 3, 4))))


def sentence(rng: random.Random, low: int = 6, high: int = 24) -> str:
    words = [word(rng) for _ in range(rng.randint(low, high) - 1)]
    # A finished sentence does not end in an article.
    words.append("".join(rng.choices(_SYLLABLES, k=3)))
    if len(words) > 10 and rng.random() < 0.5:
        words[rng.randint(3, 8)] += ","
    if rng.random() < 0.1:
        words[2] = f"({words[2]})"
    return " ".join(words).capitalize() + rng.choice("......?!")


def prose(rng: random.Random, words: float) -> str:
    out: list[str] = []
    while sum(len(part.split()) for part in out) < words:
        out.append(sentence(rng))
        if rng.random() < 0.25:
            out[-1] += "\n\n"
    return " ".join(out).replace("\n\n ", "\n\n").strip()


def markdown(rng: random.Random, words: float) -> str:
    out = [sentence(rng), ""]
    while sum(len(line.split()) for line in out) < words:
        out += [f"## {word(rng).capitalize()} {word(rng)}", ""]
        out += [f"* **{word(rng).capitalize()} {word(rng)}:** {sentence(rng)}" for _ in range(rng.randint(2, 5))]
        out += ["", sentence(rng), ""]
    return "\n".join(out).strip()


def bare_lists(rng: random.Random, words: float) -> str:
    """Lists whose items, the last one too, have no full stop."""
    lines = [sentence(rng)]
    while sum(len(line.split()) for line in lines) < words:
        lines.append("- " + sentence(rng, 4, 9)[:-1])
    return "\n".join(lines)


def tables(rng: random.Random, words: float) -> str:
    rows = [sentence(rng), "", "| Name | Value | Why |", "| --- | --- | --- |"]
    while sum(len(row.split()) for row in rows) < words:
        rows.append(f"| {word(rng)} | {rng.randint(1, 99)} | {sentence(rng, 4, 9)[:-1]} |")
    return "\n".join(rows)


def code(rng: random.Random, words: float) -> str:
    """A fenced block and nothing behind it."""
    lines = [sentence(rng), "", "```python", f"def {word(rng)}_f(x, values):"]
    for i in range(max(2, int(words / 6))):
        lines.append(f"    step_{i} = x * {rng.randint(2, 99)} + len(values[{i}:])")
        if rng.random() < 0.2:
            lines.append(f"    if step_{i} > {rng.randint(2, 99)}:\n        return step_{i}")
    return "\n".join([*lines, "    return x", "```"])


def completions(rng: random.Random, words: float) -> str:
    """Bodies of functions, as code benchmarks keep them."""
    lines = [f"    total_{i} = sum(values[{i}:]) * {rng.randint(2, 99)}" for i in range(max(2, int(words / 8)))]
    return "\n".join([*lines, f"    return total_{len(lines) - 1}"])


def poems(rng: random.Random, words: float) -> str:
    lines = [sentence(rng, 5, 8)[:-1] + ("\n" if i % 4 == 3 else "") for i in range(max(4, int(words / 6)))]
    return "\n".join(lines).strip()


def chinese(rng: random.Random, words: float) -> str:
    out = []
    while sum(map(len, out)) < 1.5 * words:
        clause = lambda: "".join(chr(rng.randint(0x4E00, 0x5E00)) for _ in range(rng.randint(5, 14)))  # noqa: E731
        out.append(clause() + "，" + clause() + "。")
    return "".join(out)


def emails(rng: random.Random, words: float) -> str:
    return f"Dear {word(rng).capitalize()},\n\n{prose(rng, words)}\n\nKind regards,\n{word(rng).capitalize()}"


def chatty(rng: random.Random, words: float) -> str:
    return prose(rng, words) + " " + rng.choice(("😊", "Hope this helps! 🚀", "**Enjoy!**", "Let me know (or not)."))


def final_answers(rng: random.Random, words: float) -> str:
    """Worked answers that end in a bare number."""
    return prose(rng, words / 2) + f"\n#### {rng.randint(1, 5000)}"


def letters(rng: random.Random, words: float) -> str:
    return rng.choice("ABCD")


def short_answers(rng: random.Random, words: float) -> str:
    return " ".join(word(rng).capitalize() for _ in range(rng.randint(1, 6)))


STYLES: dict[str, Callable[[random.Random, float], str]] = {
    "prose": prose, "markdown": markdown, "bare_lists": bare_lists, "tables": tables, "code": code,
    "completions": completions, "poems": poems, "chinese": chinese, "emails": emails, "chatty": chatty,
    "final_answers": final_answers, "letters": letters, "short_answers": short_answers,
}  # fmt: skip


def arm(style: str, n: int, seed: int, *, mean_words: float = 150.0, spread: float = 0.5) -> list[str]:
    """``n`` finished answers of one style, log-normal in length; ``mixed`` draws a style per answer."""
    rng = random.Random(f"{style}/{seed}")
    pool = ["prose", "markdown", "code", "emails", "chatty", "final_answers", "bare_lists"]
    return [
        STYLES[rng.choice(pool) if style == "mixed" else style](rng, rng.lognormvariate(0, spread) * mean_words)
        for _ in range(n)
    ]


def cut_arm(
    style: str, n: int, seed: int, share: float, *, mean_words: float = 150.0
) -> tuple[list[str], list[bool], int]:
    """An arm cut at the token budget that cuts ``share`` of it: texts, which were cut, the budget."""
    texts = arm(style, n, seed, mean_words=mean_words)
    lengths = sorted(len(split_tokens(text)) for text in texts)
    budget = max(1, lengths[min(n - 1, max(0, round((1 - share) * n) - 1))])
    pairs = [cut(text, budget) for text in texts]
    return [text for text, _ in pairs], [was_cut for _, was_cut in pairs], budget
