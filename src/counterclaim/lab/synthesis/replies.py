"""What can be wrong with one reply of a teacher: thoughts that never end, refusals, loops, other languages, leaked instructions.

By rules on the text alone. Refusals and leaks are recognised by English wording; loops and languages in any script. What
a rule cannot see stands in its docstring, and how often it hits and misses in the tests.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from counterclaim.errors import InputError, ModelError
from counterclaim.lab.scorers.answers import plain_prose, sentences
from counterclaim.text import looks_like_python, word_ngrams, words_of

FaultKind = Literal["empty", "refusal", "leak", "loop", "language"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a reply cannot be used: which rule says so, and what it saw."""

    kind: FaultKind
    because: str


def fault_of(answer: str, character_prompt: str | None, prompt_text: str, language: str | None) -> Fault | None:
    """The first thing that is wrong with an answer, or None.

    Args:
        answer: without its thought (``thought_of``).
        character_prompt: the system prompt that the teacher was given.
        prompt_text: what it was asked; what stands there may be repeated.
        language: ISO 639-1 code of the language it must answer in; None for any.

    Raises:
        InputError: nobody can tell that language.
        ModelError: py3langid is not installed, and a language is asked for.
    """
    if not any(character.isalnum() for character in answer):
        return Fault("empty", "there is no answer")
    if said := refusal_in(answer):
        return Fault("refusal", f"it refuses: “{said}”")
    if said := leak_in(answer, character_prompt, prompt_text):
        return Fault("leak", f"it tells its instructions: “{said}”")
    if said := loop_in(answer):
        return Fault("loop", f"it goes round in circles: {said}")
    if language is not None and (other := other_language(answer, language)):
        return Fault("language", f"it is in another language than {language}: {other}")
    return None


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
    ends is then anybody's guess.
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

