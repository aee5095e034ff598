"""Which examples and prompts are fit to be used: filters, each with a name, and a reason for each item that it drops.

Filters of training examples look at form, faults, facts and near-duplicates; licences and test prompts are barred however good
an example is. Filters of fresh prompts look at form, copies of known prompts and repeats.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from counterclaim.errors import InputError
from counterclaim.lab.config import FilterPlan, PipelinePlan
from counterclaim.lab.scorers.answers import sentences
from counterclaim.lab.scorers.oracles import accepted_answers, mentioned, numbers_in
from counterclaim.lab.synthesis.replies import RULES, Fault, excerpt, fault_of, thought_of
from counterclaim.records import Call, Example, Prompt, normalise_text
from counterclaim.text import content_words, word_ngrams, words_of
from counterclaim.text.overlap import scan

STUDENT = "student"
"""Stage under which the student's own words stand in the provenance of an example."""
_REMEDIES = tomllib.loads((Path(__file__).parent / "remedies.toml").read_text(encoding="utf-8"))
EXAMPLE_REMEDIES: Mapping[str, str] = _REMEDIES["examples"]
PROMPT_REMEDIES: Mapping[str, str] = _REMEDIES["prompts"]
"""What can be done about what a filter drops, by the filter's name."""

Item = TypeVar("Item")
Read = TypeVar("Read", contravariant=True)


class Filter(Protocol[Read]):
    """Says of each of several items whether it is fit."""

    @property
    def name(self) -> str:
        """Under which drops are filed, a key of a table of remedies."""

    def reasons(self, items: Sequence[Read]) -> Mapping[int, str]:
        """Why items are dropped, as clauses by index; items that are kept are not in it."""


@dataclass(frozen=True, slots=True)
class Rule(Generic[Item]):
    """A filter that looks at one item after another; ``reason`` gives "" or None where an item is kept."""

    name: str
    reason: Callable[[Item], str | None]

    def reasons(self, items: Sequence[Item]) -> dict[int, str]:
        """As ``Filter.reasons``."""
        found = ((i, self.reason(item)) for i, item in enumerate(items))
        return {i: reason for i, reason in found if reason}


def sift(items: Sequence[Item], filters: Iterable[Filter[Item]]) -> tuple[list[Item], list[tuple[Item, Fault]]]:
    """Items that every filter keeps, and the others, each with the first filter that drops it; both in order."""
    left = dict(enumerate(items))
    dropped: dict[int, Fault] = {}
    for one in filters:
        indices = list(left)
        for at, because in one.reasons(list(left.values())).items():
            dropped[indices[at]] = Fault(one.name, because)
            del left[indices[at]]
    return list(left.values()), [(items[i], dropped[i]) for i in sorted(dropped)]


# --- training examples --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DroppedExample:
    """Something that is left out of a training set.

    Attributes:
        example: as it came; None where a teacher's reply could not be used, so that no example was made.
        filter: which filter dropped it, a key of ``EXAMPLE_REMEDIES``.
        because: what it saw, as a clause.
        prompt_id: the prompt it was made from.
    """

    example: Example | None
    filter: str
    because: str
    prompt_id: str = ""


