"""Which examples are fit to be learnt from: one after another through every filter, each drop with its reason."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from counterclaim.errors import InputError
from counterclaim.lab.config import FilterPlan
from counterclaim.lab.scorers.answers import sentences
from counterclaim.lab.scorers.oracles import accepted_answers, mentioned, numbers_in
from counterclaim.lab.synthesis.replies import fault_of, thought_of
from counterclaim.records import Example, Prompt
from counterclaim.text import content_words, word_ngrams, words_of

REMEDIES: Mapping[str, str] = {
    "reply": "look at what the teachers said: another character prompt, model or token budget may help",
    "think": 'give the teachers more tokens, or set filters.think = "strip"',
    "pair": "the student's answers equal the teachers': there is nothing to prefer",
    "empty": "give the teachers more tokens, or another character prompt",
    "refusal": "ask another teacher, or change its character prompt",
    "leak": "change the character prompts, or ask another teacher",
    "loop": "raise the temperature or the repetition penalty of the teachers",
    "language": "tell the teachers which language to answer in, or change filters.language",
    "format": "tell the teachers the format, or mend filters.pattern",
    "length": "widen filters.least_words and filters.most_words, or tell the teachers how long to answer",
    "facts": "look at the gold answers of the prompts, or set filters.facts = false",
    "boundary": "tell the final teacher to say what it does not know, or leave out the boundary cases",
    "duplicate": "raise filters.near_duplicate, or ask prompts that differ",
    "licence": "name the licence under licences if its terms allow training, or ask another teacher",
    "contamination": "ask prompts that are no test prompts",
}
"""What can be done about the examples that a filter or gate drops, by its name; ``reply`` is a teacher's reply that cannot
be used, so that no example was made of it."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Something that will not be learnt from.

    Attributes:
        example: as it came; None where a teacher's reply was spoilt before an example could be made.
        filter: which filter or gate dropped it, a key of ``REMEDIES``.
        because: what it saw, as a clause.
        prompt_id: the prompt it was made from.
    """

    example: Example | None
    filter: str
    because: str
    prompt_id: str = ""


@dataclass(frozen=True, slots=True)
class Filtered:
    """Examples, told apart.

    Attributes:
        kept: fit to be learnt from, in the order they came, thoughts treated as the plan says.
        dropped: the others, in order.
    """

    kept: list[Example] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """How many each filter dropped, the largest first."""
        return dict(sorted(Counter(item.filter for item in self.dropped).items(), key=lambda item: (-item[1], item[0])))


def apply(examples: Iterable[Example], plan: FilterPlan, prompts: Mapping[str, Prompt]) -> Filtered:
    """Examples through every filter: the first that objects drops an example.

    In order: think tags, pairs of equal sides, then empty answers, refusals, leaks, loops and other languages, format,
    length, facts, near-duplicates. All but the first two look at the answer to be learnt without its thought; a rejected
    answer may be as bad as it is, so long as its thought can be told from its answer.

    Args:
        examples: in the order in which near-duplicates give way to one another.
        plan: what is let through.
        prompts: the source prompts by id, for their golds; an example whose prompt is not there has no facts to hold.

    Raises:
        InputError: nobody can tell the language that is asked for.
        ModelError: py3langid is not installed, and a language is asked for.
    """
    filtered = Filtered()
    twins = _Twins(plan.near_duplicate)
    for example in examples:
        ready = _thoughts_treated(example, plan)
        if isinstance(ready, Example):
            answer = thought_of(ready.chosen).answer
            why = _unfit(ready, answer, plan, prompts.get(example.prompt_id)) or twins.unfit(ready, answer)
        else:
            why = ready
        if why is None:
            assert isinstance(ready, Example)
            filtered.kept.append(ready)
        else:
            filtered.dropped.append(Dropped(example, *why, prompt_id=example.prompt_id))
    return filtered


def check_enough(filtered: Filtered, path: Path | None = None) -> None:
    """Refuse a training set from which nothing is left.

    Raises:
        InputError: nothing was kept; names which filter dropped how many and why the first, and what to do.
    """
    if filtered.kept:
        return
    counts = filtered.counts
    if not counts:
        raise InputError("no example was made", path=path, remedy="ask for other products, or for more prompts")
    first = {item.filter: item.because for item in reversed(filtered.dropped)}
    told = [f"{name} dropped {count} (the first: {first[name]})" for name, count in counts.items()]
    total = sum(counts.values())
    raise InputError(
        f"nothing is left to be learnt from: of {total} example{'s'[: total > 1]}, {', '.join(told)}",
        path=path,
        remedy=REMEDIES.get(next(iter(counts)), "loosen that filter"),
    )


def spoilt(text: str, character_prompt: str | None, prompt_text: str, language: str | None) -> str | None:
    """Why the reply of a teacher cannot be used, as a clause; None where it can.

    It is empty, its think tags cannot be read, it refuses, tells its character prompt, goes round in circles or is in
    another language (ISO 639-1) than it should be.

    Raises:
        InputError: nobody can tell that language.
        ModelError: py3langid is not installed, and a language is asked for.
    """
    parts = thought_of(text)
    if parts.fault is not None:
        return parts.fault
    fault = fault_of(parts.answer, character_prompt, prompt_text, language)
    return None if fault is None else fault.because


Reason = tuple[str, str]
"""Name of a filter, and what it saw."""


def _thoughts_treated(example: Example, plan: FilterPlan) -> Example | Reason:
    """The example with its thoughts as the plan wants them on both sides, or why that cannot be."""
    sides: list[str | None] = []
    for name, text in (("the answer", example.chosen), ("the rejected answer", example.rejected)):
        if text is None:
            sides.append(None)
            continue
        parts = thought_of(text)
        if parts.fault is not None:
            return "think", f"{name}: {parts.fault}"
        if parts.thought and plan.think == "drop":
            return "think", f"{name} holds a thought"
        if not parts.answer:
            return "empty", f"{name} is empty"
        keeps = parts.thought and plan.think == "keep"
        sides.append(f"<think>\n{parts.thought}\n</think>\n\n{parts.answer}" if keeps else parts.answer)
    chosen, rejected = sides
    assert chosen is not None
    if rejected is not None and rejected.split() == chosen.split():
        return "pair", "both sides of the pair say the same"
    return replace(example, chosen=chosen, rejected=rejected)


def _unfit(example: Example, answer: str, plan: FilterPlan, prompt: Prompt | None) -> Reason | None:
    asked = "\n\n".join(message.content for message in example.prompt)
    if fault := fault_of(answer, None, asked, plan.language):
        return fault.kind, fault.because
    if plan.pattern is not None and re.search(plan.pattern, answer) is None:
        return "format", f"it does not match {plan.pattern}"
    n_words = len(words_of(answer))
    if not plan.least_words <= n_words <= plan.most_words:
        return "length", f"it has {n_words} words, and {plan.least_words} to {plan.most_words} are wanted"
    if plan.facts and prompt is not None and example.kind != "boundary" and (missing := missing_fact(answer, prompt)):
        return "facts", missing
    return None


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
    missing = [str(claim) for claim in claims if not _claims(answer, str(claim))]
    return (
        f"it does not say “{missing[0]}”{f' and {len(missing) - 1} more' if missing[1:] else ''}" if missing else None
    )


def _names(answer: str, gold: str) -> bool:
    if not any(character.isalpha() for character in gold) and (wanted := numbers_in(gold)):
        return any(number.equals(wanted[-1], None) for number in numbers_in(answer))
    return bool(mentioned(_THOUSANDS.sub("", answer), [_THOUSANDS.sub("", gold)]))


def _claims(answer: str, claim: str) -> bool:
    wanted = _stems(claim)
    if not wanted:
        return " ".join(words_of(claim)) in " ".join(words_of(answer))
    negated = _negated(claim)
    said = [(sentence, wanted & _stems(sentence)) for sentence in sentences(answer)]
    for held in [*([one] for one in said), *map(list, pairwise(said))]:
        enough = len(set().union(*(words for _, words in held))) >= _CLAIM_SHARE * len(wanted)
        # of two sentences that make one claim, the one that holds more of it says whether it is negated
        if enough and _negated(max(held, key=lambda item: len(item[1]))[0]) == negated:
            return True
    return False


def _negated(text: str) -> bool:
    return _NEGATION.search(text.lower().replace("’", "'")) is not None


def _stems(text: str) -> set[str]:
    """Content words without the commonest English endings."""
    return {re.sub(r"(?<=\w{3})(?:ing|ed|es|er|s|e)$", "", word) for word in content_words(text)}


# --- near-duplicates ----------------------------------------------------------------------------------------------


class _Twins:
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

    def unfit(self, example: Example, answer: str) -> Reason | None:
        """Why an example is one too many, or None; then it is remembered."""
        prompt = "\n".join(message.content for message in example.prompt if message.role != "system")
        sides = tuple(map(_shingles, (prompt, answer, example.rejected or "")))
        # What is similar side by side is so as one set of members marked with their side, too.
        members = sorted(
            ((side, member) for side, members in enumerate(sides) for member in members),
            key=lambda item: (-len(item[1]), item),
        )
        least_shared = math.ceil(self._threshold * len(members) - 1e-9)
        keys = [(example.kind, *member) for member in members[: len(members) - least_shared + 1]]
        candidates = sorted({i for key in keys for i in self._of_member.get(key, ())})
        for i in candidates:
            similarity = min(map(_jaccard, sides, self._sides[i]))
            if similarity >= self._threshold:
                return "duplicate", f"it repeats an earlier example (similarity {similarity:.2f})"
        for key in keys:
            self._of_member[key].append(len(self._sides))
        self._sides.append(sides)
        return None


def _shingles(text: str) -> frozenset[str]:
    return frozenset((*words_of(text), *word_ngrams(text, 2)))


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b) if a or b else 1.0