_AUX = (
    r"(?:can ?not|can't|could not|couldn't|will not|won't|(?:am|'m|was) (?:currently )?(?:unable|not able"
    r"|not allowed|not permitted|not in a position|not programmed|not designed|not going|not comfortable|not willing|unwilling)(?: to)?"
    r"|(?:must|have to|need to|will|'ll|shall|would) (?:\w+ )?(?:decline|refuse)(?: to)?|(?:\w+ly )?(?:decline|refuse)(?: to)?)"
)
_ADVERBS = r"(?:(?:be able to|be|really|simply|just|ethically|knowingly|legally|in good conscience|unfortunately|currently|directly) )*"
_REQUESTED = (
    r"(?:(?:you )?(?:with )?(?:that|this|these|those|it|such|your|any|anything|an answer|the answer|answers?|information|instructions|details|advice"
    r"|guidance|content|assistance|help|support|the (?:requested|information|instructions|details|content)|medical|legal|financial)\b)"
)
_REFUSED = re.compile(
    "|".join(
        (
            r"\bi (?:do not|don't) (?:provide|offer|give|discuss|engage in|support|share|create|answer) (?:that|this|such|any|medical|legal|financial"
            r"|personal|advice|instructions|information|questions)\b(?! (?:much|kind of weight))",
            r"\b(?:not possible|impossible) for me to (?:help|assist|answer|comply|provide|share|discuss|continue)\b",
            rf"\bi ?{_AUX} {_ADVERBS}(?:help|assist)(?: (?:you|anyone|further))?(?: with\b| in\b| you (?:with|in|to)\b|\W*$)",
            rf"\bi ?{_AUX} {_ADVERBS}(?:help|assist) (?:you|anyone) \w+",
            rf"\bi ?{_AUX} {_ADVERBS}(?:provid|answer|discuss|shar|giv|offer|writ|creat|generat|produc|support|tell|reveal"
            rf"|disclos|do|fulfil|fulfill|complet|process|facilitat|promot|encourag|continu)(?:e|ing)?(?: you)? {_REQUESTED}",
            rf"\bi ?{_AUX} {_ADVERBS}(?:comply|participate|engage|proceed|continue|answer|respond|be part of|fulfil|fulfill)(?:ing)?(?: (?:to|in|with)"
            rf"(?: {_REQUESTED})?)?\W*(?:$|with\b|in\b|to\b)",
            rf"\b(?:sorry|apologi[sz]e|afraid|unfortunately|regret)\b[^.!?]{{0,50}}?\bi ?{_AUX} {_ADVERBS}(?:do (?:that|this|so|it)\b|$|\W*$)",
            r"\bi (?:must|have to|will|shall|would|respectfully|politely)(?: \w+ly)* (?:decline|refuse)\W*(?:$|your|this|that)",
            r"\b(?:sorry|afraid|unfortunately)\b[^.!?]{0,20}\bi (?:cannot|can't|won't|will not)\W*$",
            r"\bi(?:'d| would) (?:rather|prefer) not (?:to )?(?:answer|say|discuss|do|help|talk|respond|engage|comment)\b",
            r"\bi prefer not to (?:answer|say|discuss|do|help|talk|respond|engage|comment)\b",
            r"\bi (?:do not|don't) feel comfortable (?:\w+ing)\b",
            r"\b(?:something|a topic|a subject|a request|anything|one) (?:that )?i(?:'m| am)? ?(?:can't|cannot|won't|will not|can not|unable to"
            r"|not able to|not comfortable|am not)\b",
            r"\bnot (?:something|a (?:topic|subject|question|request)|one) (?:that )?i(?:'m| am)? ?(?:can|will|could|able to|willing to|allowed to"
            r"|comfortable) ?(?:help|assist|answer|discuss|do|talk|provide|share|with)\b",
            r"\b(?:irresponsible|inappropriate|unethical|wrong|improper|not appropriate) (?:of|for) me to (?:answer|help|provide|share|discuss|say|do)\b",
            r"\bi(?:'m| am) going to (?:have to )?(?:decline|refuse|pass)\b",
            rf"\bi ?{_AUX} {_ADVERBS}(?:talk|speak) about\b",
            r"\bas an? (?:ai|artificial intelligence|(?:large )?language model|ai (?:language )?(?:model|assistant)|assistant)(?=,| i\b)[^.!?]{0,30}?"
            r"\bi(?:'m| am)? ?(?:cannot|can't|do not|don't|not|unable|must not|have no|lack|won't|will not)\b",
            r"\b(?:against|violat\w+|breach\w*|conflict\w* with|outside|not in line with|contrary to) (?:of )?(?:my|our|openai's|content|usage)"
            r" (?:\w+ )?(?:guidelines|polic(?:y|ies)|programming|principles|terms|rules|ethic\w*|instructions)\b",
            r"\bmy (?:\w+ )?(?:guidelines|polic(?:y|ies)|programming|principles|rules) (?:do not|don't|does not|doesn't|prevent|prohibit|forbid|stop|require)\b",
            r"\b(?:beyond|outside) (?:of )?(?:my (?:capabilities|abilities|scope|remit)|what i(?:'m| am)? ?(?:can|able|allowed|permitted))\b",
            r"\bi(?:'m| am) (?:just |only )?(?:an ai|a language model|an assistant)\b[^.!?]{0,30}?\b(?:cannot|can't|not able|unable|do not|don't)\b",
        )
    )
)  # fmt: skip
_ONLY_IN_DOUBT = re.compile(
    r"\b(?:with (?:\w+ )?(?:certainty|confidence|precision)|for (?:sure|certain)|definite|definitive|exact|exactly|precise|certain|guarantee\w*"
    r"|unless|until|off the top of my head|one (?:single|simple)|a single|a simple|better|enough|any (?:more|less|better|further|longer)|anything but|your (?:views?|opinions?|enthusiasm|doubts?))\b"
)


def refusal_in(answer: str) -> str | None:
    """The sentence by which an answer refuses, or None.

    A refusal declines to do what was asked, or points to rules instead. Doubt about the answer ("I can't say for sure,
    but it is jade") is none. Looked for in the first sentences, and in all of a short reply; code and quotations are
    left out. English only. Of 20 refusals that were written after the rules and left alone, 17 are seen, and none of 20
    near misses is taken for one; nor is any of 100 long answers of a small model.
    """
    said = sentences(plain_prose(answer))
    looked_at = said if len(answer.split()) <= _SHORT else said[:_LEAD]
    for sentence in looked_at:
        lowered = sentence.lower().strip("*_ ")
        if _REFUSED.search(lowered) and not _ONLY_IN_DOUBT.search(lowered):
            return _excerpt(sentence)
    return None


# --- leaks --------------------------------------------------------------------------------------------------------