@dataclass(frozen=True, slots=True)
class FilteredExamples:
    """Examples after filtering.

    Attributes:
        kept: fit to be trained on, in the order they came, thoughts treated as the plan says.
        dropped: the others, in order.
    """

    kept: list[Example] = field(default_factory=list)
    dropped: list[DroppedExample] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """How many each filter dropped, the largest first."""
        return dict(sorted(Counter(item.filter for item in self.dropped).items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An example as it came, as it would be trained on, and why its thoughts cannot be treated so."""

    example: Example
    ready: Example
    fault: Fault | None = None

    @property
    def answer(self) -> str:
        return thought_of(self.ready.chosen).answer

    @property
    def question(self) -> str:
        return "\n\n".join(message.content for message in self.example.prompt)


def filter_examples(examples: Iterable[Example], plan: FilterPlan, prompts: Mapping[str, Prompt]) -> FilteredExamples:
    """Examples through every filter: the first that objects drops an example.

    In order: think tags, pairs of equal sides, then empty answers, refusals, leaks, loops and other languages, format,
    length, facts, near-duplicates. All but the first two look at the target answer without its thought; a rejected
    answer may be as bad as it is, so long as its thought can be told from its answer.

    Args:
        examples: in the order in which near-duplicates give way to one another.
        plan: what is let through.
        prompts: the source prompts by id, for their golds; an example whose prompt is not there is not checked for facts.

    Raises:
        InputError: the language that is asked for cannot be recognised.
        ModelError: py3langid is not installed, and a language is asked for.
    """

    def treated(name: str) -> Rule[_Candidate]:
        return Rule(name, lambda one: one.fault.because if one.fault is not None and one.fault.kind == name else None)

    def rule(kind: str) -> Rule[_Candidate]:
        def reason(one: _Candidate) -> str | None:
            fault = fault_of(one.answer, None, one.question, plan.language, (kind,))
            return None if fault is None else fault.because

        return Rule(kind, reason)

    def format_fault(one: _Candidate) -> str | None:
        fits = plan.pattern is None or re.search(plan.pattern, one.answer)
        return None if fits else f"it does not match {plan.pattern}"

    def length_fault(one: _Candidate) -> str | None:
        n_words = len(words_of(one.answer))
        fits = plan.least_words <= n_words <= plan.most_words
        return None if fits else f"it has {n_words} words, and {plan.least_words} to {plan.most_words} are wanted"

    def fact_fault(one: _Candidate) -> str | None:
        prompt = prompts.get(one.example.prompt_id)
        if not plan.facts or prompt is None or one.example.kind == "boundary":
            return None
        return missing_fact(one.answer, prompt)

    filters: list[Filter[_Candidate]] = [
        *map(treated, ("think", "pair", "empty")),
        *map(rule, RULES),
        Rule("format", format_fault),
        Rule("length", length_fault),
        Rule("facts", fact_fault),
        Rule("duplicate", _Duplicates(plan.near_duplicate).reason),
    ]
    kept, dropped = sift([_treated(example, plan) for example in examples], filters)
    return FilteredExamples([one.ready for one in kept], [_dropped(one.example, fault) for one, fault in dropped])


def _dropped(example: Example, fault: Fault) -> DroppedExample:
    return DroppedExample(example, fault.kind, fault.because, example.prompt_id)


def check_enough(filtered: FilteredExamples, path: Path | None = None) -> None:
    """Refuse a training set from which nothing is left.

    Raises:
        InputError: nothing was kept; names which filter dropped how many and why the first, and what to do.
    """
    if filtered.kept:
        return
    counts = filtered.counts
    if not counts:
        raise InputError("no example was made", path=path, remedy="ask for other products, or for more prompts")
    total = sum(counts.values())
    first = {item.filter: item.because for item in reversed(filtered.dropped)}
    reasons = ", ".join(f"{name} dropped {count} (the first: {first[name]})" for name, count in counts.items())
    raise InputError(
        f"no training example is left: of {total} example{'s'[: total > 1]}, {reasons}",
        path=path,
        remedy=EXAMPLE_REMEDIES.get(next(iter(counts)), "loosen that filter"),
    )


def _treated(example: Example, plan: FilterPlan) -> _Candidate:
    """The example with its thoughts as the plan wants them on both sides."""
    sides: list[str | None] = []
    for name, text in (("the answer", example.chosen), ("the rejected answer", example.rejected)):
        if text is None:
            sides.append(None)
            continue
        parts = thought_of(text)
        if parts.fault is not None:
            return _Candidate(example, example, Fault("think", f"{name}: {parts.fault}"))
        if parts.thought and plan.think == "drop":
            return _Candidate(example, example, Fault("think", f"{name} holds a thought"))
        if not parts.answer:
            return _Candidate(example, example, Fault("empty", f"{name} is empty"))
        keeps = parts.thought and plan.think == "keep"
        sides.append(f"<think>\n{parts.thought}\n</think>\n\n{parts.answer}" if keeps else parts.answer)
    chosen, rejected = sides
    assert chosen is not None
    equal = rejected is not None and rejected.split() == chosen.split()
    fault = Fault("pair", "both sides of the pair say the same") if equal else None
    return _Candidate(example, replace(example, chosen=chosen, rejected=rejected), fault)


# --- facts --------------------------------------------------------------------------------------------------------

_CLAIM_SHARE = 0.7  # of a claim's content words that one place of the answer must hold
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nor|neither|cannot|without|avoid\w*|don't|doesn't|isn't|aren't|can't|won't|shouldn't|mustn't)\b"
)
_THOUSANDS = re.compile(r"(?<=\d)[,\u00a0\u202f\u2009](?=\d{3}(?!\d))")


def missing_fact(answer: str, prompt: Prompt) -> str | None:
    """What the gold of a prompt says and the answer does not, as a clause; None where nothing is missing.

    A gold answer must be named as whole words, letter case and articles aside, and not only to be denied; one that is a
    number must be there by value (``1,236`` for 1236, ``25%`` for 0.25). Where several are accepted, one will do. Where
    there is no gold answer, every claim of the checklist must be made: a sentence, or two that follow each other, must
    hold ``_CLAIM_SHARE`` of its content words (endings aside) and agree with it in being negated or not. So a claim in
    wholly other words is missed, and one whose words stand in one sentence by chance is taken as made. Whether all the
    rest of the answer is true is nowhere looked at. Golds of other kinds (``tests``) hold no facts.
    """
    if accepted := accepted_answers(prompt):
        return None if any(_names(answer, gold) for gold in accepted) else f"it does not name “{accepted[0]}”"
    claims = prompt.gold.get("checklist")
    if not isinstance(claims, list | tuple):
        return None
    missing = [str(claim) for claim in claims if not _makes_claim(answer, str(claim))]
    return (
        f"it does not say “{missing[0]}”{f' and {len(missing) - 1} more' if missing[1:] else ''}" if missing else None
    )


def _names(answer: str, gold: str) -> bool:
    if not any(character.isalpha() for character in gold) and (wanted := numbers_in(gold)):
        return any(number.equals(wanted[-1], None) for number in numbers_in(answer))
    return bool(mentioned(_THOUSANDS.sub("", answer), [_THOUSANDS.sub("", gold)]))


def _makes_claim(answer: str, claim: str) -> bool:
    wanted = _stems(claim)
    if not wanted:
        return " ".join(words_of(claim)) in " ".join(words_of(answer))
    negated = _negated(claim)
    found = [(sentence, wanted & _stems(sentence)) for sentence in sentences(answer)]
    for place in [*([one] for one in found), *map(list, pairwise(found))]:
        enough = len(set().union(*(words for _, words in place))) >= _CLAIM_SHARE * len(wanted)
        # of two sentences that make one claim, the one that holds more of it says whether it is negated
        if enough and _negated(max(place, key=lambda item: len(item[1]))[0]) == negated:
            return True
    return False


def _negated(text: str) -> bool:
    return _NEGATION.search(text.lower().replace("’", "'")) is not None


def _stems(text: str) -> set[str]:
    """Content words without the commonest English endings."""
    return {re.sub(r"(?<=\w{3})(?:ing|ed|es|er|s|e)$", "", word) for word in content_words(text)}


# --- near-duplicates ----------------------------------------------------------------------------------------------


class _Duplicates:
    """Finds, for each example, an earlier one that it nearly repeats.

    Two examples of one kind are near-duplicates when prompts, answers and rejected answers are each as similar as the
    threshold: the least of the three Jaccard similarities over words and word pairs counts, so questions made from
    one template stay apart by their answers, and answers in one form by their questions. Exact, by prefix filtering
    (Chaudhuri, Ganti and Kaushik 2006): of two sets of n members with Jaccard t or more, the first n - ceil(tn) + 1 in
    any one order share a member. Longest first is taken, for long words and pairs are rare.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._sides: list[tuple[frozenset[str], ...]] = []
        self._of_member: dict[tuple[str, int, str], list[int]] = defaultdict(list)

    def reason(self, one: _Candidate) -> str | None:
        """Why an example is one too many, or None; then it is remembered."""
        example = one.ready
        prompt = "\n".join(message.content for message in example.prompt if message.role != "system")
        sides = tuple(map(shingles, (prompt, one.answer, example.rejected or "")))
        # What is similar side by side is so as one set of members marked with their side, too.
        members = sorted(
            ((side, member) for side, members in enumerate(sides) for member in members),
            key=lambda item: (-len(item[1]), item),
        )
        least_shared = math.ceil(self._threshold * len(members) - 1e-9)
        keys = [(example.kind, *member) for member in members[: len(members) - least_shared + 1]]
        candidates = sorted({i for key in keys for i in self._of_member.get(key, ())})
        for i in candidates:
            similarity = min(map(jaccard, sides, self._sides[i]))
            if similarity >= self._threshold:
                return f"it repeats an earlier example (similarity {similarity:.2f})"
        for key in keys:
            self._of_member[key].append(len(self._sides))
        self._sides.append(sides)
        return None


def shingles(text: str) -> frozenset[str]:
    """The words and word pairs of a text."""
    return frozenset((*words_of(text), *word_ngrams(text, 2)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard similarity of two sets; 1 where both are empty."""
    return len(a & b) / len(a | b) if a or b else 1.0


# --- licences -----------------------------------------------------------------------------------------------------


def spdx(licence: str) -> str | None:
    """The SPDX spelling of one licence id (``mit`` -> ``MIT``; ``LicenseRef-...`` for licences that SPDX does not list).

    None where it is no id. Expressions (``MIT OR GPL-3.0-only``) are none: which licence one uses the words under is for
    whoever uses them to decide.
    """
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    if len(licence.split()) != 1:
        return None
    try:
        return str(canonicalize_license_expression(licence))
    except InvalidLicenseExpression:
        return None


def check_licences(plan: PipelinePlan) -> None:
    """Refuse a pipeline whose training set would hold words that may not be trained on, before anything is asked.

    Every teacher declares under which licence its outputs may be used, and that licence is on the list of the plan. The same
    holds of the student's own words only where they are training targets (``unlicensed``).

    Raises:
        InputError: a licence of the list or of a stage is no SPDX id, a stage declares none, or one that is not on the
            list; names the stage, the licence and what can be done.
    """
    for name in plan.licences:
        if spdx(name) is None:
            raise _no_id("licences", name, plan)
    allowed = {spdx(name) for name in plan.licences}
    for stage in plan.stages:
        other = f"or put another teacher in the place of {stage.model.name}"
        if stage.licence is None:
            raise InputError(
                f"stage {stage.name}: the licence under which the outputs of {stage.model.name} may be used is not declared",
                path=plan.path,
                remedy=f'say licence = "..." (an SPDX id) under [stages.{stage.name}], {other}',
            )
        licence = spdx(stage.licence)
        if licence is None:
            raise _no_id(f"stage {stage.name}", stage.licence, plan)
        if licence not in allowed:
            raise InputError(
                f"stage {stage.name}: outputs of {stage.model.name} come under {licence}, which is not on the list of "
                f"licences whose words may enter a training set ({', '.join(plan.licences)})",
                path=plan.path,
                remedy=f'if its terms allow training on outputs, add licences = ["{licence}"]; {other}',
            )


def _no_id(where: str, name: str, plan: PipelinePlan) -> InputError:
    return InputError(
        f"{where}: {name!r} is no SPDX licence id",
        path=plan.path,
        remedy='write one such as "MIT" or "Apache-2.0", or "LicenseRef-NAME" for a licence that SPDX does not list',
    )


def unlicensed(plan: PipelinePlan) -> Rule[Example]:
    """Drops examples that hold words which may not enter a training set.

    The second line of defence: what a resumed folder holds was perhaps asked under another plan. Every call of an
    example's provenance must be under a licence of the list, not only that of its last stage, for the last teacher has
    read the others and may have taken over their words. The student's calls are exempt where its words are the worse side
    of a pair, the length to be matched or the mistake that is corrected: those are its own, and it is not taught to say
    them. Where the target answer stands in the student's own words, its licence counts as a teacher's does.
    """
    allowed = {spdx(name) for name in plan.licences}

    def reason(example: Example) -> str | None:
        barred = next((call for call in example.provenance if not _may_enter(call, example, allowed)), None)
        if barred is None:
            return None
        return f"{barred.stage} ({barred.model}) spoke under {barred.licence or 'no declared licence'}"

    return Rule("licence", reason)


def _may_enter(call: Call, example: Example, allowed: set[str | None]) -> bool:
    if call.licence is not None and (licence := spdx(call.licence)) is not None and licence in allowed:
        return True
    if call.stage != STUDENT:
        return False
    return thought_of(example.chosen).answer.split() != thought_of(call.text).answer.split()


# --- contamination ------------------------------------------------------------------------------------------------

_LEAST_WORDS = 5  # a shorter turn ("Are you sure?") is no question by itself
_RARE_SHARE, _RARE_LEAST = 0.02, 2
_EDITED = 0.7
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Contamination:
    """Drops examples in which a forbidden prompt is asked, or nearly one (``copied``)."""

    forbidden: Sequence[Prompt]
    name: str = "contamination"

    def reasons(self, items: Sequence[Example]) -> dict[int, str]:
        """As ``Filter.reasons``."""
        found = copied(items, self.forbidden)
        return {i: f"what it asks is test prompt {key}: {why}" for i, (key, why) in found.items()}


def bar(examples: Sequence[Example], barring: Filter[Example]) -> tuple[list[Example], list[DroppedExample]]:
    """Examples without those that a filter bars."""
    kept, dropped = sift(examples, [barring])
    return kept, [_dropped(example, fault) for example, fault in dropped]


def question(prompt: Prompt) -> Example:
    """A prompt before it is answered, as filters of examples read it."""
    return Example(prompt.messages, "?", prompt_id=prompt.id)


def copied(examples: Sequence[Example], forbidden: Sequence[Prompt]) -> dict[int, tuple[str, str]]:
    """Examples in which a forbidden prompt is asked, or nearly one: index to the prompt's id and in what way.

    Found is an example that was made from a forbidden prompt, or in which a user's turn, or all turns together,

    * has the same words as a forbidden prompt, marks and letter case aside;
    * is an edited copy of it: of about its length, it holds every word that few forbidden prompts have (the names, as
      a rule) and most of the other words and word pairs;
    * holds half of its word 8-grams, has half of its own in it, or is a near-duplicate (``overlap``); here answers are
      looked at, too.

    Wordings that many prompts share say nothing about one of them, so questions about other things from the same
    template stay. A forbidden prompt in wholly other words is not seen.
    """
    texts = {prompt.id: prompt.text for prompt in forbidden if prompt.messages}
    ids = {prompt.id for prompt in forbidden}
    copies = _Copies(texts)
    questions = [_questions(example) for example in examples]
    found: dict[int, tuple[str, str]] = {}
    for i, (example, turns) in enumerate(zip(examples, questions, strict=True)):
        if example.prompt_id in ids:
            found[i] = example.prompt_id, "it was made from it"
        elif seen := next(filter(None, map(copies.find, turns)), None):
            found[i] = seen
    clean = [i for i in range(len(examples)) if i not in found]
    alike = _alike(texts, [questions[i] for i in clean], [_everything(examples[i]) for i in clean])
    return found | {clean[i]: why for i, why in alike.items()}


class _Copies:
    """Finds forbidden prompts again in short texts: with the same words, or lightly edited."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._by_words = {" ".join(words_of(text)): key for key, text in texts.items()}
        words = {key: set(words_of(text)) for key, text in texts.items()}
        spread = Counter(word for own in words.values() for word in own)
        most = max(_RARE_LEAST, _RARE_SHARE * len(texts))
        self._own: dict[str, set[str]] = {}
        self._shingles = {key: shingles(text) for key, text in texts.items()}
        self._size = {key: len(words_of(text)) for key, text in texts.items()}
        self._by_rarest: dict[str, list[str]] = defaultdict(list)
        for key, own in words.items():
            rare = {word for word in own if spread[word] <= most}
            if rare and self._size[key] >= _LEAST_WORDS:
                self._own[key] = rare
                self._by_rarest[min(rare, key=lambda word: (spread[word], word))].append(key)

    def find(self, text: str) -> tuple[str, str] | None:
        """Id of the forbidden prompt that a text repeats, and in what way; None where it repeats none."""
        words = words_of(text)
        if key := self._by_words.get(" ".join(words)):
            return key, "the same words"
        present, pieces = set(words), shingles(text)
        for key in (key for word in dict.fromkeys(words) for key in self._by_rarest.get(word, ())):
            share = len(self._shingles[key] & pieces) / len(self._shingles[key])
            of_its_length = len(words) <= 2 * self._size[key] + 10
            if share >= _EDITED and of_its_length and self._own[key] <= present:
                return key, f"{share:.0%} of its words and word pairs"
        return None


def _questions(example: Example) -> list[str]:
    """What a user asks in an example: every turn of some length, and all turns but the system's together."""
    turns = [message.content for message in example.prompt if message.role == "user"]
    whole = "\n\n".join(message.content for message in example.prompt if message.role != "system")
    return list(dict.fromkeys([whole, *(turn for turn in turns if len(words_of(turn)) >= _LEAST_WORDS)]))


def _everything(example: Example) -> str:
    turns = [message.content for message in example.prompt if message.role != "system"]
    return "\n\n".join([*turns, example.chosen, example.rejected or ""])


_OF_ITS = "of its word sequences"


def _near(similarity: float) -> str:
    return f"a near-duplicate (similarity {similarity:.2f})"


def _alike(
    texts: Mapping[str, str], asked: Sequence[Sequence[str]], everything: Sequence[str]
) -> dict[int, tuple[str, str]]:
    """Examples that overlap with a forbidden prompt: index to its id and in what way."""
    if not texts or not asked:
        return {}
    names, rows = list(texts), list(texts.values())
    questions = sorted({normalise_text(turn) for turns in asked for turn in turns})
    number = {question: f"? {i}" for i, question in enumerate(questions)}
    # What is boilerplate is told from all prompts at once, the forbidden ones and those of the examples.
    both = {**dict(zip(number.values(), questions, strict=True)), **{f"! {name}": text for name, text in texts.items()}}

    found: dict[int, tuple[str, str]] = {}
    pieces = scan(both, rows)
    hits = {key for key in pieces.hits(_HALF) if key.startswith("? ")}
    for i, turns in enumerate(asked):
        for turn in turns:
            key = number[normalise_text(turn)]
            if key in hits:
                one = pieces.prompts[key]
                if one.jaccard_row is not None:
                    found[i] = names[one.jaccard_row], _near(one.jaccard)
                elif one.containment_row is not None:
                    found[i] = names[one.containment_row], f"{one.row_containment:.0%} {_OF_ITS} stand in that prompt"

    # A scan names only the row that holds most of a prompt, so it is done again until none is left that does.
    while left := [i for i in range(len(asked)) if i not in found]:
        wholes = scan(both, [everything[i] for i in left])
        hits = {key for key in wholes.hits(_HALF) if key.startswith("! ")}
        if not hits:
            break
        for key in sorted(hits):
            one = wholes.prompts[key]
            if one.jaccard_row is not None:
                found[left[one.jaccard_row]] = key.removeprefix("! "), _near(one.jaccard)
            if one.containment_row is not None and one.row_containment >= _HALF and not one.thin:
                found[left[one.containment_row]] = (
                    key.removeprefix("! "),
                    f"{one.row_containment:.0%} {_OF_ITS} stand in the example",
                )
    return found


# --- fresh prompts ------------------------------------------------------------------------------------------------

REPEATS_FROM = 0.7
"""Jaccard similarity over words and word pairs from which a prompt repeats another that was written."""

_MOSTLY = 0.9  # share of the prompts that it should be like, from which a question mark is the rule
_TIMES_LONGER = 2.0
_LEAST_PROMPT_WORDS, _LEAST_MOST_WORDS = 2, 40
_QUESTION = re.compile(r"[?？؟]")
_ANNOUNCES = re.compile(r"(?:sure|certainly|of course|okay|ok|here (?:are|is))\b[^?]*:\W*$", re.I)
_STARTS = re.compile(r"(?:^|[.!?:\n]\s*[\"'“‘(]*)(\w+)")
_NAME = re.compile(r"\b(?:[^\W\d_]*\d\w*|[A-ZÀ-ÖØ-Þ]\w*)")


@dataclass(frozen=True, slots=True)
class DroppedText:
    """Something the generator wrote that is left out.

    Attributes:
        reason: a key of ``PROMPT_REMEDIES``.
        because: what was seen, as a clause.
        text: the prompt, or the whole reply where it cannot be used.
        call: which call wrote it.
    """

    reason: str
    because: str
    text: str
    call: str


@dataclass(frozen=True, slots=True)
class KnownPrompts:
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


class PromptFilters:
    """Lets prompts through that are fit to be asked, and remembers them.

    In order: empty ones, refusals, what is no question (where nine in ten of the prompts it should be like hold a
    question mark) or only announces the others, too long ones (twice the longest of those prompts) or too short ones,
    other languages, copies and near copies of what is known (``copied``), and repeats of what was let
    through before: prompts with most of their words and word pairs in common that do not differ in a name or a number.

    Args:
        like: the prompts that they should be like.
        known: what they must not be copies of.
        language: ISO 639-1 code; None for any.
    """

    def __init__(self, like: Sequence[Prompt], known: KnownPrompts, language: str | None) -> None:
        texts = [prompt.text for prompt in like]
        self._questions_only = sum(map(bool, map(_QUESTION.search, texts))) >= _MOSTLY * len(texts)
        longest = max(len(words_of(text)) for text in texts)
        self._most_words = max(_LEAST_MOST_WORDS, math.ceil(_TIMES_LONGER * longest))
        self._language = language
        self._form = [
            Rule("empty", lambda text: None if any(map(str.isalnum, text)) else "there is no text"),
            Rule("refusal", lambda text: self._fault(text, "refusal")),
            Rule("no-question", self._no_question),
            Rule("length", self._length),
            Rule("language", lambda text: self._fault(text, "language")),
        ]
        self._known: list[Filter[str]] = [_KnownCopies(known), Rule("repeat", _Repeats().reason)]

    def sift(self, texts: Iterable[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[DroppedText]]:
        """(prompt, call that wrote it) of every prompt that is fit, and the others.

        Args:
            texts: the same, in the order in which repeats give way to one another.

        Raises:
            InputError: the language cannot be recognised.
            ModelError: py3langid is not installed, and a language is asked for.
        """
        left = list(texts)
        dropped: list[DroppedText] = []
        for filters in (self._form, self._known):
            left, unfit = sift(left, [_OfText(one) for one in filters])
            dropped += (DroppedText(fault.kind, fault.because, *item) for item, fault in unfit)
        return left, dropped

    def _fault(self, text: str, kind: str) -> str | None:
        fault = fault_of(text, None, "", self._language, (kind,))
        return None if fault is None else fault.because

    def _no_question(self, text: str) -> str | None:
        if _ANNOUNCES.match(text):
            return "it announces a list"
        if self._questions_only and not _QUESTION.search(text):
            return "it asks nothing, where the prompts it should be like are questions"
        return None

    def _length(self, text: str) -> str | None:
        size = len(words_of(text))
        if _LEAST_PROMPT_WORDS <= size <= self._most_words:
            return None
        return f"it has {size} word{'s'[: size != 1]}, and from {_LEAST_PROMPT_WORDS} to {self._most_words} are fit"


@dataclass(frozen=True, slots=True)
class _OfText:
    """A filter of texts as one of (text, call)."""

    of_text: Filter[str]

    @property
    def name(self) -> str:
        return self.of_text.name

    def reasons(self, items: Sequence[tuple[str, str]]) -> Mapping[int, str]:
        return self.of_text.reasons([text for text, _ in items])


@dataclass(frozen=True, slots=True)
class _KnownCopies:
    """Drops prompts that copy something known."""

    known: KnownPrompts
    name: str = "copy"

    def reasons(self, items: Sequence[str]) -> dict[int, str]:
        prompts = [Prompt.of_text(text) for text in items]
        texts = {prompt.id: prompt.text for prompt in self.known.prompts}
        found = {
            i: f"it copies the known prompt “{excerpt(texts[key])}”: {why}"
            for i, (key, why) in copied([question(prompt) for prompt in prompts], self.known.prompts).items()
        }
        if self.known.trained_on and items:
            hits = set(scan({prompt.id: prompt.text for prompt in prompts}, self.known.trained_on).hits())
            for i, prompt in enumerate(prompts):
                if prompt.id in hits:
                    found.setdefault(i, "it, or nearly all of it, stands in a training example")
        return found


class _Repeats:
    """Finds, for each prompt, an earlier one that asks the same."""

    def __init__(self) -> None:
        self._written: list[tuple[str, frozenset[str], frozenset[str]]] = []

    def reason(self, text: str) -> str | None:
        """Why a prompt is a repeat; None where it is new, and then it is remembered."""
        pieces, names = shingles(text), _names_in(text)
        for other, others, other_names in self._written:
            if jaccard(pieces, others) >= REPEATS_FROM and not (names - others and other_names - pieces):
                return f"it repeats “{excerpt(other)}”"
        self._written.append((text, pieces, names))
        return None


def _names_in(text: str) -> frozenset[str]:
    """The words of a text that may be names or numbers."""
    starts = Counter(match[1] for match in _STARTS.finditer(text))
    named = Counter(match[0] for match in _NAME.finditer(text))
    names = (name for name, count in named.items() if count > starts[name] or name[-1].isdigit())
    return frozenset(word for name in names for word in words_of(name))
