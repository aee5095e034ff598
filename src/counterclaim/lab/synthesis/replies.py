"""What can be wrong with one reply: thoughts that never end, refusals, loops, other languages, leaked instructions, lists that are none.

By rules on the text alone. Refusals and leaks are recognised by English wording; loops and languages in any script. What
a rule cannot see stands in its docstring, and how often it hits and misses in the tests.
"""

from __future__ import annotations

import json
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from counterclaim.errors import InputError, ModelError
from counterclaim.lab.scorers.answers import plain_prose, sentences
from counterclaim.records import FinishReason
from counterclaim.text import looks_like_python, word_ngrams, words_of

RULES = ("empty", "refusal", "leak", "loop", "language")
"""Kinds of faults of an answer, in the order in which they are looked for."""
WORDINGS: Mapping[str, Any] = tomllib.loads((Path(__file__).parent / "wordings.toml").read_text(encoding="utf-8"))
"""Regular expressions and tables that the rules use, by rule."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a reply cannot be used: the kind of fault, and what a rule saw, as a clause."""

    kind: str
    because: str


def fault_of(
    answer: str, character_prompt: str | None, prompt_text: str, language: str | None, kinds: Container[str] = RULES
) -> Fault | None:
    """The first thing that is wrong with an answer, or None.

    Args:
        answer: without its thought (``thought_of``).
        character_prompt: the system prompt that the teacher was given.
        prompt_text: what it was asked; what stands there may be repeated.
        language: ISO 639-1 code of the language it must answer in; None for any.
        kinds: which of ``RULES`` are tried.

    Raises:
        InputError: the language cannot be recognised.
        ModelError: py3langid is not installed, and a language is asked for.
    """
    for kind in (kind for kind in RULES if kind in kinds):
        match kind:
            case "empty":
                because = "" if any(map(str.isalnum, answer)) else "there is no answer"
            case "refusal":
                because = f"it refuses: “{found}”" if (found := refusal_in(answer)) else ""
            case "leak":
                found = leak_in(answer, character_prompt, prompt_text)
                because = f"it tells its instructions: “{found}”" if found else ""
            case "loop":
                because = f"it goes round in circles: {found}" if (found := loop_in(answer)) else ""
            case _:
                found = None if language is None else other_language(answer, language)
                because = f"it is in another language than {language}: {found}" if found else ""
        if because:
            return Fault(kind, because)
    return None


def teacher_fault(text: str, character_prompt: str | None, prompt_text: str, language: str | None) -> str | None:
    """Why the reply of a teacher cannot be used, as a clause; None where it can.

    Its think tags cannot be read, or ``fault_of`` its answer.

    Raises:
        InputError, ModelError: as ``fault_of``.
    """
    parts = thought_of(text)
    if parts.fault is not None:
        return parts.fault
    fault = fault_of(parts.answer, character_prompt, prompt_text, language)
    return None if fault is None else fault.because


def ending_fault(finish_reason: str, budget: int | None) -> Fault | None:
    """What is wrong with how a reply ended; None where it ended by itself."""
    if finish_reason == FinishReason.LENGTH:
        return Fault("cut", f"it was cut by its budget of {budget} tokens")
    return Fault("filtered", "the endpoint filtered it") if finish_reason == FinishReason.FILTER else None


# --- lists --------------------------------------------------------------------------------------------------------

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.S)
_MARK = re.compile(r"\s*(?:\d{1,3}[.)]|[-*•])\s+")


@dataclass(frozen=True, slots=True)
class ListReply:
    """A reply that should be a list.

    Attributes:
        texts: its strings, outer white space and list marks gone; empty where the reply cannot be used.
        fault: why it cannot be used, of the kind ``failed``, ``cut``, ``filtered``, ``refusal`` or ``unreadable``.
        raw: the reply as it came.
    """

    texts: tuple[str, ...] = ()
    fault: Fault | None = None
    raw: str = ""


