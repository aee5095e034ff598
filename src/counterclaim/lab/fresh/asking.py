"""What the generator is asked, call by call, and how strictly its replies are read."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from counterclaim.errors import RegistryError
from counterclaim.folder import Journal
from counterclaim.lab.models import open_model
from counterclaim.lab.models.endpoint import EndpointModel
from counterclaim.lab.synthesis.replies import refusal_in, thought_of
from counterclaim.records import Decode, FinishReason, Json, Message, content_hash, to_json
from counterclaim.registry import Answer, Ask, Model, ModelSpec, Runtime, Watch

CLAIMS = (3, 5)
"""How many claims a checklist has, at least and at most."""

_INTRODUCTION = "You write questions and tasks that language models will be tested on."
_LIST = "Reply with one JSON list of {count} strings and nothing else."
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.S)
_MARK = re.compile(r"\s*(?:\d{1,3}[.)]|[-*•])\s+")


# --- what is asked ------------------------------------------------------------------------------------------------


def topics_wanted(about: str, count: int, language: str | None) -> str:
    """The request for ``count`` topics of the domain."""
    return "\n\n".join([
        _INTRODUCTION,
        f"Domain: {about}{_in(language)}",
        f"Name {count} topics within this domain that differ from one another as much as the domain allows, common ones "
        "and rare ones. Each is a few words.",
        _LIST.format(count=count),
    ])  # fmt: skip


def prompts_wanted(
    about: str, topic: str, count: int, language: str | None, shown: Sequence[str], written: Sequence[str]
) -> str:
    """The request for ``count`` prompts on a topic.

    Args:
        about: the domain, in a sentence.
        topic: what the prompts are on.
        count: how many.
        language: ISO 639-1 code; None for any.
        shown: prompts that show what is meant; none, unless they were asked for.
        written: what was written on this topic before.
    """
    parts = [
        _INTRODUCTION,
        f"Domain: {about}{_in(language)}\nTopic: {topic}",
        f"Write {count} prompt{'s'[: count != 1]} on this topic, as a person might type {'it' if count == 1 else 'them'}. "
        "Each stands by itself and asks one thing that has a right answer; no two ask the same. Write no answers.",
    ]
    if shown:
        parts.append("Of this kind, but asking other things:\n" + _lines(shown))
    if written:
        parts.append("These were written before; ask other things:\n" + _lines(written))
    return "\n\n".join([*parts, _LIST.format(count=count)])


def claims_wanted(prompt: str) -> str:
    """The request for the checklist of a prompt."""
    low, high = CLAIMS
    return "\n\n".join([
        "You write the checklists by which answers are graded.",
        f"Question:\n{prompt}",
        f"Name {low} to {high} claims that a right and complete answer to this question makes. Each is one short sentence "
        "that stands by itself, is surely true, and that a reader finds in an answer or misses.",
        _LIST.format(count=f"{low} to {high}"),
    ])  # fmt: skip


def _in(language: str | None) -> str:
    return "" if language is None else f"\nLanguage (ISO 639-1): {language}"


def _lines(texts: Sequence[str]) -> str:
    return "\n".join(json.dumps(text, ensure_ascii=False) for text in texts)


# --- how replies are read -----------------------------------------------------------------------------------------

Spoilt = Literal["failed", "cut", "filtered", "refusal", "unreadable"]
"""What is wrong with a whole reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one call.

    Attributes:
        texts: what it lists, outer white space and list marks gone; empty where the reply cannot be used.
        spoilt: why it cannot be used; None where it can.
        because: what was seen, as a clause; ``""`` where nothing is wrong.
        raw: the reply as it came.
    """

    texts: tuple[str, ...] = ()
    spoilt: Spoilt | None = None
    because: str = ""
    raw: str = ""


def read(answer: Answer, budget: int | None) -> Reply:
    """A reply as the list that it is: one JSON list of strings, alone or in one code fence, after any thought.

    Half a list is none: where a reply was cut, nobody knows what the last string would have asked.
    """
    if answer.error is not None:
        return Reply(spoilt="failed", because=answer.error)
    raw = answer.text or ""
    if answer.finish_reason is FinishReason.LENGTH:
        return Reply(spoilt="cut", because=f"it was cut by its budget of {budget} tokens", raw=raw)
    if answer.finish_reason is FinishReason.FILTER or answer.text is None:
        return Reply(spoilt="filtered", because="the endpoint filtered it", raw=raw)
    thought = thought_of(raw)
    if thought.fault is not None:
        return Reply(spoilt="unreadable", because=thought.fault, raw=raw)
    fenced = _FENCED.fullmatch(thought.answer)
    try:
        listed = json.loads(fenced[1] if fenced else thought.answer)
    except (ValueError, RecursionError):
        if said := refusal_in(thought.answer):
            return Reply(spoilt="refusal", because=f"it refuses: “{said}”", raw=raw)
        return Reply(spoilt="unreadable", because="it is no JSON list", raw=raw)
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        return Reply(spoilt="unreadable", because="it is JSON, and no list of strings", raw=raw)
    if not listed:
        return Reply(spoilt="unreadable", because="the list is empty", raw=raw)
    return Reply(tuple(_MARK.sub("", item, count=1).strip() if _MARK.match(item) else item.strip() for item in listed), raw=raw)  # fmt: skip


# --- calls --------------------------------------------------------------------------------------------------------


class Writer:
    """A model that is asked for lists; what it was asked before is taken from the journal.

    A kept reply counts as long as what was asked is what would be asked now. Failed calls are not kept. The model is
    opened when there is something to ask.

    Args:
        spec: who is asked.
        decode: how it is sampled.
        journal: where every reply goes as soon as it is there, and where those of earlier runs are.
        runtime: how it is run; its budget and its ledger hold for every writer that shares it.
        watch: told how many calls of a stage are done.

    Attributes:
        rows: every reply that was used so far, kept or new, as it stands in the journal; failed calls included.
    """

    def __init__(self, spec: ModelSpec, decode: Decode, journal: Journal, runtime: Runtime, watch: Watch) -> None:
        self.spec, self.decode = spec, decode
        self.rows: list[dict[str, Json]] = []
        self._journal, self._runtime, self._watch = journal, runtime, watch
        self._kept = {(row["call"], row["sample"], row["asked"]): row for row in journal.rows}
        self._model: Model | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._model is not None:
            self._model.close()

    def ask(self, stage: str, wanted: Sequence[tuple[str, str]], sample: int = 0) -> list[Reply]:
        """Replies in the order of what is wanted.

        Args:
            stage: what is being done, for ``watch``; the names of its calls begin with it.
            wanted: name of a call (unique within the stage) and the request.
            sample: another number asks the same again, with other random numbers.

        Raises:
            ModelError: the model cannot be opened, or can answer nothing at all.
            BudgetSpent: the budget is used up. What was answered before either of these is in the journal.
            InputError: the journal cannot be written.
        """
        asks = [Ask(f"{stage}/{name}", (Message("user", text),), sample) for name, text in wanted]
        rows: list[dict[str, Json] | None] = [self._kept.get(self._key(ask)) for ask in asks]
        done = {i for i, row in enumerate(rows) if row is not None}
        self._watch(stage, len(done), len(asks))
        if len(done) < len(asks):
            model = self._opened()
            for batch in model.answer(asks, self.decode, done):
                made = {i: self._row(asks[i], answer, model) for i, answer in batch}
                self._journal.append(row for row in made.values() if row["error"] is None)
                for i in made:
                    rows[i] = made[i]
                self._watch(stage, sum(row is not None for row in rows), len(asks))
        replies = []
        for row in rows:
            if row is None:
                raise RegistryError(f"the backend of {self.spec.name} gave no answer to a prompt it was asked")
            self.rows.append(row)
            answer = Answer(row["text"], FinishReason(row["finish_reason"]), error=row["error"])
            replies.append(read(answer, self.decode.max_new_tokens))
        return replies

    def _key(self, ask: Ask) -> tuple[str, int, str]:
        asked = content_hash([self.spec.name, to_json(self.decode), to_json(ask.messages)])[:16]
        return ask.key, ask.sample, asked

    def _row(self, ask: Ask, answer: Answer, model: Model) -> dict[str, Json]:
        call, sample, asked = self._key(ask)
        billed = 0.0
        if isinstance(model, EndpointModel):
            tokens_in, tokens_out = answer.prompt_tokens or 0, answer.n_tokens or 0
            billed = (tokens_in * self._runtime.price_in + tokens_out * self._runtime.price_out) / 1e6
        return {
            "call": call, "sample": sample, "asked": asked, "model": to_json(model.ref), "text": answer.text,
            "finish_reason": str(answer.finish_reason), "prompt_tokens": answer.prompt_tokens,
            "n_tokens": answer.n_tokens, "cost": billed, "error": answer.error,
        }  # fmt: skip

    def _opened(self) -> Model:
        if self._model is None:
            self._model = open_model(self.spec, self._runtime)
        return self._model
