"""Fresh prompts from an independent generator: known prompts, topics, rounds of writing, filters, checklists, file and card."""

from __future__ import annotations

import json
import math
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from counterclaim import __version__
from counterclaim.errors import InputError, ModelError
from counterclaim.folder import Journal, check_free, dump, dump_lines, read_run, rounded, write_new
from counterclaim.lab.config import PromptChoice, model_identity
from counterclaim.lab.prompts.files import load as load_prompts
from counterclaim.lab.prompts.files import save as prompt_rows
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.lab.synthesis.calls import ListWriter
from counterclaim.lab.synthesis.card import comparison, spending, text_facts
from counterclaim.lab.synthesis.examples import load_examples
from counterclaim.lab.synthesis.filters import PROMPT_REMEDIES, DroppedText, KnownPrompts, PromptFilters
from counterclaim.lab.synthesis.replies import ListReply, other_language
from counterclaim.records import Decode, Example, Json, Prompt, content_hash, model_family, prompt_id, to_json
from counterclaim.registry import ModelSpec, Runtime, Watch, backend_of

TOPICS = 40
"""Topics that prompts are spread over."""
PROMPTS_A_CALL = 5
"""Prompts that one call asks for at most: the more there are in one list, the more they are alike."""
ROUNDS = 6
"""Rounds of requests at most; from the second on, for as many prompts as were lost."""
BARREN = 2
"""Rounds in a row without a fit prompt, after which no other is begun."""

_TOPIC_ATTEMPTS = 3
_CLAIM_ATTEMPTS = 2
_MOST_REMINDERS = 20  # earlier prompts on a topic that the generator is shown
_LONGEST_CLAIM = 60  # words
_CLAIMS = 3, 5  # in a checklist, at least and at most
_INDEPENDENT = ("teacher", "student")

