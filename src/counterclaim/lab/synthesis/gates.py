"""What may not enter a training set however good it is: words under other licences, test prompts; and who fills which role."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from counterclaim.errors import InputError
from counterclaim.lab.config import PipelinePlan
from counterclaim.lab.synthesis.filters import Dropped
from counterclaim.lab.synthesis.replies import thought_of
from counterclaim.records import Call, Example, Prompt, model_family, normalise_text
from counterclaim.text import word_ngrams, words_of
from counterclaim.text.overlap import scan

STUDENT = "student"
"""Stage under which the student's own words stand in the provenance of an example."""

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


def licences(plan: PipelinePlan) -> None:
    """Refuse a pipeline whose training set would hold words that may not be learnt from, before anything is asked.

    Every teacher declares under which licence its outputs may be used, and that licence is on the list of the plan. The
    student's own words are held to the same only where they are to be learnt (``licensed``).

    Raises:
        InputError: a licence of the list or of a stage is no SPDX id, a stage declares none, or one that is not on the
            list; names the stage, the licence and what can be done.
    """
    for name in plan.licences:
        if spdx(name) is None:
            _refuse_id("licences", name, plan)
    allowed = {spdx(name) for name in plan.licences}
    for stage in plan.stages:
        other = f"or put another teacher in the place of {stage.model.name}"
        if stage.licence is None:
            raise InputError(
                f"stage {stage.name}: nobody says under which licence the outputs of {stage.model.name} may be used",
                path=plan.path,
                remedy=f'say licence = "..." (an SPDX id) under [stages.{stage.name}], {other}',
            )
        licence = spdx(stage.licence)
        if licence is None:
            _refuse_id(f"stage {stage.name}", stage.licence, plan)
        if licence not in allowed:
            raise InputError(
                f"stage {stage.name}: outputs of {stage.model.name} come under {licence}, which is not on the list of "
                f"licences whose words may enter a training set ({', '.join(plan.licences)})",
                path=plan.path,
                remedy=f'if its terms allow training on outputs, add licences = ["{licence}"]; {other}',
            )


def _refuse_id(where: str, name: str, plan: PipelinePlan) -> None:
    raise InputError(
        f"{where}: {name!r} is no SPDX licence id",
        path=plan.path,
        remedy='write one such as "MIT" or "Apache-2.0", or "LicenseRef-NAME" for a licence that SPDX does not list',
    )


def licensed(examples: Iterable[Example], plan: PipelinePlan) -> tuple[list[Example], list[Dropped]]:
    """Examples told apart by whether everything that was said on the way to them may enter a training set.

    The second line of defence: what a resumed folder holds was perhaps asked under another plan. Every call of an
    example's provenance must be under a licence of the list, not only that of its last stage, for the last teacher has
    read the others and may have taken over their words. The student's calls are exempt where its words are the worse side
    of a pair, the length to be matched or the mistake that is corrected: those are its own, and it is not taught to say
    them. Where the answer to be learnt stands in the student's own words, its licence counts as a teacher's does.
    """
    allowed = {spdx(name) for name in plan.licences}
    kept, dropped = [], []
    for example in examples:
        barred = next((call for call in example.provenance if not _may_enter(call, example, allowed)), None)
        if barred is None:
            kept.append(example)
        else:
            why = f"{barred.stage} ({barred.model}) spoke under {barred.licence or 'no declared licence'}"
            dropped.append(Dropped(example, "licence", why, example.prompt_id))
    return kept, dropped


def _may_enter(call: Call, example: Example, allowed: set[str | None]) -> bool:
    if call.licence is not None and (licence := spdx(call.licence)) is not None and licence in allowed:
        return True
    if call.stage != STUDENT:
        return False
    return thought_of(example.chosen).answer.split() != thought_of(call.text).answer.split()


# --- roles --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Roles:
    """Who does what in the making of a training set.

    Attributes:
        models: models by role: ``teacher`` (every stage's), ``student``, ``judge``, and what the file says of others.
        families: model families by role, in the same order.
        notes: a sentence for each family that fills several roles.
    """

    models: Mapping[str, tuple[str, ...]]
    families: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


def roles(plan: PipelinePlan) -> Roles:
    """Which model family teaches, writes prompts, judges and is taught, and which does several of these at once.

    Families are told by the models' names (``records.model_family``), as the check ``roles`` tells them.
    """
    models: dict[str, tuple[str, ...]] = {"teacher": tuple(dict.fromkeys(stage.model.name for stage in plan.stages))}
    if plan.student is not None:
        models["student"] = (plan.student.name,)
    if plan.judge is not None:
        models["judge"] = (plan.judge,)
    for role, name in plan.roles.items():
        models[role] = tuple(dict.fromkeys((*models.get(role, ()), name)))
    families = {role: tuple(dict.fromkeys(map(model_family, names))) for role, names in models.items()}
    filled: dict[str, list[str]] = defaultdict(list)
    for role, found in families.items():
        for family in found:
            filled[family].append(role)
    notes = [_note(family, who) for family, who in filled.items() if len(who) > 1]
    return Roles(models, families, tuple(notes))