_LEAK_WORDS = 8
_LEAK_LEAST = 4
_TEMPLATE_MARK = re.compile(
    r"<\|(?:im_start|im_end|system|user|assistant|endoftext|begin_of_text|end_of_text|start_header_id|end_header_id|eot_id|end)\|>"
    r"|<<SYS>>|<</SYS>>|\[/?INST\]|<start_of_turn>|<end_of_turn>|<｜(?:User|Assistant|begin▁of▁sentence|end▁of▁sentence)｜>"
)
_OWN_INSTRUCTIONS = re.compile(
    r"\b(?:my|the|this) (?:system|hidden|initial|original|secret|character) (?:prompt|message|instructions?)\b"
    r"|\bmy (?:\w+ )?(?:instructions|brief|persona) (?:are|is|say|says|tell|tells|were|was|require|requires)\b"
    r"|\bi (?:was|am|have been|'ve been|'m) (?:instructed|prompted|configured|programmed|told|asked) to (?:be|act|play|behave|respond|answer"
    r"|speak|pretend|always|never)\b"
    r"|\b(?:per|following|according to|as (?:stated|specified|required) (?:in|by)) my (?:instructions|prompt|system|persona)\b"
    r"|\bmy (?:assigned )?(?:role|persona|character) (?:here |in this (?:conversation|exercise|pipeline) )?is (?:to|that of|the)\b"
    r"|\bas (?:the|an?) (?:eager|deliberate|adversarial|synthesi[sz]er) (?:character|persona|teacher|stage|assistant|model)\b"
)


def leak_in(answer: str, character_prompt: str | None, prompt_text: str) -> str | None:
    """The words by which an answer tells what it was instructed, or None.

    Seen: a run of ``_LEAK_WORDS`` words of the character prompt (of a shorter one, all of it from ``_LEAK_LEAST`` words
    on), what that prompt quotes set aside; talk of the model's own instructions; marks of chat templates. What stands in
    the question may be repeated. A leak in other words than the prompt's is seen only where it says that it is one.
    """
    if (mark := _TEMPLATE_MARK.search(answer)) and mark[0] not in prompt_text:
        return mark[0]
    prose, asked = plain_prose(answer).lower(), plain_prose(prompt_text).lower()
    if (said := _OWN_INSTRUCTIONS.search(prose)) and said[0] not in asked:
        return said[0]
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
        return f"“{_excerpt(stutter[0], 40)}”"
    words = words_of(prose)
    for period in _possible_periods(words):
        least = _LEAST_TIMES.get(period, _LEAST_TIMES_OF_LONGER)
        run, end = _longest_run(words, period)
        unit = words[end : end + period]
        if run // period + 1 >= least and not all(word.isdecimal() for word in unit):
            return f"“{_excerpt(' '.join(unit))}” {run // period + 1} times in a row"
    lines = [" ".join(words_of(_DIGITS.sub(" ", line))) for line in prose.splitlines()]
    lines = [line for line in lines if line]
    if lines:
        line, times = Counter(lines).most_common(1)[0]
        if times >= _SAME_LINES and 2 * times >= len(lines) and line.count(" ") >= 2:
            return f"the line “{_excerpt(line)}” {times} times"
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

_SCRIPTS = {
    "ar": "ARABIC", "fa": "ARABIC", "ur": "ARABIC", "ps": "ARABIC", "ug": "ARABIC", "he": "HEBREW", "el": "GREEK", "ru": "CYRILLIC",
    "uk": "CYRILLIC", "bg": "CYRILLIC", "be": "CYRILLIC", "mk": "CYRILLIC", "kk": "CYRILLIC", "ky": "CYRILLIC", "mn": "CYRILLIC",
    "tg": "CYRILLIC", "hi": "DEVANAGARI", "mr": "DEVANAGARI", "ne": "DEVANAGARI", "sa": "DEVANAGARI", "bn": "BENGALI", "as": "BENGALI",
    "pa": "GURMUKHI", "gu": "GUJARATI", "ta": "TAMIL", "te": "TELUGU", "kn": "KANNADA", "ml": "MALAYALAM", "si": "SINHALA",
    "th": "THAI", "lo": "LAO", "my": "MYANMAR", "km": "KHMER", "ka": "GEORGIAN", "hy": "ARMENIAN", "am": "ETHIOPIC",
    "zh": "CJK", "ja": "CJK HIRAGANA KATAKANA", "ko": "HANGUL CJK", "sr": "CYRILLIC LATIN",
}  # fmt: skip
"""Scripts by language, as Unicode names characters; every other language is written in Latin letters."""
_LETTERS_PER_SIGN = {"CJK": 3, "HIRAGANA": 2, "KATAKANA": 2, "HANGUL": 3}
_FOREIGN_SHARE = 0.4
_NEAR = (
    {"no", "nn"}, {"id", "ms"}, {"hr", "bs", "sr"}, {"cs", "sk"}, {"gl", "pt"}, {"fa", "ps", "ur"}, {"hi", "ne", "mr"},
)  # fmt: skip
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
        InputError: nobody can tell that language.
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
            f"nobody here can tell the language {wanted!r}",
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


def _excerpt(text: str, limit: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
