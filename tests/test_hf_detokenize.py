"""Text grows token by token into what the tokenizer decodes, and any shorter prefix is what a smaller budget gives."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hf_models
from counterclaim.lab.models.hf.detokenize import Decoder, Detokenizer, decoder_of, detokenized

KINDS = ("byte-level", "sentencepiece")
UNFINISHED = "\N{REPLACEMENT CHARACTER}"


@cache
def tokenizer(kind: str):  # type: ignore[no-untyped-def]  # transformers names no common type
    return hf_models.byte_level_tokenizer() if kind == "byte-level" else hf_models.sentencepiece_tokenizer()


@cache
def decoder(kind: str) -> Decoder:
    return decoder_of(tokenizer(kind))


def prefixes(made: Detokenizer) -> list[str]:
    return [made.text[: sum(made.token_chars[:k])] for k in range(len(made.token_chars) + 1)]


WORDS = st.text(
    st.sampled_from("abc the mill, oil.\n\t  é ß 日 本 語 文 龍 🙂 🎉 — ñ ç"), min_size=0, max_size=40
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(KINDS), ids=st.lists(st.integers(0, 399), max_size=40))
def test_prefixes_of_random_bytes_are_decodings_of_prefixes_apart_from_an_unfinished_end(
    kind: str, ids: list[int]
) -> None:
    decode = decoder(kind)
    if kind == "sentencepiece":  # byte fallback spells a whole run of bytes as broken when one is; see the test below
        vocabulary = tokenizer(kind).convert_ids_to_tokens(ids)
        ids = [i for i, token in zip(ids, vocabulary, strict=True) if not token.startswith("<0x")]
    made = detokenized(ids, decode)
    assert sum(made.token_chars) == len(made.text)
    for k, text in enumerate(prefixes(made)):
        assert text == decode(ids[:k]).rstrip(UNFINISHED)


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(KINDS), text=WORDS)
def test_prefixes_of_real_text_are_decodings_of_prefixes(kind: str, text: str) -> None:
    ids = tokenizer(kind)(text, add_special_tokens=False)["input_ids"]
    made = detokenized(ids, decoder(kind))
    assert made.text == decoder(kind)(ids) == text
    longest = ""
    for k, prefix in enumerate(prefixes(made)):
        # Byte fallback spells "é" and two bytes of "龍", which are one run of bytes, as five broken ones: "é" stays.
        longest = max(longest, decoder(kind)(ids[:k]).rstrip(UNFINISHED), key=len)
        assert prefix == longest


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(KINDS), ids=st.lists(st.integers(0, 399), max_size=40), stop=st.booleans())
def test_a_cut_is_what_a_smaller_budget_gives(kind: str, ids: list[int], stop: bool) -> None:
    strings = ("th", "he\n", "e") if stop else ()
    whole = detokenized(ids, decoder(kind), strings)
    for k in range(len(ids) + 1):
        short = detokenized(ids[:k], decoder(kind), strings)
        assert short.token_chars == whole.token_chars[:k]
        assert short.text == whole.text[: sum(whole.token_chars[:k])]
        if short.stopped:
            break


def test_special_tokens_add_nothing_and_do_not_eat_the_space_after_them() -> None:
    for kind in KINDS:
        ids = tokenizer(kind)("the mill", add_special_tokens=False)["input_ids"]
        end, pad = tokenizer(kind).convert_tokens_to_ids(["<end>", "<pad>"])
        spread = [pad, *(i for token in ids for i in (token, end, pad))]
        made = detokenized(spread, decoder(kind))
        assert made.text == "the mill"
        assert all(n == 0 for n, token in zip(made.token_chars, spread, strict=True) if token in (end, pad))


def test_a_character_of_several_tokens_appears_with_its_last() -> None:
    for kind in KINDS:
        ids = tokenizer(kind)("a龍b", add_special_tokens=False)["input_ids"]
        made = detokenized(ids, decoder(kind))
        assert made.text == "a龍b"
        assert 0 in made.token_chars
        assert detokenized(ids[:-2], decoder(kind)).text == "a", "two of the three bytes are no character"


def test_broken_bytes_are_kept_as_replacements_once_something_follows() -> None:
    broken, letter = tokenizer("sentencepiece").convert_tokens_to_ids(["<0xE9>", "a"])
    made = detokenized([letter, broken, broken, letter], decoder("sentencepiece"))
    assert made.text == f"a{UNFINISHED * 2}a"
    assert made.token_chars == [1, 0, 0, 3]
    assert detokenized([letter, broken], decoder("sentencepiece")).text == "a"


def spelled(text: str, stop: tuple[str, ...]) -> Detokenizer:
    """Each character as one token."""
    return detokenized([ord(letter) for letter in text], lambda ids: "".join(map(chr, ids)), stop)


@pytest.mark.parametrize(
    ("text", "stop", "shown", "stopped"),
    [
        ("one END two", ("END",), "one ", True),
        ("one EN", ("END",), "one ", False),  # may become the stop string: held back
        ("one ENx", ("END",), "one ENx", False),
        ("aab", ("ab",), "a", True),
        ("xabab", ("abac", "b"), "xa", True),
        ("no stop here", ("END", "\n\n"), "no stop here", False),
        ("END", ("END",), "", True),
    ],
)
def test_stop_strings(text: str, stop: tuple[str, ...], shown: str, stopped: bool) -> None:
    made = Detokenizer(lambda ids: "".join(map(chr, ids)), stop)
    for letter in text:
        if not made.stopped:
            made.push(ord(letter))
    assert (made.text, made.stopped) == (shown, stopped)
    assert sum(made.token_chars) == len(made.text)


def test_the_end_of_the_answer_releases_what_was_no_stop_string() -> None:
    made = spelled("one\n", ("\n\n",))
    assert made.text == "one"
    made.end()
    assert made.text == "one\n"
    assert sum(made.token_chars) == len(made.text)


def test_long_answers_take_linear_time() -> None:
    decoded = 0

    def counting(ids: list[int]) -> str:
        nonlocal decoded
        decoded += len(ids)
        return decoder("byte-level")(ids)

    ids = tokenizer("byte-level")("the oil of the mill, Köln 日本語 🙂 " * 60, add_special_tokens=False)["input_ids"]
    made = detokenized(ids, counting)
    assert made.text == decoder("byte-level")(ids)
    assert decoded < 12 * len(ids)
