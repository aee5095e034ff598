"""Fresh prompts, in order: what is known, topics, prompts, the sieve, checklists, and the file with its card."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from counterclaim import __version__
from counterclaim import folder as store
from counterclaim.errors import InputError, ModelError
from counterclaim.lab import prompts as promptsets
from counterclaim.lab.config import PromptChoice, model_identity
from counterclaim.lab.fresh import card
from counterclaim.lab.fresh.asking import CLAIMS, Reply, Writer, claims_wanted, prompts_wanted, topics_wanted
from counterclaim.lab.fresh.known import read_known
from counterclaim.lab.fresh.sieve import REMEDIES, Dropped, Known, Sieve
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.lab.synthesis.replies import other_language
from counterclaim.records import Decode, Json, Prompt, content_hash, model_family, to_json
from counterclaim.registry import ModelSpec, Runtime, Watch, backend_of

TOPICS = 40
"""Topics that prompts are spread over."""
PROMPTS_A_CALL = 5
"""Prompts that one call asks for at most: the more there are in one list, the more they are alike."""
ROUNDS = 6
"""How often prompts are asked for at most; from the second time on, as many as were lost."""
BARREN = 2
"""Rounds in a row of which nothing was fit, after which no other is begun."""

_TOPIC_ATTEMPTS = 3
_CLAIM_ATTEMPTS = 2
_MOST_REMINDERS = 20  # prompts on a topic that the generator is told it wrote before
_LONGEST_CLAIM = 60  # words
_INDEPENDENT = ("teacher", "student")

_TOPIC, _WRITE, _CLAIM = "choosing topics", "writing prompts", "writing checklists"


@dataclass(frozen=True, slots=True)
class FreshPlan:
    """Which prompts are wanted, and of whom.

    Attributes:
        generator: who writes them.
        like: prompts of the same domain, of any split: what they should be like and must not copy.
        about: the domain in a sentence; ``""`` leaves it to the examples that are shown.
        n: how many are wanted.
        shown: how many of the prompts in ``like`` the generator is shown. Each makes what it writes more like them.
        train: training sets, prompt files, run folders or prompt sets that they must not be found in.
        checklists: whether each prompt gets a checklist, its gold.
        author: who writes the checklists; the generator where None.
        roles: models by role (``teacher``, ``student``, ``judge``; ``teacher:NAME`` for several).
        same_family: go on where the generator is of the family of a teacher or of the student.
        language: ISO 639-1 code; None for any.
        decode: how both sample.
        runtime: how both are run; they share the budget, and have one price.
    """

    generator: ModelSpec
    like: PromptChoice
    about: str
    n: int = 200
    shown: int = 0
    train: tuple[str, ...] = ()
    checklists: bool = False
    author: ModelSpec | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    same_family: bool = False
    language: str | None = "en"
    decode: Decode = field(default_factory=lambda: Decode(4096, temperature=1.0, seed=0))
    runtime: Runtime = field(default_factory=Runtime)

    @property
    def checklist_author(self) -> ModelSpec:
        """Who writes the checklists."""
        return self.author or self.generator


@dataclass(frozen=True, slots=True)
class _Ready:
    """What a plan comes to before anything is asked."""

    like: list[Prompt]
    known: Known
    roles: dict[str, str]
    notes: list[str]
    identity: str


@dataclass(frozen=True, slots=True)
class _Kept:
    """A prompt that is fit."""

    text: str
    topic: str
    checklist: tuple[str, ...] = ()


def write_prompts(plan: FreshPlan, out: Path, watch: Watch, *, overwrite: bool = False) -> dict[str, Json]:
    """Have fresh prompts written into a file; returns their card.

    Beside ``out`` (``fresh.jsonl``) lie ``fresh.card.json``, ``fresh.dropped.jsonl`` and ``fresh.journal``, with every
    reply as it came. Killed at any moment and run again, this goes on where it stopped and ends with the same bytes; run
    again when all is done, it opens no model.

    Args:
        plan: what is wanted.
        out: the file of prompts, in the split ``fresh``.
        watch: told what is being done.
        overwrite: replace what was written under another plan.

    Raises:
        InputError: the plan cannot be followed, the generator is not independent, nothing that it wrote is fit, or the
            file holds something else.
        ModelError: a model cannot be used.
        BudgetSpent: the budget for tokens or money is used up; a rerun goes on from there.
    """
    watch("reading prompts", 0, 0)
    ready = _prepared(plan)
    if (made := _finished(out, ready.identity, overwrite)) is not None:
        return made
    with ExitStack() as stack:
        journal = stack.enter_context(store.Journal(_beside(out, ".journal"), ready.identity, keep_other=not overwrite))
        generator = stack.enter_context(Writer(plan.generator, plan.decode, journal, plan.runtime, watch))
        author = generator
        if plan.checklists and plan.checklist_author != plan.generator:
            author = stack.enter_context(Writer(plan.checklist_author, plan.decode, journal, plan.runtime, watch))
        work = _Work(plan, ready, generator, author)
        work.write()
    dropped = store.dump_lines(to_json(item) for item in work.dropped)
    store.write_new(_beside(out, ".dropped.jsonl"), dropped, overwrite=True)
    if not work.kept:
        raise _nothing(work.dropped)
    watch("comparing", 0, 0)
    prompts = list(_prompts(work.kept))
    said = {"identity": ready.identity, "hash": _hash_of(prompts), **_card(plan, ready, work, out)}
    made = store.rounded(said)  # as it is read back
    store.write_new(out, store.dump_lines(promptsets.save(prompts)), overwrite=True)
    store.write_new(_beside(out, ".card.json"), store.dump(made), overwrite=True)
    return dict(made)


def preview(plan: FreshPlan) -> dict[str, Json]:
    """What would be asked of whom; no model is opened.

    Raises:
        InputError: as ``write_prompts``.
    """
    ready = _prepared(plan)
    calls = math.ceil(plan.n / _a_call(plan.n, min(TOPICS, plan.n)))
    claims = plan.n if plan.checklists else 0
    return {
        "n": plan.n,
        "like": len(ready.like),
        "known": len(ready.known.prompts),
        "compared_with": {"what": ready.known.against, "n": len(ready.known.questions)},
        "calls": 1 + calls + claims,
        "calls_at_most": _TOPIC_ATTEMPTS + ROUNDS * calls + _CLAIM_ATTEMPTS * ROUNDS * claims,
        "roles": {role: model_family(model) for role, model in ready.roles.items()},
        "notes": ready.notes,
        "request": _request(plan, ready, "(one of the topics that it names)", 1, ()),
    }


# --- before anything is asked -------------------------------------------------------------------------------------


def _prepared(plan: FreshPlan) -> _Ready:
    if not plan.about.strip() and not plan.shown:
        raise InputError(
            "nothing tells the generator what the prompts are about",
            remedy='say it in one sentence with --about "...", or show it some with --show-examples 5',
        )
    for spec in (plan.generator, plan.checklist_author):
        backend_of(spec.name)
    _check_language(plan.language)
    like = choose_prompts(plan.like)
    if not any(prompt.messages for prompt in like):
        raise InputError("the prompts have no texts to be like", path=plan.like.source, remedy="name a file with texts")
    known = read_known(like, plan.train)
    roles = {**known.roles, **plan.roles, "prompt_writer": plan.generator.name}
    if plan.checklists:
        roles["checklist_author"] = plan.checklist_author.name
    notes = _independent(plan, roles)
    if plan.shown:
        notes.append(
            f"The generator was shown {min(plan.shown, len(like))} of the prompts that its own should be like, which makes "
            "them more alike: they are less fresh than without."
        )
    identity = content_hash([
        __version__, model_identity(plan.generator), model_identity(plan.checklist_author), plan.about, plan.n, plan.shown,
        plan.checklists, plan.language, to_json(plan.decode), [to_json(prompt) for prompt in like],
        [prompt.id for prompt in known.prompts], list(known.trained_on), list(known.questions), roles,
    ])  # fmt: skip
    return _Ready(like, known, roles, notes, identity)


def _check_language(language: str | None) -> None:
    """Notice before anything is paid for that nobody could tell the language."""
    if language is None:
        return
    try:
        other_language("Is it so?", language)
    except ModelError as error:
        raise ModelError(error.problem, remedy="pip install 'counterclaim[train]', or pass --language any") from error
    except InputError as error:
        raise InputError(error.problem, remedy="pass a code of two letters (ISO 639-1) such as en, or any") from error


def _independent(plan: FreshPlan, roles: Mapping[str, str]) -> list[str]:
    """A sentence for each other role that the writers' families fill; a generator that teaches or is taught is refused.

    Families are told by the models' names (``records.model_family``), as the check ``roles`` tells them.
    """
    notes = []
    for writer in ("prompt_writer", "checklist_author"):
        if writer not in roles:
            continue
        family = model_family(roles[writer])
        filled = {role.partition(":")[0] for role, model in roles.items() if role != writer and model_family(model) == family}  # fmt: skip
        bound = [role for role in _INDEPENDENT if role in filled]
        name = writer.replace("_", " ")
        if bound and not plan.same_family:
            raise InputError(
                f"the {name} is of the family {family}, as the {' and the '.join(bound)} is: its prompts would not be "
                "independent of what is tested",
                remedy="ask a model of another family, or pass --same-family, and the card says so",
            )
        if others := sorted(filled - ({"prompt_writer"} if writer == "checklist_author" else {"checklist_author"})):
            notes.append(f"The family {family} is {name} and also {' and '.join(others)}.")
    if roles.get("checklist_author") == roles["prompt_writer"]:
        notes.append("The generator also writes the checklists: what it takes for right decides which answers are.")
    return notes


# --- at work ------------------------------------------------------------------------------------------------------


class _Work:
    """Rounds of writing, sifting and, where they are wanted, checklists, until there are enough or nothing comes any more.

    Attributes:
        kept: what is fit, in the order it was written.
        dropped: what is not, and replies that cannot be used.
        written: how many prompts were read off replies.
    """

    def __init__(self, plan: FreshPlan, ready: _Ready, generator: Writer, author: Writer) -> None:
        self.kept: list[_Kept] = []
        self.dropped: list[Dropped] = []
        self.written = 0
        self._plan, self._ready = plan, ready
        self._generator, self._author = generator, author
        self._sieve = Sieve(ready.like, ready.known, plan.language)
        self._calls = 0  # for prompts, so far
        self._asked: Counter[str] = Counter()  # calls by topic
        self._fit: defaultdict[str, list[str]] = defaultdict(list)  # what went through the sieve, by topic

    @property
    def calls(self) -> dict[str, list[dict[str, Json]]]:
        """Every call that was used, by what it was for."""
        rows = [*self._generator.rows, *(self._author.rows if self._author is not self._generator else [])]
        named = {"topics": _TOPIC, "prompts": _WRITE, "checklists": _CLAIM}
        found = {name: [row for row in rows if row["call"].startswith(stage)] for name, stage in named.items()}
        return {name: calls for name, calls in found.items() if calls}

    def write(self) -> None:
        """Do all of it."""
        topics = self._topics()
        barren = 0
        for _ in range(ROUNDS):
            missing = self._plan.n - len(self.kept)
            if not missing or barren == BARREN:
                return
            fit = self._round(topics, missing)
            if self._plan.checklists:
                fit = self._with_checklists(fit)
            self.kept += fit
            barren = 0 if fit else barren + 1

    def _topics(self) -> list[str]:
        """Different topics; the generator is asked again where its reply cannot be used.

        Raises:
            InputError: it names none.
        """
        wanted = min(TOPICS, self._plan.n)
        request = topics_wanted(self._domain, wanted, self._plan.language)
        for sample in range(_TOPIC_ATTEMPTS):
            (reply,) = self._generator.ask(_TOPIC, [("all", request)], sample)
            topics = list({text.casefold(): text for text in reply.texts if text}.values())[:wanted]
            if topics:
                return topics
            self._note(reply, f"{_TOPIC}/all")
        raise InputError(
            f"the generator names no topics: {self.dropped[-1].because}", remedy=REMEDIES[self.dropped[-1].reason]
        )

    def _round(self, topics: Sequence[str], missing: int) -> list[_Kept]:
        """What is fit of as many prompts as are missing: each call is on the topic that was asked least and gave least."""
        size = _a_call(self._plan.n, len(topics))
        wanted: dict[str, tuple[str, int]] = {}
        requests = []
        while missing > 0:
            topic = min(topics, key=lambda topic: (self._asked[topic], len(self._fit[topic])))
            name, count = str(self._calls), min(size, missing)
            before = self._fit[topic][-_MOST_REMINDERS:]
            requests.append((name, _request(self._plan, self._ready, topic, count, before)))
            wanted[f"{_WRITE}/{name}"] = topic, count
            self._asked[topic] += 1
            self._calls += 1
            missing -= count
        texts: list[tuple[str, str]] = []
        for (call, (_, count)), reply in zip(wanted.items(), self._generator.ask(_WRITE, requests), strict=True):
            self._note(reply, call)
            self.written += len(reply.texts)
            texts += ((text, call) for text in reply.texts[:count])
            more = (Dropped("surplus", f"{count} were asked for", text, call) for text in reply.texts[count:])
            self.dropped += more
        fit, dropped = self._sieve.sift(texts)
        self.dropped += dropped
        for text, call in fit:
            self._fit[wanted[call][0]].append(text)
        return [_Kept(text, wanted[call][0]) for text, call in fit]

    def _with_checklists(self, fit: Sequence[_Kept]) -> list[_Kept]:
        """Prompts with their checklists; one that gets none is dropped."""
        found: dict[int, _Kept] = {}
        because: dict[int, str] = {}
        for sample in range(_CLAIM_ATTEMPTS):
            left = [i for i in range(len(fit)) if i not in found]
            requests = [(Prompt.of_text(fit[i].text).id, claims_wanted(fit[i].text)) for i in left]
            for i, reply in zip(left, self._author.ask(_CLAIM, requests, sample), strict=True):
                if because_of := reply.because or _unfit_checklist(reply.texts):
                    because[i] = because_of
                else:
                    found[i] = replace(fit[i], checklist=reply.texts)
        for i, why in because.items():
            if i not in found:
                call = f"{_CLAIM}/{Prompt.of_text(fit[i].text).id}"
                self.dropped.append(Dropped("checklist", f"no checklist was written: {why}", fit[i].text, call))
        return [found[i] for i in sorted(found)]

    def _note(self, reply: Reply, call: str) -> None:
        """A reply that cannot be used is kept apart."""
        if reply.spoilt is not None:
            self.dropped.append(Dropped(reply.spoilt, reply.because, reply.raw, call))

    @property
    def _domain(self) -> str:
        if self._plan.about.strip():
            return self._plan.about.strip()
        return "that of these prompts:\n" + "\n".join(_shown(self._plan, self._ready))


def _unfit_checklist(claims: Sequence[str]) -> str | None:
    low, high = CLAIMS
    if not low <= len(claims) <= high:
        return f"it has {len(claims)} claims, and {low} to {high} were asked for"
    if len({claim.casefold() for claim in claims}) < len(claims) or not all(claims):
        return "a claim is empty or stands there twice"
    if any(len(claim.split()) > _LONGEST_CLAIM for claim in claims):
        return f"a claim has more than {_LONGEST_CLAIM} words"
    return None


def _a_call(n: int, n_topics: int) -> int:
    """Prompts that a call asks for: few enough that every topic has its turn."""
    return min(PROMPTS_A_CALL, math.ceil(n / n_topics))


def _request(plan: FreshPlan, ready: _Ready, topic: str, count: int, written: Sequence[str]) -> str:
    about = plan.about.strip() or "that of the prompts below"
    return prompts_wanted(about, topic, count, plan.language, _shown(plan, ready), written)


def _shown(plan: FreshPlan, ready: _Ready) -> list[str]:
    """Prompts that the generator is shown, evenly spread over those that it should be like."""
    texts = [prompt.text for prompt in ready.like if prompt.messages]
    count = min(plan.shown, len(texts))
    return [texts[i * len(texts) // count] for i in range(count)]


# --- what comes of it ---------------------------------------------------------------------------------------------


def _prompts(kept: Sequence[_Kept]) -> Iterator[Prompt]:
    for one in kept:
        yield Prompt.of_text(one.text, split="fresh", gold={"checklist": list(one.checklist)} if one.checklist else {})


def _nothing(dropped: Sequence[Dropped]) -> InputError:
    counts = Counter(item.reason for item in dropped).most_common()
    first = {item.reason: item.because for item in reversed(dropped)}
    told = ", ".join(f"{reason} {count} (the first: {first[reason]})" for reason, count in counts)
    return InputError(f"nothing that the generator wrote is fit to be asked: {told}", remedy=REMEDIES[counts[0][0]])


def _card(plan: FreshPlan, ready: _Ready, work: _Work, out: Path) -> dict[str, Json]:
    texts = [one.text for one in work.kept]
    calls = work.calls
    rows = [row for made in calls.values() for row in made]
    counts = Counter(item.reason for item in work.dropped)
    failed = sum(row["error"] is not None for row in rows)
    notes = list(ready.notes)
    if len(texts) < plan.n:
        worst = next((reason for reason, _ in counts.most_common() if reason != "surplus"), None)
        hint = "" if worst is None else f"; most were lost to {worst}: {REMEDIES[worst]}"
        notes.append(f"{len(texts)} of {plan.n} prompts were found fit{hint}.")
    if failed:
        notes.append(f"{failed} calls failed.")
    if not plan.checklists:
        notes.append(
            "The prompts have no gold. What needs one (exact, numeric, checklist, code) cannot score their answers: add "
            "answer, checklist or tests to each row, or have checklists written with --checklists."
        )
    return {
        "file": out.name,
        "asked": plan.n,
        "kept": len(texts),
        "whole": len(texts) == plan.n or not failed,
        "written": work.written,
        "dropped": dict(counts.most_common()),
        "topics": len({one.topic for one in work.kept}),
        "about": plan.about,
        "examples_shown": len(_shown(plan, ready)),
        "language": plan.language,
        "gold": "checklist" if plan.checklists else None,
        "generator": _who(plan.generator, [*calls.get("topics", ()), *calls.get("prompts", ())]),
        "checklist_author": _who(plan.checklist_author, calls["checklists"]) if "checklists" in calls else None,
        "decode": to_json(plan.decode),
        "roles": {role: model_family(model) for role, model in ready.roles.items()},
        "like": {"source": plan.like.name, "n": len(ready.like)},
        "contamination": {
            "known_prompts": len(ready.known.prompts),
            "training_examples": len(ready.known.trained_on),
            "copies_dropped": counts["copy"],
        },
        "c2st": card.compared(texts, ready.known.questions, ready.known.against),
        "facts": {"fresh": card.facts(texts), "known": card.facts(ready.known.questions)},
        "calls": {**{name: card.spent(made) for name, made in calls.items()}, "total": card.spent(rows)},
        "notes": notes,
    }


def _who(spec: ModelSpec, rows: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """A writer as it was asked for, and the fingerprints of what answered."""
    answered = {content_hash(row["model"]): row["model"] for row in rows}
    return {"name": spec.name, "family": model_family(spec.name), "answered": list(answered.values())}


# --- the files ----------------------------------------------------------------------------------------------------


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(out.name.removesuffix(".jsonl") + suffix)


def _hash_of(prompts: Sequence[Prompt]) -> str:
    return content_hash([to_json(prompt) for prompt in prompts])


def _finished(out: Path, identity: str, overwrite: bool) -> dict[str, Json] | None:
    """The card of prompts that are whole and unchanged; None where there is work to do.

    Raises:
        InputError: the file was written under another plan, by somebody else, or was changed, and ``overwrite`` is not set.
    """
    if not out.exists():
        return None
    try:
        made: dict[str, Json] = json.loads(_beside(out, ".card.json").read_text(encoding="utf-8"))
        ours = made["identity"] == identity and made["hash"] == _hash_of(promptsets.load(out))
    except (OSError, ValueError, LookupError, TypeError, InputError):
        ours = False
    if ours:
        return made if made["whole"] else None
    store.check_free(out, overwrite=overwrite)
    return None