def _note(family: str, who: Sequence[str]) -> str:
    told = f"{', '.join(who[:-1])} and {who[-1]}".replace("_", " ")
    if "judge" in who and {"teacher", "student"} & set(who):
        return f"{family} is {told}: the judge grades words of its own family."
    if "prompt_writer" in who and "teacher" in who:
        return f"{family} is {told}: it answers questions that its own family thought of, so their range is its own."
    return f"{family} is {told}."


# --- contamination ------------------------------------------------------------------------------------------------

_LEAST_WORDS = 5  # a shorter turn ("Are you sure?") is nobody's question
_RARE_SHARE, _RARE_LEAST = 0.02, 2
_EDITED = 0.7
_HALF = 0.5


def contamination(examples: Sequence[Example], forbidden: Sequence[Prompt]) -> tuple[list[Example], list[Dropped]]:
    """Examples told apart by whether what is asked in them is a forbidden prompt, or nearly one (``copied``)."""
    found = copied(examples, forbidden)
    kept = [example for i, example in enumerate(examples) if i not in found]
    dropped = [
        Dropped(examples[i], "contamination", f"what it asks is test prompt {key}: {why}", examples[i].prompt_id)
        for i, (key, why) in sorted(found.items())
    ]
    return kept, dropped


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
    asked = [_asked(example) for example in examples]
    found: dict[int, tuple[str, str]] = {}
    for i, (example, turns) in enumerate(zip(examples, asked, strict=True)):
        if example.prompt_id in ids:
            found[i] = example.prompt_id, "it was made from it"
        elif seen := next(filter(None, map(copies.find, turns)), None):
            found[i] = seen
    clean = [i for i in range(len(examples)) if i not in found]
    alike = _alike(texts, [asked[i] for i in clean], [_everything(examples[i]) for i in clean])
    return found | {clean[i]: why for i, why in alike.items()}


class _Copies:
    """Finds forbidden prompts again in short texts: with the same words, or lightly edited."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._by_words = {" ".join(words_of(text)): key for key, text in texts.items()}
        words = {key: set(words_of(text)) for key, text in texts.items()}
        spread = Counter(word for own in words.values() for word in own)
        most = max(_RARE_LEAST, _RARE_SHARE * len(texts))
        self._own: dict[str, set[str]] = {}
        self._shingles = {key: _shingles(text) for key, text in texts.items()}
        self._size = {key: len(words_of(text)) for key, text in texts.items()}
        self._by_rarest: dict[str, list[str]] = defaultdict(list)
        for key, held in words.items():
            rare = {word for word in held if spread[word] <= most}
            if rare and self._size[key] >= _LEAST_WORDS:
                self._own[key] = rare
                self._by_rarest[min(rare, key=lambda word: (spread[word], word))].append(key)

    def find(self, text: str) -> tuple[str, str] | None:
        """Id of the forbidden prompt that a text repeats, and in what way; None where it repeats none."""
        words = words_of(text)
        if key := self._by_words.get(" ".join(words)):
            return key, "the same words"
        held, shingles = set(words), _shingles(text)
        for key in (key for word in dict.fromkeys(words) for key in self._by_rarest.get(word, ())):
            share = len(self._shingles[key] & shingles) / len(self._shingles[key])
            of_its_length = len(words) <= 2 * self._size[key] + 10
            if share >= _EDITED and of_its_length and self._own[key] <= held:
                return key, f"{share:.0%} of its words and word pairs"
        return None


def _shingles(text: str) -> set[str]:
    return {*words_of(text), *word_ngrams(text, 2)}


def _asked(example: Example) -> list[str]:
    """What a user asks in an example: every turn of some length, and all turns but the system's together."""
    turns = [message.content for message in example.prompt if message.role == "user"]
    whole = "\n\n".join(message.content for message in example.prompt if message.role != "system")
    return list(dict.fromkeys([whole, *(turn for turn in turns if len(words_of(turn)) >= _LEAST_WORDS)]))


def _everything(example: Example) -> str:
    said = [message.content for message in example.prompt if message.role != "system"]
    return "\n\n".join([*said, example.chosen, example.rejected or ""])


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