def read_list(text: str | None, finish_reason: str, error: str | None, budget: int | None) -> ListReply:
    """A reply as the list that it is: one JSON list of strings, alone or in one code fence, after any thought.

    Half a list is none: where a reply was cut, how its last string would have ended is unknown.
    """
    if error is not None:
        return ListReply(fault=Fault("failed", error))
    raw = text or ""
    fault = ending_fault(
        FinishReason.FILTER if text is None and finish_reason != FinishReason.LENGTH else finish_reason, budget
    )
    thought = thought_of(raw)
    if fault is None and thought.fault is not None:
        fault = Fault("unreadable", thought.fault)
    if fault is not None:
        return ListReply(fault=fault, raw=raw)
    fenced = _FENCED.fullmatch(thought.answer)
    try:
        listed = json.loads(fenced[1] if fenced else thought.answer)
    except (ValueError, RecursionError):
        refusal = fault_of(thought.answer, None, "", None, ("refusal",))
        return ListReply(fault=refusal or Fault("unreadable", "it is no JSON list"), raw=raw)
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        return ListReply(fault=Fault("unreadable", "it is JSON, and no list of strings"), raw=raw)
    if not listed:
        return ListReply(fault=Fault("unreadable", "the list is empty"), raw=raw)
    return ListReply(
        tuple(_MARK.sub("", item, count=1).strip() if _MARK.match(item) else item.strip() for item in listed), raw=raw
    )


# --- thoughts -----------------------------------------------------------------------------------------------------

_TAG = re.compile(r"<(/?)think(?:ing)?\s*>", re.I)
_INLINE_CODE = re.compile(r"`[^`\n]+`")


@dataclass(frozen=True, slots=True)
class Thought:
    """A reply taken apart.

    Attributes:
        thought: what stands inside the tags, outer white space gone; ``""`` where there is none.
        answer: what stands outside, outer white space gone.
        fault: why its tags cannot be read; None where they can.
    """

    thought: str
    answer: str
    fault: str | None = None


def thought_of(text: str) -> Thought:
    """A reply as thought and answer, by ``<think>`` or ``<thinking>`` tags.

    One closing tag before any opening one ends a thought that the chat template opened. Tags quoted as code are text.
    A thought that never ends, one inside another, and a closing tag that ends nothing are faults: where the thought
    ends is then unknown.
    """
    quoted = [match.span() for match in _INLINE_CODE.finditer(text)]
    thoughts: list[str] = []
    answers: list[str] = []
    opened, at = False, 0
    for tag in _TAG.finditer(text):
        if any(start < tag.start() < end for start, end in quoted):
            continue
        before, closes = text[at : tag.start()], bool(tag[1])
        if closes and not opened:
            if thoughts or answers:
                return Thought("", text, "a closing think tag ends nothing")
            thoughts.append(before)  # the chat template opened it
        elif not closes and opened:
            return Thought("", text, "one thought is opened inside another")
        else:
            (thoughts if closes else answers).append(before)
        opened, at = not closes, tag.end()
    if opened:
        return Thought("", text, "its thought is never closed")
    answers.append(text[at:])
    return Thought("\n".join(thoughts).strip(), "".join(answers).strip())


# --- refusals -----------------------------------------------------------------------------------------------------

_LEAD = 3  # sentences at the start in which a refusal makes the reply one
_SHORT = 60  # words; in a reply of so few it does so wherever it stands

_REFUSAL = WORDINGS["refusal"]
_REFUSED = re.compile(re.sub(r"\{([A-Z]+)\}", lambda name: _REFUSAL[name[1]], "|".join(_REFUSAL["any_of"])))
_ONLY_IN_DOUBT = re.compile(_REFUSAL["only_doubt"])


def refusal_in(answer: str) -> str | None:
    """The sentence by which an answer refuses, or None.

    A refusal declines to do what was asked, or points to rules instead. Doubt about the answer ("I can't say for sure,
    but it is jade") is none. Looked for in the first sentences, and in all of a short reply; code and quotations are
    left out. English only. Of 20 refusals that were written after the rules and left alone, 17 are seen, and none of 20
    near misses is taken for one; nor is any of 100 long answers of a small model.
    """
    found = sentences(plain_prose(answer))
    for sentence in found if len(answer.split()) <= _SHORT else found[:_LEAD]:
        lowered = sentence.lower().strip("*_ ")
        if _REFUSED.search(lowered) and not _ONLY_IN_DOUBT.search(lowered):
            return excerpt(sentence)
    return None


