"""The vocabulary that every room shares: what a prompt, a response, a score, a claim and a verdict are.

Standard library only. Every record is frozen, checks its own invariant when it is made, and turns into plain
JSON and back (``to_json`` / ``from_json``), so that a run folder can be read without this package.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal, Self

from counterclaim.errors import RecordError

Json = Any  # what json.loads can return


@dataclass(frozen=True, slots=True)
class ArmId:
    """Which arm an answer belongs to. On disk an arm is one word, which only ``parse`` reads and only ``str`` writes.

    ``control``, ``dose:0.5``, ``treated@512`` (cut to 512 tokens), ``treated/recovery`` (a scripted next turn), ``treated@512/recovery``.

    Attributes:
        name: ``control``, ``treated``, or the name of another arm; ``dose`` for the arms of a sweep.
        dose: by how much the operator of a sweep's arm is applied; None for other arms.
        budget: tokens to which the answers are cut; None where they are whole.
        turn: scorer whose scripted next turn is answered; None for first answers.
    """

    name: str
    dose: float | None = None
    budget: int | None = None
    turn: str | None = None

    def __post_init__(self) -> None:
        if "/" in self.name or _dose(self.name) is not None or (self.dose is not None and self.name != "dose"):
            raise RecordError(f"{self} would be read as another arm")

    @classmethod
    @lru_cache(maxsize=4096)
    def parse(cls, text: str) -> Self:
        """The arm that is spelt like this; a dose or a budget that is not spelt as ``str`` spells it stays in the name."""
        rest, _, turn = text.partition("/")
        name, mark, tokens = rest.partition("@")
        budget = int(tokens) if _TOKENS.fullmatch(tokens) else None
        if mark and budget is None:
            name = rest
        dose = _dose(name)
        return cls(name if dose is None else "dose", dose, budget, turn or None)

    def __str__(self) -> str:
        dose = "" if self.dose is None else f":{self.dose:g}"
        if self.dose is not None and float(dose[1:]) != self.dose:
            dose = f":{self.dose!r}"
        budget = "" if self.budget is None else f"@{self.budget}"
        return f"{self.name}{dose}{budget}{'' if self.turn is None else f'/{self.turn}'}"

    @property
    def base(self) -> Self:
        """The arm whose own answers these are cut from or follow."""
        return self if self.is_base else replace(self, budget=None, turn=None)

    @property
    def is_base(self) -> bool:
        """Whether these are an arm's own whole first answers."""
        return self.budget is None and self.turn is None


_TOKENS = re.compile("0|[1-9][0-9]{0,8}")
DOSE_PREFIX = "dose:"


def _dose(name: str) -> float | None:
    """The number of an arm that is spelt ``dose:NUMBER``; None for others."""
    mark, _, text = name.partition(":")
    try:
        number = float(text) if mark == "dose" else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


CONTROL, TREATED = ArmId("control"), ArmId("treated")
"""The two arms of a claim."""
DO_NOTHING, PLACEBO, PROMPT_BASELINE = ArmId("do-nothing"), ArmId("placebo"), ArmId("prompt-baseline")
"""Other arms that checks look for."""

LABELS: Mapping[str, tuple[str, ...]] = {
    "delivery": ("assert", "hedge"),
    "cert": ("CERTAIN", "UNCERTAIN", "AMBIGUOUS"),
    "revised": ("right", "wrong"),
}
"""Axes whose allowed labels are fixed by definition (design: measures)."""


def canonical_json(value: Json) -> str:
    """One spelling of a JSON value: sorted keys, no spaces, no NaN. Raises RecordError on NaN or infinity."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise RecordError(f"a record holds a number that JSON cannot carry: {error}") from error


def content_hash(value: Json) -> str:
    """SHA-256 of the canonical JSON, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


class FinishReason(StrEnum):
    """Why generation ended."""

    STOP = "stop"
    LENGTH = "length"
    FILTER = "filter"
    ERROR = "error"
    UNKNOWN = "unknown"


class Provenance(StrEnum):
    """How a finish reason is known."""

    RECORDED = "recorded"
    INFERRED_TOKENS = "inferred:tokens"
    INFERRED_TEXT = "inferred:text"