_TOPIC, _WRITE, _CLAIM = "choosing topics", "writing prompts", "writing checklists"
_REQUESTS: Mapping[str, str] = tomllib.loads((Path(__file__).parent / "requests.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class FreshPlan:
    """Which prompts to write, and who writes them.

    Attributes:
        generator: who writes them.
        like: prompts of the same domain, of any split: what they should be like, and must not copy.
        about: the domain in a sentence; ``""`` leaves it to the examples that are shown.
        n: how many.
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
class _Request:
    """A plan, with everything that is known before a model is asked."""

    plan: FreshPlan
    like: list[Prompt]
    known: KnownPrompts
    roles: dict[str, str]
    notes: list[str]
    identity: str

    @property
    def shown(self) -> list[str]:
        """Prompts that the generator is shown, evenly spread over those that it should be like."""
        texts = [prompt.text for prompt in self.like if prompt.messages]
        count = min(self.plan.shown, len(texts))
        return [texts[i * len(texts) // count] for i in range(count)]

    @property
    def per_call(self) -> int:
        """Prompts that a call asks for: few enough that every topic has its turn."""
        return min(PROMPTS_A_CALL, math.ceil(self.plan.n / min(TOPICS, self.plan.n)))


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
    again when it is finished, it opens no model.

    Args:
        plan: what to write.
        out: the file of prompts, in the split ``fresh``.
        watch: gets what is being done.
        overwrite: replace what was written under another plan.

    Raises:
        InputError: the plan cannot be followed, the generator is not independent, nothing that it wrote is fit, or the
            file holds something else.
        ModelError: a model cannot be used.
        BudgetSpent: the budget for tokens or money is used up; a rerun goes on from there.
    """
    watch("reading prompts", 0, 0)
    request = _prepared(plan)
    if (finished := _finished(out, request.identity, overwrite)) is not None:
        return finished
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(_beside(out, ".journal"), request.identity, keep_other=not overwrite))
        generator = stack.enter_context(ListWriter(plan.generator, plan.decode, journal, plan.runtime, watch))
        author = generator
        if plan.checklists and plan.checklist_author != plan.generator:
            author = stack.enter_context(ListWriter(plan.checklist_author, plan.decode, journal, plan.runtime, watch))
        rounds = _Rounds(request, generator, author)
        rounds.write()
    write_new(_beside(out, ".dropped.jsonl"), dump_lines(map(to_json, rounds.dropped)), overwrite=True)
    if not rounds.kept:
        raise _nothing_left(rounds.dropped)
    watch("comparing", 0, 0)
    prompts = [
        Prompt.of_text(one.text, split="fresh", gold={"checklist": list(one.checklist)} if one.checklist else {})
        for one in rounds.kept
    ]
    head = {"identity": request.identity, "hash": _hash_of(prompts)}
    card: dict[str, Json] = rounded({**head, **_card(request, rounds, out)})  # as it is read back
    write_new(out, dump_lines(prompt_rows(prompts)), overwrite=True)
    write_new(_beside(out, ".card.json"), dump(card), overwrite=True)
    return card


def preview(plan: FreshPlan) -> dict[str, Json]:
    """The calls that a plan comes to, and a request; no model is opened.

    Raises:
        InputError: as ``write_prompts``.
    """
    request = _prepared(plan)
    calls = math.ceil(plan.n / request.per_call)
    claims = plan.n if plan.checklists else 0
    return {
        "n": plan.n,
        "like": len(request.like),
        "known": len(request.known.prompts),
        "compared_with": {"what": request.known.against, "n": len(request.known.questions)},
        "calls": 1 + calls + claims,
        "calls_at_most": _TOPIC_ATTEMPTS + ROUNDS * calls + _CLAIM_ATTEMPTS * ROUNDS * claims,
        "roles": {role: model_family(model) for role, model in request.roles.items()},
        "notes": request.notes,
        "request": _prompts_request(request, "(one of the topics that it names)", 1, ()),
    }


# --- before a model is asked --------------------------------------------------------------------------------------


def _prepared(plan: FreshPlan) -> _Request:
    if not plan.about.strip() and not plan.shown:
        raise InputError(
            "the generator does not know what the prompts are about",
            remedy='describe them in one sentence with --about "...", or show it some with --show-examples 5',
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
    return _Request(plan, like, known, roles, notes, identity)


def _check_language(language: str | None) -> None:
    """Refuse a language that cannot be recognised, before any call is paid for."""
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

    Families are read off the models' names (``records.model_family``), as the check ``roles`` does.
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


# --- known prompts ------------------------------------------------------------------------------------------------


def read_known(like: Sequence[Prompt], sources: Iterable[str]) -> KnownPrompts:
    """Everything that fresh prompts must differ from, and are compared with.

    Args:
        like: the prompts that they should be like.
        sources: of training: a training set (a folder of ``counterclaim teach``, or a file in a format of TRL), a file
            of prompts, a run folder, or the name of a prompt set, whose train split is meant.

    Raises:
        InputError: a source cannot be read, or holds no training prompts.
    """
    prompts = {prompt.id: prompt for prompt in like if prompt.messages}
    questions: list[str] = []
    trained_on: list[str] = []
    roles: dict[str, str] = {}
    for source in sources:
        path = Path(source).expanduser()
        if not path.exists():
            found = choose_prompts(PromptChoice(source, "train"))
            asked = [prompt.text for prompt in found]
        elif (path / "study.json").is_file():
            found, asked, of_run = _of_run(path)
            roles |= of_run
        else:
            examples = _examples(path)
            roles |= _roles_of_card(path)
            found = [_question(example) for example in examples] or list(load_prompts(path))
            asked = [prompt.text for prompt in found]
            trained_on += map(_full_text, examples)
        if not asked:
            raise InputError(
                "it holds no training prompts", path=path, remedy="name the training set, or prompts of a train split"
            )
        prompts |= {prompt.id: prompt for prompt in found if prompt.messages}
        questions += asked
    against = "the training prompts" if questions else "the prompts they should be like"
    compared = questions or [prompt.text for prompt in prompts.values()]
    return KnownPrompts(tuple(prompts.values()), tuple(trained_on), tuple(dict.fromkeys(compared)), against, roles)


def _of_run(folder: Path) -> tuple[list[Prompt], list[str], dict[str, str]]:
    """Every prompt of a run, the questions that its treated arm was trained on, and its roles."""
    run = read_run(folder)
    sampled: list[str] = run.extras.get("train_sample", [])
    prompts = [*run.prompts.values(), *(Prompt.of_text(text, split="train") for text in sampled)]
    asked = sampled or [prompt.text for prompt in prompts if prompt.split == "train" and prompt.messages]
    return prompts, asked, dict((run.study.get("claim") or {}).get("roles", {}))


def _examples(path: Path) -> list[Example]:
    """The examples of a training set; none where it is a file of prompts.

    Raises:
        InputError: it is neither; says why it is no training set.
    """
    try:
        return load_examples(path)
    except InputError:
        if path.is_dir():
            raise
        try:
            load_prompts(path)
        except InputError:
            pass
        else:
            return []
        raise


def _roles_of_card(path: Path) -> dict[str, str]:
    """Who taught, as the card of a training-set folder says; the student's own words count too."""
    card = path / "card.json"
    if not card.is_file():
        return {}
    try:
        roles: Mapping[str, Json] = json.loads(card.read_text(encoding="utf-8"))["roles"]
        return {f"{role}:{i}": str(model) for role, models in roles.items() for i, model in enumerate(models)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"cannot be read ({error})", path=card, remedy="make the training set again") from error


def _question(example: Example) -> Prompt:
    """The prompt of an example, without its system prompt."""
    messages = tuple(message for message in example.prompt if message.role != "system") or example.prompt
    return Prompt(prompt_id(messages), messages, "train")


def _full_text(example: Example) -> str:
    return "\n\n".join([*(turn.content for turn in example.prompt), example.chosen, example.rejected or ""])


# --- requests -----------------------------------------------------------------------------------------------------


def _request_text(name: str, count: int | str, language: str | None = None, **fields: str | int) -> str:
    """One of the requests of ``requests.toml``, with the list that the reply should be."""
    in_language = "" if language is None else _REQUESTS["language"].format(language=language)
    wanted = _REQUESTS["list"].format(count=count)
    return _REQUESTS[name].format(count=count, language=in_language, list=wanted, **fields)


def _prompts_request(request: _Request, topic: str, count: int, written: Sequence[str]) -> str:
    """The request for prompts on a topic, with what was written on it before."""
    plan = request.plan
    examples = "".join(
        _REQUESTS[name].format(lines=_lines(texts))
        for name, texts in (("shown", request.shown), ("written", written))
        if texts
    )
    return _request_text(
        "prompts", count, plan.language, about=plan.about.strip() or "that of the prompts below", topic=topic,
        s="s"[: count != 1], them="it" if count == 1 else "them", examples=examples,
    )  # fmt: skip


def _lines(texts: Sequence[str]) -> str:
    return "\n".join(json.dumps(text, ensure_ascii=False) for text in texts)


# --- rounds -------------------------------------------------------------------------------------------------------


class _Rounds:
    """Rounds of writing, filtering and, if required, checklists, until there are enough or no more are fit.

    Attributes:
        kept: what is fit, in the order it was written.
        dropped: what is not, and replies that cannot be used.
        written: how many prompts were read off replies.
    """

    def __init__(self, request: _Request, generator: ListWriter, author: ListWriter) -> None:
        self.kept: list[_Kept] = []
        self.dropped: list[DroppedText] = []
        self.written = 0
        self._request, self._plan = request, request.plan
        self._generator, self._author = generator, author
        self._filters = PromptFilters(request.like, request.known, request.plan.language)
        self._calls = 0  # for prompts, so far
        self._calls_on: Counter[str] = Counter()  # by topic
        self._fit: defaultdict[str, list[str]] = defaultdict(list)  # prompts that went through the filters, by topic

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
        about = self._plan.about.strip() or "that of these prompts:\n" + "\n".join(self._request.shown)
        request = _request_text("topics", wanted, self._plan.language, about=about)
        for sample in range(_TOPIC_ATTEMPTS):
            (reply,) = self._generator.ask(_TOPIC, [("all", request)], sample)
            topics = list({text.casefold(): text for text in reply.texts if text}.values())[:wanted]
            if topics:
                return topics
            self._check(reply, f"{_TOPIC}/all")
        raise InputError(
            f"the generator names no topics: {self.dropped[-1].because}",
            remedy=PROMPT_REMEDIES[self.dropped[-1].reason],
        )

    def _round(self, topics: Sequence[str], missing: int) -> list[_Kept]:
        """The fit ones of as many prompts as are missing: each call is on the topic with the fewest calls and fit prompts."""
        wanted: dict[str, tuple[str, int]] = {}
        requests = []
        while missing > 0:
            topic = min(topics, key=lambda topic: (self._calls_on[topic], len(self._fit[topic])))
            name, count = str(self._calls), min(self._request.per_call, missing)
            before = self._fit[topic][-_MOST_REMINDERS:]
            requests.append((name, _prompts_request(self._request, topic, count, before)))
            wanted[f"{_WRITE}/{name}"] = topic, count
            self._calls_on[topic] += 1
            self._calls += 1
            missing -= count
        texts: list[tuple[str, str]] = []
        for (call, (_, count)), reply in zip(wanted.items(), self._generator.ask(_WRITE, requests), strict=True):
            self._check(reply, call)
            self.written += len(reply.texts)
            texts += ((text, call) for text in reply.texts[:count])
            more = (DroppedText("surplus", f"{count} were asked for", text, call) for text in reply.texts[count:])
            self.dropped += more
        fit, dropped = self._filters.sift(texts)
        self.dropped += dropped
        for text, call in fit:
            self._fit[wanted[call][0]].append(text)
        return [_Kept(text, wanted[call][0]) for text, call in fit]

    def _with_checklists(self, fit: Sequence[_Kept]) -> list[_Kept]:
        """Prompts with their checklists; one that gets none is dropped."""
        found: dict[int, _Kept] = {}
        because: dict[int, str] = {}
        count = "{} to {}".format(*_CLAIMS)
        for sample in range(_CLAIM_ATTEMPTS):
            left = [i for i in range(len(fit)) if i not in found]
            requests = [
                (Prompt.of_text(fit[i].text).id, _request_text("claims", count, prompt=fit[i].text)) for i in left
            ]
            for i, reply in zip(left, self._author.ask(_CLAIM, requests, sample), strict=True):
                if fault := reply.fault.because if reply.fault else _checklist_fault(reply.texts):
                    because[i] = fault
                else:
                    found[i] = replace(fit[i], checklist=reply.texts)
        for i, why in because.items():
            if i not in found:
                call = f"{_CLAIM}/{Prompt.of_text(fit[i].text).id}"
                self.dropped.append(DroppedText("checklist", f"no checklist was written: {why}", fit[i].text, call))
        return [found[i] for i in sorted(found)]

    def _check(self, reply: ListReply, call: str) -> None:
        """A reply that cannot be used is filed under what was dropped."""
        if reply.fault is not None:
            self.dropped.append(DroppedText(reply.fault.kind, reply.fault.because, reply.raw, call))


def _checklist_fault(claims: Sequence[str]) -> str | None:
    low, high = _CLAIMS
    if not low <= len(claims) <= high:
        return f"it has {len(claims)} claims, and {low} to {high} were asked for"
    if len({claim.casefold() for claim in claims}) < len(claims) or not all(claims):
        return "a claim is empty or stands there twice"
    if any(len(claim.split()) > _LONGEST_CLAIM for claim in claims):
        return f"a claim has more than {_LONGEST_CLAIM} words"
    return None


# --- the card and the files ---------------------------------------------------------------------------------------


def _nothing_left(dropped: Sequence[DroppedText]) -> InputError:
    counts = Counter(item.reason for item in dropped).most_common()
    first = {item.reason: item.because for item in reversed(dropped)}
    reasons = ", ".join(f"{reason} {count} (the first: {first[reason]})" for reason, count in counts)
    return InputError(
        f"nothing that the generator wrote is fit to be asked: {reasons}", remedy=PROMPT_REMEDIES[counts[0][0]]
    )


def _card(request: _Request, rounds: _Rounds, out: Path) -> dict[str, Json]:
    plan = request.plan
    texts = [one.text for one in rounds.kept]
    calls = rounds.calls
    rows = [row for made in calls.values() for row in made]
    counts = Counter(item.reason for item in rounds.dropped)
    failed = sum(row["error"] is not None for row in rows)
    notes = list(request.notes)
    if len(texts) < plan.n:
        worst = next((reason for reason, _ in counts.most_common() if reason != "surplus"), None)
        hint = "" if worst is None else f"; most were lost to {worst}: {PROMPT_REMEDIES[worst]}"
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
        "written": rounds.written,
        "dropped": dict(counts.most_common()),
        "topics": len({one.topic for one in rounds.kept}),
        "about": plan.about,
        "examples_shown": len(request.shown),
        "language": plan.language,
        "gold": "checklist" if plan.checklists else None,
        "generator": _who(plan.generator, [*calls.get("topics", ()), *calls.get("prompts", ())]),
        "checklist_author": _who(plan.checklist_author, calls["checklists"]) if "checklists" in calls else None,
        "decode": to_json(plan.decode),
        "roles": {role: model_family(model) for role, model in request.roles.items()},
        "like": {"source": plan.like.name, "n": len(request.like)},
        "contamination": {
            "known_prompts": len(request.known.prompts),
            "training_examples": len(request.known.trained_on),
            "copies_dropped": counts["copy"],
        },
        "c2st": comparison(texts, request.known.questions, request.known.against),
        "facts": {"fresh": text_facts(texts), "known": text_facts(request.known.questions)},
        "calls": {**{name: spending(made) for name, made in calls.items()}, "total": spending(rows)},
        "notes": notes,
    }


def _who(spec: ModelSpec, rows: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """A writer as it was asked for, and the fingerprints of what answered."""
    answered = {content_hash(row["model"]): row["model"] for row in rows}
    return {"name": spec.name, "family": model_family(spec.name), "answered": list(answered.values())}


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(out.name.removesuffix(".jsonl") + suffix)


def _hash_of(prompts: Sequence[Prompt]) -> str:
    return content_hash([to_json(prompt) for prompt in prompts])


def _finished(out: Path, identity: str, overwrite: bool) -> dict[str, Json] | None:
    """The card of prompts that are finished and unchanged; None where there is work to do.

    Raises:
        InputError: the file was written under another plan or by other means, or was changed, and ``overwrite`` is not set.
    """
    if not out.exists():
        return None
    try:
        card: dict[str, Json] = json.loads(_beside(out, ".card.json").read_text(encoding="utf-8"))
        ours = card["identity"] == identity and card["hash"] == _hash_of(load_prompts(out))
    except (OSError, ValueError, LookupError, TypeError, InputError):
        ours = False
    if ours:
        return card if card["whole"] else None
    check_free(out, overwrite=overwrite)
    return None