# --- leaks --------------------------------------------------------------------------------------------------------

_LEAK_WORDS = 8
_LEAK_LEAST = 4
_TEMPLATE_MARK = re.compile(WORDINGS["leak"]["template_mark"])
_OWN_INSTRUCTIONS = re.compile(WORDINGS["leak"]["own_instructions"])


def leak_in(answer: str, character_prompt: str | None, prompt_text: str) -> str | None:
    """The words by which an answer tells what it was instructed, or None.

    Seen: a run of ``_LEAK_WORDS`` words of the character prompt (of a shorter one, all of it from ``_LEAK_LEAST`` words
    on), what that prompt quotes set aside; talk of the model's own instructions; marks of chat templates. What stands in
    the question may be repeated. A leak in other words than the prompt's is seen only where it says that it is one.
    """
    if (mark := _TEMPLATE_MARK.search(answer)) and mark[0] not in prompt_text:
        return mark[0]
    prose, prompt = plain_prose(answer).lower(), plain_prose(prompt_text).lower()
    if (words := _OWN_INSTRUCTIONS.search(prose)) and words[0] not in prompt:
        return words[0]
    if character_prompt is None:
        return None
    size = min(_LEAK_WORDS, len(words_of(plain_prose(character_prompt))))
    if size < _LEAK_LEAST:
        return None
    secret = set(word_ngrams(plain_prose(character_prompt), size)) - set(word_ngrams(prompt_text, size))
    return next((run for run in word_ngrams(answer, size) if run in secret), None)


# --- loops --------------------------------------------------------------------------------------------------------

_LONGEST_PERIOD = 60  # words
_LEAST_TIMES = {1: 8, 2: 5, 3: 5, 4: 5}  # by period in words
_LEAST_TIMES_OF_LONGER = 3
_IN_EVERY_LOOP = 7  # words that every loop repeats at least: one word 8 times
_STUTTER = re.compile(r"((?:[^\W\d_]){1,6}?)\1{14,}")
_CLOSED_FENCE = re.compile(r"```.*?```", re.S)
_DIGITS = re.compile(r"\d+")
_SAME_LINES = 5


def loop_in(answer: str) -> str | None:
    """How an answer repeats itself without end, or None.

    Seen: letters that stutter; the same words again and again with nothing between them (8 times one word, 5 times two to
    four, 3 times five or more); lines that differ in nothing but numbers and make up half of the text. Code in closed
    fences and runs of bare numbers are left out, for tables and matrices repeat themselves rightly.
    """
    prose = _CLOSED_FENCE.sub(" ", answer)
    if stutter := _STUTTER.search(prose):
        return f"“{excerpt(stutter[0], 40)}”"
    words = words_of(prose)
    for period in _possible_periods(words):
        least = _LEAST_TIMES.get(period, _LEAST_TIMES_OF_LONGER)
        run, end = _longest_run(words, period)
        unit = words[end : end + period]
        if run // period + 1 >= least and not all(word.isdecimal() for word in unit):
            return f"“{excerpt(' '.join(unit))}” {run // period + 1} times in a row"
    lines = [" ".join(words_of(_DIGITS.sub(" ", line))) for line in prose.splitlines()]
    lines = [line for line in lines if line]
    if lines:
        line, times = Counter(lines).most_common(1)[0]
        if times >= _SAME_LINES and 2 * times >= len(lines) and line.count(" ") >= 2:
            return f"the line “{excerpt(line)}” {times} times"
    return None


def _possible_periods(words: Sequence[str]) -> list[int]:
    """Distances at which so many words recur as every loop repeats; in most texts there are none."""
    found: set[int] = set()
    latest: dict[tuple[str, ...], int] = {}
    for at, run in enumerate(zip(*(words[i:] for i in range(_IN_EVERY_LOOP)), strict=False)):
        if run in latest:
            found.add(at - latest[run])
        latest[run] = at
    return sorted(period for period in found if period <= _LONGEST_PERIOD)


