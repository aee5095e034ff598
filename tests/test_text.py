"""Readings of a text: size, ending, style, n-grams."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterclaim.text import (
    STYLE_FEATURES,
    content_words,
    end_signs,
    estimate_tokens,
    hash_words,
    looks_like_python,
    parses_as_python,
    piece_ends,
    split_think,
    style,
    word_ngrams,
    words_of,
)
from simulated_arms import arm, split_tokens


def hash_ngrams(text: str, n: int) -> np.ndarray:
    return hash_words([text]).ngrams(n)[0]


# --- size ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["eval_baseline.json", "eval_full_ddv2.json"])
def test_estimate_is_steady_on_answers_of_one_token_length(paper: Path, name: str) -> None:
    texts = [row["response"] for row in json.loads((paper / name).read_text(encoding="utf-8"))["rows"]]
    cut = [text for text in texts if len(text) > 1300]  # one of the 200 finished early
    sizes = np.array([estimate_tokens(text) for text in cut])
    chars = np.array([len(text) for text in cut])
    assert sizes.mean() == pytest.approx(512, rel=0.01)
    assert sizes.std() / sizes.mean() < 0.016
    assert chars.std() / chars.mean() > 3 * sizes.std() / sizes.mean()


@pytest.mark.parametrize("kind", ["prose", "markdown", "code", "tables"])
def test_estimate_follows_another_vocabulary(kind: str) -> None:
    ratios = np.array([estimate_tokens(text) / len(split_tokens(text)) for text in arm(kind, 40, 0)])
    assert ratios.std() / ratios.mean() < 0.06
    assert 0.8 < ratios.mean() < 1.25


@given(st.text())
def test_estimate_counts_pieces_and_never_fails(text: str) -> None:
    ends = piece_ends(text)
    assert estimate_tokens(text) == pytest.approx(1.05 * len(ends))
    assert ends == sorted(set(ends))


# --- endings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "It is done.",
        'He said "no."',
        "**Enjoy!**",
        "See you (soon).",
        "Good luck! 😊🎉",
        "Hope this helps 🚀",
        "完成了。",
        "Use this:\n```python\nx = 1\n```",
        "| a | b |\n| --- | --- |\n| 1 | 2 |",
        "So the answer is \\boxed{\\frac{1}{2}}",
        "Text\n#### 42",
        '{"answer": [1, 2]}',
        "def f(x):\n    return x + 1",
        "    total = 0\n    for v in values:\n        total += v\n    return total",
        "<answer>42</answer>",
        "He did not know…",
    ],
)
def test_complete_endings(text: str) -> None:
    assert end_signs(text).complete, end_signs(text)


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("Like so:\n```python\ndef f(x):", "open_fence"),
        ("Steps.\n\n* **Whisk vig", "open_bold"),
        ("| a | b |\n| --- | --- |\n| 1 | 2", "open_table"),
        ("| a | b |\n| --- | --- |", "open_table"),
        ("| a | b | c |\n| --- | --- | --- |\n| 1 |", "open_table"),
        ("It is warm (about 20", "open_bracket"),
        ("<think>Let me see. It is", "open_think"),
        ("First do this.\n\n3.", "bare_item"),
        ("First do this.\n- ", "bare_item"),
        ("First do this.\n\n---", "bare_item"),
        ("Done that.\n\n## Step 2", "open_heading"),
        ("It depends on the", "dangling"),
        ("We need eggs, flour,", "dangling"),
        ("Here is how:", "dangling"),
        ("It has a high-", "dangling"),
        ("我们需要，", "dangling"),
    ],
)
def test_broken_endings(text: str, sign: str) -> None:
    signs = end_signs(text)
    assert getattr(signs, sign), signs
    assert signs.broken
    assert not signs.complete


@pytest.mark.parametrize("text", ["Kind regards,\nAnna", "The answer is 42", "Paris", "take vitamin A"])
def test_plain_word_endings_say_nothing(text: str) -> None:
    signs = end_signs(text)
    assert not signs.complete
    assert not signs.broken


def test_an_enumeration_or_emoticon_opens_no_bracket() -> None:
    assert not end_signs("a) first\nb) second :( but fine.").open_bracket


@given(st.text())
def test_end_signs_hold_together(text: str) -> None:
    signs = end_signs(text)
    assert not (signs.complete and signs.broken)
    assert signs.empty == (not text.strip())


def test_python_is_told_from_prose() -> None:
    assert looks_like_python("import os\nx = 1\nprint(x)")
    assert not looks_like_python("It is a fine day.\nLet us go.")
    assert parses_as_python("    return x")
    assert not parses_as_python("    return (x")
    assert not parses_as_python("\0")


# --- style --------------------------------------------------------------------------------------------------


def test_style_has_its_features_in_order() -> None:
    assert tuple(style("")) == tuple(style("A b. 😊")) == STYLE_FEATURES


def test_style_counts() -> None:
    text = (
        "Great question! I think it might rain, perhaps.\n\n## Why\n\n- **Clouds** gather\n- Let me check: wait, "
        "double-check that.\n\n```\ncode\n```\n| a | b |\n😊"
    )
    found = style(text)
    assert found["opener_praise"] == 1
    assert found["headings"] == 1
    assert found["bullets"] == 2
    assert found["bold"] == 1
    assert found["code_fences"] == 1
    assert found["tables"] == 1
    assert found["emoji"] == 1
    assert found["exclamations"] == 1
    assert found["hedges"] == pytest.approx(300 / found["n_words"])  # I think, might, perhaps
    assert found["self_verification"] == pytest.approx(300 / found["n_words"])  # let me check, wait, double-check


def test_plain_statements_have_no_hedge_and_no_verification() -> None:
    found = style("The mighty waiter serves the correct dish. The May fair opens at noon.")
    assert found["hedges"] == found["self_verification"] == 0


def test_thoughts_are_counted_apart() -> None:
    for text in ("<think>one two three</think>Yes it is.", "one two three</think>Yes it is."):
        assert split_think(text) == ("one two three", "Yes it is.")
        assert style(text)["think_words"] == 3
        assert style(text)["n_words"] == 3
    assert split_think("<think>never closed") == ("never closed", "")
    assert split_think("<think>hm</think>Sure, I can help.")[1] == "Sure, I can help."


def test_repetition_is_the_share_of_repeated_four_grams() -> None:
    assert style("a b c d e f g h")["repetition"] == 0
    assert style("one two three four " * 10)["repetition"] == pytest.approx(1 - 4 / 37)


# --- n-grams ------------------------------------------------------------------------------------------------


def test_words_are_normalised() -> None:
    assert words_of("The QUICK, brown—fox's") == ["the", "quick", "brown", "fox", "s"]
    assert words_of("ｆｕｌｌ Straße 你好") == ["full", "strasse", "你", "好"]
    assert word_ngrams("a b c d", 3) == ["a b c", "b c d"]
    assert word_ngrams("a b", 3) == []
    with pytest.raises(ValueError, match="n counts from 1"):
        word_ngrams("a", 0)


@given(st.lists(st.text(), max_size=6), st.integers(1, 4))
def test_hashes_are_the_ngrams(texts: list[str], n: int) -> None:
    """Hashes agree with the readable n-grams: same number, equal exactly where the n-grams are equal."""
    grams = [gram for text in texts for gram in word_ngrams(text, n)]
    hashes = [int(value) for text in texts for value in hash_ngrams(text, n)]
    assert len(hashes) == len(grams)
    assert len(set(hashes)) == len(set(grams)) == len(set(zip(grams, hashes, strict=True)))
    together = hash_words(texts)
    values, start = together.ngrams(n)
    assert values.tolist() == hashes
    assert values.dtype == np.uint64
    assert np.bincount(together.row[start], minlength=len(texts)).tolist() == [len(word_ngrams(t, n)) for t in texts]


def test_hashes_are_the_same_in_every_process() -> None:
    code = "from counterclaim.text import hash_words; print(hash_words(['the quick brown fox']).ngrams(2)[0].tolist())"
    seen = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    }
    assert seen == {f"{hash_ngrams('The quick, brown fox!', 2).tolist()}\n"}


def test_hashes_do_not_collide_on_many_words() -> None:
    words = " ".join(f"w{i}" for i in range(100_000))
    assert len(np.unique(hash_ngrams(words, 1))) == 100_000
    assert len(np.unique(hash_ngrams(words, 3))) == 99_998


def test_content_words_are_no_stop_words() -> None:
    assert content_words("How do I whisk eggs?") == {"whisk", "eggs"}
    assert content_words("How do I do it?") == set()
    assert content_words("你好 a b") == {"你", "好"}