class Outcome(StrEnum):
    """What a check found. INCONCLUSIVE is not FAIL; ERROR is never PASS."""

    PASS = "PASS"
    FAIL = "FAIL"
    WARN = "WARN"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_RUN = "NOT_RUN"
    ERROR = "ERROR"


class VerdictOutcome(StrEnum):
    """What is said of the claim."""

    SUPPORTED = "SUPPORTED"
    REFUTED = "REFUTED"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"


_NOT_OF_THE_NAME = re.compile(r"^.*[#/]|^(?:tiny|world|character):")
"""What stands before the base name of a model: where it is served, who published it, which backend opens it."""

AnswerKey = tuple[ArmId, str, int]
"""(arm, prompt id, sample)"""
Split = Literal["train", "dev", "test", "fresh"]
Group = Literal["ruler", "effect", "cost", "transfer"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


def normalise_text(text: str) -> str:
    """Text as it is compared across harnesses: NFC, newlines as \\n, outer white space gone."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def prompt_id(messages: Sequence[Message]) -> str:
    """Content hash of a prompt: 16 hex digits of SHA-256 over roles and normalised contents.

    Two harnesses that asked the same question give the same id, whatever their own document ids say.
    """
    turns = [[message.role, normalise_text(message.content)] for message in messages]
    return content_hash(turns)[:16]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question with everything needed to score its answers.

    Attributes:
        id: content hash (``prompt_id``), or ``id:NAME`` where a file holds names but no prompt text.
        messages: the conversation put to the model; empty where the text is not known.
        split: which split the prompt belongs to.
        gold: ``answer``, ``checklist`` or ``tests`` as the source gave them.
        tags: free labels; ``source-id:...`` keeps the harness's own id.
    """

    id: str
    messages: tuple[Message, ...] = ()
    split: Split = "test"
    gold: Mapping[str, Json] = field(default_factory=dict)
    tags: tuple[str, ...] = ()

    @classmethod
    def of_text(cls, text: str, **rest: Any) -> Self:
        """A single-turn prompt, with its content hash as id."""
        messages = (Message("user", text),)
        return cls(prompt_id(messages), messages, **rest)

    @property
    def text(self) -> str:
        """All turns as one text, for reading and for similarity."""
        return "\n\n".join(message.content for message in self.messages)


@dataclass(frozen=True, slots=True)
class Decode:
    """How an answer was sampled. ``max_new_tokens`` has no default: None says that nobody stated it."""

    max_new_tokens: int | None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    system_prompt: str | None = None
    thinking: bool | None = None
    chat_template: str | None = None


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Which weights answered, as far as the source says. Equal refs mean the same model variant.

    Attributes:
        repo: name of the model.
        revision: commit of the repository, or a hash of the weights.
        dtype: of the weights as loaded.
        quantisation: None where there is none.
        adapter_hash: hash of the adapter's weights and settings.
        adapter_dose: by how much the adapter is scaled: 1 as it was trained, 0 not at all; None where it is not recorded.
        operator: name of the inference-time operator laid over it, such as ``temper``; None where there is none.
        operator_hash: hash of what that operator had fitted.
        operator_dose: by how much it is applied: 0 not at all.
        libraries: versions of what computed the answer, such as ``torch 2.13.0, transformers 5.23.0``.
    """

    repo: str | None = None
    revision: str | None = None
    dtype: str | None = None
    quantisation: str | None = None
    adapter_hash: str | None = None
    adapter_dose: float | None = None
    operator: str | None = None
    operator_hash: str | None = None
    operator_dose: float | None = None
    libraries: str | None = None


def model_family(model: str) -> str:
    """Which family a model belongs to, by its name: the letters before the first digit or mark of the base name.

    ``deepseek/deepseek-v3.2-exp`` -> ``deepseek``, ``https://host/v1#zai-org/GLM-5`` -> ``glm``, ``tiny:qwen3`` -> ``qwen``,
    ``llama3:8b`` -> ``llama``. A name without such letters is its own family.
    """
    base = _NOT_OF_THE_NAME.sub("", model.lower().strip("/ "))
    return re.split(r"[\W\d_]", base, maxsplit=1)[0] or base


@dataclass(frozen=True, slots=True)
class Call:
    """What one model said at one stage of the making of a training example.

    Attributes:
        stage: such as ``eager``, ``synthesizer``, ``student``.
        model: name of the model as it was opened.
        licence: SPDX id of the licence under which its outputs may be used; None where nobody declared one.
        text: what it said.
        prompt_tokens: tokens of what it was shown, where known.
        n_tokens: tokens that it generated, where known.
        cost: in the currency of the pipeline's prices.
    """

    stage: str
    model: str
    licence: str | None
    text: str
    prompt_tokens: int | None = None
    n_tokens: int | None = None
    cost: float = 0.0


ExampleKind = Literal["gold", "failure", "boundary", "counter"]
"""A teacher's answer; the student's own mistake and its correction; a question where hedging or asking is right; a pair of
answers of which one is better."""
Variant = Literal["plain", "style", "length"]
"""As the teacher said it; the same content in another style; the same content as long as the student's own answer."""


@dataclass(frozen=True, slots=True)
class Example:
    """One training example.

    Attributes:
        prompt: the conversation that is answered.
        chosen: the answer that training aims at.
        rejected: an answer that is worse, which makes the example a preference pair; None where there is none.
        kind: what it teaches.
        variant: what was done to the wording of ``chosen``.
        prompt_id: the prompt of the source from which it was made; ``""`` where there is none.
        provenance: who said what on the way to it.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str | None = None
    kind: ExampleKind = "gold"
    variant: Variant = "plain"
    prompt_id: str = ""
    provenance: tuple[Call, ...] = ()

    def __post_init__(self) -> None:
        if not self.prompt or not self.chosen.strip():
            raise RecordError("a training example has a prompt and an answer")
        if self.rejected is not None and self.rejected.strip() == self.chosen.strip():
            raise RecordError("the two sides of a preference pair are equal, so it teaches nothing")

    @property
    def id(self) -> str:
        """16 hex digits of SHA-256 over what training sees of it."""
        turns = [[message.role, message.content] for message in self.prompt]
        return content_hash([turns, self.chosen, self.rejected])[:16]


@dataclass(frozen=True, slots=True)
class Response:
    """One answer, or one failed attempt to get one.

    Attributes:
        prompt_id: the prompt it answers.
        arm: who answered, at which dose and budget, and at which turn.
        sample: 0-based index among the answers of this arm to this prompt.
        text: the answer; None where the source keeps scores but no text.
        finish_reason: why it ended; no default.
        finish_provenance: how that is known; None exactly when the reason is ``unknown``.
        decode: how it was sampled.
        model: what answered.
        n_tokens: number of generated tokens, where the source says it.
        replicate: the repetition of its arm that this answer belongs to, over which ``seeds`` compares; ``""`` where there is
            only one. Of our own answers it is the fit seed where the arm has several, else the sampling seed where there
            are several; of another harness's it is the file or its column ``seed``, whose kind nobody states.
        fit_seed: seed with which the arm's operator was fitted; None where nothing was fitted here.
        error: what went wrong, when finish_reason is ``error``.
        prompt_tokens: tokens of the prompt as the model saw it, where known.
        token_chars: how many characters of the text each generated token added, where known; any smaller budget is
            a prefix (``cut_to``).
    """

    prompt_id: str
    arm: ArmId
    sample: int
    text: str | None
    finish_reason: FinishReason
    finish_provenance: Provenance | None
    decode: Decode
    model: ModelRef
    n_tokens: int | None = None
    replicate: str = ""
    error: str | None = None
    prompt_tokens: int | None = None
    token_chars: tuple[int, ...] | None = None
    fit_seed: int | None = None

    def __post_init__(self) -> None:
        if (self.finish_reason is FinishReason.UNKNOWN) != (self.finish_provenance is None):
            raise RecordError("a finish reason has a provenance exactly when it is known")
        if (self.finish_reason is FinishReason.ERROR) != (self.error is not None):
            raise RecordError("a response carries an error text exactly when its finish reason is 'error'")
        if self.sample < 0:
            raise RecordError("a sample index counts from 0")

    @property
    def key(self) -> AnswerKey:
        """(arm, prompt id, sample): what joins a response to its scores."""
        return self.arm, self.prompt_id, self.sample

    @property
    def sample_seed(self) -> int | None:
        """Seed with which the answer was sampled, where known."""
        return self.decode.seed

    def cut_to(self, budget: int) -> Response:
        """What this answer would have been with a smaller budget: its first ``budget`` tokens, filed under that budget.

        Exact where the first tokens do not depend on the budget, as under greedy decoding and under sampling keyed by
        row and position.

        Raises:
            RecordError: the answer does not say where its tokens end.
        """
        arm = replace(self.arm, budget=budget)
        decode = replace(self.decode, max_new_tokens=budget)
        n_tokens = self.n_tokens
        if n_tokens is None and self.token_chars is not None:
            n_tokens = len(self.token_chars)
        if self.text is None or (n_tokens is not None and n_tokens <= budget):
            return replace(self, arm=arm, decode=decode)
        if self.token_chars is None:
            raise RecordError("an answer that does not say where its tokens end cannot be cut to a budget")
        chars = self.token_chars[:budget]
        return replace(
            self, arm=arm, decode=decode, text=self.text[: sum(chars)], n_tokens=len(chars), token_chars=chars,
            finish_reason=FinishReason.LENGTH, finish_provenance=Provenance.RECORDED,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Score:
    """What one scorer said of one response on one axis.

    Exactly one of ``value`` and ``unscored`` is set: "not scored" is never 0, NaN, None or a default label.

    Attributes:
        scorer: ``name@version#params`` as far as known; equal strings mean the same scorer.
        axis: ``correct`` (0/1), ``delivery`` (assert/hedge), ``coverage``, ``score.NAME`` (number) or
            ``label.NAME`` (text).
        evidence: the raw judge reply, where it was kept.
    """

    prompt_id: str
    arm: ArmId
    sample: int
    scorer: str
    axis: str
    value: float | str | None = None
    unscored: str | None = None
    evidence: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.unscored is None):
            raise RecordError("a score has exactly one of a value and a reason why it is unscored")
        if isinstance(self.value, float) and not math.isfinite(self.value):
            raise RecordError("a score is a finite number; say why it is unscored instead")

    @property
    def key(self) -> AnswerKey:
        """(arm, prompt id, sample): what joins a score to its response."""
        return self.arm, self.prompt_id, self.sample


@dataclass(frozen=True, slots=True)
class Guard:
    """A metric that must not get worse by more than ``allowed`` (in the metric's own unit, >= 0)."""

    metric: str
    allowed: float
    better: Literal["higher", "lower"] = "higher"


@dataclass(frozen=True, slots=True)
class Quote:
    """A number that somebody states about an arm, to be compared with what its records give."""

    arm: ArmId
    metric: str
    value: float
    n: int | None = None
    source: str = "claim"


@dataclass(frozen=True, slots=True)
class Claim:
    """What is claimed, written down before it is tested.

    Attributes:
        metric: the target metric.
        direction: the claimed direction of treated minus control.
        margin: the smallest change that matters, > 0, in the metric's own unit.
        guards: what must not be lost.
        required: names of checks without which the claim cannot stand.
        alpha: the test level: a supported claim needs p <= alpha (two-sided).
        level: the level of the reported intervals.
        seeds: training seeds the claim is made over; empty when not stated.
        quotes: numbers that the claim states and the records must give.
        same_construct: groups of axes that claim to measure one thing.
        looked_at: how many metrics, doses, layers, heads or thresholds were tried before this one.
        thresholds_chosen_on: the split on which thresholds were chosen, where known.
        varies: decode settings that are the treatment itself, so that arms may differ in them.
        roles: which model family fills which role (teacher, prompt_writer, checklist_author, judge, student).
    """

    metric: str
    direction: Literal["increase", "decrease"]
    margin: float
    guards: tuple[Guard, ...] = ()
    required: tuple[str, ...] = ()
    alpha: float = 0.01
    level: float = 0.95
    seeds: tuple[int, ...] = ()
    quotes: tuple[Quote, ...] = ()
    same_construct: tuple[tuple[str, ...], ...] = ()
    looked_at: int | None = None
    thresholds_chosen_on: Split | None = None
    varies: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.margin) and self.margin > 0):
            raise RecordError("a margin is a positive number")
        if not 0 < self.alpha < 1 or not 0 < self.level < 1:
            raise RecordError("alpha and level lie between 0 and 1")

    @property
    def hash(self) -> str:
        """SHA-256 over the whole claim."""
        return content_hash(to_json(self))

    @property
    def sign(self) -> int:
        """+1 for a claimed increase, -1 for a claimed decrease."""
        return 1 if self.direction == "increase" else -1


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval. ``estimate`` is None where undefined, and then ``reason`` says why.

    An interval may be undefined (low and high None) although the estimate is not.
    """

    estimate: float | None
    low: float | None
    high: float | None
    level: float
    method: str
    n: int
    reason: str | None = None

    def __post_init__(self) -> None:
        for number in (self.estimate, self.low, self.high):
            if number is not None and not math.isfinite(number):
                raise RecordError("an estimate is finite or None with a reason")
        if (self.estimate is None or self.low is None or self.high is None) and not self.reason:
            raise RecordError("an undefined estimate or interval says why")

    @classmethod
    def undefined(cls, reason: str, *, n: int = 0, level: float = 0.95, method: str = "none") -> Self:
        """An estimate that could not be computed."""
        return cls(None, None, None, level, method, n, reason)

    @property
    def interval(self) -> tuple[float, float] | None:
        """(low, high), or None where undefined."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def to_json(self) -> dict[str, Json]:
        """The shape fixed by the contracts; ``reason`` only where there is one."""
        out: dict[str, Json] = {
            name: getattr(self, name) for name in ("estimate", "low", "high", "level", "method", "n")
        }
        if self.reason is not None:
            out["reason"] = self.reason
        return out


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found.

    Attributes:
        because: one sentence with the numbers.
        remedy: one sentence: what the user can do; "" only on PASS.
        required: whether the claim can stand without it.
        n: how many items it looked at.
        n_unscored: how many of them it could not use.
        evidence: prompt ids that a reader should look at first.
        details: more JSON beside the contract's keys (``arms`` of truncation).
        figure: data for the report's picture, ``{"kind": ..., ...}``; the report only draws it.
    """

    check: str
    group: Group
    outcome: Outcome
    because: str
    remedy: str = ""
    estimate: Estimate | None = None
    required: bool = False
    n: int = 0
    n_unscored: int = 0
    evidence: tuple[str, ...] = ()
    details: Mapping[str, Json] = field(default_factory=dict)
    figure: Mapping[str, Json] | None = None

    def to_json(self) -> dict[str, Json]:
        """The contract's C, with details merged in; the figure only in ``to_record``."""
        return {
            "check": self.check,
            "group": self.group,
            "outcome": str(self.outcome),
            "estimate": None if self.estimate is None else self.estimate.to_json(),
            "because": self.because,
            "remedy": self.remedy,
            "required": self.required,
            "n": self.n,
            "n_unscored": self.n_unscored,
            "evidence": list(self.evidence),
            **self.details,
        }

    def to_record(self) -> dict[str, Json]:
        """``to_json`` and the figure: a line of checks.jsonl."""
        return {**self.to_json(), "figure": None if self.figure is None else dict(self.figure)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of a claim: a pure function of the claim and its check results."""

    claim_hash: str
    outcome: VerdictOutcome
    because: str
    decided_by: tuple[str, ...] = ()
    next: tuple[str, ...] = ()


def to_json(record: Any) -> Json:
    """A record (or a tuple or mapping of records) as plain JSON; fields that are None are left out."""
    kind = type(record)
    if kind in _PLAIN:
        return record
    if kind is ArmId:
        return str(record)
    if kind in (Decode, ModelRef):  # few distinct ones, repeated on every response
        return dict(_shared_json(record))
    if isinstance(record, Estimate | CheckResult):
        return record.to_json()
    if hasattr(kind, "__dataclass_fields__"):
        return _fields_json(record)
    if isinstance(record, StrEnum):
        return str(record)
    if isinstance(record, Mapping):
        return {str(key): to_json(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [to_json(value) for value in record]
    return record


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _fields_json(record: Any) -> dict[str, Json]:
    out = {}
    for name in _field_names(type(record)):
        value = getattr(record, name)
        if value is not None and (value or name not in _OMIT_EMPTY):
            out[name] = to_json(value)
    return out


@lru_cache(maxsize=1024)
def _shared_json(record: Decode | ModelRef) -> dict[str, Json]:
    return _fields_json(record)


_FIELDS: dict[type, tuple[str, ...]] = {}


def _field_names(kind: type[Any]) -> tuple[str, ...]:
    if kind not in _FIELDS:
        _FIELDS[kind] = tuple(item.name for item in fields(kind))
    return _FIELDS[kind]


_OMIT_EMPTY = frozenset({"replicate", "gold", "tags"})


def prompt_from_json(row: Mapping[str, Json]) -> Prompt:
    """The inverse of ``to_json`` on a Prompt."""
    messages = tuple(Message(turn["role"], turn["content"]) for turn in row.get("messages", ()))
    return Prompt(row["id"], messages, row.get("split", "test"), row.get("gold", {}), tuple(row.get("tags", ())))


def response_from_json(row: Mapping[str, Json], cache: dict[str, Any] | None = None) -> Response:
    """The inverse of ``to_json`` on a Response; ``cache`` lets equal settings and models share memory."""
    provenance = row.get("finish_provenance")
    return Response(
        prompt_id=row["prompt_id"],
        arm=_arm(row),
        sample=row["sample"],
        text=row.get("text"),
        finish_reason=FinishReason(row["finish_reason"]),
        finish_provenance=None if provenance is None else Provenance(provenance),
        decode=_shared(row["decode"], _decode_from_json, cache),
        model=_shared(row["model"], lambda model: ModelRef(**model), cache),
        n_tokens=row.get("n_tokens"),
        replicate=row.get("replicate", ""),
        error=row.get("error"),
        prompt_tokens=row.get("prompt_tokens"),
        token_chars=None if row.get("token_chars") is None else tuple(row["token_chars"]),
        fit_seed=row.get("fit_seed"),
    )


def example_from_json(row: Mapping[str, Json]) -> Example:
    """The inverse of ``to_json`` on an Example."""
    turns = tuple(Message(turn["role"], turn["content"]) for turn in row["prompt"])
    calls = tuple(Call(**{"licence": None, **call}) for call in row.get("provenance", ()))
    return Example(**{**{key: row[key] for key in row if key != "id"}, "prompt": turns, "provenance": calls})


def score_from_json(row: Mapping[str, Json]) -> Score:
    """The inverse of ``to_json`` on a Score."""
    return Score(**{**row, "arm": _arm(row)})


def _arm(row: Mapping[str, Json]) -> ArmId:
    if not isinstance(row["arm"], str):
        raise RecordError(f"the arm of a record is its name, and not {row['arm']!r}")
    return ArmId.parse(row["arm"])


def quote_from_json(row: Mapping[str, Json]) -> Quote:
    """The inverse of ``to_json`` on a Quote."""
    return Quote(**{**row, "arm": _arm(row)})


def check_from_json(row: Mapping[str, Json]) -> CheckResult:
    """The inverse of ``to_record`` on a CheckResult."""
    known = {name: row[name] for name in _field_names(CheckResult) if name in row and name != "details"}
    return CheckResult(
        **{
            **known,
            "outcome": Outcome(row["outcome"]),
            "estimate": None if row.get("estimate") is None else Estimate(**row["estimate"]),
            "evidence": tuple(row.get("evidence", ())),
            "details": {key: value for key, value in row.items() if key not in known},
        }
    )


def claim_from_json(row: Mapping[str, Json]) -> Claim:
    """The inverse of ``to_json`` on a Claim."""
    return Claim(
        **{
            **row,
            "guards": tuple(Guard(**guard) for guard in row.get("guards", ())),
            "required": tuple(row.get("required", ())),
            "seeds": tuple(row.get("seeds", ())),
            "varies": tuple(row.get("varies", ())),
            "quotes": tuple(quote_from_json(quote) for quote in row.get("quotes", ())),
            "same_construct": tuple(tuple(group) for group in row.get("same_construct", ())),
        }
    )


def _decode_from_json(row: Mapping[str, Json]) -> Decode:
    stop = row.get("stop")
    return Decode(**{"max_new_tokens": None, **row, "stop": None if stop is None else tuple(stop)})


def _shared(row: Mapping[str, Json], make: Any, cache: dict[str, Any] | None) -> Any:
    if cache is None:
        return make(row)
    key = f"{make.__name__}{sorted(row.items())!r}"
    if key not in cache:
        cache[key] = make(row)
    return cache[key]