def _longest_run(words: Sequence[str], period: int) -> tuple[int, int]:
    """Number of words in the longest run of words that equal those ``period`` before them, and where that run began."""
    longest = start = run = 0
    for at in range(period, len(words)):
        run = run + 1 if words[at] == words[at - period] else 0
        if run > longest:
            longest, start = run, at - period + 1 - run
    return longest, start


# --- languages ----------------------------------------------------------------------------------------------------

_SCRIPTS: Mapping[str, str] = WORDINGS["scripts"]
"""Scripts by language, as Unicode names characters; every other language is written in Latin letters."""
_LETTERS_PER_SIGN = {"CJK": 3, "HIRAGANA": 2, "KATAKANA": 2, "HANGUL": 3}
_FOREIGN_SHARE = 0.4
_NEAR = [frozenset(group) for group in WORDINGS["languages"]["near"]]
"""Languages that short texts do not tell apart."""
_LEAST_WORDS, _LEAST_LETTERS = 3, 8
_SURE, _RULED_OUT = 0.4, 0.05
_NO_PROSE = re.compile(r"https?://\S+|\$\$.*?\$\$|\$[^$\n]+\$|\\\[.*?\\\]|\\\(.*?\\\)|<[^<>\n]{1,80}>", re.S)


def other_language(answer: str, wanted: str) -> str | None:
    """Which language or script an answer is in, where it is surely not the wanted one; None where it may be.

    Scripts are looked at first: a text of which ``_FOREIGN_SHARE`` or more is in a script that the wanted language is not
    written in is not in that language. Within one script, py3langid's probabilities decide, and only where it is sure:
    another language at ``_SURE`` or more and the wanted one at ``_RULED_OUT`` or less, on three words or more. Code,
    formulas, addresses and quotations are left out. A foreign title that is not quoted can outweigh a short sentence.

    Measured: of 2,700 single sentences of English answers and documentation one is taken for another language, the title
    of a French sauce; of 18 in six other languages of Latin script 17 are seen.

    Raises:
        InputError: the language cannot be recognised.
        ModelError: py3langid is not installed.
    """
    prose = _NO_PROSE.sub(" ", plain_prose(answer))
    if looks_like_python(prose):
        return None
    scripts = _scripts(prose)
    total = sum(scripts.values())
    own = set(_SCRIPTS.get(wanted, "LATIN").split())
    foreign = {script: size for script, size in scripts.items() if script not in own}
    if total and sum(foreign.values()) >= _FOREIGN_SHARE * total:
        script = max(foreign, key=lambda name: foreign[name])
        return f"it is written in {'Chinese characters' if script == 'CJK' else f'{script.capitalize()} letters'}"
    probabilities = _identify(prose, wanted)
    if total < _LEAST_LETTERS or ("LATIN" in own and len(prose.split()) < _LEAST_WORDS):
        return None
    likeliest = max(probabilities, key=lambda code: probabilities[code])
    accepted = {wanted}.union(*(group for group in _NEAR if wanted in group))
    sure = probabilities[likeliest] >= _SURE and sum(probabilities[code] for code in accepted) <= _RULED_OUT
    return (
        f"{likeliest} with probability {probabilities[likeliest]:.2f}" if sure and likeliest not in accepted else None
    )


def _scripts(text: str) -> Counter[str]:
    """Letters by script, those of dense scripts counted as the letters they stand for."""
    found: Counter[str] = Counter()
    for letter, times in Counter(filter(str.isalpha, text)).items():
        script = unicodedata.name(letter, "UNNAMED").partition(" ")[0]
        found[script] += times * _LETTERS_PER_SIGN.get(script, 1)
    return found


def _identify(text: str, wanted: str) -> dict[str, float]:
    """Probability of every language that has a code of two letters."""
    identifier = _identifier()
    if wanted not in identifier.nb_classes:
        raise InputError(
            f"the language {wanted!r} cannot be recognised",
            remedy="give its code of two letters (ISO 639-1), such as en, or leave filters.language out",
        )
    return dict(identifier.rank(text))


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ModelError(
            "telling languages apart needs py3langid, which is not installed",
            remedy="pip install 'counterclaim[train]', or set filters.language to any",
        ) from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([code for code in identifier.labels if len(code) == 2])
    return identifier


def excerpt(text: str, limit: int = 80) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
