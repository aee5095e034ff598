"""Which of the prompts that a generator wrote are fit to be asked, each drop with its reason."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from counterclaim.lab.synthesis.gates import copied
from counterclaim.lab.synthesis.replies import other_language, refusal_in
from counterclaim.records import Example, Prompt
from counterclaim.text import word_ngrams, words_of
from counterclaim.text.overlap import scan

REMEDIES: Mapping[str, str] = {
    "failed": "run the same command again, which makes only the calls that failed",
    "cut": "raise --max-new-tokens",
    "filtered": "ask another generator",
    "unreadable": "ask a generator that can write JSON, or lower --temperature",
    "refusal": "ask another generator, or say in --about what the prompts are for",
    "empty": "ask another generator",
    "no-question": "say in --about that questions are wanted",
    "length": "say in --about how long a prompt should be",
    "language": "say another --language, or any",
    "copy": "ask a generator that has not seen these prompts; with --show-examples 0 it is shown none",
    "repeat": "raise --temperature, ask another generator, or ask for fewer",
    "surplus": "there is nothing to do",
    "checklist": "name another --checklist-author",
}
"""What can be done about replies that cannot be used, and prompts that were dropped, by reason."""

REPEATS_FROM = 0.7
"""Jaccard similarity over words and word pairs from which a prompt repeats another that was written."""

_MOSTLY = 0.9  # share of the prompts that it should be like, from which a question mark is the rule
_TIMES_LONGER = 2.0
_LEAST_WORDS, _LEAST_MOST_WORDS = 2, 40
_QUESTION = re.compile(r"[?？؟]")
_ANNOUNCES = re.compile(r"(?:sure|certainly|of course|okay|ok|here (?:are|is))\b[^?]*:\W*$", re.I)
_STARTS = re.compile(r"(?:^|[.!?:\n]\s*[\"'“‘(]*)(\w+)")
_NAME = re.compile(r"\b(?:[^\W\d_]*\d\w*|[A-ZÀ-ÖØ-Þ]\w*)")


@dataclass(frozen=True, slots=True)
class Dropped:
    """Something the generator wrote that is not asked.

    Attributes:
        reason: a key of ``REMEDIES``.
        because: what was seen, as a clause.
        text: the prompt, or the whole reply where it cannot be used.
        call: which call wrote it.
    """

    reason: str
    because: str
    text: str
    call: str


@dataclass(frozen=True, slots=True)
class Known:
    """What fresh prompts must not be copies of, and what they are compared with.

    Attributes:
        prompts: every prompt that is known: those that they should be like, and those that were trained on.
        trained_on: training examples with their answers, as texts.
        questions: texts that a classifier is to tell them from: training questions, or else the prompts they are like.
        against: what ``questions`` are, in words.
        roles: models by role, as far as the training says.
    """

    prompts: tuple[Prompt, ...]
    trained_on: tuple[str, ...]
    questions: tuple[str, ...]
    against: str
    roles: Mapping[str, str] = field(default_factory=dict)


class Sieve:
    """Lets prompts through that are fit to be asked, and remembers them.

    In order: empty ones, refusals, what is no question (where nine in ten of the prompts it should be like hold a
    question mark) or only announces the others, too long ones (twice the longest of those prompts) or too short ones,
    other languages, copies and near copies of what is known (``teach.gates.copied``), and repeats of what was let
    through before: prompts with most of their words and word pairs in common that do not differ in a name or a number.

    Args:
        like: the prompts that they should be like.
        known: what they must not be copies of.
        language: ISO 639-1 code; None for any.
    """

    def __init__(self, like: Sequence[Prompt], known: Known, language: str | None) -> None:
        texts = [prompt.text for prompt in like]
        self._questions_only = sum(map(bool, map(_QUESTION.search, texts))) >= _MOSTLY * len(texts)
        longest = max(len(words_of(text)) for text in texts)
        self._most_words = max(_LEAST_MOST_WORDS, math.ceil(_TIMES_LONGER * longest))
        self._known, self._language = known, language
        self._written: list[_Written] = []

    def sift(self, texts: Iterable[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[Dropped]]:
        """Prompts told apart.

        Args:
            texts: (prompt, call that wrote it), in the order in which repeats give way to one another.

        Returns:
            What is fit, as it came; and the others.

        Raises:
            InputError: nobody can tell that language.
            ModelError: py3langid is not installed, and a language is asked for.
        """
        dropped: list[Dropped] = []
        sound: list[tuple[str, str]] = []
        for text, call in texts:
            if why := self._unfit(text):
                dropped.append(Dropped(*why, text, call))
            else:
                sound.append((text, call))
        copies = self._copies([text for text, _ in sound])
        fit = []
        for i, (text, call) in enumerate(sound):
            if i in copies:
                dropped.append(Dropped("copy", copies[i], text, call))
            elif twin := self._repeated(text):
                dropped.append(Dropped("repeat", f"it repeats “{twin}”", text, call))
            else:
                fit.append((text, call))
        return fit, dropped

    def _unfit(self, text: str) -> tuple[str, str] | None:
        """(reason, because) of what a prompt shows by itself."""
        if not any(character.isalnum() for character in text):
            return "empty", "there is no text"
        if said := refusal_in(text):
            return "refusal", f"it refuses: “{said}”"
        if _ANNOUNCES.match(text):
            return "no-question", "it announces a list"
        if self._questions_only and not _QUESTION.search(text):
            return "no-question", "it asks nothing, where the prompts it should be like are questions"
        size = len(words_of(text))
        if not _LEAST_WORDS <= size <= self._most_words:
            return (
                "length",
                f"it has {size} word{'s'[: size != 1]}, and from {_LEAST_WORDS} to {self._most_words} are fit",
            )
        if self._language is not None and (other := other_language(text, self._language)):
            return "language", f"it is in another language than {self._language}: {other}"
        return None

    def _copies(self, texts: Sequence[str]) -> dict[int, str]:
        """Indices of texts that copy something known, and in what way."""
        asked = [Prompt.of_text(text) for text in texts]
        # the gate reads examples, and a prompt is one without an answer of its own
        questions = [Example(prompt.messages, "?", prompt_id=prompt.id) for prompt in asked]
        named = {prompt.id: prompt.text for prompt in self._known.prompts}
        found = {
            i: f"it copies the known prompt “{_excerpt(named[key])}”: {why}"
            for i, (key, why) in copied(questions, self._known.prompts).items()
        }
        if self._known.trained_on and texts:
            report = scan({prompt.id: prompt.text for prompt in asked}, self._known.trained_on)
            hits = set(report.hits())
            for i, prompt in enumerate(asked):
                if prompt.id in hits:
                    found.setdefault(i, "it, or nearly all of it, stands in a training example")
        return found

    def _repeated(self, text: str) -> str | None:
        """The prompt that one repeats; None where it is new, and then it is remembered."""
        one = _Written.of(text)
        for other in self._written:
            if one.repeats(other):
                return _excerpt(other.text)
        self._written.append(one)
        return None


@dataclass(frozen=True, slots=True)
class _Written:
    """A prompt as repeats are told: its words and word pairs, and the words among them that may be names or numbers."""

    text: str
    shingles: frozenset[str]
    names: frozenset[str]

    @classmethod
    def of(cls, text: str) -> _Written:
        words = words_of(text)
        starts = Counter(match[1] for match in _STARTS.finditer(text))
        named = Counter(match[0] for match in _NAME.finditer(text))
        names = {word for name, count in named.items() if count > starts[name] or name[-1].isdigit() for word in words_of(name)}  # fmt: skip
        return cls(text, frozenset((*words, *word_ngrams(text, 2))), frozenset(names))

    def repeats(self, other: _Written) -> bool:
        """Whether it asks the same: alike enough, and not of two different names."""
        shared = len(self.shingles & other.shingles)
        if shared < REPEATS_FROM * (len(self.shingles) + len(other.shingles) - shared):
            return False
        return not (self.names - other.shingles and other.names - self.shingles)


def _excerpt(text: str, limit: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
